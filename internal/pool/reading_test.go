package pool

import (
	"context"
	"testing"
	"time"

	"hypertoken/internal/fast"
)

// outcome is what a test waits for.
type outcome struct {
	isThere bool
	done    chan struct{}
}

func (o *outcome) IsResolved() bool      { return o.isThere }
func (o *outcome) Done() <-chan struct{} { return o.done }

// source is what a worker has written.
type source struct{ pieces [][]byte }

func (s *source) Read(b []byte) (int, error) { return s.TryRead(b) }
func (s *source) TryRead(b []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, nil
	}
	n := copy(b, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

// readable returns a worker that is ready, whose turn to read is free.
func readable(t *testing.T) (*house, *Worker, *source) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	h.bring(w)
	from := new(source)
	w.reading.source = from
	w.reading.free <- struct{}{}
	return h, w, from
}

// The goroutine that waits for an answer reads until it has it, and gives the turn back.
func TestTheOneThatWaitsReads(t *testing.T) {
	h, w, from := readable(t)
	r := &renter{name: "r"}
	first, second, third := h.mustSend(w, r, 1), h.mustSend(w, r, 1), h.mustSend(w, r, 1)
	from.pieces = [][]byte{answer(first, 1), answer(second, 1), answer(third, 1)}
	w.Lead(t.Context(), &secondAnswer{r})
	if len(r.frames) != 2 || len(from.pieces) != 1 {
		t.Errorf("%d answers are read, %d are left", len(r.frames), len(from.pieces))
	}
	// Something is unanswered, and nobody waits: the worker's own goroutine has the turn.
	if len(w.reading.free) != 0 || len(w.reading.own) != 1 {
		t.Errorf("the turn is free: %d, own: %d", len(w.reading.free), len(w.reading.own))
	}
}

// secondAnswer is there once a tenant has two frames.
type secondAnswer struct{ of *renter }

func (a *secondAnswer) IsResolved() bool      { return len(a.of.frames) >= 2 }
func (a *secondAnswer) Done() <-chan struct{} { return nil }

// If nothing comes soon, the rest is left to the worker's own goroutine.
func TestTheOneThatWaitsDoesNotWaitForLong(t *testing.T) {
	h, w, _ := readable(t)
	h.mustSend(w, &renter{name: "r"}, 1)
	w.Lead(t.Context(), &outcome{done: make(chan struct{})})
	if len(w.reading.own) != 1 {
		t.Error("the worker's own goroutine does not have the turn")
	}
	w.Lead(t.Context(), &outcome{done: make(chan struct{})}) // the turn is not free: it returns at once
}

// A caller that follows reads when the turn is free. If nothing is unanswered it is told that its
// outcome waits for something else, and the turn stays free.
func TestAFollowerWhoseWorkerHasAnswered(t *testing.T) {
	_, w, _ := readable(t)
	if w.Follow(t.Context(), &outcome{done: make(chan struct{})}) {
		t.Error("the worker owes nothing, and the follower is told to wait for it")
	}
	if len(w.reading.free) != 1 || w.reading.followers.Load() != 0 {
		t.Errorf("the turn is free: %d, %d follow", len(w.reading.free), w.reading.followers.Load())
	}
}

// A follower whose context has ended, or whose outcome is there, does not wait.
func TestAFollowerThatNeedNotWait(t *testing.T) {
	_, w, _ := readable(t)
	<-w.reading.free
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if !w.Follow(ctx, &outcome{done: make(chan struct{})}) {
		t.Error("its context has ended")
	}
	done := make(chan struct{})
	close(done)
	if !w.Follow(t.Context(), &outcome{isThere: true, done: done}) {
		t.Error("its outcome is there")
	}
}

// The worker's own goroutine reads if something is unanswered and nobody else will read, and only
// then.
func TestTheTurnIsHandedOver(t *testing.T) {
	h, w, _ := readable(t)
	r := w.reading
	w.HandOverReading()
	if len(r.free) != 1 {
		t.Fatal("nothing is unanswered, and its own goroutine reads")
	}
	h.mustSend(w, &renter{name: "r"}, 1)
	r.followers.Store(1)
	if w.HandOverReading(); len(r.free) != 1 {
		t.Fatal("somebody follows, and its own goroutine reads")
	}
	r.followers.Store(0)
	if w.HandOverReading(); len(r.own) != 1 || len(r.free) != 0 {
		t.Error("nobody reads")
	}
}

// The worker's own goroutine keeps the turn as long as something is unanswered and nobody waits.
func TestItsOwnGoroutineReadsOn(t *testing.T) {
	h, w, _ := readable(t)
	if w.reading.mustReadOn() {
		t.Error("nothing is unanswered")
	}
	h.mustSend(w, &renter{name: "r"}, 1)
	if !w.reading.mustReadOn() {
		t.Error("nobody waits for the turn")
	}
	w.reading.followers.Store(1)
	if !w.reading.mustReadOn() {
		t.Error("somebody waits for the turn, who would not poll")
	}
	w.reading.spinner.For = time.Second
	if w.reading.mustReadOn() {
		t.Error("somebody waits for the turn, who polls")
	}
	w.reading.followers.Store(0)
	h.config.Off, _ = fast.Parse("lead")
	w.conn.Close()
	if !w.reading.mustReadOn() {
		t.Error("others may not read")
	}
}

// A tick finds what a worker says without having been asked.
func TestAWorkerThatSpeaksUnasked(t *testing.T) {
	h, w, from := readable(t)
	from.pieces = [][]byte{answer(77, 1)}
	h.tick(0)
	if h.links[w].kills != 1 || w.violation.Load() == nil {
		t.Error("it is not ended")
	}
	if len(w.reading.own) != 1 {
		t.Error("its own goroutine does not see the end")
	}
}
