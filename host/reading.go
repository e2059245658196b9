package host

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

// Who waits for an answer reads it. A goroutine that only reads would have to be woken for each answer, and would have to
// wake who waits for it: that takes longer than most actions. So whoever waits for an answer takes the turn to read, if it is
// free, and takes in what comes, for everybody, until it has its own; the next one goes on. Only where nobody waits, or
// nothing comes soon, the worker's own goroutine has the turn, and parks.
//
// There is one turn. It lies in free, or somebody holds it, or it lies in own for the worker's own goroutine. Where requests
// are unanswered it never lies in free unless somebody waits for it: see rest.
type reading struct {
	source ipc.Source
	free   chan struct{}
	own    chan struct{}
	// followers are those that wait for the turn.
	followers atomic.Int32
	// Who has the turn has these, too.
	reader  *ipc.Reader
	spinner ipc.Spinner
	ended   bool // nothing more will come
	err     error
}

// newReading returns the reading of a source. The turn is the worker's own goroutine's.
func newReading(from ipc.Source, maxFrame int, spin time.Duration) *reading {
	return &reading{source: from, free: make(chan struct{}, 1), own: make(chan struct{}, 1), reader: ipc.NewReader(maxFrame, false),
		spinner: ipc.Spinner{For: spin}}
}

// read reads what a process writes until there is nothing more to come. It is the worker's own goroutine.
func (w *worker) read(l *processLink) error {
	p := l.process
	ended := make(chan struct{})
	defer close(ended)
	w.host.spawn(func() {
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
	r := w.reading
	for !r.ended {
		n, err := r.spinner.Wait(r.source, r.reader.Space())
		w.took(n, err)
		if r.ended || !w.configured || w.unread() {
			continue
		}
		r.free <- struct{}{}
		w.rest()
		select {
		case <-r.own:
		case <-p.Done():
			select {
			case <-r.own:
			case <-r.free:
			}
		}
	}
	return w.ends(p)
}

// ends ends a worker from which nothing more is read.
func (w *worker) ends(p *process.Process) error {
	if w.fault.Load() != nil {
		p.Kill()
		return w.reading.err
	}
	// A worker that does not answer any more is of no use, though it may live. It gets a moment, so that it can say why.
	w.host.spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		select {
		case <-p.Done():
		case <-ctx.Done():
			p.Kill()
		}
	})
	if err := w.reading.err; !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// took takes in what was read. The turn is held.
func (w *worker) took(n int, err error) {
	r := w.reading
	r.reader.Filled(n)
	if n > 0 {
		if fault := w.came(); fault != nil {
			w.violated(fault)
			err = fault
		}
	}
	if err != nil {
		r.ended, r.err = true, err
	}
}

// unread reports whether the worker's own goroutine has to read on.
func (w *worker) unread() bool {
	r := w.reading
	if w.host.off.Has(fast.Lead) {
		return true
	}
	return w.conn.Pending() > 0 && (r.followers.Load() == 0 || !r.spinner.Pays())
}

// rest has the worker's own goroutine read where nobody else will. Whoever has sent something, has given the turn back, or does
// not wait any more, calls it.
func (w *worker) rest() {
	r := w.reading
	if r == nil || len(r.free) == 0 || w.conn.Pending() == 0 || r.followers.Load() > 0 {
		return
	}
	select {
	case <-r.free:
		r.own <- struct{}{}
	default:
	}
}

// lead reads until a future is resolved or its context ends, if the turn is free. Where nothing comes soon it leaves the rest to
// the worker's own goroutine.
func (w *worker) lead(ctx context.Context, f *Future) {
	r := w.reading
	select {
	case <-r.free:
		w.leads(ctx, f)
	default:
	}
}

// follow waits until a future is resolved or its context ends, and leads when the turn is free. It reports false where the
// outcome waits for something else than the worker.
func (w *worker) follow(ctx context.Context, f *Future) bool {
	r := w.reading
	r.followers.Add(1)
	defer func() {
		r.followers.Add(-1)
		w.rest()
	}()
	for {
		select {
		case <-f.Done():
			return true
		case <-ctx.Done():
			return true
		case <-r.free:
			if !w.leads(ctx, f) {
				return false
			}
		}
	}
}

// leads is lead with the turn. It reports false where nothing is unanswered, and the future is not resolved.
func (w *worker) leads(ctx context.Context, f *Future) bool {
	r := w.reading
	for !f.isResolved.Load() && (ctx.Done() == nil || ctx.Err() == nil) {
		if w.conn.Pending() == 0 {
			r.free <- struct{}{}
			w.rest()
			return false
		}
		if r.followers.Load() > 0 {
			runtime.Gosched() // who has its answer sends the next request first
		}
		n, err := r.spinner.Try(r.source, r.reader.Space())
		if n > 0 || err != nil {
			w.took(n, err)
		}
		if r.ended || n == 0 {
			r.own <- struct{}{}
			return true
		}
	}
	r.free <- struct{}{}
	w.rest()
	return true
}

// peek reads what a worker says unasked, which is nothing that it may.
func (w *worker) peek() {
	r := w.reading
	select {
	case <-r.free:
	default:
		return
	}
	if n, err := r.source.TryRead(r.reader.Space()); n > 0 || err != nil {
		w.took(n, err)
	}
	if r.ended {
		r.own <- struct{}{}
		return
	}
	r.free <- struct{}{}
	w.rest()
}
