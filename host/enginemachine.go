package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hypertoken/internal/executor"
	"hypertoken/internal/sabotage"
	"hypertoken/ipc"
	"hypertoken/wasm"
)

// engineState is where an engine is. ARCHITECTURE.md has the table of the transitions.
type engineState uint8

const (
	// engineOut: no instance. Its journal is all there is.
	engineOut engineState = iota
	// engineLoading: the store was asked for the journal.
	engineLoading
	// engineWaiting: the host was asked for a place.
	engineWaiting
	// enginePlacing: the journal is on its way to the place.
	enginePlacing
	// engineLive: requests run.
	engineLive
	// engineBroken: placing failed MaxAttempts times; only a reopening leads out.
	engineBroken
	// engineClosed: for good.
	engineClosed
)

func (s engineState) String() string {
	return [...]string{"out", "loading", "waiting", "placing", "live", "broken", "closed"}[s]
}

// place is where an engine is, or is about to be: a worker, nil for this process, and the ID of the placement there.
type place struct {
	worker *worker
	id     uint64
}

type engineEventKind uint8

const (
	// evDispatch: req is new.
	evDispatch engineEventKind = iota
	// evWithdraw: req is to end with err, if it can still be withdrawn.
	evWithdraw
	// evTick: time has passed.
	evTick
	// evPlace: place is granted; alone says that nothing else runs there.
	evPlace
	// evSent: what effSend named is in the pipe, with the ID id. evFull: it is not, there is no room. evRoom: there is again.
	evSent
	evFull
	evRoom
	// evAnswer: the answer to id came, with flags and body. evChunk: a piece of a stream. evDropped: the request had not
	// begun.
	evAnswer
	evChunk
	evDropped
	// evLost: the place is gone; death is set where the worker died by itself.
	evLost
	// evLoaded: the store has answered with stored, or err. evAppended, evInstalled: the store has ended call id.
	evLoaded
	evAppended
	evInstalled
	// evMove: there is a better place: the engine goes at once, or, where later is set, as soon as nothing runs. evTakeOut:
	// the engine is idle.
	evMove
	evTakeOut
	// evForsaken: no worker can run suspects.
	evForsaken
	// evReopen: a broken engine is to try again. evClose: it is to end, once all it has is answered; evStop: at once.
	evReopen
	evClose
	evStop
)

// engineEvent is something that happened.
type engineEvent struct {
	kind  engineEventKind
	alone bool
	later bool
	// foreign says that another host has owned the journal meanwhile.
	foreign bool
	flags   ipc.Flags
	id      uint64
	now     time.Duration
	req     *request
	place   place
	body    []byte
	stored  *Stored
	death   *death
	err     error
}

type engineEffectKind uint8

const (
	// effSend: send req, or where it is nil the next piece of the placing, to place; step evSent or evFull at once.
	effSend engineEffectKind = iota
	// effRecall: ask place to drop request id. effAbandon: close place, whose answers are not wanted any more.
	effRecall
	effAbandon
	// effOverdue: request id is owed by place past its deadline: if it is what runs there, kill the worker; else step evLost.
	effOverdue
	// effViolation: place, a worker, broke the protocol, err says how.
	effViolation
	// effAsk: ask the host for a place, alone or not. effUnask: it is not wanted any more. effRelease: it needs not be alone
	// any more.
	effAsk
	effUnask
	effRelease
	// effLoad: load the journal, as a new owner where alone is set. effAppend: append machine.records behind sequence id.
	// effInstall: install req.data as the snapshot of sequence id.
	effLoad
	effAppend
	effInstall
	// effResolve: req has ended.
	effResolve
	// effPlaced: the engine is live. effLost: it has no place any more. effBroken: err says why. effClosed: for good.
	effPlaced
	effLost
	effBroken
	effClosed
)

// engineEffect is what an event makes necessary.
type engineEffect struct {
	kind  engineEffectKind
	alone bool
	id    uint64
	req   *request
	place place
	err   error
}

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
		if (m.place.id == ev.place.id || sabotage.On(sabotage.LateAnswerCounts)) && (m.state == enginePlacing || m.state == engineLive) {
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
	case evForsaken:
		m.forsaken()
	case evReopen:
		if m.state == engineBroken && !sabotage.On(sabotage.ReopenDoesNothing) {
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
	default:
		m.queued.push(r)
		if sabotage.On(sabotage.NewestFirst) {
			m.queued.unpop(m.queued.cut(m.queued.len() - 1))
		}
		m.need()
		m.pump()
	}
}

// move gives the place up for a better one.
func (m *engineMachine) move(later bool) {
	switch {
	case later && sabotage.On(sabotage.NoReturn):
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
	if m.state == engineOut && m.queued.len() > 0 && len(m.group) == 0 && m.install == nil {
		m.load(false)
	}
}

func (m *engineMachine) load(anew bool) {
	m.state = engineLoading
	m.storeBy = m.now + m.limits.storeTimeout
	m.effect(engineEffect{kind: effLoad, alone: anew})
}

// wantsAlone reports whether what comes next is suspected of a worker's death.
func (m *engineMachine) wantsAlone() bool {
	if sabotage.On(sabotage.SuspectsTogether) {
		return false
	}
	return (m.placeDeath != nil && !m.placeDeath.cleared) || (m.queued.len() > 0 && m.queued.all()[0].suspect())
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
		m.settleUncertain(stored, foreign)
	}
	m.sequence = stored
	m.bounds = m.limits.limits
	if s.Snapshot {
		if l, err := wasm.SnapshotLimits(s.Data); err == nil {
			m.bounds = l
		}
	}
	m.baseBytes, m.entryBytes = len(s.Data), len(s.Entries)
	if m.queued.len() == 0 {
		m.state = engineOut
		return
	}
	m.state = engineWaiting
	m.effect(engineEffect{kind: effAsk, alone: m.wantsAlone()})
}

// settleUncertain says what has become of the group whose append failed: the store has all of it, or nothing. Where
// another host has owned the journal meanwhile, what is there may be that host's.
func (m *engineMachine) settleUncertain(stored uint64, foreign bool) {
	m.uncertain = false
	if foreign {
		m.disown()
		return
	}
	group := m.group
	m.group = nil
	if stored >= m.sequence+m.appending && m.appending > 0 {
		m.appending = 0
		for _, r := range group {
			m.finish(r)
		}
		return
	}
	m.appending = 0
	m.requeue(group)
}

// disown ends what was with the store when the journal was taken over.
func (m *engineMachine) disown() {
	for _, r := range m.group {
		m.resolve(r, &Error{Code: ErrOutcomeUnknown.Code, Err: ErrNotOwner,
			Message: r.what + ": another host has taken the journal over before the store said whether it is stored"})
	}
	m.group, m.appending = nil, 0
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
		again = append(again, r)
	}
	if sabotage.On(sabotage.RequeuedBehind) {
		again = append(m.queued.cut(0), again...)
	}
	m.queued.unpop(again)
}

func (m *engineMachine) granted(p place, alone bool) {
	if m.state != engineWaiting {
		m.effect(engineEffect{kind: effAbandon, place: p})
		return
	}
	m.state, m.place, m.alone, m.blocked, m.ran = enginePlacing, p, alone, false, false
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
		case r.suspect() && !m.alone && !sabotage.On(sabotage.SuspectsTogether):
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
		if (committed > 0 && !sabotage.On(sabotage.NoFence)) || lost {
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

// commit hands the next group to the store, and resolves what waits for nothing.
func (m *engineMachine) commit() {
	if sabotage.On(sabotage.ReadBeforeAppend) {
		for m.answered.len() > 0 && m.answered.all()[0].committed() == 0 {
			m.finish(m.answered.pop())
		}
	}
	if len(m.group) > 0 || m.uncertain {
		return
	}
	for m.answered.len() > 0 && m.answered.all()[0].committed() == 0 {
		m.finish(m.answered.pop())
	}
	if m.answered.len() == 0 {
		return
	}
	m.records = m.records[:0]
	for m.answered.len() > 0 {
		r := m.answered.pop()
		m.group = append(m.group, r)
		m.records = r.records(m.records)
		if sabotage.On(sabotage.AnswerBeforeAppend) {
			m.resolve(r, nil)
		}
	}
	if sabotage.On(sabotage.RecordLeftOut) && len(m.records) > 1 {
		m.records = m.records[:len(m.records)-1]
	}
	m.appending = uint64(len(m.records))
	m.storeBy = m.now + m.limits.storeTimeout
	m.effect(engineEffect{kind: effAppend, id: m.sequence})
}

func (m *engineMachine) wasAppended(err error) {
	if len(m.group) == 0 || m.uncertain {
		return
	}
	m.storeBy = 0
	switch {
	case errors.Is(err, ErrNotOwner):
		m.leave()
		m.requeue(m.answered.cut(0))
		m.disown()
		m.broken(ErrNotOwner)
		return
	case err != nil && !sabotage.On(sabotage.FailedAppendIsTaken):
		m.doubt()
		return
	}
	m.sequence += m.appending
	m.appending = 0
	for _, r := range m.group {
		m.runTime += time.Duration(r.outcome.RunTime)
		m.finish(r)
	}
	for k := range m.records {
		m.entryBytes += len(m.records[k].Action) + 10
	}
	clear(m.group)
	m.group = m.group[:0]
	clear(m.records)
	m.records = m.records[:0]
	m.due()
	m.commit()
	m.need()
	m.pump()
}

// doubt fences the engine: the store has to say what it holds.
func (m *engineMachine) doubt() {
	m.uncertain = true
	m.records = nil // the store may still read them
	m.leave()
	m.requeue(m.answered.cut(0))
	m.load(true)
}

// finish ends a request whose outcome is durable. A snapshot is handed to the store.
func (m *engineMachine) finish(r *request) {
	if r == m.snapshot && r.err == nil {
		m.snapshot = nil
		m.install, m.installBy = r, m.now+m.limits.storeTimeout
		m.effect(engineEffect{kind: effInstall, req: r, id: r.outcome.Sequence})
		return
	}
	m.resolve(r, r.err)
}

// due sends a snapshot where the entries cost more than they should.
func (m *engineMachine) due() {
	if m.now < m.snapshotAt {
		return
	}
	if m.entryBytes > max(m.baseBytes, m.limits.snapshotBytes) || m.runTime > m.limits.replayBudget {
		m.takeSnapshot()
	}
}

func (m *engineMachine) takeSnapshot() {
	if m.snapshot != nil || m.install != nil || m.state != engineLive {
		return
	}
	m.snapshot = &request{kind: ipc.Snapshot, what: "snapshot", deadline: m.now + m.limits.openTimeout, allowed: m.limits.openTimeout, limit: "OpenTimeout"}
	m.queued.unpop([]*request{m.snapshot})
	m.pump()
}

func (m *engineMachine) wasInstalled(err error) {
	r := m.install
	if r == nil {
		return
	}
	m.install, m.installBy = nil, 0
	if err == nil {
		m.baseBytes, m.entryBytes, m.runTime = len(r.data), 0, 0
	} else {
		m.snapshotAt = m.now + m.limits.storeTimeout
	}
	m.effect(engineEffect{kind: effResolve, req: r, err: err})
	m.need()
}

// withdraw ends a request with an error, unless its outcome is with the store.
func (m *engineMachine) withdraw(r *request, err error) {
	if r.withdrawn {
		return
	}
	for k, q := range m.queued.all() {
		if q == r {
			m.queued.remove(k)
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
		if sabotage.On(sabotage.WithdrawnIsJournaled) {
			r.ctx, r.deadline = nil, 0
			m.effect(engineEffect{kind: effResolve, req: r, err: err})
			return
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

// leave gives the place up: nothing that comes from there counts any more, and what was sent runs again elsewhere.
func (m *engineMachine) leave() {
	if m.state != enginePlacing && m.state != engineLive {
		return
	}
	m.effect(engineEffect{kind: effAbandon, place: m.place})
	m.gone()
}

func (m *engineMachine) gone() {
	if sabotage.On(sabotage.InFlightIsLost) {
		m.sent.cut(0)
	}
	m.requeue(m.sent.cut(0))
	m.effect(engineEffect{kind: effLost, place: m.place})
	m.state, m.place, m.loaded, m.alone, m.blocked, m.moving, m.placeBy = engineOut, place{}, nil, false, false, false, 0
}

// lost takes in that the place is gone. What was sent is suspected, where the worker died by itself.
func (m *engineMachine) lost(d *death) {
	placing, alone := m.state == enginePlacing, m.alone
	if d != nil {
		for _, r := range m.sent.all() {
			if !r.withdrawn && r != m.snapshot {
				if alone && r.suspect() {
					r.death.cleared = !sabotage.On(sabotage.OthersUncleared) // of the others
					if !sabotage.On(sabotage.DeathsUncounted) {
						r.deaths++
					}
				}
				r.death = d
			}
		}
	}
	if sabotage.On(sabotage.InFlightFails) {
		m.failAll(&Error{Code: ErrWorkerUnavailable.Code, Message: "its worker has ended"})
	}
	m.gone()
	if sabotage.On(sabotage.RunTwice) {
		for _, r := range m.group {
			again := *r
			again.to = nil
			m.requeue([]*request{&again})
		}
	}
	if d != nil && !sabotage.On(sabotage.BatchUnsplit) {
		m.splitBatches()
	}
	for m.queued.len() > 0 {
		r := m.queued.all()[0]
		if r.deaths < m.limits.maxAttempts {
			break
		}
		m.queued.pop()
		m.resolve(r, &Error{Code: ErrPoisoned.Code,
			Message: fmt.Sprintf("%s: the worker died %d times while it ran alone (MaxAttempts)", r.what, r.deaths)})
	}
	if placing && d != nil {
		if alone && m.placeDeath != nil {
			m.placeDeath.cleared = true
			if m.attempts++; m.attempts >= m.limits.maxAttempts {
				m.broken(fmt.Errorf("the worker died while the engine was placed alone"))
				return
			}
		}
		m.placeDeath = d
	}
	m.need()
}

// splitBatches makes suspects of the members of independent batches. One with a condition for all of it stays whole.
func (m *engineMachine) splitBatches() {
	var list []*request
	for _, r := range m.queued.cut(0) {
		if !r.suspect() || r.kind != ipc.Batch || r.flags&ipc.FlagAtomic != 0 || r.conditional || len(r.members) < 2 {
			list = append(list, r)
			continue
		}
		for k, s := range r.members {
			part := &request{kind: ipc.Dispatch, what: fmt.Sprintf("%s, member %d", r.what, k), body: r.body[s.from:s.to:s.to],
				deadline: r.deadline, allowed: r.allowed, limit: r.limit, ctx: r.ctx, death: r.death}
			if s.journaled {
				part.flags = ipc.FlagJournaled
			}
			if r.to != nil {
				part.to = r.to.part(k, part)
			}
			list = append(list, part)
		}
	}
	m.queued.unpop(list)
}

// forsaken ends the suspects: they do not run in this process.
func (m *engineMachine) forsaken() {
	if m.state != engineWaiting {
		return
	}
	m.placeDeath = nil
	for k := 0; k < m.queued.len(); {
		r := m.queued.all()[k]
		if !r.suspect() {
			k++
			continue
		}
		m.queued.remove(k)
		m.resolve(r, &Error{Code: ErrWorkerUnavailable.Code,
			Message: r.what + ": a worker died while it may have run, and there is none to run it again"})
	}
	m.effect(engineEffect{kind: effUnask})
	m.state = engineOut
	m.loaded = nil
	m.need()
}

// tick ends what is past its deadline.
func (m *engineMachine) tick() {
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
	if sabotage.On(sabotage.CommittedIsWithdrawn) {
		for _, r := range m.group {
			if r.deadline > 0 && m.now >= r.deadline {
				m.resolve(r, r.late())
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

// takeOut frees the instance of an engine that has nothing to do, after a snapshot if its journal has grown.
func (m *engineMachine) takeOut() {
	if m.state == engineLive && m.idle() {
		m.taking = true
		if m.entryBytes > 0 {
			m.takeSnapshot()
		}
	}
}

// idle reports whether nothing is on its way.
func (m *engineMachine) idle() bool {
	return m.queued.len() == 0 && m.sent.len() == 0 && m.answered.len() == 0 && len(m.group) == 0 && m.install == nil
}

// settle ends what waits for the engine to be idle.
func (m *engineMachine) settle() {
	if m.queued.len() > 0 && m.queued.all()[0] != m.snapshot {
		m.taking = false
	}
	if !m.idle() || m.state == engineLoading || m.state == engineClosed {
		return
	}
	switch {
	case m.closing && m.state == engineLive && m.entryBytes > 0 && !m.saved:
		m.saved = true
		m.takeSnapshot()
	case m.closing:
		m.end()
	case m.taking && m.state == engineLive:
		m.taking = false
		m.leave()
	}
}

func (m *engineMachine) end() {
	if m.state == engineWaiting {
		m.effect(engineEffect{kind: effUnask})
	}
	m.leave()
	m.state = engineClosed
	m.effect(engineEffect{kind: effClosed})
}

// stop ends everything now. What is with the store has an outcome that nobody knows.
func (m *engineMachine) stop(err error) {
	if m.state == engineClosed {
		return // it has ended by itself meanwhile
	}
	m.failAll(err)
	for _, r := range m.group {
		m.resolve(r, &Error{Code: ErrOutcomeUnknown.Code, Message: r.what + ": the store has not said whether it is stored"})
	}
	m.group, m.install = nil, nil
	m.end()
}
