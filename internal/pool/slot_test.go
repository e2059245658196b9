package pool

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"
)

var errKilled = errors.New("killed")

// states returns those of the workers and of the spares.
func (h *house) states() (list []State) {
	workers, spares, _ := h.Details()
	for _, s := range slices.Concat(workers, spares) {
		list = append(list, s.State)
	}
	return list
}

func (h *house) wantStates(want ...State) {
	h.t.Helper()
	if got := h.states(); !slices.Equal(got, want) {
		h.t.Fatalf("the states are %v, want %v", got, want)
	}
}

// The owner hears of a worker that is ready, and of its end with what was placed there, in order.
// Another process starts.
func TestAWorkerComesAndEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		end     func(w *Worker)
		isDeath bool
		reason  Reason
	}{
		{"by itself", func(*Worker) {}, true, Died},
		{"killed for a deadline", func(w *Worker) { w.kill(Overdue) }, false, Overdue},
		{"killed for its memory", func(w *Worker) { w.kill(OverMemory) }, false, OverMemory},
		{"killed twice: the first reason counts", func(w *Worker) { w.kill(Stalled); w.kill(OverMemory) }, false, Stalled},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, config())
			w := h.newest(0, false)
			if h.wantStates(Starting); h.ready != 0 || h.IsAnyReady() || w.Number() != 1 {
				t.Fatalf("ready %d times, process %d", h.ready, w.Number())
			}
			h.bring(w)
			if h.wantStates(Ready); h.ready != 1 || !h.IsAnyReady() || h.Worker(1) != w {
				t.Fatalf("ready %d times", h.ready)
			}
			a, b := &renter{name: "a"}, &renter{name: "b"}
			h.place(w, b, 12)
			h.place(w, a, 5)
			h.mustSend(w, a, 5)
			c.end(w)
			w.HandleEnd(errKilled)
			w.HandleEnd(errors.New("twice"))
			want := []Placement{{5, a}, {12, b}}
			if len(h.losses) != 1 || h.losses[0].Worker != 1 || h.losses[0].IsDeath != c.isDeath ||
				!slices.Equal(h.losses[0].Placements, want) {
				t.Fatalf("%+v", h.losses)
			}
			counts := h.Counts()
			if counts.Ends[c.reason] != 1 || counts.InFlight != 1 || !errors.Is(h.Cause(), errKilled) || h.free == 0 {
				t.Errorf("%+v, %v, free places %d times", counts, h.Cause(), h.free)
			}
			h.wantStates(Starting)
			if next := h.newest(0, false); next == w || next.Number() != 2 || h.Worker(1) != nil {
				t.Errorf("the next is process %d", next.Number())
			}
		})
	}
}

// Deaths count for the restart intensity, but for those of a worker on which a suspect ran alone,
// and for kills for deadlines.
func TestWhichEndsCount(t *testing.T) {
	for _, c := range []struct {
		name    string
		isReady bool
		end     func(w *Worker)
		want    int
	}{
		{"by itself", true, func(*Worker) {}, 1},
		{"by itself, reserved", true, func(w *Worker) { w.Reserve(1) }, 1},
		{"by itself, with a suspect alone", true, func(w *Worker) { w.Reserve(1); w.GrantAlone(1) }, 0},
		{"for a deadline", true, func(w *Worker) { w.kill(Overdue) }, 0},
		{"stalled", true, func(w *Worker) { w.kill(Stalled) }, 0},
		{"for its memory", true, func(w *Worker) { w.kill(OverMemory) }, 1},
		{"for its memory, with a suspect alone", true, func(w *Worker) { w.Reserve(1); w.GrantAlone(1); w.kill(OverMemory) }, 1},
		{"before it was ready", false, func(*Worker) {}, 1},
		{"not ready in time", false, func(w *Worker) { w.kill(Overdue) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, config())
			w := h.newest(0, false)
			if c.isReady {
				h.bring(w)
			} else {
				h.attach(w)
			}
			c.end(w)
			w.HandleEnd(errKilled)
			workers, _, _ := h.Details()
			if got := workers[0].Deaths; got != c.want {
				t.Errorf("%d deaths count, want %d", got, c.want)
			}
		})
	}
}

// A process that is not ready in time is killed, whoever is to get it.
func TestAProcessThatIsNotReadyInTime(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := h.attach(w)
	if !h.tick(10*time.Second - 1) {
		t.Error("an idle host may look later, though a process is on its way")
	}
	if l.kills != 0 {
		t.Fatal("it is killed too early")
	}
	h.tick(1)
	if d := w.Details(); l.kills != 1 || d.Reason != Overdue {
		t.Errorf("%d kills, %+v", l.kills, d)
	}
}

// A worker that has been killed before there was a process has none attached.
func TestAProcessThatIsNotWantedAnyMore(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	h.tick(10 * time.Second)
	if w.Attach(&fakeLink{}, nil) {
		t.Error("it is attached")
	}
}

// A worker that died too often is given up. A probe brings it back, and nobody waits for it
// meanwhile.
func TestAWorkerThatIsGivenUp(t *testing.T) {
	c := config()
	c.MaxRestarts = 0
	h := newHouse(t, c)
	w := h.newest(0, false)
	h.bring(w)
	if s := h.Snapshot(); !s.IsAble || len(s.Workers) != 1 {
		t.Errorf("%+v", s)
	}
	w.HandleEnd(errKilled)
	h.wantStates(GivenUp)
	if s := h.Snapshot(); s.IsAble || len(s.Workers) != 0 {
		t.Errorf("%+v", s)
	}
	h.Probe()
	h.wantStates(Probing)
	h.Probe() // there is nothing more to try
	if s := h.Snapshot(); s.IsAble {
		t.Errorf("%+v", s)
	}
	h.bring(h.newest(0, false))
	h.wantStates(Ready)
	if h.ready != 2 {
		t.Errorf("ready %d times", h.ready)
	}
}

// spared returns a pool of a worker and spares that are all ready.
func spared(t *testing.T, spares int) *house {
	c := config()
	c.Spares = spares
	h := newHouse(t, c)
	h.bring(h.newest(0, false))
	h.tick(0)
	for id := range spares {
		h.bring(h.newest(id, true))
	}
	return h
}

// Spares start once the workers are ready, and the owner places nothing on them.
func TestSparesComeLast(t *testing.T) {
	c := config()
	c.Spares = 1
	h := newHouse(t, c)
	h.tick(0)
	h.wantStates(Starting, Backoff)
	h.bring(h.newest(0, false))
	h.wantStates(Ready, Backoff)
	h.tick(0)
	h.wantStates(Ready, Starting)
	h.bring(h.newest(0, true))
	if h.wantStates(Ready, Ready); h.ready != 1 || len(h.Snapshot().Workers) != 1 {
		t.Errorf("ready %d times, %+v", h.ready, h.Snapshot())
	}
}

// A spare replaces a worker at the moment of its death, which counts as always. Then the spare has
// what the worker would have had: it starts with the next tick, or when the worker's backoff would
// have been over.
func TestASpareReplacesAWorker(t *testing.T) {
	h := spared(t, 1)
	for deaths := 1; deaths <= 2; deaths++ {
		w, spare := h.newest(0, false), h.newest(0, true)
		w.HandleEnd(errKilled)
		h.wantStates(Ready, Backoff)
		workers, spares, _ := h.Details()
		if workers[0].Worker != spare || workers[0].Deaths != deaths || spares[0].Worker != w || spares[0].Deaths != 0 {
			t.Fatalf("%+v, %+v", workers, spares)
		}
		if waits := spares[0].Due > h.now; waits != (deaths > 1) {
			t.Errorf("after %d deaths the next spare is due in %v", deaths, spares[0].Due-h.now)
		}
		h.tick(5 * time.Second)
		h.wantStates(Ready, Starting)
		h.bring(h.newest(0, true))
		h.place(spare, &renter{name: "r"}, 1)
		// The spare is heard of before it dies in turn.
		h.links[spare].feed(answer(h.mustSend(spare, &renter{name: "r"}, 1), 1))
	}
	if n := h.Counts().Takeovers; n != 2 {
		t.Errorf("%d takeovers", n)
	}
}

// If a spare is dead already when it replaces a worker, that is one death of the worker and not
// two.
func TestAWorkerAndItsSpareDieAtOnce(t *testing.T) {
	h := spared(t, 1)
	w, spare := h.newest(0, false), h.newest(0, true)
	w.HandleEnd(errKilled)
	spare.HandleEnd(errKilled)
	workers, _, _ := h.Details()
	if workers[0].Deaths != 1 || workers[0].State != Starting {
		t.Errorf("%+v", workers[0])
	}
}

// A spare that gets ready first replaces a worker that is starting still, whose process is the
// spare's then.
func TestASpareThatIsReadyFirst(t *testing.T) {
	h := spared(t, 1)
	h.newest(0, true).HandleEnd(errKilled)
	h.newest(0, false).HandleEnd(errKilled)
	h.wantStates(Starting, Starting)
	late, first := h.newest(0, false), h.newest(0, true)
	h.bring(first)
	h.wantStates(Ready, Starting)
	if h.newest(0, false) != first || h.newest(0, true) != late || h.ready != 2 {
		t.Errorf("the worker has process %d, the spare %d, ready %d times",
			h.newest(0, false).Number(), h.newest(0, true).Number(), h.ready)
	}
}

// A worker that is given up leaves the spares alone.
func TestAWorkerThatIsGivenUpTakesNoSpare(t *testing.T) {
	h := spared(t, 1)
	h.mu.Lock()
	h.workers[0].supervisor.maxRestarts = 0
	h.mu.Unlock()
	h.newest(0, false).HandleEnd(errKilled)
	h.wantStates(GivenUp, Ready)
}

// A spare whose end is known does not replace anything.
func TestASpareThatIsEnding(t *testing.T) {
	h := spared(t, 2)
	h.newest(0, true).kill(OverMemory)
	next := h.newest(1, true)
	h.newest(0, false).HandleEnd(errKilled)
	if h.newest(0, false) != next {
		t.Errorf("the worker has process %d, not %d", h.newest(0, false).Number(), next.Number())
	}
}

// Stop hangs up, and waits for the ends. No process starts any more.
func TestStop(t *testing.T) {
	h := spared(t, 1)
	w, spare := h.newest(0, false), h.newest(0, true)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		h.Stop(t.Context())
	}()
	for _, x := range []*Worker{w, spare} {
		for !x.Details().IsEnding {
			runtime.Gosched()
		}
		select {
		case <-stopped:
			t.Fatal("Stop does not wait")
		default:
		}
		x.HandleEnd(nil)
	}
	<-stopped
	h.wantStates(Stopped, Stopped)
	if h.links[w].hangUp != 1 || h.links[spare].hangUp != 1 || h.links[w].kills != 0 {
		t.Errorf("%+v", h.links[w])
	}
	if c := h.Counts(); c.Ends[Shutdown] != 2 || c.Ends[Died] != 0 {
		t.Errorf("%+v", c)
	}
	if _, _, n := h.Details(); n != 2 {
		t.Errorf("%d processes were started", n)
	}
}

// Processes that do not end by themselves are killed when the patience is over.
func TestStopInHaste(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := &killed{fakeLink: fakeLink{t: t, worker: w}, isKilled: make(chan struct{})}
	w.Attach(l, nil)
	ctx, cancel := contextThatHasEnded(t)
	defer cancel()
	go func() {
		<-l.isKilled
		w.HandleEnd(nil)
	}()
	h.Stop(ctx)
	h.wantStates(Stopped)
}
