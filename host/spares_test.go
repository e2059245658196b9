package host

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hypertoken/ipc"
)

// spared is a simulation of workers and spares that are all ready.
func spared(t *testing.T, o Options) *simulation {
	s := newSimulation(t, 1, o, 1)
	s.host.memory = func(int) (uint64, error) { return 0, nil }
	s.settle(func() bool {
		return !slices.ContainsFunc(slices.Concat(s.host.slots, s.host.spares), func(p *slot) bool { return p.supervisor.state != workerReady })
	})
	return s
}

// settle lets time pass, processes come up and answer, until something is so.
func (s *simulation) settle(until func() bool) {
	for n := 0; !until(); n++ {
		s.host.tick(time.Duration(s.host.clock.value.Add(int64(tickEvery))))
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

// process returns that of a worker or a spare.
func (s *simulation) process(of *slot) *simProcess {
	at := slices.IndexFunc(s.processes, func(p *simProcess) bool { return p.worker == of.worker })
	if at < 0 {
		s.fatal("%s %d has no process", of.kind(), of.id)
	}
	return s.processes[at]
}

// close ends it.
func (s *simulation) close() {
	for _, e := range s.engines {
		e.beginClose()
	}
	s.settle(s.ended)
	s.host.stop(s)
}

func testSpares(t *testing.T, o Options, f func(t *testing.T, s *simulation)) {
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
		s := newSimulation(t, 1, Options{Workers: 2, Spares: 2}, 0)
		for n := 0; len(s.processes) < 4; n++ {
			s.host.tick(time.Duration(s.host.clock.value.Add(int64(tickEvery))))
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

// A spare replaces a worker at the moment of its death, which counts as always; the next spare starts with a tick, or when
// the worker's backoff would have been over.
func TestASpareReplacesAWorker(t *testing.T) {
	testSpares(t, Options{Workers: 1, Spares: 1}, func(t *testing.T, s *simulation) {
		h, w, spare := s.host, s.host.slots[0], s.host.spares[0]
		for deaths := 1; deaths <= 3; deaths++ {
			next := spare.worker
			s.process(w).die()
			if w.worker != next || w.supervisor.state != workerReady || len(w.supervisor.deaths) != deaths {
				t.Fatalf("process %d, %v, %d deaths count; the spare was process %d", w.worker.id, w.supervisor.state, len(w.supervisor.deaths), next.id)
			}
			s.inspect()
			if spare.supervisor.state != workerBackoff || len(s.starting) > 0 {
				t.Fatalf("the spare is %v", spare.supervisor.state)
			}
			if wait := spare.supervisor.at - h.clock.now(); (wait > 0) != (deaths > 1) {
				t.Errorf("after %d deaths the next spare is due in %v", deaths, wait)
			}
			s.settle(func() bool { return spare.supervisor.state == workerReady })
			// It is heard of before it dies in turn.
			n := len(s.engines[0].calls)
			s.dispatch(s.engines[0], ipc.Dispatch, 0, 0, "add")
			s.settle(func() bool { return !s.engines[0].calls[n].unresolved() })
		}
		if stats := h.Stats(); stats.Takeovers != 3 || len(stats.Spares) != 1 || stats.Spares[0].State != "ready" || stats.Spares[0].PID == stats.Workers[0].PID {
			t.Errorf("%+v", stats)
		}
	})
}

// A worker that is given up leaves the spares alone: engines go on in this process.
func TestAWorkerThatIsGivenUpTakesNoSpare(t *testing.T) {
	testSpares(t, Options{Workers: 1, Spares: 2, MaxRestarts: 1}, func(t *testing.T, s *simulation) {
		h, w := s.host, s.host.slots[0]
		for range 2 {
			n := len(s.engines[0].calls)
			s.dispatch(s.engines[0], ipc.Dispatch, 0, 0, "add")
			s.settle(func() bool { return !s.engines[0].calls[n].unresolved() })
			s.process(w).die()
		}
		s.settle(func() bool {
			return h.spares[0].supervisor.state == workerReady && h.spares[1].supervisor.state == workerReady
		})
		if w.supervisor.state != workerGivenUp {
			t.Errorf("the worker is %v", w.supervisor.state)
		}
		processes := h.workerIDs
		n := len(s.engines[0].calls)
		s.dispatch(s.engines[0], ipc.Dispatch, 0, 0, "add")
		s.settle(func() bool { return !s.engines[0].calls[n].unresolved() })
		if h.workerIDs != processes || h.Stats().Fallbacks == 0 {
			t.Errorf("%d processes were started, the engine fell back %d times", h.workerIDs-processes, h.Stats().Fallbacks)
		}
	})
}

// Where a spare is dead already when it replaces a worker, that is one death of the worker and not two.
func TestAWorkerAndItsSpareDieAtOnce(t *testing.T) {
	testSpares(t, Options{Workers: 1, Spares: 1}, func(t *testing.T, s *simulation) {
		w := s.host.slots[0]
		first, second := s.process(w), s.process(s.host.spares[0])
		first.die()
		second.die()
		if len(w.supervisor.deaths) != 1 || w.supervisor.state != workerStarting {
			t.Errorf("%d deaths count, the worker is %v", len(w.supervisor.deaths), w.supervisor.state)
		}
	})
}

// A spare that gets ready first replaces a worker that is starting still, whose process is the spare's then.
func TestASpareThatIsReadyFirst(t *testing.T) {
	testSpares(t, Options{Workers: 1, Spares: 1}, func(t *testing.T, s *simulation) {
		h, w, spare := s.host, s.host.slots[0], s.host.spares[0]
		s.process(spare).die()
		s.process(w).die()
		if spare.supervisor.state != workerStarting || w.supervisor.state != workerStarting || len(s.starting) != 2 {
			t.Fatalf("the worker is %v, the spare %v", w.supervisor.state, spare.supervisor.state)
		}
		late := w.worker
		s.comeUp() // the spare's, which was started first
		p := s.process(spare)
		for w.supervisor.state == workerStarting {
			p.run(1 << 10)
			p.read(1 << 10)
		}
		if w.worker != p.worker || spare.worker != late || spare.supervisor.state != workerStarting {
			t.Errorf("the worker has process %d and is %v, the spare %d and %v", w.worker.id, w.supervisor.state, spare.worker.id, spare.supervisor.state)
		}
		s.settle(func() bool { return spare.supervisor.state == workerReady })
		if h.workerIDs != 4 {
			t.Errorf("%d processes were started", h.workerIDs)
		}
	})
}

// Spares that die are restarted, given up and tried again as workers are, and no engine notices.
func TestASpareThatDies(t *testing.T) {
	testSpares(t, Options{Workers: 1, Spares: 1, MaxRestarts: 1}, func(t *testing.T, s *simulation) {
		h, w, spare := s.host, s.host.slots[0], s.host.spares[0]
		before := w.worker
		s.process(spare).die()
		s.settle(func() bool { return spare.supervisor.state == workerReady })
		s.process(spare).die()
		if spare.supervisor.state != workerGivenUp {
			t.Fatalf("it is %v", spare.supervisor.state)
		}
		// Without one a worker starts a process, as ever.
		s.process(w).die()
		if w.supervisor.state != workerStarting || h.Stats().Takeovers != 0 || before == w.worker {
			t.Errorf("the worker is %v, %d were replaced by spares", w.supervisor.state, h.Stats().Takeovers)
		}
		s.settle(func() bool { return w.supervisor.state == workerReady && spare.supervisor.state == workerReady })
	})
}
