package driver

import (
	"errors"
	"slices"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/pool"
	"hypertoken/ipc"
)

// Rules that a simulation checks beside the answers: no caller sees at once that one of them is
// broken.

// inspect looks at the host between two events.
func (s *simulation) inspect() {
	workers, spares, _ := s.host.pool.Details()
	isReady := func(slot pool.SlotDetails) bool {
		if slot.State != pool.Ready {
			return false
		}
		d := slot.Worker.Details()
		return !d.IsDead && !d.IsEnding
	}
	ready, spare := slices.ContainsFunc(workers, isReady), slices.ContainsFunc(spares, isReady)
	for _, slot := range workers {
		if spare && slot.LacksProcess {
			s.fatal("worker %d is %v, and there is a spare", slot.ID, slot.State)
		}
	}
	for _, slot := range spares {
		if slot.State == pool.Ready && slot.Worker.Details().Engines > 0 {
			s.fatal("spare %d has engines", slot.ID)
		}
	}
	for _, e := range s.engines {
		d := e.m.Details()
		if id := d.Place.Placement; id != 0 && id != e.placement {
			if s.placements[id] {
				s.fatal("%s: the placement %d is used again", e.name, id)
			}
			s.placements[id], e.placement = true, id
		}
		for _, r := range d.Sent {
			switch w := e.at; {
			case !r.IsSuspect() || r.IsWithdrawn():
			case w == nil:
				s.fatal("%s: %s is suspected of a death and runs in this process", e.name, r.What)
			case w.Details().Pending > 1:
				s.fatal("%s: %s is suspected of a death and is one of %d requests on its worker",
					e.name, r.What, w.Details().Pending)
			}
		}
		if here := d.Place.Placement != 0 && d.Place.IsLocal(); here && ready && !d.IsMoving {
			s.fatal("%s stays in this process, and a worker is ready", e.name)
		}
	}
}

// inspectKill is called when the host ends a worker: none here ever breaks the protocol.
func (s *simulation) inspectKill(w *pool.Worker) {
	if w.Details().Reason == pool.Died {
		s.fatal("the host says of a worker that it broke the protocol")
	}
}

// inspectDeath is called before a worker's death is taken in; what it returns, after.
func (s *simulation) inspectDeath(w *pool.Worker) (after func()) {
	type inFlight struct {
		engine *simEngine
		*engine.Request
		death  *engine.Death
		deaths int
		alone  bool // it was a suspect, and ran alone
	}
	var list []inFlight
	for _, e := range s.engines {
		if d := e.m.Details(); d.State == engine.Live && e.at == w {
			for _, r := range d.Sent {
				if !r.IsWithdrawn() && (r.Kind == ipc.Dispatch || r.Kind == ipc.Batch) {
					death, deaths := r.Suspicion()
					list = append(list, inFlight{e, r, death, deaths, r.IsSuspect() && d.IsAlone})
				}
			}
		}
	}
	// Its slot has another process afterwards, perhaps a spare's.
	slot, ok := s.slotOf(func(slot pool.SlotDetails) bool { return slot.Worker == w })
	if !ok {
		s.fatal("process %d lives, and is none of a worker or a spare", w.Number())
	}
	d := w.Details()
	alone, reason := d.Reserved != 0 && d.IsAlone, d.Reason
	return func() {
		now, _ := s.slotOf(func(other pool.SlotDetails) bool {
			return other.ID == slot.ID &&
				other.IsSpare == slot.IsSpare
		})
		if now.Deaths > slot.Deaths && (alone || reason != pool.Died) && reason != pool.OverMemory {
			s.fatal("a worker's end (%v, alone %v) counts as a restart", reason, alone)
		}
		for _, r := range list {
			death, deaths := r.Suspicion()
			switch suspected := death != r.death; {
			case errors.Is(r.Err, errUnreadable), errors.Is(r.Err, fault.ErrMoved):
				// The engine could not be placed again.
			case r.Kind == ipc.Batch && r.Flags&ipc.FlagAtomic == 0 && !r.IsConditional && r.Keyed == nil &&
				len(r.Members) > 1 && suspected:
				if slices.Contains(r.engine.m.Details().Queued, r.Request) {
					s.fatal("%s: %s is suspected of a death, and is not split", r.engine.name, r.What)
				}
			case r.Err != nil && !errors.Is(r.Err, fault.ErrPoisoned):
				s.fatal("%s: %s was in flight when its worker died, and fails with %v", r.engine.name, r.What, r.Err)
			case suspected != (reason == pool.Died):
				s.fatal("%s: %s, in flight when its worker ended (%v), is suspected: %v", r.engine.name, r.What,
					reason, suspected)
			case suspected && r.alone && !r.death.IsCleared():
				s.fatal("%s: %s died alone, and the others of the death before are suspects still", r.engine.name,
					r.What)
			case suspected && r.alone != (deaths > r.deaths):
				s.fatal("%s: the worker died, %s was alone there: %v, and has %d deaths, before %d",
					r.engine.name, r.What, r.alone, deaths, r.deaths)
			}
		}
	}
}

// slotOf returns the worker or the spare for which something is so.
func (s *simulation) slotOf(is func(pool.SlotDetails) bool) (slot pool.SlotDetails, ok bool) {
	workers, spares, _ := s.host.pool.Details()
	for _, slot := range slices.Concat(workers, spares) {
		if is(slot) {
			return slot, true
		}
	}
	return slot, false
}
