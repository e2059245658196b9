package pool

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"hypertoken/internal/fast"
	"hypertoken/internal/process"
	"hypertoken/ipc"
)

// The goroutine that waits for an answer also reads the pipe. A goroutine that only reads would
// have to be woken for each answer, and would have to wake the one that waits for it: that takes
// longer than most actions. So a goroutine that waits for an answer takes the turn to read, if it
// is free. It takes in what comes, for everybody, until it has its own answer; then the next one
// goes on. Only if nobody waits, or nothing comes soon, the worker's own goroutine has the turn,
// and parks.

// Awaited is an outcome that a goroutine waits for.
type Awaited interface {
	// IsResolved reports whether the outcome is there.
	IsResolved() bool
	// Done returns a channel that says when the outcome is there.
	Done() <-chan struct{}
}

// reading is the turn to read what a worker writes. There is one turn: it lies in free, or a
// goroutine holds it, or it lies in own for the worker's own goroutine. If requests are unanswered
// it never lies in free unless somebody waits for it: see handToOwn.
type reading struct {
	worker *Worker
	source ipc.Source
	free   chan struct{}
	own    chan struct{}
	// followers counts those that wait for the turn.
	followers atomic.Int32

	// Whoever has the turn has these, too.
	reader  *ipc.Reader
	spinner ipc.Spinner
	isEnded bool // nothing more will come
	err     error
	frames  frames
}

// newReading returns the reading of a source. The turn is the worker's own goroutine's.
func newReading(w *Worker, from ipc.Source) *reading {
	c := &w.pool.config
	return &reading{worker: w, source: from, free: make(chan struct{}, 1), own: make(chan struct{}, 1),
		reader: ipc.NewReader(c.MaxFrame, false), spinner: ipc.Spinner{For: max(c.PollFor, 0)},
		frames: frames{worker: w}}
}

// readToEnd reads what a process writes until nothing more can come, and returns what went wrong.
// It is the worker's own goroutine.
func (r *reading) readToEnd(l *processLink) error {
	p, w := l.process, r.worker
	ended := make(chan struct{})
	defer close(ended)
	w.pool.spawn(func() {
		// Somebody else may hold the pipe that the worker wrote to.
		select {
		case <-p.Done():
		case <-ended:
			return
		}
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			l.closeOut()
		case <-ended:
		}
	})
	for !r.isEnded {
		n, err := r.spinner.Wait(r.source, r.reader.Space())
		r.handleRead(n, err)
		if r.isEnded || !w.handshake.isDone || r.mustReadOn() {
			continue
		}
		r.free <- struct{}{}
		r.handToOwn()
		select {
		case <-r.own:
		case <-p.Done():
			select {
			case <-r.own:
			case <-r.free:
			}
		}
	}
	return r.end(p)
}

// end ends a process from which nothing more is read, and returns what went wrong.
func (r *reading) end(p *process.Process) error {
	if r.worker.violation.Load() != nil {
		p.Kill()
		return r.err
	}
	// A worker that does not answer any more is of no use, though it may live. It gets a moment,
	// so that it can say why.
	r.worker.pool.spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		select {
		case <-p.Done():
		case <-ctx.Done():
			p.Kill()
		}
	})
	if !errors.Is(r.err, io.EOF) && !errors.Is(r.err, os.ErrClosed) {
		return r.err
	}
	return nil
}

// handleRead takes in the end of a read. The turn is held.
func (r *reading) handleRead(n int, err error) {
	r.reader.Filled(n)
	if n > 0 {
		if violation := r.frames.handleAll(r.reader); violation != nil {
			r.worker.EndForViolation(violation)
			err = violation
		}
	}
	if err != nil {
		r.isEnded, r.err = true, err
	}
}

// mustReadOn reports whether the worker's own goroutine has to keep the turn. The turn is held.
func (r *reading) mustReadOn() bool {
	if r.worker.pool.config.Off.Has(fast.Lead) {
		return true
	}
	return r.worker.conn.Pending() > 0 && (r.followers.Load() == 0 || !r.spinner.Pays())
}

// giveBack gives the turn back. The turn is held.
func (r *reading) giveBack() {
	r.free <- struct{}{}
	r.handToOwn()
}

// handToOwn hands the turn to the worker's own goroutine if it is free, something is unanswered,
// and nobody else will read. Whoever has sent something, has given the turn back, or does not wait
// any more, calls it.
func (r *reading) handToOwn() {
	if len(r.free) == 0 || r.worker.conn.Pending() == 0 || r.followers.Load() > 0 {
		return
	}
	select {
	case <-r.free:
		r.own <- struct{}{}
	default:
	}
}

// HandOverReading has the worker's own goroutine read if nobody else will. Whoever has sent
// something, and does not read the answer, calls it.
func (w *Worker) HandOverReading() {
	if w.reading != nil {
		w.reading.handToOwn()
	}
}

// Lead reads until an outcome is there or ctx ends, if the turn to read is free. If nothing comes
// soon it leaves the rest to the worker's own goroutine.
func (w *Worker) Lead(ctx context.Context, a Awaited) {
	r := w.reading
	select {
	case <-r.free:
		r.readFor(ctx, a)
	default:
	}
}

// Follow waits until an outcome is there or ctx ends, and reads when the turn is free. It returns
// false if the outcome waits for something else than the worker.
func (w *Worker) Follow(ctx context.Context, a Awaited) bool {
	r := w.reading
	r.followers.Add(1)
	defer func() {
		r.followers.Add(-1)
		r.handToOwn()
	}()
	for {
		select {
		case <-a.Done():
			return true
		case <-ctx.Done():
			return true
		case <-r.free:
			if !r.readFor(ctx, a) {
				return false
			}
		}
	}
}

// readFor reads until an outcome is there or ctx ends, and passes the turn on. It returns false if
// nothing is unanswered, and the outcome is not there. The turn is held.
func (r *reading) readFor(ctx context.Context, a Awaited) bool {
	for !a.IsResolved() && (ctx.Done() == nil || ctx.Err() == nil) {
		if r.worker.conn.Pending() == 0 {
			r.giveBack()
			return false
		}
		if r.followers.Load() > 0 {
			runtime.Gosched() // the one that has its answer sends the next request first
		}
		n, err := r.spinner.Try(r.source, r.reader.Space())
		if n > 0 || err != nil {
			r.handleRead(n, err)
		}
		if r.isEnded || n == 0 {
			r.own <- struct{}{}
			return true
		}
	}
	r.giveBack()
	return true
}

// peek reads what a worker says without having been asked, which is nothing that it may say.
func (r *reading) peek() {
	select {
	case <-r.free:
	default:
		return
	}
	if n, err := r.source.TryRead(r.reader.Space()); n > 0 || err != nil {
		r.handleRead(n, err)
	}
	if r.isEnded {
		r.own <- struct{}{}
		return
	}
	r.giveBack()
}

// Feed takes in bytes of a process that has no source: a simulation's. It returns how many it
// took, and what the process did wrong.
func (w *Worker) Feed(b []byte) (n int, err error) {
	r := w.reading
	n = copy(r.reader.Space(), b)
	r.reader.Filled(n)
	return n, r.frames.handleAll(r.reader)
}
