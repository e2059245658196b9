package engine

import (
	"context"
	"errors"
	"time"

	"hypertoken/internal/executor"
	"hypertoken/internal/fault"
	"hypertoken/ipc"
)

// What happens to requests at the place where the engine is: they are sent, answered, and withdrawn.

// nextSending returns what is to be sent next. If it returns false, nothing can be sent before the
// next event, unless it has asked for something: then Perform calls it again.
func (m *Machine) nextSending() (Sending, bool) {
	if m.isMoving && m.state == Live && (m.hasAnswered || m.queued.Len() == 0) {
		// An engine that takes long to place would only ever move, if it left before it has answered something.
		if m.sent.Len() == 0 {
			m.leave()
			m.askForPlace()
		}
		return Sending{}, false
	}
	switch {
	case m.isRewindNext() && (m.state == Live || m.state == Out):
		m.beginRewind()
	case m.isNoteNext() && m.state == Live:
		m.takeNote()
	case m.isFull:
	case m.state == Placing && m.cursor.stage != 0:
		kind, body := m.piece(nil)
		return Sending{Kind: kind, Body: body}, true
	case m.state == Live && m.queued.Len() > 0:
		return m.nextRequest()
	case m.state == Live && m.isAlone && m.sent.Len() == 0:
		m.isAlone = false
		m.emitReleaseAlone(m.place)
	}
	return Sending{}, false
}

// nextRequest returns the request that is queued first, if it may run at the place now.
func (m *Machine) nextRequest() (Sending, bool) {
	r := m.queued.All()[0]
	switch {
	case r.isSuspect() && !m.isAlone:
		// A suspect needs a place where nothing else runs. What was sent is answered first: it would run
		// before the suspect again.
		if m.sent.Len() == 0 {
			m.leave()
			m.askForPlace()
		}
		return Sending{}, false
	case m.isAlone && m.sent.Len() > 0:
		return Sending{}, false // one at a time
	case m.isAlone && !r.isSuspect():
		m.isAlone = false
		m.emitReleaseAlone(m.place)
		return Sending{}, false
	}
	return Sending{Request: r, Kind: r.Kind, Flags: r.Flags, Body: r.Body}, true
}

// wasSent takes in that what nextSending returned is in the pipe.
func (m *Machine) wasSent(s Sending, id uint64) {
	if s.Request == nil {
		m.pieceSent(id)
		return
	}
	r := m.queued.Pop()
	r.id = id
	m.sent.Push(r)
}

// nextSent returns the request that has to be answered next, if it has that ID. Otherwise it
// returns nil: the place broke the protocol.
func (m *Machine) nextSent(id uint64) *Request {
	if m.sent.Len() == 0 || m.sent.All()[0].id != id {
		m.violation("an answer to request %d, which is not the next", id)
		return nil
	}
	return m.sent.All()[0]
}

// chunk takes in a piece of a stream. However long the stream, the host holds no more of it than a state may have.
func (m *Machine) chunk(r *Request, body []byte) {
	piece, err := ipc.ReadBytes(body)
	most := 2*m.bounds.MaxStateBytes + StreamSlack
	switch {
	case err != nil:
		m.violation("a chunk for %v: %v", r.Kind, err)
	case r.Kind != ipc.State && r.Kind != ipc.Snapshot:
		m.violation("a chunk for %v, which is no stream", r.Kind)
	case len(piece) > ipc.ChunkSize:
		m.violation("a chunk of %d bytes, %d are allowed", len(piece), ipc.ChunkSize)
	case r.isWithdrawn:
		r.Data = nil // nobody wants it any more
	case uint64(len(r.Data)+len(piece)) > most:
		m.violation("a stream of more than %d bytes, which no state of %d has (MaxStateBytes)", most,
			m.bounds.MaxStateBytes)
	default:
		r.Data = append(r.Data, piece...)
	}
}

// StreamSlack is what a stream may have beyond twice MaxStateBytes, in bytes: the framing of a record does not count as
// logical bytes.
const StreamSlack = 16 << 20

// dropped takes out a request that had not begun. It returns false if no such request was recalled.
func (m *Machine) dropped(id uint64) bool {
	for k, r := range m.sent.All() {
		if r.id == id {
			if r.isWithdrawn {
				m.sent.Remove(k)
			}
			return r.isWithdrawn
		}
	}
	return false
}

// violation takes in that the place broke the protocol. In this process there is no worker to end for it: the engine's
// journal, or its core, is at fault.
func (m *Machine) violation(format string, args ...any) {
	err := malformed(format, args...)
	if m.place.IsLocal() {
		m.placingFailed(err)
		return
	}
	m.emitViolation(m.place, err)
}

// answer takes in the answer to the request that was sent first.
func (m *Machine) answer(r *Request, a Answer) (ran time.Duration) {
	if err := r.readAnswer(a.Flags, a.Body); err != nil {
		m.violation("%v", err)
		return 0
	}
	ran = time.Duration(r.Outcome.RunTime)
	r.Answered = a.Seen
	isLost := a.Flags&ipc.FlagLost != 0
	isInterrupted := isLost && (r.code() == ipc.CodeNotPlaced || r.code() == executor.CodeInterrupted)
	if !m.isAnswerPossible(r, a, isLost, isInterrupted) {
		return ran
	}
	records := r.records()
	m.reached += uint64(records)
	m.sent.Pop()
	m.hasAnswered = true
	r.id = 0
	switch {
	case r.isWithdrawn:
		// The instance has an effect that must not be, or is gone: fence the engine.
		if records > 0 || isLost {
			m.leave()
			m.askForPlace()
			return ran
		}
	case isInterrupted:
		// Nothing was wrong with the request: its place is gone. What was sent after it goes behind it.
		m.leave()
		m.requeue([]*Request{r})
		m.askForPlace()
		return ran
	default:
		r.death = nil
		m.answered.Push(r)
	}
	if isLost {
		m.leave()
	}
	m.commit()
	m.askForPlace()
	return ran
}

// isAnswerPossible reports whether a worker that runs the same core may give the answer. A worker
// that counts otherwise has another state, or says so. A placement that is lost has no sequence.
func (m *Machine) isAnswerPossible(r *Request, a Answer, isLost, isInterrupted bool) bool {
	after := m.reached + uint64(r.records())
	switch {
	case isInterrupted && !m.place.IsLocal():
		m.violation("the placement %d was ready, and is said not to be open", m.place.Placement)
	case (r.Err == nil || !isLost) && r.Outcome.Sequence != after:
		m.violation("an answer to request %d with the sequence %d, after it the engine has %d", a.ID,
			r.Outcome.Sequence, after)
	case r.Kind == ipc.Dispatch && uint64(len(r.Outcome.Result)) > uint64(m.bounds.MaxResult):
		m.violation("a result of %d bytes, %d are allowed (MaxResult)", len(r.Outcome.Result), m.bounds.MaxResult)
	default:
		return true
	}
	return false
}

// withdrawEach withdraws the requests for which ended returns an error.
func (m *Machine) withdrawEach(ended func(*Request) error) {
	for _, q := range [...]func() []*Request{m.queued.All, m.sent.All, m.answered.All, m.verifying} {
		for k := 0; k < len(q()); k++ {
			list := q()
			r := list[k]
			if r.isWithdrawn {
				continue
			}
			err := ended(r)
			if err == nil {
				continue
			}
			m.withdraw(r, err)
			if len(q()) != len(list) {
				k = -1 // the queue has changed: look again
			}
		}
	}
}

// withdraw ends a request with an error, unless its outcome is with the store.
func (m *Machine) withdraw(r *Request, err error) {
	if r.isWithdrawn {
		return
	}
	for k, q := range m.queued.All() {
		if q == r {
			m.queued.Remove(k)
			m.resolve(r, m.reasonWhileUnable(r, m.reasonWhileHeld(r, err)))
			m.askForPlace() // others may have waited for a rewind
			return
		}
	}
	for _, q := range m.sent.All() {
		if q == r {
			r.isWithdrawn, r.killAt = true, m.now+m.config.KillGrace
			m.resolve(r, err)
			m.emitRecall(m.place, r.id)
			return
		}
	}
	for k, q := range m.answered.All() {
		if q == r {
			m.withdrawAnswered(k, err)
			return
		}
	}
	for k, q := range m.verifying() {
		if q == r {
			m.withdrawVerifying(k, err)
			return
		}
	}
	for _, q := range m.group {
		if q == r && (r.Deadline == 0 || r.Deadline > m.now) {
			r.Deadline = max(m.now, 1) // its caller has no more time for what the store says
		}
	}
}

// withdrawAnswered ends the k-th request that is answered and not yet with the store.
func (m *Machine) withdrawAnswered(k int, err error) {
	rest := m.answered.CutFrom(k)
	r, later := rest[0], rest[1:]
	hadEffect := r.records() > 0 // an error that is set says no
	m.resolve(r, err)
	if !hadEffect {
		for _, q := range later {
			m.answered.Push(q)
		}
		return
	}
	// What came after the request has seen its effect.
	m.leave()
	m.requeue(later)
	m.askForPlace()
}

// reasonWhileUnable returns why a request has ended in the queue: if its time was up while no
// worker could run, that is why.
func (m *Machine) reasonWhileUnable(r *Request, err error) error {
	if m.unable == nil || m.state != Waiting || !errors.Is(err, fault.ErrTimeout) {
		return err
	}
	var why *fault.Error
	errors.As(m.unable, &why)
	return fault.ErrWorkerUnavailable.Because(errors.Join(context.DeadlineExceeded, m.unable), "%s: %s", r.What,
		why.Message)
}

// leave gives the place up: nothing that comes from there counts any more, and what was sent runs again elsewhere.
func (m *Machine) leave() {
	if m.isPlaced() {
		m.emitAbandon(m.place)
		m.forgetPlace()
	}
}

// forgetPlace puts the engine out. What was sent goes back to the front of the queue.
func (m *Machine) forgetPlace() {
	m.requeue(m.sent.CutFrom(0))
	m.emitPlaceLeft(m.place)
	m.state, m.place, m.loaded, m.placeBy = Out, Place{}, nil, 0
	m.isAlone, m.isFull, m.isMoving = false, false, false
}

// requeue puts requests that ran for nothing back in front, to run again with the same clock and entropy.
func (m *Machine) requeue(list []*Request) {
	again := list[:0:0]
	for _, r := range list {
		switch {
		case r.isWithdrawn:
		case r == m.snapshot:
			m.snapshot = nil // a new one will be due
		default:
			r.forgetAnswer()
			again = append(again, r)
		}
	}
	m.queued.PushFront(again)
}
