package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hypertoken/internal/executor"
	"hypertoken/ipc"
	"hypertoken/wasm"
)

// engineMachine owns an engine. It has no lock, no goroutine, no clock and does no I/O: whoever holds the engine's lock
// steps it, and then does what is in effects, in order.
type engineMachine struct {
	limits  *machineLimits
	state   engineState
	place   place
	effects []engineEffect

	// A request goes from queued to sent, answered, and, where it changed anything, to group, which is with the store.
	queued, sent, answered fifo[*request]
	group                  []*request
	records                []Record

	// sequence is that of the last record that the store has, appending how many records are with it. reached is that of
	// the instance, as far as it has answered.
	sequence, appending, reached uint64
	// bounds are the engine's own limits: another host may have opened it.
	bounds wasm.Limits
	// loaded is what the store had when it was last asked; cursor is how far the placing has come in it.
	loaded *Stored
	cursor cursor
	// entryBytes, baseBytes and runTime say what a replay would cost.
	entryBytes, baseBytes int
	runTime               time.Duration
	// keyBytes is what the store has of keys beside its base. keysShed says that the base has keys that are forgotten.
	keyBytes int64
	keysShed bool
	// keyNumber is the number of the newest record of a key that is stored, or with the store.
	keyNumber uint64

	blocked bool // the pipe has no room
	alone   bool // nothing else runs at the place
	moving  bool // it leaves as soon as nothing runs
	ran     bool // something was answered at the place
	closing bool
	saved   bool // the snapshot before the end was tried
	// taking says that the engine is to be taken out once its snapshot is stored.
	taking     bool
	snapshot   *request      // the snapshot that is on its way
	install    *request      // the one that is with the store
	installBy  time.Duration // when that is overdue
	snapshotAt time.Duration // none before
	// placeDeath makes the placing a suspect; attempts counts placings that failed.
	placeDeath *death
	attempts   int
	placeBy    time.Duration // when the placing is overdue
	now        time.Duration
	cause      error // why it is broken
	hold       holding
	unable     error // why no worker can run; nil unless the engine waits for one
	storeBy    time.Duration
	uncertain  bool // an append failed: the store must say whether it holds
}

// machineLimits are the options that the machine goes by.
type machineLimits struct {
	limits        wasm.Limits
	openTimeout   time.Duration
	killGrace     time.Duration
	storeTimeout  time.Duration
	maxAttempts   int
	snapshotBytes int
	replayBudget  time.Duration
	keyBytes      int64
	maxKills      int
	holdFor       time.Duration
}

func (m *engineMachine) effect(e engineEffect) { m.effects = append(m.effects, e) }

// step takes an event in.
func (m *engineMachine) step(ev engineEvent) {
	if ev.now > m.now {
		m.now = ev.now
	}
	switch ev.kind {
	case evDispatch:
		m.dispatch(ev.req)
	case evWithdraw:
		m.withdraw(ev.req, ev.err)
	case evTick:
		m.tick()
	case evPlace:
		m.granted(ev.place, ev.alone)
	case evSent:
		m.wasSent(ev.id)
	case evFull:
		m.blocked = true
	case evRoom:
		m.blocked = false
		m.pump()
	case evAnswer, evChunk, evDropped:
		if m.place.id == ev.place.id && (m.state == enginePlacing || m.state == engineLive) {
			m.came(ev)
		}
	case evLost:
		if m.place.id == ev.place.id && (m.state == enginePlacing || m.state == engineLive) {
			m.lost(ev.death)
		}
	case evLoaded:
		m.wasLoaded(ev.stored, ev.foreign, ev.err)
	case evAppended:
		m.wasAppended(ev.err)
	case evInstalled:
		m.wasInstalled(ev.err)
	case evMove:
		m.move(ev.later)
	case evTakeOut:
		m.takeOut()
	case evShed:
		m.keysShed = true
		m.due()
	case evCharge:
		if m.state != engineClosed {
			m.charge()
		}
	case evUnable:
		if m.state == engineWaiting {
			m.unable = ev.err
		}
	case evForsaken:
		m.forsaken()
	case evReopen:
		if m.state == engineBroken {
			m.state, m.attempts, m.placeDeath, m.cause = engineOut, 0, nil, nil
			m.need()
		}
	case evClose:
		m.closing = true
	case evStop:
		m.stop(ev.err)
	}
	m.settle()
}

func (m *engineMachine) dispatch(r *request) {
	switch {
	case m.state == engineClosed || m.closing:
		m.resolve(r, shutdownError())
	case m.state == engineBroken:
		m.resolve(r, m.cause)
	case m.isHeld():
		m.resolve(r, m.heldError(r.what))
	default:
		m.queued.push(r)
		m.need()
		m.pump()
	}
}

// move gives the place up for a better one.
func (m *engineMachine) move(later bool) {
	switch {
	case m.alone || (m.state != engineLive && m.state != enginePlacing):
	case later && (m.state == enginePlacing || m.sent.len() > 0):
		m.moving = true
	case !m.idle() || later:
		m.leave()
		m.need()
	}
}

func (m *engineMachine) resolve(r *request, err error) {
	if r == m.snapshot {
		m.snapshot = nil
	}
	r.err = err
	m.effect(engineEffect{kind: effResolve, req: r, err: err})
}

// need asks for a place where there is work and none.
func (m *engineMachine) need() {
	if m.state == engineOut && m.queued.len() > 0 && len(m.group) == 0 && m.install == nil && !m.isHeld() {
		m.load(false)
	}
}

func (m *engineMachine) load(anew bool) {
	m.state = engineLoading
	m.storeBy = m.now + m.limits.storeTimeout
	m.effect(engineEffect{kind: effLoad, alone: anew})
}

func (m *engineMachine) wasLoaded(s *Stored, foreign bool, err error) {
	if m.state != engineLoading {
		return
	}
	m.storeBy = 0
	if err == nil && s == nil {
		err = errors.New("the store does not know the engine any more")
	}
	if err == nil {
		err = s.counted()
	}
	if err != nil {
		m.broken(err)
		return
	}
	m.loaded = s
	stored := s.Sequence + s.Count
	if m.uncertain {
		m.settleUncertain(stored, s.lastKey(), foreign)
	}
	m.sequence = stored
	m.bounds = m.limits.limits
	if s.Snapshot {
		if l, err := wasm.SnapshotLimits(s.Data); err == nil {
			m.bounds = l
		}
	}
	m.baseBytes, m.entryBytes, m.keyBytes, m.keyNumber = len(s.Data), len(s.Entries), keysWeight(s.Recent), s.lastKey()
	if m.queued.len() == 0 {
		m.state = engineOut
		return
	}
	m.state, m.unable = engineWaiting, nil
	m.effect(engineEffect{kind: effAsk, alone: m.wantsAlone()})
}

// requeue puts requests that ran for nothing back in front, to run again with the same inputs.
func (m *engineMachine) requeue(list []*request) {
	again := list[:0:0]
	for _, r := range list {
		if r.withdrawn {
			continue
		}
		if r == m.snapshot {
			m.snapshot = nil // a new one will be due
			continue
		}
		r.id, r.data, r.outcome, r.err, r.changed = 0, nil, ipc.Outcome{}, nil, false
		r.sent, r.answered = 0, 0
		if r.keyed != nil {
			r.keyed = r.keyed.again()
		}
		again = append(again, r)
	}
	m.queued.unpop(again)
}

func (m *engineMachine) granted(p place, alone bool) {
	if m.state != engineWaiting {
		m.effect(engineEffect{kind: effAbandon, place: p})
		return
	}
	m.state, m.place, m.alone, m.blocked, m.ran, m.unable = enginePlacing, p, alone, false, false, nil
	m.cursor = cursor{stage: ipc.Open, pieces: m.cursor.pieces}
	m.cursor.pieces.items, m.cursor.pieces.head = m.cursor.pieces.items[:0], 0
	m.placeBy = m.now + m.limits.openTimeout
	m.pump()
}

// pump sends what can be sent. Each send is answered by evSent or evFull before the next.
func (m *engineMachine) pump() {
	switch {
	case m.moving && m.state == engineLive && (m.ran || m.queued.len() == 0):
		// Not before it has answered something: an engine that takes long to place would only ever move.
		if m.sent.len() == 0 {
			m.leave()
			m.need()
		}
	case m.blocked:
	case m.state == enginePlacing && m.cursor.stage != 0:
		m.effect(engineEffect{kind: effSend, place: m.place})
	case m.state == engineLive && m.queued.len() > 0:
		r := m.queued.all()[0]
		switch {
		case r.suspect() && !m.alone:
			// Not before what was sent is answered: it would come in front of the suspect again.
			if m.sent.len() == 0 {
				m.leave()
				m.need()
			}
			return
		case m.alone && m.sent.len() > 0:
			return // one at a time
		case m.alone && !r.suspect():
			m.alone = false
			m.effect(engineEffect{kind: effRelease, place: m.place})
		}
		m.effect(engineEffect{kind: effSend, place: m.place, req: r})
	case m.state == engineLive && m.alone && m.sent.len() == 0:
		m.alone = false
		m.effect(engineEffect{kind: effRelease, place: m.place})
	}
}

func (m *engineMachine) wasSent(id uint64) {
	if m.state == engineLive {
		r := m.queued.pop()
		r.id = id
		m.sent.push(r)
		m.pump()
		return
	}
	m.pieceSent(id)
}

// came takes in what the place says.
func (m *engineMachine) came(ev engineEvent) {
	if m.state == enginePlacing {
		m.pieceAnswered(ev)
		return
	}
	if ev.kind == evDropped {
		if !m.dropped(ev.id) {
			m.violation("request %d is dropped, which was not recalled", ev.id)
		}
		return
	}
	if m.sent.len() == 0 || m.sent.all()[0].id != ev.id {
		m.violation("an answer to request %d, which is not the next", ev.id)
		return
	}
	r := m.sent.all()[0]
	if ev.kind == evChunk {
		m.chunk(r, ev.body)
		return
	}
	m.answer(r, ev)
}

// chunk takes in a piece of a stream. However long the stream, the host holds no more of it than a state may have.
func (m *engineMachine) chunk(r *request, body []byte) {
	piece, err := ipc.ReadBytes(body)
	most := 2*m.bounds.MaxStateBytes + streamSlack
	switch {
	case err != nil:
		m.violation("a chunk for %v: %v", r.kind, err)
	case r.kind != ipc.State && r.kind != ipc.Snapshot:
		m.violation("a chunk for %v, which is no stream", r.kind)
	case len(piece) > ipc.ChunkSize:
		m.violation("a chunk of %d bytes, %d are allowed", len(piece), ipc.ChunkSize)
	case r.withdrawn:
		r.data = nil // nobody wants it any more
	case uint64(len(r.data)+len(piece)) > most:
		m.violation("a stream of more than %d bytes, which no state of %d has (MaxStateBytes)", most, m.bounds.MaxStateBytes)
	default:
		r.data = append(r.data, piece...)
	}
}

// streamSlack is what a stream may have beyond twice MaxStateBytes, in bytes: a record's framing is no logical byte.
const streamSlack = 16 << 20

// dropped takes out a request that had not begun; false where there is none.
func (m *engineMachine) dropped(id uint64) bool {
	for k, r := range m.sent.all() {
		if r.id != id {
			continue
		}
		if !r.withdrawn {
			break // nobody asked for that
		}
		m.sent.remove(k)
		m.pump()
		return true
	}
	return false
}

// violation takes in that the place broke the protocol. In this process there is no worker to end for it: what is at fault
// is the engine's journal, or its core.
func (m *engineMachine) violation(format string, args ...any) {
	err := &ipc.MalformedError{Message: fmt.Sprintf(format, args...)}
	if m.place.worker == nil {
		m.placingFailed(err)
		return
	}
	m.effect(engineEffect{kind: effViolation, place: m.place, err: err})
}

func (m *engineMachine) broken(err error) {
	m.state = engineBroken
	m.cause = &Error{Code: ErrBroken.Code, Err: err,
		Message: fmt.Sprintf("the engine could not be placed %d times (MaxAttempts), Reopen tries again: %v", m.limits.maxAttempts, err)}
	m.effect(engineEffect{kind: effBroken, err: m.cause})
	m.failAll(m.cause)
}

// failAll ends every request that is not with the store.
func (m *engineMachine) failAll(err error) {
	for _, q := range []*fifo[*request]{&m.answered, &m.sent, &m.queued} {
		for q.len() > 0 {
			if r := q.pop(); !r.withdrawn {
				m.resolve(r, err)
			}
		}
	}
}

// answer takes in the answer to the request that was sent first.
func (m *engineMachine) answer(r *request, ev engineEvent) {
	if err := r.take(ev.flags, ev.body); err != nil {
		m.violation("%v", err)
		return
	}
	r.answered = ev.seen
	m.place.ran(r.outcome.RunTime)
	lost := ev.flags&ipc.FlagLost != 0
	committed := r.committed()
	interrupted := lost && (r.code() == ipc.CodeNotPlaced || r.code() == executor.CodeInterrupted)
	// A worker that counts otherwise has another state, or says so. A placement that is lost has no sequence.
	switch after := m.reached + uint64(committed); {
	case interrupted && m.place.worker != nil:
		m.violation("the placement %d was ready, and is said not to be open", m.place.id)
		return
	case (r.err == nil || !lost) && r.outcome.Sequence != after:
		m.violation("an answer to request %d with the sequence %d, after it the engine has %d", ev.id, r.outcome.Sequence, after)
		return
	case r.kind == ipc.Dispatch && uint64(len(r.outcome.Result)) > uint64(m.bounds.MaxResult):
		m.violation("a result of %d bytes, %d are allowed (MaxResult)", len(r.outcome.Result), m.bounds.MaxResult)
		return
	default:
		m.reached = after
	}
	m.sent.pop()
	m.ran = true
	r.id = 0
	switch {
	case r.withdrawn:
		if committed > 0 || lost {
			m.leave()
			m.need()
			return
		}
	case interrupted:
		// Nothing was wrong with the request: its place is gone.
		m.leave() // what was sent after it goes behind it
		m.requeue([]*request{r})
		m.need()
		return
	default:
		r.death = nil
		m.answered.push(r)
	}
	if lost {
		m.leave()
	}
	m.commit()
	m.need()
	m.pump()
}

// withdraw ends a request with an error, unless its outcome is with the store.
func (m *engineMachine) withdraw(r *request, err error) {
	if r.withdrawn {
		return
	}
	for k, q := range m.queued.all() {
		if q == r {
			m.queued.remove(k)
			err = m.whileUnable(r, m.whileHeld(r, err))
			m.resolve(r, err)
			m.pump()
			return
		}
	}
	for _, q := range m.sent.all() {
		if q == r {
			r.withdrawn, r.killAt = true, m.now+m.limits.killGrace
			m.resolve(r, err)
			m.effect(engineEffect{kind: effRecall, place: m.place, id: r.id})
			return
		}
	}
	for k, q := range m.answered.all() {
		if q != r {
			continue
		}
		rest := m.answered.cut(k)
		if r.committed() == 0 {
			for _, q := range rest[1:] {
				m.answered.push(q)
			}
			m.resolve(r, err)
			return
		}
		// What came after has seen its effect.
		m.resolve(r, err)
		m.leave()
		m.requeue(rest[1:])
		m.need()
		return
	}
}

// whileUnable returns why a request has ended in the queue: if its time was up while no worker could run, that is why.
func (m *engineMachine) whileUnable(r *request, err error) error {
	if m.unable == nil || m.state != engineWaiting || !errors.Is(err, ErrTimeout) {
		return err
	}
	var why *Error
	errors.As(m.unable, &why)
	return &Error{Code: ErrWorkerUnavailable.Code, Message: r.what + ": " + why.Message, Err: errors.Join(context.DeadlineExceeded, m.unable)}
}

// leave gives the place up: nothing that comes from there counts any more, and what was sent runs again elsewhere.
func (m *engineMachine) leave() {
	if m.state != enginePlacing && m.state != engineLive {
		return
	}
	m.effect(engineEffect{kind: effAbandon, place: m.place})
	m.gone()
}

func (m *engineMachine) gone() {
	m.requeue(m.sent.cut(0))
	m.effect(engineEffect{kind: effLost, place: m.place})
	m.state, m.place, m.loaded, m.alone, m.blocked, m.moving, m.placeBy = engineOut, place{}, nil, false, false, false, 0
}

// tick ends what is past its deadline.
func (m *engineMachine) tick() {
	m.release()
	if m.storeBy > 0 && m.now >= m.storeBy {
		m.storeBy = 0
		switch {
		case m.state == engineLoading:
			m.load(true)
		case len(m.group) > 0 && !m.uncertain:
			m.doubt()
		}
	}
	if m.install != nil && m.now >= m.installBy {
		m.wasInstalled(fmt.Errorf("the store did not say within %v (StoreTimeout) that the snapshot is stored", m.limits.storeTimeout))
	}
	if m.placeBy > 0 && m.now >= m.placeBy {
		err := &Error{Code: ErrTimeout.Code, Err: context.DeadlineExceeded,
			Message: fmt.Sprintf("placing: not done after %v (OpenTimeout)", m.limits.openTimeout)}
		if m.cursor.pieces.len() > 0 {
			m.effect(engineEffect{kind: effOverdue, place: m.place, id: m.cursor.pieces.all()[0]})
		}
		m.placingFailed(err)
	}
	for _, q := range []*fifo[*request]{&m.queued, &m.sent, &m.answered} {
		for k := 0; k < q.len(); k++ {
			r := q.all()[k]
			if r.withdrawn || r.deadline == 0 || m.now < r.deadline {
				continue
			}
			n := q.len()
			m.withdraw(r, r.late())
			if q.len() < n {
				k = -1 // it has changed; look again
			}
		}
	}
	if m.sent.len() > 0 {
		if r := m.sent.all()[0]; r.withdrawn && m.now >= r.killAt {
			r.killAt = m.now + m.limits.killGrace
			m.effect(engineEffect{kind: effOverdue, place: m.place, id: r.id})
		}
	}
}
