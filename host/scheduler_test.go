package host

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hypertoken/ipc"
)

// Who waits because a worker is reserved may send again when the reservation is given back, though nothing is under way
// there that would say so.
func TestAReservationThatIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, 1, Options{Workers: 1}, 2)
		h, e, suspect := s.host, s.engines[0], s.engines[1]
		s.dispatch(e, ipc.Dispatch, 0, 0, "read")
		s.calmly(func() bool { return !e.calls[0].unresolved() })

		// Its worker is reserved while it owes an answer, so what comes then waits.
		s.dispatch(e, ipc.Dispatch, 0, 0, "read")
		h.ask(suspect.Engine, true)
		h.assign()
		s.dispatch(e, ipc.Dispatch, 0, 0, "read")
		w := e.at
		if w.reserved == 0 || len(e.m.Details().Sent) != 1 || len(e.m.Details().Queued) != 1 {
			t.Fatalf("reserved %d, sent %d, queued %d", w.reserved, len(e.m.Details().Sent), len(e.m.Details().Queued))
		}
		// The answer is taken in, and then, before the suspect gets the worker, it gives up.
		p := s.processes[0]
		for range 10 {
			p.run(1 << 10)
		}
		w.reading.reader.Filled(copy(w.reading.reader.Space(), p.out.bytes))
		p.out.bytes = nil
		for f, ok, err := w.reading.reader.Next(); ok; f, ok, err = w.reading.reader.Next() {
			if err != nil || w.frame(f, 0) != nil {
				t.Fatal(err)
			}
		}
		w.let()
		w.unblock()
		if w.conn.Pending() != 0 || len(e.m.Details().Queued) != 1 {
			t.Fatalf("pending %d, queued %d", w.conn.Pending(), len(e.m.Details().Queued))
		}
		h.unask(suspect.Engine)
		h.assign()
		if len(e.m.Details().Queued) != 0 {
			t.Error("what waited for the reservation was not sent")
		}
		for _, e := range s.engines {
			e.beginClose()
		}
		s.calmly(s.ended)
		h.stop(s)
	})
}

// Who is blocked behind others that have left the worker has its turn once they are gone: nothing is under way there, so
// no answer will come that says so.
func TestWhoIsBlockedBehindOthersThatHaveLeft(t *testing.T) {
	s := newSimulation(t, 1, Options{Workers: 1}, 3)
	e := s.engines[0]
	s.dispatch(e, ipc.Dispatch, 0, 0, "read")
	s.calmly(func() bool { return !e.calls[0].unresolved() })
	w := e.at
	left := []*simEngine{s.engines[1], s.engines[2]}
	for _, other := range left {
		w.blocked.Push(owner{other.Engine, 1 << 20})
	}
	// While the first of them has its turn, the engine is blocked.
	left[0].mu.Lock()
	served := make(chan struct{})
	go func() {
		defer close(served)
		w.unblock()
	}()
	for serving := false; !serving; runtime.Gosched() {
		w.mu.Lock()
		serving = w.turn.engine == left[0].Engine
		w.mu.Unlock()
	}
	s.dispatch(e, ipc.Dispatch, 0, 0, "read")
	if len(e.m.Details().Queued) != 1 {
		t.Fatal("it is not blocked")
	}
	left[0].unlockAndDeliver(false)
	<-served
	if len(e.m.Details().Queued) != 0 || w.blocked.Len() != 0 {
		t.Errorf("%d requests wait, %d engines are blocked", len(e.m.Details().Queued), w.blocked.Len())
	}
	for _, e := range s.engines {
		e.beginClose()
	}
	s.calmly(s.ended)
	s.host.stop(s)
}

// Who stands in line twice, and has nothing to send the first time, does not hold up who stands behind.
func TestWhoIsBlockedBehindOneThatStandsThereTwice(t *testing.T) {
	s := newSimulation(t, 1, Options{Workers: 1}, 2)
	e := s.engines[0]
	s.dispatch(e, ipc.Dispatch, 0, 0, "read")
	s.calmly(func() bool { return !e.calls[0].unresolved() })
	w := e.at
	for range 2 {
		w.blocked.Push(owner{s.engines[1].Engine, 1 << 20})
	}
	s.dispatch(e, ipc.Dispatch, 0, 0, "read")
	if len(e.m.Details().Queued) != 1 {
		t.Fatal("it is not blocked")
	}
	w.unblock()
	if len(e.m.Details().Queued) != 0 || w.blocked.Len() != 0 {
		t.Errorf("%d requests wait, %d engines are blocked", len(e.m.Details().Queued), w.blocked.Len())
	}
	for _, e := range s.engines {
		e.beginClose()
	}
	s.calmly(s.ended)
	s.host.stop(s)
}

// No more workers get engines than there are cores, but where those run long actions or are half full.
func TestEnginesAreSpreadOverCores(t *testing.T) {
	h := &Host{options: Options{MaxWorkerMemory: 1 << 20, BusyAfter: time.Second}}
	h.cores = 2
	ready := func() (list []candidate) {
		for k := range 4 {
			w := &worker{host: h, id: k, conn: ipc.NewConn[owner](nil, ipc.Window{Requests: 1, Bytes: 1})}
			list = append(list, candidate{worker: w})
		}
		return list
	}
	h.clock.value.Store(int64(time.Minute))
	for _, c := range []struct {
		name  string
		laden func(list []candidate)
		want  []int
	}{
		{"at rest", func([]candidate) {}, []int{0, 1}},
		{"half full", func(l []candidate) { l[0].resident = 1 << 19 }, []int{0, 1}},
		{"more than half full", func(l []candidate) { l[0].resident = 1<<19 + 1 }, []int{1, 2}},
		{"running", func(l []candidate) { l[1].runs(h.clock.now() - time.Second + 1) }, []int{0, 1}},
		{"running for long", func(l []candidate) { l[1].runs(h.clock.now() - time.Second) }, []int{0, 2}},
		{"done", func(l []candidate) { l[1].runs(h.clock.now() - time.Second); l[1].conn.Answered(1) }, []int{0, 1}},
		{"started late", func(l []candidate) { l[2].engines = 1 }, []int{2, 0}},
		{"all have some", func(l []candidate) { l[0].engines, l[1].engines, l[2].engines, l[3].engines = 1, 1, 1, 1 }, []int{0, 1}},
		{"all full", func(l []candidate) {
			for _, c := range l {
				c.resident = 1 << 20
			}
		}, []int{0, 1, 2, 3}},
	} {
		list := ready()
		c.laden(list)
		for k := range list {
			list[k].laden = list[k].worker.laden(h.clock.now())
		}
		var got []int
		for _, c := range h.mayTake(list) {
			got = append(got, c.id)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v may take engines, want %v", c.name, got, c.want)
		}
	}
}

// runs has a worker run a request since then.
func (w *worker) runs(since time.Duration) {
	w.oldest, _ = w.conn.Send(owner{}, ipc.Ping, 0, 0)
	w.since = since
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
func newSimulation(t *testing.T, seed uint64, o Options, engines int) *simulation {
	s := &simulation{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{}}
	s.begin(o)
	for k := range engines {
		s.engine(fmt.Sprint("engine-", k), &EngineOptions{})
	}
	return s
}

// An engine that gets a place in this process while a worker comes back does not stay there.
func TestAWorkerThatIsBackBeforeTheEngineIsPlacedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, 1, Options{Workers: 1, MaxRestarts: 1}, 1)
		h, e := s.host, s.engines[0]
		until := func(state supervisorState) {
			for n := 0; h.slots[0].supervisor.state != state; n++ {
				h.tick(h.clock.now())
				h.clock.value.Add(int64(time.Second))
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
		until(workerGivenUp)

		// A place here is decided upon, and before the engine has it the worker is ready.
		h.assigning = true
		s.dispatch(e, ipc.Dispatch, 0, 0, "add")
		h.mu.Lock()
		g, ok := h.next()
		h.mu.Unlock()
		if !ok || h.slotsFree != h.options.MaxInProcess-1 {
			t.Fatalf("no place in this process is granted: %v", ok)
		}
		s.noProcesses = 0
		until(workerReady)
		g.tell(g.engine)
		h.assigning = false
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
