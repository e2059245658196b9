package host

import (
	"context"
	"sync"
	"sync/atomic"

	"hypertoken/ipc"
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
	if f.key != "" || f.kept || cap(f.body) > keptBody {
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
	if f.key != "" {
		e.keys.ended(f, result, err)
		for _, g := range f.followers {
			e.discharge(g)
			e.only(g, g.what, err)
			g.resolve(result, err)
		}
		f.followers = nil
	}
	f.resolve(result, err)
}

func (f *Future) part(int, *request) completion { panic("host: an action has no parts") }

// batch is a batch on its way. Its members are futures of their own where they were gathered in a window.
type batch struct {
	Future
	mode     BatchMode
	types    []string
	outcomes []Outcome
	futures  []*Future
	parts    []*request // its members, where they are sent one by one
	left     int        // those of them that are unanswered
	fault    error
}

func (b *batch) complete(r *request, err error) {
	b.engine.discharge(&b.Future)
	// Only the core's own answer names a member.
	if action, ok := err.(*ActionError); ok && b.mode == BatchAtomic && action.Index >= 0 && action.Index < len(b.types) {
		b.outcomes, b.fault = aborted(len(b.types), &BatchError{Index: action.Index, Err: action})
	} else if err != nil {
		b.outcomes, b.fault = nil, err
	} else {
		b.read(r)
	}
	b.end(r)
}

// read takes the outcomes of the members apart.
func (b *batch) read(r *request) {
	b.outcomes = make([]Outcome, len(b.types))
	sequence := r.outcome.Sequence
	var all []ipc.MemberOutcome
	for rest := r.outcome.Result; len(all) < len(b.types); {
		o, after, err := ipc.ReadMemberOutcome(rest)
		if err != nil { // the machine has read it before
			break
		}
		if all, rest = append(all, o), after; o.Code == "" && o.Changed {
			sequence--
		}
	}
	for k, o := range all {
		if o.Code != "" {
			b.outcomes[k].Err = &ActionError{Code: o.Code, Message: o.Message, Index: -1}
			continue
		}
		if o.Changed {
			sequence++
		}
		b.outcomes[k].Result = Result{Sequence: sequence, Changed: o.Changed, Raw: o.Result}
	}
}

// end tells everybody.
func (b *batch) end(r *request) {
	for k, name := range b.types {
		o := Outcome{Err: b.fault}
		if b.outcomes != nil {
			o = b.outcomes[k]
		}
		b.engine.told(r, name, o.Result, o.Err)
		if b.futures == nil {
			b.engine.measured(&b.request, &b.request, name, o.Err)
		} else {
			b.engine.measured(&b.futures[k].request, &b.request, name, o.Err)
			b.futures[k].endSpan(b.engine.host, r, o.Err)
			b.engine.discharge(b.futures[k])
			b.futures[k].resolve(o.Result, o.Err)
		}
	}
	b.engine.arrived(&b.request)
	b.endSpan(b.engine.host, r, b.fault)
	b.engine.batchEnded(b, b.fault)
	b.resolve(Result{}, b.fault)
}

// part returns who waits for a member of a batch that is sent member by member.
func (b *batch) part(k int, r *request) completion {
	if b.left == 0 {
		b.left = len(b.types)
		b.outcomes = make([]Outcome, len(b.types))
	}
	b.parts = append(b.parts, r)
	return batchPart{b, k}
}

type batchPart struct {
	batch *batch
	index int
}

func (p batchPart) complete(r *request, err error) {
	b := p.batch
	o := &b.outcomes[p.index]
	if o.Err = err; err == nil {
		o.Result = Result{Sequence: r.outcome.Sequence, Changed: r.changed, Raw: r.outcome.Result}
	}
	if b.left--; b.left == 0 {
		b.engine.discharge(&b.Future)
		b.end(r)
	}
}

func (p batchPart) part(int, *request) completion { panic("host: an action has no parts") }
