package host

import (
	"fmt"

	"hypertoken/ipc"
)

// What becomes of requests whose worker died: they are suspects, run alone, and fail when workers die of them.

// wantsAlone reports whether what comes next is suspected of a worker's death.
func (m *engineMachine) wantsAlone() bool {
	return (m.placeDeath != nil && !m.placeDeath.cleared) || (m.queued.len() > 0 && m.queued.all()[0].suspect())
}

// lost takes in that the place is gone. What was sent is suspected, where the worker died by itself.
func (m *engineMachine) lost(d *death) {
	placing, alone := m.state == enginePlacing, m.alone
	if d != nil {
		for _, r := range m.sent.all() {
			if !r.withdrawn && r != m.snapshot {
				if alone && r.suspect() {
					r.death.cleared = true // of the others
					r.deaths++
				}
				r.death = d
			}
		}
	}
	m.gone()
	if d != nil {
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

// splitBatches makes suspects of the members of independent batches. One with a condition or a key for all of it stays whole.
func (m *engineMachine) splitBatches() {
	var list []*request
	for _, r := range m.queued.cut(0) {
		if !r.suspect() || r.kind != ipc.Batch || r.flags&ipc.FlagAtomic != 0 || r.conditional || r.keyed != nil || len(r.members) < 2 {
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
