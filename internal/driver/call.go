package driver

import (
	"context"
	"sync"
	"sync/atomic"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/pool"
	"hypertoken/internal/queue"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// Call is something that was asked of an engine, on its way to its outcome: an action, a batch, or
// a question about the engine. The zero value is ready to be handed to a method of Driver, once.
type Call struct {
	// request is the part that the engine's machine works with, from the dispatch until the outcome.
	request engine.Request
	// at is the worker that the request was sent to last; nil if it is in this process, or was not
	// sent.
	at     atomic.Pointer[pool.Worker]
	driver *Driver
	// batch is the batch whose outcome this is; nil for an action or a question.
	batch *batch
	// room is what it takes of the host's queue.
	room queue.Room
	// target is what a rewind leads to; nil for anything else.
	target *target
	// behind asks for the digest of the state after it; nil if nobody wants that.
	behind *digestBehind
	times  callTimes

	// isHidden says that only the method that returns the outcome has the call. Then its memory is
	// used again.
	isHidden   bool
	reusedDone chan struct{} // the channel of an earlier call, for done
	isResolved atomic.Bool   // says that result and failure are there
	mu         sync.Mutex    // guards done, and the right to resolve
	done       chan struct{} // made when somebody asks for it
	result     Result
	failure    error
}

// hidden are hidden calls that have ended, to be used again.
var hidden = sync.Pool{New: func() any { return &Call{isHidden: true} }}

// recycle gives a hidden call that has succeeded back, so that its memory is used again.
func (c *Call) recycle() {
	r := &c.request
	if r.Keyed != nil || c.behind != nil || !r.MayBeReused() || cap(r.Body) > keptBody {
		return
	}
	c.mu.Lock() // the goroutine that has resolved it may still hold the lock
	c.request = engine.Request{Body: r.Body[:0]}
	c.driver, c.room, c.times, c.result, c.failure = nil, queue.Room{}, callTimes{}, Result{}, nil
	if c.done != nil {
		select {
		case <-c.done: // its waiter has seen the outcome before
		default:
		}
		c.done, c.reusedDone = nil, c.done
	}
	if c.at.Load() != nil {
		c.at.Store(nil)
	}
	c.isResolved.Store(false)
	c.mu.Unlock()
	hidden.Put(c)
}

// keptBody is what a recycled call keeps of its body at most, in bytes.
const keptBody = 4 << 10

// isAction reports whether the call is one action, and no batch or question.
func (c *Call) isAction() bool { return c.batch == nil && c.request.Kind == ipc.Dispatch }

// Done returns a channel that is closed when the outcome is there.
func (c *Call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		if c.done = c.reusedDone; c.done == nil {
			c.done = make(chan struct{}, 1)
		}
		if c.isResolved.Load() {
			c.wakeLocked()
		}
	}
	return c.done
}

// wakeLocked wakes everybody who waits. A hidden call has one waiter at most, and its channel is
// used again. The call's lock is held.
func (c *Call) wakeLocked() {
	if c.isHidden {
		c.done <- struct{}{}
	} else {
		close(c.done)
	}
}

// Result returns the outcome, without waiting. ok is false if there is none yet.
func (c *Call) Result() (r Result, err error, ok bool) { //nolint:revive // the error is a value here
	if !c.isResolved.Load() {
		return Result{}, nil, false
	}
	return c.result, c.failure, true
}

// Wait waits for the outcome. If ctx ends first, it returns the error of that, and the call goes
// on.
func (c *Call) Wait(ctx context.Context) (Result, error) {
	if r, err, ok := c.Result(); ok {
		return r, err
	}
	c.wait(ctx)
	if r, err, ok := c.Result(); ok {
		return r, err
	}
	return Result{}, fault.Ended(ctx, "waiting for "+c.request.What)
}

// wait waits until the outcome is there, or ctx ends. It reads the worker's answers meanwhile, if
// nobody else does.
func (c *Call) wait(ctx context.Context) {
	if w := c.at.Load(); w != nil {
		w.Lead(ctx, (*awaited)(c))
		if c.isResolved.Load() || w.Follow(ctx, (*awaited)(c)) {
			return
		}
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
	}
}

// BeginElsewhere makes the zero value a call of an engine that no driver of this host runs. what names it
// in errors. The outcome is set by ResolveElsewhere.
func (c *Call) BeginElsewhere(what string) { c.request.What = what }

// ResolveElsewhere sets the outcome of such a call.
func (c *Call) ResolveElsewhere(r Result, err error) { c.resolve(r, err) }

// resolve sets the outcome, and wakes everybody who waits. Only the first call of it counts.
func (c *Call) resolve(r Result, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isResolved.Load() {
		return
	}
	c.result, c.failure = r, err
	c.isResolved.Store(true)
	if c.done != nil {
		c.wakeLocked()
	}
}

// Complete ends an action, a batch, or a question about the engine. The engine's lock is held.
func (c *Call) Complete(r *engine.Request, err error) {
	e := c.driver
	if c.behind == nil {
		c.discharge()
	}
	if c.batch != nil {
		c.batch.complete(r, err)
		return
	}
	var result Result
	if err == nil {
		result = Result{Sequence: r.Outcome.Sequence, Changed: r.HasChanged, Raw: r.Outcome.Result}
		if r.Kind == ipc.State || r.Kind == ipc.Snapshot {
			result.Raw = r.Data
		}
		r.Data = nil
	}
	if r.Kind == ipc.Dispatch {
		e.raiseLocked(r, r.What, result, err)
		e.meter.end(&c.times, r, r.What, err)
		e.meter.endParts(c, r)
		c.times.endSpan(e.engines, r, err)
	}
	if err == nil && r.Kind == ipc.Dispatch {
		r.Repeatable()
	}
	c.keyEnded(err)
	c.resolveWithDigest(result, err)
}

// keyEnded is called when the first call with a key has ended. It gives the same outcome to all
// calls that wait for that key. The engine's lock is held.
func (c *Call) keyEnded(err error) {
	e := c.driver
	record := c.request.Keyed
	if record == nil {
		return
	}
	followers := e.keys.Ended(record, err)
	e.work.shed = e.work.shed || e.engines.keyBytes.Load() > e.engines.config.MaxKeyBytes
	for _, g := range followers {
		g.discharge()
		if c.batch != nil && err != nil {
			g.batch.share(c.batch)
		} else {
			g.repeat(record, err)
		}
	}
}

// repeat ends a call as the record of its key says, or with an error. The engine's lock is held.
func (c *Call) repeat(old *journal.KeyRecord, err error) {
	if c.batch != nil {
		c.batch.repeat(old, err)
		return
	}
	c.driver.meter.endAlone(c, c.request.What, err)
	if err != nil {
		c.resolveWithDigest(Result{}, err)
		return
	}
	c.resolveWithDigest(Result{Sequence: old.Sequence, Changed: old.Changed, Raw: old.Result}, nil)
}
