package driver

import (
	"slices"
	"testing"
	"testing/synctest"

	"hypertoken/internal/clock"
	"hypertoken/internal/engine"
	"hypertoken/internal/pool"
	"hypertoken/ipc"
)

// spared is a simulation of workers and spares that are all ready.
func spared(t *testing.T, o simOptions) *simulation {
	s := newSimulation(t, 1, o, 1)
	s.memory = func(int) (uint64, error) { return 0, nil }
	s.settle(func() bool {
		_, ok := s.slotOf(func(slot pool.SlotDetails) bool { return slot.State != pool.Ready })
		return !ok
	})
	return s
}

// settle lets time pass, processes come up and answer, until something is so.
func (s *simulation) settle(until func() bool) {
	for n := 0; !until(); n++ {
		s.host.tick(s.host.clock.Skip(clock.TickEvery))
		s.comeUp()
		for _, p := range slices.Clone(s.processes) {
			s.runProcess(p, true)
			p.read(1 << 10)
		}
		for _, f := range s.locals {
			f()
		}
		s.locals = nil
		for _, f := range s.store.late {
			f()
		}
		s.store.late = nil
		s.inspect()
		if n > 10_000 {
			s.stuck()
		}
	}
}

// worker returns a function that says how a worker is at the moment, spare one for a spare.
func (s *simulation) worker(id int) func() pool.SlotDetails { return s.slot(id, false) }
func (s *simulation) spare(id int) func() pool.SlotDetails  { return s.slot(id, true) }

func (s *simulation) slot(id int, isSpare bool) func() pool.SlotDetails {
	return func() pool.SlotDetails {
		slot, ok := s.slotOf(func(slot pool.SlotDetails) bool { return slot.ID == id && slot.IsSpare == isSpare })
		if !ok {
			s.fatal("there is no worker or spare %d", id)
		}
		return slot
	}
}

// process returns that of a worker or a spare.
func (s *simulation) process(of func() pool.SlotDetails) *simProcess {
	slot := of()
	at := slices.IndexFunc(s.processes, func(p *simProcess) bool { return p.worker == slot.Worker })
	if at < 0 {
		s.fatal("it has no process: %+v", slot)
	}
	return s.processes[at]
}

// processesStarted returns how many were.
func (s *simulation) processesStarted() int {
	_, _, n := s.host.pool.Details()
	return n
}

// close ends it.
func (s *simulation) close() {
	for _, e := range s.engines {
		e.beginClose()
	}
	s.settle(s.ended)
	s.host.stop(s)
}

func testSpares(t *testing.T, o simOptions, f func(t *testing.T, s *simulation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := spared(t, o)
		f(t, s)
		s.close()
	})
}

// The spares come up once the workers are there.
func TestSparesComeLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, 1, simOptions{workers: 2, spares: 2}, 0)
		for n := 0; len(s.processes) < 4; n++ {
			s.host.tick(s.host.clock.Skip(clock.TickEvery))
			if len(s.processes) < 2 && len(s.starting)+len(s.processes) > 2 {
				t.Fatal("a spare is started beside the workers")
			}
			s.comeUp()
			for _, p := range s.processes {
				p.run(1 << 10)
				p.read(1 << 10)
			}
			if n > 100 {
				s.stuck()
			}
		}
		s.host.stop(s)
	})
}

// A spare replaces a worker at the moment of its death, which counts as always; the next spare
// starts with a tick, or when the worker's backoff would have been over.
func TestASpareReplacesAWorker(t *testing.T) {
	testSpares(t, simOptions{workers: 1, spares: 1}, func(t *testing.T, s *simulation) {
		h, w, spare := s.host, s.worker(0), s.spare(0)
		for deaths := 1; deaths <= 3; deaths++ {
			next := spare().Worker
			s.process(w).die()
			if w().Worker != next || w().State != pool.Ready || w().Deaths != deaths {
				t.Fatalf("process %d, %v, %d deaths count; the spare was process %d",
					w().Worker.Number(), w().State, w().Deaths, next.Number())
			}
			s.inspect()
			if spare().State != pool.Backoff || len(s.starting) > 0 {
				t.Fatalf("the spare is %v", spare().State)
			}
			if wait := spare().Due - h.clock.Now(); (wait > 0) != (deaths > 1) {
				t.Errorf("after %d deaths the next spare is due in %v", deaths, wait)
			}
			s.settle(func() bool { return spare().State == pool.Ready })
			// It is heard of before it dies in turn.
			n := len(s.engines[0].calls)
			s.dispatch(s.engines[0], ipc.Dispatch, 0, 0, "add")
			s.settle(func() bool { return !s.engines[0].calls[n].unresolved() })
		}
		workers, spares := h.pool.Status()
		if n := h.pool.Counts().Takeovers; n != 3 || len(spares) != 1 || spares[0].State != pool.Ready ||
			spares[0].PID == workers[0].PID {
			t.Errorf("%d takeovers, the spares are %+v, the workers %+v", n, spares, workers)
		}
	})
}

// A worker that is given up leaves the spares alone: engines go on in this process.
func TestAWorkerThatIsGivenUpTakesNoSpare(t *testing.T) {
	testSpares(t, simOptions{workers: 1, spares: 2, maxRestarts: 1}, func(t *testing.T, s *simulation) {
		h, w := s.host, s.worker(0)
		for range 2 {
			n := len(s.engines[0].calls)
			s.dispatch(s.engines[0], ipc.Dispatch, 0, 0, "add")
			s.settle(func() bool { return !s.engines[0].calls[n].unresolved() })
			s.process(w).die()
		}
		s.settle(func() bool {
			return s.spare(0)().State == pool.Ready && s.spare(1)().State == pool.Ready
		})
		if w().State != pool.GivenUp {
			t.Errorf("the worker is %v", w().State)
		}
		processes := s.processesStarted()
		n := len(s.engines[0].calls)
		s.dispatch(s.engines[0], ipc.Dispatch, 0, 0, "add")
		s.settle(func() bool { return !s.engines[0].calls[n].unresolved() })
		if s.processesStarted() != processes || h.counts.Fallbacks.Load() == 0 {
			t.Errorf("%d processes were started, the engine fell back %d times",
				s.processesStarted()-processes, h.counts.Fallbacks.Load())
		}
	})
}

// If a spare is dead already when it replaces a worker, that is one death of the worker and not
// two.
func TestAWorkerAndItsSpareDieAtOnce(t *testing.T) {
	testSpares(t, simOptions{workers: 1, spares: 1}, func(t *testing.T, s *simulation) {
		w := s.worker(0)
		first, second := s.process(w), s.process(s.spare(0))
		first.die()
		second.die()
		if w().Deaths != 1 || w().State != pool.Starting {
			t.Errorf("%d deaths count, the worker is %v", w().Deaths, w().State)
		}
	})
}

// A spare that gets ready first replaces a worker that is starting still, whose process is the
// spare's then.
func TestASpareThatIsReadyFirst(t *testing.T) {
	testSpares(t, simOptions{workers: 1, spares: 1}, func(t *testing.T, s *simulation) {
		w, spare := s.worker(0), s.spare(0)
		s.process(spare).die()
		s.process(w).die()
		if spare().State != pool.Starting || w().State != pool.Starting || len(s.starting) != 2 {
			t.Fatalf("the worker is %v, the spare %v", w().State, spare().State)
		}
		late := w().Worker
		s.comeUp() // the spare's, which was started first
		p := s.process(spare)
		for w().State == pool.Starting {
			p.run(1 << 10)
			p.read(1 << 10)
		}
		if w().Worker != p.worker || spare().Worker != late || spare().State != pool.Starting {
			t.Errorf("the worker has process %d and is %v, the spare %d and %v",
				w().Worker.Number(), w().State, spare().Worker.Number(), spare().State)
		}
		s.settle(func() bool { return spare().State == pool.Ready })
		if s.processesStarted() != 4 {
			t.Errorf("%d processes were started", s.processesStarted())
		}
	})
}

// Spares that die are restarted, given up and tried again as workers are, and no engine notices.
func TestASpareThatDies(t *testing.T) {
	testSpares(t, simOptions{workers: 1, spares: 1, maxRestarts: 1}, func(t *testing.T, s *simulation) {
		h, w, spare := s.host, s.worker(0), s.spare(0)
		before := w().Worker
		s.process(spare).die()
		s.settle(func() bool { return spare().State == pool.Ready })
		s.process(spare).die()
		if spare().State != pool.GivenUp {
			t.Fatalf("it is %v", spare().State)
		}
		// Without one a worker starts a process, as ever.
		s.process(w).die()
		if w().State != pool.Starting || h.pool.Counts().Takeovers != 0 || before == w().Worker {
			t.Errorf("the worker is %v, %d were replaced by spares", w().State, h.pool.Counts().Takeovers)
		}
		s.settle(func() bool { return w().State == pool.Ready && spare().State == pool.Ready })
	})
}

// An engine that is taken out keeps no room of what was under way, and works as before once it is
// needed.
func TestAnEngineThatIsTakenOutIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spared(t, simOptions{workers: 1})
		e := s.engines[0]
		for range 2 {
			first := len(e.calls)
			for range 100 {
				s.dispatch(e, ipc.Dispatch, 0, 0, "add")
			}
			done := func() bool {
				for _, c := range e.calls[first:] {
					if c.unresolved() {
						return false
					}
				}
				return true
			}
			s.settle(done)
			s.settle(func() bool {
				takeOut(e.Driver)
				v := e.m.View()
				return v.State == engine.Out && v.IsIdle
			})
			if n := e.m.Details().Capacity; n > 32 { // room for a few effects
				t.Errorf("it has room for %d requests", n)
			}
		}
		s.close()
	})
}
