package pool

import (
	"slices"
	"testing"
	"time"

	"hypertoken/internal/placement"
)

// busy returns a worker that runs a request of a tenant, since the last tick.
func busy(t *testing.T) (h *house, w *Worker, l *fakeLink, r *renter, id uint64) {
	h = newHouse(t, config())
	w = h.newest(0, false)
	l = h.bring(w)
	r = &renter{name: "r", used: h.now}
	h.place(w, r, 1)
	id = h.mustSend(w, r, 1)
	if w.reading.source = new(source); !h.tick(0) {
		t.Error("something is under way, and an idle host may look later")
	}
	return h, w, l, r, id
}

// A worker that still runs what is past its deadline is killed at the next tick, and its engine
// hears of it.
func TestAWorkerIsKilledForADeadline(t *testing.T) {
	h, w, l, r, id := busy(t)
	if h.mustSend(w, r, 1); w.Condemn(id + 1) {
		t.Error("it is condemned for a request that it does not run")
	}
	if !w.Condemn(id) {
		t.Error("it is not condemned for the request that it runs")
	}
	if l.kills != 0 {
		t.Fatal("it is killed before what is in its pipe is read")
	}
	h.tick(0)
	if d := w.Details(); l.kills != 1 || d.Reason != Overdue || r.overdueKills != 1 {
		t.Errorf("%d kills, %+v, %d of them are the engine's", l.kills, d, r.overdueKills)
	}
	if h.tick(time.Hour); l.kills != 1 || r.overdueKills != 1 {
		t.Errorf("%d kills, %d of them are the engine's", l.kills, r.overdueKills)
	}
}

// A worker that has answered up to the next tick lives.
func TestAWorkerThatAnswersAtTheLastMoment(t *testing.T) {
	h, w, l, r, id := busy(t)
	h.mustSend(w, r, 1)
	w.Condemn(id)
	l.feed(answer(id, 1))
	if h.tick(0); l.kills != 0 || r.overdueKills != 0 {
		t.Errorf("%d kills", l.kills)
	}
}

// A worker that runs what its engine needs no more is killed after KillGrace. The kill is not the
// engine's.
func TestAWorkerIsKilledForWhatNobodyWantsAnyMore(t *testing.T) {
	h, w, l, r, _ := busy(t)
	w.RemoveTenant(1)
	h.tick(0)
	if h.tick(100*time.Millisecond - 1); l.kills != 0 {
		t.Fatal("it is killed too early")
	}
	h.tick(1)
	if d := w.Details(); l.kills != 1 || d.Reason != Overdue || r.overdueKills != 0 {
		t.Errorf("%d kills, %+v, %d of them are the engine's", l.kills, d, r.overdueKills)
	}
}

// A worker that owes an answer, says nothing and uses no CPU time is killed after StallAfter.
func TestAWorkerThatStandsStill(t *testing.T) {
	for _, c := range []struct {
		name   string
		during func(h *house, w *Worker)
		kills  int
	}{
		{"it stands still", func(*house, *Worker) {}, 1},
		{"it uses CPU time", func(h *house, _ *Worker) { h.cpu++ }, 0},
		{"it is heard of", func(_ *house, w *Worker) { w.heard.Add(1) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, w, l, _, _ := busy(t)
			h.tick(StallEvery) // the first look
			for passed := time.Duration(0); passed < time.Second-StallEvery; passed += StallEvery {
				h.tick(StallEvery)
			}
			if l.kills != 0 {
				t.Fatal("it is killed too early")
			}
			c.during(h, w)
			if h.tick(StallEvery); l.kills != c.kills {
				t.Errorf("%d kills, want %d", l.kills, c.kills)
			}
			if c.kills > 0 && w.Details().Reason != Stalled {
				t.Errorf("%+v", w.Details())
			}
		})
	}
}

// A worker that owes nothing may stand still.
func TestAWorkerThatHasNothingToDoMayStandStill(t *testing.T) {
	h, _, l, _, id := busy(t)
	l.feed(answer(id, 1))
	for range 50 {
		h.tick(StallEvery)
	}
	if l.kills != 0 {
		t.Errorf("%d kills", l.kills)
	}
}

// From four fifths of its memory on, the engines of a worker that are at rest are taken out, in
// the order of their age. Over its memory, it is killed.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		resident uint64
		takeOuts int
		kills    int
	}{{800, 0, 0}, {801, 1, 0}, {1000, 1, 0}, {1001, 0, 1}} {
		c2 := config()
		c2.Spares = 1
		h := newHouse(t, c2)
		w := h.newest(0, false)
		l := h.bring(w)
		w.reading.source = new(source)
		h.tick(0)
		s := h.bring(h.newest(0, true))
		s.worker.reading.source = new(source)
		rests, works := &renter{name: "rests", isAtRest: true, used: h.now}, &renter{name: "works", used: h.now}
		h.place(w, rests, 1)
		h.place(w, works, 2)
		h.resident = c.resident
		if h.tick(sampleEvery - 1); rests.takeOuts != 0 || l.kills != 0 {
			t.Errorf("%d: it is looked at too early", c.resident)
		}
		h.tick(1)
		if rests.takeOuts != c.takeOuts || works.takeOuts != 0 || l.kills != c.kills || s.kills != c.kills {
			t.Errorf("%d bytes: %d and %d engines are taken out, the worker is killed %d times, the spare %d times",
				c.resident,
				rests.takeOuts, works.takeOuts, l.kills, s.kills)
		}
		if d := w.Details(); c.kills > 0 && d.Reason != OverMemory {
			t.Errorf("%+v", d)
		}
		if workers, _ := h.Status(); workers[0].Resident != c.resident {
			t.Errorf("%+v", workers)
		}
	}
}

// Engines behind a long action go elsewhere, if another worker is free: the oldest first, and
// neither those that have nothing to do nor the one that runs.
func TestEnginesBehindALongActionMove(t *testing.T) {
	for _, c := range []struct {
		name   string
		ran    time.Duration
		change func(other *Worker, h *house)
		moves  bool
	}{
		{"another worker is free", 20 * time.Millisecond, func(*Worker, *house) {}, true},
		{"it does not run for long", 20*time.Millisecond - 1, func(*Worker, *house) {}, false},
		{"the other has something to do", 20 * time.Millisecond, func(o *Worker, h *house) { h.mustSend(o, &renter{}, 50) }, false},
		{"the other is reserved", 20 * time.Millisecond, func(o *Worker, _ *house) { o.Reserve(50) }, false},
		{"the other is to end", 20 * time.Millisecond, func(o *Worker, _ *house) { o.kill(OverMemory) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := config()
			o.Workers = 2
			h := newHouse(t, o)
			w, other := h.newest(0, false), h.newest(1, false)
			h.bring(w)
			h.bring(other)
			w.reading.source, other.reading.source = new(source), new(source)
			var order []string
			runs, idle, suspect := &renter{name: "runs"}, &renter{name: "idle", isIdle: true}, &renter{name: "suspect"}
			h.place(w, runs, 1)
			h.place(w, idle, 2)
			for age := uint64(5); age > 0; age-- {
				h.place(w, &mover{renter: renter{age: age}, order: &order}, 10+age)
			}
			h.mustSend(w, runs, 1)
			h.place(w, suspect, 3)
			w.Reserve(3)
			c.change(other, h)
			h.tick(0)
			h.tick(c.ran)
			want := []string(nil)
			if c.moves {
				want = []string{"1", "2", "3", "4", "5"}
			}
			if !slices.Equal(order, want) || len(runs.moves)+len(idle.moves)+len(suspect.moves) > 0 {
				t.Errorf("%v move, want %v; %v, %v, %v", order, want, runs.moves, idle.moves, suspect.moves)
			}
		})
	}
}

// mover says when it is to move.
type mover struct {
	renter
	order *[]string
}

func (m *mover) Move(int) { *m.order = append(*m.order, string(rune('0'+m.age))) }

// Engines that nobody has dispatched anything to for IdleAfter are taken out.
func TestIdleEnginesAreTakenOut(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	h.bring(w)
	w.reading.source = new(source)
	old := &renter{name: "old", isAtRest: true, used: h.now}
	newer := &renter{name: "newer", isAtRest: true, used: h.now + 1}
	works := &renter{name: "works", used: h.now}
	for k, r := range []*renter{old, newer, works} {
		h.place(w, r, uint64(k+1))
	}
	h.tick(time.Minute)
	if old.takeOuts != 1 || newer.takeOuts != 0 || works.takeOuts != 0 {
		t.Errorf("taken out: %d, %d, %d", old.takeOuts, newer.takeOuts, works.takeOuts)
	}
	h.config.IdleAfter = -1
	if h.tick(time.Hour); newer.takeOuts != 0 {
		t.Error("with IdleAfter below 0 engines are taken out")
	}
}

// A snapshot says which workers are laden: those that run a long action, or have more than half of
// their memory.
func TestSnapshot(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *house, w *Worker, l *fakeLink, id uint64)
		want   placement.Worker
	}{
		{"a worker that has just begun", func(*house, *Worker, *fakeLink, uint64) {}, placement.Worker{Pending: 1, Engines: 1}},
		{"a worker that runs for nearly long", func(h *house, _ *Worker, _ *fakeLink, _ uint64) { h.now += 20*time.Millisecond - 1 },
			placement.Worker{Pending: 1, Engines: 1}},
		{"a worker that runs for long", func(h *house, _ *Worker, _ *fakeLink, _ uint64) { h.now += 20 * time.Millisecond },
			placement.Worker{Pending: 1, Engines: 1, IsLaden: true}},
		{"a worker that has run for long", func(h *house, _ *Worker, l *fakeLink, id uint64) { h.now += time.Second; l.feed(answer(id, 1)) },
			placement.Worker{Engines: 1}},
		{"half of its memory", func(h *house, _ *Worker, l *fakeLink, id uint64) {
			l.feed(answer(id, 1))
			h.resident = 500
			h.tick(time.Second)
		}, placement.Worker{Engines: 1}},
		{"more than half of its memory", func(h *house, _ *Worker, l *fakeLink, id uint64) {
			l.feed(answer(id, 1))
			h.resident = 501
			h.tick(time.Second)
		}, placement.Worker{Engines: 1, IsLaden: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, w, l, _, id := busy(t)
			c.change(h, w, l, id)
			c.want.Number = w.Number()
			if s := h.Snapshot(); !s.IsAble || s.Reserved.Number != 0 || len(s.Workers) != 1 || s.Workers[0] != c.want {
				t.Errorf("%+v, want %+v", s, c.want)
			}
			w.kill(Stalled)
			if s := h.Snapshot(); !s.IsAble || len(s.Workers) != 0 {
				t.Errorf("a worker that is to end takes engines: %+v", s)
			}
		})
	}
}

// What is measured of a worker is that of all its processes.
func TestMeasure(t *testing.T) {
	h, w, l, _, id := busy(t)
	w.ObserveAnswer(time.Second)
	h.now += time.Second
	l.feed(answer(id, 1))
	m, total := h.Measure()
	if len(m) != 1 || m[0].Traffic != total || m[0].HeardAt != h.now || m[0].StartedAt != h.now-time.Second ||
		m[0].PID != l.PID() {
		t.Fatalf("%+v, %+v", m, total)
	}
	if total.FramesSent != 2 || total.FramesReceived != 3 || total.Answered != 2 || total.Busy != time.Millisecond {
		t.Errorf("%+v", total)
	}
	w.HandleEnd(errKilled)
	next := h.newest(0, false)
	h.bring(next)
	next.ObserveAnswer(time.Second)
	after, total := h.Measure()
	if after[0].Restarts != 1 || total.FramesSent != 3 || total.FramesReceived != 5 || after[0].Answers.Count != 2 ||
		after[0].Process != 2 {
		t.Errorf("%+v, %+v", after, total)
	}
}

// States, reasons and orders have names of their own.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	check := func(name string) {
		if name == "" || seen[name] {
			t.Errorf("there are two %q", name)
		}
		seen[name] = true
	}
	for s := Starting; s <= Stopped; s++ {
		check(s.String())
	}
	for r := Died; r <= Shutdown; r++ {
		check(r.String())
	}
	for o := doNothing; o <= killOverdue; o++ {
		check(o.String())
	}
}
