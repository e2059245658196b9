package engine

import (
	"errors"
	"fmt"
	"sync/atomic"

	"hypertoken/internal/fault"
	"hypertoken/ipc"
)

// What becomes of requests whose worker died: they are suspects, run alone, and fail after
// MaxAttempts deaths while they ran alone. docs/recovery.md has the rules.

// Death is one death of a worker. All requests that were on the worker, of all its engines, become suspects of it. If a
// worker later dies while one of them runs alone, the others are cleared.
type Death struct{ isCleared atomic.Bool }

// needsToBeAlone reports whether the engine's next placing, or the first request in its queue, is a suspect.
func (m *Machine) needsToBeAlone() bool {
	return (m.placeDeath != nil && !m.placeDeath.isCleared.Load()) ||
		(m.queued.Len() > 0 && m.queued.All()[0].isSuspect())
}

// lost takes in that the place is gone. If its worker died by itself, the requests that were sent are suspected of it.
func (m *Machine) lost(d *Death) {
	wasPlacing, wasAlone := m.state == Placing, m.isAlone
	if d != nil {
		m.suspectSent(d)
	}
	m.forgetPlace()
	if d != nil {
		m.splitBatches()
	}
	for m.queued.Len() > 0 && m.queued.All()[0].deaths >= m.config.MaxAttempts {
		r := m.queued.Pop()
		m.resolve(r, fault.ErrPoisoned.With("%s: the worker died %d times while it ran alone (MaxAttempts)", r.What,
			r.deaths))
	}
	if wasPlacing && d != nil {
		// The first death of a worker that places this engine does not count. If the engine was placed
		// alone after that, this one counts, and clears the other suspects of the earlier death.
		if wasAlone && m.placeDeath != nil {
			m.placeDeath.isCleared.Store(true)
			if m.attempts++; m.attempts >= m.config.MaxAttempts {
				m.breakDown(errors.New("the worker died while the engine was placed alone"), m.couldNotBePlaced())
				return
			}
		}
		m.placeDeath = d
	}
	m.askForPlace()
}

// suspectSent makes suspects of the requests that were sent. If a suspect ran alone, the death
// counts against it, and clears the requests that were suspected with it.
func (m *Machine) suspectSent(d *Death) {
	for _, r := range m.sent.All() {
		if r.isWithdrawn || r == m.snapshot {
			continue
		}
		if m.isAlone && r.isSuspect() {
			r.death.isCleared.Store(true)
			r.deaths++
		}
		r.death = d
	}
}

// splitBatches makes single suspects of the members of independent batches. A batch with a
// condition or a key for all of it stays whole.
func (m *Machine) splitBatches() {
	var list []*Request
	for _, r := range m.queued.CutFrom(0) {
		if !r.isSuspect() || r.Kind != ipc.Batch || r.Flags&ipc.FlagAtomic != 0 || r.IsConditional || r.Keyed != nil ||
			r.Splitter == nil || len(r.Members) < 2 {
			list = append(list, r)
			continue
		}
		for k, s := range r.Members {
			part := &Request{Kind: ipc.Dispatch, What: fmt.Sprintf("%s, member %d", r.What, k),
				Body:     r.Body[s.From:s.To:s.To],
				Deadline: r.Deadline, Allowed: r.Allowed, Limit: r.Limit, Context: r.Context, death: r.death}
			if s.IsJournaled {
				part.Flags = ipc.FlagJournaled
			}
			part.Owner = r.Splitter.OwnerOf(k, part)
			list = append(list, part)
		}
	}
	m.queued.PushFront(list)
}

// forsake fails the suspects: they do not run in this process, and no worker can run them.
func (m *Machine) forsake() {
	if m.state != Waiting {
		return
	}
	m.placeDeath = nil
	for k := 0; k < m.queued.Len(); {
		r := m.queued.All()[k]
		if !r.isSuspect() {
			k++
			continue
		}
		m.queued.Remove(k)
		m.resolve(r, fault.ErrWorkerUnavailable.With(
			"%s: a worker died that may have run it, and no worker is there to run it again", r.What))
	}
	m.emitTakeAskBack()
	m.state = Out
	m.loaded = nil
	m.askForPlace()
}
