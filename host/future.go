package host

import (
	"context"
	"sync"
	"sync/atomic"

	"hypertoken/ipc"
	"hypertoken/journal"
)

// Future is an action on its way. Its context withdraws it as long as its outcome is not with the journal; from then on the
// future tells the truth, however long that takes.
type Future struct {
	request
	engine *Engine
	// size is what it takes of the host's queue, in bytes; charged says that it has not given that back.
	size    int64
	charged bool
	// followers are those that share its key, and its outcome. The engine's lock guards them.
	followers []*Future
	// behind asks for the digest of the state after it; nil if nobody wants that.
	behind *digestBehind

	// hidden says that its caller never sees it: then it may be another call's later.
	hidden   bool
	spare    chan struct{} // for done, of another call
	resolved atomic.Bool   // says that result and failure are there
	mu       sync.Mutex    // guards done, and who resolves
	done     chan struct{} // made when somebody asks for it
	result   Result
	failure  error
}

// futures are those that nobody has, of calls that have returned.
var futures = sync.Pool{New: func() any { return &Future{hidden: true} }}

// recycle lets another call have a future that has succeeded, and that its caller has never seen.
func (f *Future) recycle() {
	if f.keyed != nil || f.behind != nil || f.kept || cap(f.body) > keptBody {
		return
	}
	f.mu.Lock() // who has resolved it may not have left yet
	f.request = request{body: f.body[:0]}
	f.engine, f.size, f.charged, f.followers, f.result, f.failure = nil, 0, false, nil, Result{}, nil
	if f.done != nil {
		select {
		case <-f.done: // its waiter has seen the outcome before
		default:
		}
		f.done, f.spare = nil, f.done
	}
	f.resolved.Store(false)
	f.mu.Unlock()
	futures.Put(f)
}

// keptBody is what a recycled future keeps of its body at most, in bytes.
const keptBody = 4 << 10

// Done returns a channel that is closed when the outcome is there.
func (f *Future) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		if f.done = f.spare; f.done == nil {
			f.done = make(chan struct{}, 1)
		}
		if f.resolved.Load() {
			f.tell()
		}
	}
	return f.done
}

// tell lets go who waits, whom there is one of where nobody else has the future.
func (f *Future) tell() {
	if f.hidden {
		f.done <- struct{}{}
	} else {
		close(f.done)
	}
}

// Result returns the outcome, without waiting; false where there is none yet.
func (f *Future) Result() (r Result, err error, ok bool) { //nolint:revive // the error is a value here
	if !f.resolved.Load() {
		return Result{}, nil, false
	}
	return f.result, f.failure, true
}

// Wait waits for the outcome. Where ctx ends first it returns [ErrTimeout] or [ErrCanceled], and the action goes on: only
// the context that it was dispatched with withdraws it.
func (f *Future) Wait(ctx context.Context) (Result, error) {
	if r, err, ok := f.Result(); ok {
		return r, err
	}
	f.wait(ctx)
	if r, err, ok := f.Result(); ok {
		return r, err
	}
	return Result{}, ended(ctx, "waiting for "+f.what)
}

// wait waits until the outcome is there, or ctx ends. It reads the worker's answers meanwhile, where nobody else does.
func (f *Future) wait(ctx context.Context) {
	if w := f.at.Load(); w != nil {
		w.lead(ctx, f)
		if f.resolved.Load() || w.follow(ctx, f) {
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

func (f *Future) resolve(r Result, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resolved.Load() {
		return
	}
	f.result, f.failure = r, err
	f.resolved.Store(true)
	if f.done != nil {
		f.tell()
	}
}

// failed returns a future that has failed already.
func failed(what string, err error) *Future {
	f := &Future{request: request{what: what}}
	f.resolve(Result{}, err)
	return f
}

// complete ends an action, or a question about the engine.
func (f *Future) complete(r *request, err error) {
	e := f.engine
	e.discharge(f)
	var result Result
	if err == nil {
		result = Result{Sequence: r.outcome.Sequence, Changed: r.changed, Raw: r.outcome.Result}
		if r.kind == ipc.State {
			result.Raw = r.data
		}
		r.data = nil
	}
	if r.kind == ipc.Dispatch {
		e.told(r, f.what, result, err)
		e.measured(&f.request, r, f.what, err)
		e.arrived(r)
		f.endSpan(e.host, r, err)
	}
	e.keyEnded(f, err)
	f.settle(result, err)
}

// keyEnded takes note of the end of what has a key, and ends what shares its outcome. The engine's lock is held.
func (e *Engine) keyEnded(f *Future, err error) {
	if f.keyed == nil {
		return
	}
	e.keys.ended(f, err)
	e.work.shed = e.work.shed || e.host.keyBytes.Load() > e.host.options.MaxKeyBytes
	for _, g := range f.followers {
		e.discharge(g)
		if b, ok := f.to.(*batch); ok && err != nil {
			g.to.(*batch).share(b)
		} else {
			g.repeat(f.keyed, err)
		}
	}
	f.followers = nil
}

// repeat ends a future as the record of its key has it, or with an error. The engine's lock is held.
func (f *Future) repeat(old *journal.KeyRecord, err error) {
	if b, ok := f.to.(*batch); ok {
		b.repeat(old, err)
		return
	}
	f.engine.only(f, f.what, err)
	if err != nil {
		f.settle(Result{}, err)
		return
	}
	f.settle(Result{Sequence: old.Sequence, Changed: old.Changed, Raw: old.Result}, nil)
}

func (f *Future) part(int, *request) completion { panic("host: an action has no parts") }
