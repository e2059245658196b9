package driver

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"hypertoken/internal/pool"
	"hypertoken/ipc"
)

// An engine that waits because a worker is reserved may send again when the reservation is given
// back, though nothing is under way there that would say so.
func TestAReservationThatIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, 1, simOptions{workers: 1}, 2)
		scheduler, e, suspect := s.host.scheduler, s.engines[0], s.engines[1]
		s.dispatch(e, ipc.Dispatch, 0, 0, "read")
		s.calmly(func() bool { return !e.calls[0].unresolved() })

		// Its worker is reserved while it owes an answer, so what comes then waits.
		s.dispatch(e, ipc.Dispatch, 0, 0, "read")
		scheduler.Ask((*applicant)(suspect.Driver), true)
		scheduler.Assign()
		s.dispatch(e, ipc.Dispatch, 0, 0, "read")
		w := e.at
		if w.Details().Reserved == 0 || len(e.m.Details().Sent) != 1 || len(e.m.Details().Queued) != 1 {
			t.Fatalf("%+v, sent %d, queued %d", w.Details(), len(e.m.Details().Sent), len(e.m.Details().Queued))
		}
		// The answer is taken in, and then, before the suspect gets the worker, it gives up.
		p := s.processes[0]
		for range 10 {
			p.run(1 << 10)
		}
		scheduler.Hold()
		p.read(1 << 10)
		scheduler.Release()
		if w.Details().Pending != 0 || len(e.m.Details().Queued) != 1 {
			t.Fatalf("%+v, queued %d", w.Details(), len(e.m.Details().Queued))
		}
		scheduler.TakeAskBack((*applicant)(suspect.Driver))
		scheduler.Assign()
		if len(e.m.Details().Queued) != 0 {
			t.Error("what waited for the reservation was not sent")
		}
		for _, e := range s.engines {
			e.beginClose()
		}
		s.calmly(s.ended)
		s.host.stop(s)
	})
}

// calmly lets what is under way go on, without faults, until something holds.
func (s *simulation) calmly(until func() bool) {
	for n := 0; !until(); n++ {
		if s.event(true); n > 10_000 {
			s.stuck()
		}
	}
}

// newSimulation returns one with that many engines, at its beginning.
func newSimulation(t *testing.T, seed uint64, o simOptions, engines int) *simulation {
	s := &simulation{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{}}
	s.begin(o)
	for k := range engines {
		s.engine(fmt.Sprint("engine-", k), OpenOptions{Window: simWindow})
	}
	return s
}

// An engine that gets a place in this process while a worker comes back does not stay there.
func TestAWorkerThatIsBackBeforeTheEngineIsPlacedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, 1, simOptions{workers: 1, maxRestarts: 1}, 1)
		h, e := s.host, s.engines[0]
		until := func(state pool.State) {
			for n := 0; s.worker(0)().State != state; n++ {
				h.tick(h.clock.Now())
				h.clock.Skip(time.Second)
				s.comeUp()
				for _, p := range s.processes {
					p.run(1 << 10)
					p.read(1 << 10)
				}
				if n > 1000 {
					s.stuck()
				}
			}
		}
		s.noProcesses = 1
		until(pool.GivenUp)

		// A place here is decided upon, and before the engine has it the worker is ready.
		h.scheduler.Hold()
		s.dispatch(e, ipc.Dispatch, 0, 0, "add")
		grant := h.scheduler.Next()
		if grant == nil || h.scheduler.Details().SlotsFree != h.config.MaxInProcess-1 {
			t.Fatalf("no place in this process is granted: %v", grant != nil)
		}
		s.noProcesses = 0
		until(pool.Ready)
		grant()
		h.scheduler.Release()
		s.inspect()

		e.beginClose()
		for n := 0; !s.ended(); n++ {
			if s.event(true); n > 10_000 {
				s.stuck()
			}
		}
		h.stop(s)
	})
}
