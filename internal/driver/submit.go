package driver

import (
	"context"
	"encoding/binary"

	"hypertoken/internal/clock"
	"hypertoken/internal/engine"
	"hypertoken/internal/fast"
	"hypertoken/internal/fault"
	"hypertoken/ipc"
)

// How calls reach the engine, and how their callers wait for them.

// Dispatch runs an action and waits for its result, and for room in the queue first. If ctx ends
// before the action is committed, the action is withdrawn.
func (e *Driver) Dispatch(ctx context.Context, actionType string, payload any, d Choice) (Result, error) {
	c := hidden.Get().(*Call)
	e.meter.begin(ctx, &c.times, actionType, 1)
	err := c.prepare(ctx, e, actionType, payload, &d)
	if err == nil {
		err = c.takeRoom(ctx)
	}
	if err != nil {
		e.refused(c, actionType, err)
		return Result{}, err
	}
	e.submit(c, true)
	r, err := c.await(ctx)
	if err == nil && !e.gathering.isEnabled && !e.engines.config.Off.Has(fast.Reuse) {
		c.recycle()
	}
	return r, err
}

// DispatchAsync begins an action, whose outcome c will have. If there is no room in the queue, c
// has failed. c is used for nothing else.
func (e *Driver) DispatchAsync(ctx context.Context, c *Call, actionType string, payload any, d Choice) {
	e.meter.begin(ctx, &c.times, actionType, 1)
	err := c.prepare(ctx, e, actionType, payload, &d)
	if err == nil && ctx.Err() != nil {
		err = fault.Ended(ctx, actionType)
	}
	if err == nil {
		err = e.engines.queue.Take(actionType, &c.room)
	}
	if err != nil {
		e.refused(c, actionType, err)
		c.resolve(Result{}, err)
		return
	}
	e.submit(c, false)
}

// takeRoom takes room in the host's queue for a request, and waits for it. The wait is part of the
// request's time.
func (c *Call) takeRoom(ctx context.Context) error {
	r := &c.request
	waited, err := c.driver.engines.queue.Wait(ctx, r.What, &c.room, r.Allowed, r)
	if waited > 0 {
		r.Allowed = max(1, r.Allowed-waited)
	}
	return err
}

// refused takes note of an action that did not get as far as the engine.
func (e *Driver) refused(c *Call, name string, err error) {
	e.meter.endAlone(c, name, err)
	if e.listeners.HasAny() {
		e.emit(Event{Name: eventError, Action: name, Err: err})
	}
}

// takesInLocked reports whether the engine takes requests in. The engine's lock is held.
func takesInLocked(e *Driver) bool {
	v := e.m.View()
	return v.State != engine.Closed && !v.IsClosing
}

// submit hands an action to the engine, or to the batch that is gathered.
func (e *Driver) submit(c *Call, mayRun bool) {
	e.mu.Lock()
	defer e.unlockAndDeliver(mayRun)
	if c.request.Allowed > 0 {
		c.request.Deadline = e.now() + c.request.Allowed + clock.TickEvery
	}
	if c.request.Keyed != nil && takesInLocked(e) {
		old, follows, err := e.keys.Begin(c.request.Keyed, c.request.What, c)
		if old != nil || err != nil {
			c.discharge()
			c.repeat(old, err)
		}
		if old != nil || follows || err != nil {
			c.askDigest()
			return
		}
	}
	if e.gathering.takes(c) {
		e.gathering.add(c)
		return
	}
	e.gathering.flush()
	e.enqueueLocked(&c.request)
	c.askDigest()
	if mayRun {
		e.work.led = c.at.Load()
	}
}

// question asks something about the engine, in the order of its actions.
func (e *Driver) question(ctx context.Context, kind ipc.Kind, what string) (Result, error) {
	return newQuestion(ctx, e, kind, what).ask(ctx)
}

// ask takes room for a question, submits it, and waits for the answer.
func (c *Call) ask(ctx context.Context) (Result, error) {
	if err := c.takeRoom(ctx); err != nil {
		return Result{}, err
	}
	c.driver.submit(c, true)
	return c.await(ctx)
}

// newQuestion returns a call that asks something about the engine. what names it in errors.
func newQuestion(ctx context.Context, e *Driver, kind ipc.Kind, what string) *Call {
	c := &Call{driver: e, request: engine.Request{Kind: kind, What: what}}
	c.setBounds(ctx, e)
	return c
}

// State returns the whole state, and with its digest if that is wanted. It sees what was
// dispatched before.
func (e *Driver) State(ctx context.Context, wantsDigest bool) (Result, error) {
	c := newQuestion(ctx, e, ipc.State, "State")
	if wantsDigest {
		c.waitForDigest()
	}
	return c.ask(ctx)
}

// Position returns the sequence and the digest of the state, both of one moment. It sees what was
// dispatched before. what names the call in errors.
func (e *Driver) Position(ctx context.Context, what string) (Result, error) {
	r, err := e.question(ctx, ipc.Digest, what)
	if err != nil {
		return Result{}, err
	}
	return Result{Sequence: r.Sequence, HasDigest: true, Digest: binary.LittleEndian.Uint64(r.Raw)}, nil
}

// ready waits until the engine is placed. OpenTimeout bounds it.
func ready(ctx context.Context, e *Driver, what string) error {
	c := newQuestion(ctx, e, ipc.Ready, what)
	c.request.Allowed, c.request.Limit = 0, ""
	e.submit(c, true)
	_, err := c.await(ctx)
	return err
}

// Reopen makes a broken engine try again to be placed, and returns what makes that fail.
func (e *Driver) Reopen(ctx context.Context) error {
	e.step((*engine.Machine).Reopen)
	return ready(ctx, e, "Reopen")
}

// Close lets what was dispatched end, stores a snapshot and frees the engine. If ctx ends first,
// closing goes on. It fails with ErrShutdown if the engine is closed already.
func (e *Driver) Close(ctx context.Context) error {
	select {
	case <-e.closed:
		return fault.Shutdown()
	default:
	}
	e.beginClose()
	select {
	case <-e.closed:
		return nil
	case <-ctx.Done():
		return fault.Ended(ctx, "Close")
	}
}

func (e *Driver) beginClose() {
	e.mu.Lock()
	e.gathering.flush()
	e.m.Close(e.now())
	e.performLocked()
	e.unlockAndDeliver(false)
}

// withdraw ends a request whose context has ended, if it still can be.
func (c *Call) withdraw(ctx context.Context) {
	e := c.driver
	e.mu.Lock()
	if !e.gathering.withdraw(c, ctx) {
		e.m.Withdraw(e.now(), &c.request, fault.Ended(ctx, c.request.What))
		e.performLocked()
		c.withdrawDigest(ctx)
	}
	e.unlockAndDeliver(false)
}

// withdrawDigest ends the question behind an action whose context has ended. The engine's lock is
// held.
func (c *Call) withdrawDigest(ctx context.Context) {
	e := c.driver
	if c.behind != nil {
		e.m.Withdraw(e.now(), &c.behind.request, fault.Ended(ctx, c.request.What))
		e.performLocked()
	}
}

// await waits for the truth about a request. If ctx ends, it withdraws the request first.
func (c *Call) await(ctx context.Context) (Result, error) {
	if r, err, ok := c.Result(); ok {
		return r, err
	}
	c.wait(ctx)
	r, err, ok := c.Result()
	if !ok {
		c.withdraw(ctx)
		<-c.Done()
		r, err, _ = c.Result()
	}
	return r, err
}

// endWaitLocked ends the wait of a caller that waits for the store, and not for its future. The
// request itself goes on. The engine's lock is held.
func (e *Driver) endWaitLocked(r *engine.Request) {
	c, isCall := r.Owner.(*Call)
	if !isCall {
		return
	}
	var err error = fault.ErrOutcomeUnknown.Because(context.DeadlineExceeded, "%s: the store has not said for %v "+
		"(StoreTimeout), after its time was up, whether it has the action; with a Key, ask again", r.What,
		e.engines.config.Machine.StoreTimeout)
	waiting := []*Call{c}
	switch {
	case c.batch != nil && c.batch.members != nil:
		waiting = c.batch.members
	case r.Kind != ipc.Dispatch && r.Kind != ipc.Batch:
		err = fault.ErrTimeout.Because(context.DeadlineExceeded, "%s: what it saw is not stored yet", r.What)
	}
	for _, c := range waiting {
		if c.isHidden || c.batch != nil || r.Kind != ipc.Dispatch && r.Kind != ipc.Batch {
			c.resolve(Result{}, err)
		}
	}
}

// discharge gives back what a request took of the queue. The engine's lock is held.
func (c *Call) discharge() { c.driver.engines.queue.Give(&c.room) }
