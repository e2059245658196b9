package engine

import (
	"time"

	"hypertoken/ipc"
	"hypertoken/journal"
)

// Effects carries out what a machine asks for. Perform calls its methods after a step, in the order
// in which the step asked, with the engine's lock held. A method must not call an event method of
// the same machine: what it learns at once, such as the answer of a store in memory, it keeps until
// the lock is about to be released.
type Effects interface {
	// Send puts a frame into the pipe to a place. It returns the ID under which the answer will come,
	// or false if there is no room; then Room is called once there is.
	Send(p Place, s Sending) (id uint64, ok bool)
	// Recall asks a place to drop a request that is withdrawn, or to interrupt it.
	Recall(p Place, id uint64)
	// Abandon closes a placement. Its answers are not wanted any more.
	Abandon(p Place)
	// PlaceLeft says that the engine has left a place.
	PlaceLeft(p Place)
	// ReleaseAlone says that other engines may run at the place again.
	ReleaseAlone(p Place)
	// Overdue says that a place owes the answer to a request past its deadline. If the request is what
	// runs there, its worker is killed; otherwise the place is lost.
	Overdue(p Place, id uint64)
	// Violation says that a worker broke the protocol, and how.
	Violation(p Place, err error)
	// AskPlace asks for a place, alone or beside others. TakeAskBack says that it is not wanted any more.
	AskPlace(alone bool)
	TakeAskBack()
	// Load asks the store for the journal. asNewOwner fences what was sent to the store before.
	Load(asNewOwner bool)
	// Append asks the store to append records behind a sequence. The records are the machine's again
	// when it is told the end.
	Append(after uint64, records []journal.Record)
	// Barrier asks the store whether the journal is still this host's. Appended is told the end.
	Barrier()
	// Install asks the store to install the snapshot of a sequence.
	Install(sequence uint64, snapshot []byte)
	// Rewind asks for the base that a rewind leads to; Rewound is told. Mark asks the store to store
	// that base, and Appended is told the end.
	Rewind(r *Request)
	Mark(r *Request)
	// Resolve says that a request has ended. The request is its owner's again.
	Resolve(r *Request, err error)
	// RecordsStored says that the store has records now, that take about so many bytes.
	RecordsStored(records uint64, bytes int)
	// SnapshotStored says that the store has a snapshot of so many bytes, SnapshotFailed that it does
	// not have one, and why.
	SnapshotStored(bytes int)
	SnapshotFailed(err error)
	// Placed says that the engine is live at a place, to which so many records were replayed.
	Placed(p Place, replayed uint64)
	// Broken says that the engine can't be placed, and why.
	Broken(err error)
	// Superseded says that the engine ends because another owner has its journal, as the store said.
	// Closed follows.
	Superseded(err error)
	// Held says that the engine is held back until a time on the host's clock, after so many kills, and why.
	Held(until, length time.Duration, kills int, err error)
	// Closed says that the engine has ended for good. It is the last effect.
	Closed()
}

// Sending is a frame that a machine has for a place.
type Sending struct {
	// Request is the request that is sent, nil for a piece of a placing.
	Request *Request
	Kind    ipc.Kind
	Flags   ipc.Flags
	Body    []byte
}

// effectKind says which method of Effects an effect is. The fields of an effect are the arguments
// of that method, and only this file knows which.
type effectKind uint8

const (
	recall effectKind = iota
	abandon
	placeLeft
	releaseAlone
	overdue
	violation
	askPlace
	takeAskBack
	load
	appendRecords
	barrier
	installSnapshot
	rewind
	mark
	resolve
	recordsStored
	snapshotStored
	snapshotFailed
	placed
	broken
	superseded
	held
	closed
)

type effect struct {
	kind    effectKind
	flag    bool
	number  uint64
	size    int
	place   Place
	request *Request
	err     error
}

func (m *Machine) emit(e effect) { m.effects = append(m.effects, e) }

func (m *Machine) emitRecall(p Place, id uint64) {
	m.emit(effect{kind: recall, place: p, number: id})
}
func (m *Machine) emitAbandon(p Place)        { m.emit(effect{kind: abandon, place: p}) }
func (m *Machine) emitPlaceLeft(p Place)      { m.emit(effect{kind: placeLeft, place: p}) }
func (m *Machine) emitReleaseAlone(p Place)   { m.emit(effect{kind: releaseAlone, place: p}) }
func (m *Machine) emitAskPlace(alone bool)    { m.emit(effect{kind: askPlace, flag: alone}) }
func (m *Machine) emitTakeAskBack()           { m.emit(effect{kind: takeAskBack}) }
func (m *Machine) emitLoad(asNewOwner bool)   { m.emit(effect{kind: load, flag: asNewOwner}) }
func (m *Machine) emitAppend(after uint64)    { m.emit(effect{kind: appendRecords, number: after}) }
func (m *Machine) emitBarrier()               { m.emit(effect{kind: barrier}) }
func (m *Machine) emitSnapshotStored(n int)   { m.emit(effect{kind: snapshotStored, size: n}) }
func (m *Machine) emitSnapshotFailed(e error) { m.emit(effect{kind: snapshotFailed, err: e}) }
func (m *Machine) emitBroken(err error)       { m.emit(effect{kind: broken, err: err}) }
func (m *Machine) emitSuperseded(err error)   { m.emit(effect{kind: superseded, err: err}) }
func (m *Machine) emitClosed()                { m.emit(effect{kind: closed}) }

func (m *Machine) emitOverdue(p Place, id uint64) {
	m.emit(effect{kind: overdue, place: p, number: id})
}

func (m *Machine) emitViolation(p Place, err error) {
	m.emit(effect{kind: violation, place: p, err: err})
}

func (m *Machine) emitInstall(snapshot *Request) {
	m.emit(effect{kind: installSnapshot, request: snapshot})
}

func (m *Machine) emitRewind(r *Request) { m.emit(effect{kind: rewind, request: r}) }
func (m *Machine) emitMark(r *Request)   { m.emit(effect{kind: mark, request: r}) }

func (m *Machine) emitResolve(r *Request, err error) {
	if r.Owner == nil { // a snapshot of the machine's own
		if err != nil {
			m.emitSnapshotFailed(err)
		}
		return
	}
	m.emit(effect{kind: resolve, request: r, err: err})
}

func (m *Machine) emitRecordsStored(n uint64, bytes int) {
	m.emit(effect{kind: recordsStored, number: n, size: bytes})
}

func (m *Machine) emitPlaced(p Place, replayed uint64) {
	m.emit(effect{kind: placed, place: p, number: replayed})
}

func (m *Machine) emitHeld(err error) { m.emit(effect{kind: held, err: err}) }

// Perform carries out the effects of the steps since it was last called, and sends what can be
// sent, until nothing is left to do.
func (m *Machine) Perform(to Effects) {
	for {
		list := m.effects
		for k := range list {
			m.perform(&list[k], to)
		}
		clear(list)
		m.effects = list[:0]
		s, ok := m.nextSending()
		switch {
		case ok:
			if id, fits := to.Send(m.place, s); fits {
				m.wasSent(s, id)
			} else {
				m.isFull = true
			}
			m.end()
		case len(m.effects) == 0:
			return
		default:
			m.end()
		}
	}
}

func (m *Machine) perform(e *effect, to Effects) {
	switch e.kind {
	case recall:
		to.Recall(e.place, e.number)
	case abandon:
		to.Abandon(e.place)
	case placeLeft:
		to.PlaceLeft(e.place)
	case releaseAlone:
		to.ReleaseAlone(e.place)
	case overdue:
		to.Overdue(e.place, e.number)
	case violation:
		to.Violation(e.place, e.err)
	case askPlace:
		to.AskPlace(e.flag)
	case takeAskBack:
		to.TakeAskBack()
	case load:
		to.Load(e.flag)
	case appendRecords:
		to.Append(e.number, m.records)
	case barrier:
		to.Barrier()
	case installSnapshot:
		to.Install(e.request.Outcome.Sequence, e.request.Data)
	case rewind:
		to.Rewind(e.request)
	case mark:
		to.Mark(e.request)
	case resolve:
		to.Resolve(e.request, e.err)
	case recordsStored:
		to.RecordsStored(e.number, e.size)
	case snapshotStored:
		to.SnapshotStored(e.size)
	case snapshotFailed:
		to.SnapshotFailed(e.err)
	case placed:
		to.Placed(e.place, e.number)
	case broken:
		to.Broken(e.err)
	case superseded:
		to.Superseded(e.err)
	case held:
		to.Held(m.hold.until, m.hold.length, m.hold.kills, e.err)
	case closed:
		to.Closed()
	}
}
