package host

import (
	"context"
	"sync"
	"sync/atomic"

	"hypertoken/internal/engine"
	"hypertoken/internal/pool"
	"hypertoken/internal/queue"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// Future is the result, now or later, of an action that was dispatched. If the context of the
// dispatch ends before the action's record is handed to the store, the action is withdrawn and has
// no effect. From then on the future waits for what the store says, however long that takes.
type Future struct {
	// request is the part that the engine's machine works with, from the dispatch until the outcome.
	request engine.Request
	// at is the worker that the request was sent to last; nil if it is in this process, or was not sent.
	at     atomic.Pointer[pool.Worker]
	engine *driver
	// batch is the batch whose outcome this is; nil for an action or a question.
	batch *batch
	// room is what it takes of the host's queue.
	room queue.Room
	// behind asks for the digest of the state after it; nil if nobody wants that.
	behind *digestBehind
	call   callTimes

	// isHidden says that the caller never sees the future. Then a later call may use it again.
	isHidden   bool
	reusedDone chan struct{} // the channel of an earlier call, for done
	isResolved atomic.Bool   // says that result and failure are there
	mu         sync.Mutex    // guards done, and who resolves
	done       chan struct{} // made when somebody asks for it
	result     Result
	failure    error
}

// futures are the hidden futures of calls that have returned, to be used again.
var futures = sync.Pool{New: func() any { return &Future{isHidden: true} }}

// recycle gives a hidden future that has succeeded back, so that another call can use it.
func (f *Future) recycle() {
	r := &f.request
	if r.Keyed != nil || f.behind != nil || !r.MayBeReused() || cap(r.Body) > keptBody {
		return
	}
	f.mu.Lock() // the goroutine that has resolved it may still hold the lock
	f.request = engine.Request{Body: r.Body[:0]}
	f.engine, f.room, f.call, f.result, f.failure = nil, queue.Room{}, callTimes{}, Result{}, nil
	if f.done != nil {
		select {
		case <-f.done: // its waiter has seen the outcome before
		default:
		}
		f.done, f.reusedDone = nil, f.done
	}
	if f.at.Load() != nil {
		f.at.Store(nil)
	}
	f.isResolved.Store(false)
	f.mu.Unlock()
	futures.Put(f)
}

// keptBody is what a recycled future keeps of its body at most, in bytes.
const keptBody = 4 << 10

// isAction reports whether the future is that of one action, and of no batch or question.
func (f *Future) isAction() bool { return f.batch == nil && f.request.Kind == ipc.Dispatch }

// Done returns a channel that is closed when the outcome is there.
func (f *Future) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		if f.done = f.reusedDone; f.done == nil {
			f.done = make(chan struct{}, 1)
		}
		if f.isResolved.Load() {
			f.wakeLocked()
		}
	}
	return f.done
}

// wakeLocked wakes everybody who waits. If nobody but the call itself has the future, there is one
// waiter at most, and the channel is used again. The future's lock is held.
func (f *Future) wakeLocked() {
	if f.isHidden {
		f.done <- struct{}{}
	} else {
		close(f.done)
	}
}

// Result returns the outcome, without waiting. ok is false if there is none yet.
func (f *Future) Result() (r Result, err error, ok bool) { //nolint:revive // the error is a value here
	if !f.isResolved.Load() {
		return Result{}, nil, false
	}
	return f.result, f.failure, true
}

// Wait waits for the outcome. If ctx ends first it returns [ErrTimeout] or [ErrCanceled], and the action goes on: only
// the context that it was dispatched with withdraws it.
func (f *Future) Wait(ctx context.Context) (Result, error) {
	if r, err, ok := f.Result(); ok {
		return r, err
	}
	f.wait(ctx)
	if r, err, ok := f.Result(); ok {
		return r, err
	}
	return Result{}, ended(ctx, "waiting for "+f.request.What)
}

// wait waits until the outcome is there, or ctx ends. It reads the worker's answers meanwhile, if nobody else does.
func (f *Future) wait(ctx context.Context) {
	if w := f.at.Load(); w != nil {
		w.Lead(ctx, (*awaited)(f))
		if f.isResolved.Load() || w.Follow(ctx, (*awaited)(f)) {
			return
		}
	}
	select {
	case <-f.Done():
	case <-ctx.Done():
	}
}

// All waits for every future and returns their results, zero for those that failed, and the error of the lowest index.
func All(ctx context.Context, futures ...*Future) ([]Result, error) {
	results := make([]Result, len(futures))
	var first error
	for k, f := range futures {
		r, err := f.Wait(ctx)
		if results[k] = r; err != nil && first == nil {
			first = err
		}
	}
	return results, first
}

// resolve sets the outcome, and wakes everybody who waits. Only the first call of it counts.
func (f *Future) resolve(r Result, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isResolved.Load() {
		return
	}
	f.result, f.failure = r, err
	f.isResolved.Store(true)
	if f.done != nil {
		f.wakeLocked()
	}
}

// failed returns a future that has failed already.
func failed(what string, err error) *Future {
	f := &Future{request: engine.Request{What: what}}
	f.resolve(Result{}, err)
	return f
}

// Complete ends an action, a batch, or a question about the engine. The engine's lock is held.
func (f *Future) Complete(r *engine.Request, err error) {
	e := f.engine
	f.discharge()
	if f.batch != nil {
		f.batch.complete(r, err)
		return
	}
	var result Result
	if err == nil {
		result = Result{Sequence: r.Outcome.Sequence, Changed: r.HasChanged, Raw: r.Outcome.Result}
		if r.Kind == ipc.State {
			result.Raw = r.Data
		}
		r.Data = nil
	}
	if r.Kind == ipc.Dispatch {
		e.raise(r, r.What, result, err)
		e.meter.end(&f.call, r, r.What, err)
		e.meter.endParts(f, r)
		f.call.endSpan(e.host, r, err)
	}
	f.keyEnded(err)
	f.settle(result, err)
}

// keyEnded is called when the first call with a key has ended. It gives the same outcome to all
// calls that wait for that key. The engine's lock is held.
func (f *Future) keyEnded(err error) {
	e := f.engine
	record := f.request.Keyed
	if record == nil {
		return
	}
	followers := e.keys.Ended(record, err)
	e.work.shed = e.work.shed || e.host.keyBytes.Load() > e.host.options.MaxKeyBytes
	for _, g := range followers {
		g.discharge()
		if f.batch != nil && err != nil {
			g.batch.share(f.batch)
		} else {
			g.repeat(record, err)
		}
	}
}

// repeat ends a future as the record of its key says, or with an error. The engine's lock is held.
func (f *Future) repeat(old *journal.KeyRecord, err error) {
	if f.batch != nil {
		f.batch.repeat(old, err)
		return
	}
	f.engine.meter.endAlone(f, f.request.What, err)
	if err != nil {
		f.settle(Result{}, err)
		return
	}
	f.settle(Result{Sequence: old.Sequence, Changed: old.Changed, Raw: old.Result}, nil)
}
