package cluster

import (
	"context"
	"errors"

	"hypertoken/host"
	"hypertoken/internal/calls"
	"hypertoken/internal/driver"
	"hypertoken/internal/fault"
)

// How actions that are dispatched without waiting keep their order: those of an engine wait in a
// queue, and one goroutine sends them. What waits is sent together.

const (
	// mostTogether is how many actions are sent together, and bytesTogether how many bytes of
	// payloads, unless the first has more.
	mostTogether  = 256
	bytesTogether = 4 << 20
)

// asyncCall is a call in the queue, and its outcome.
type asyncCall struct {
	call    *calls.Call
	outcome *driver.Call
}

// DispatchAsync implements seam.Engine.
func (e *engine) DispatchAsync(ctx context.Context, outcome *driver.Call, actionType string, payload any,
	d driver.Choice) {
	outcome.BeginElsewhere(actionType)
	c := &calls.Call{Method: calls.Dispatch, Type: actionType, What: actionType, Choice: d, Context: ctx,
		Timeout: e.timeout, OwnKey: e.ownKey()}
	c.Payload, c.Value = withPayload(payload)
	if err := e.enqueue(&asyncCall{c, outcome}); err != nil {
		outcome.ResolveElsewhere(driver.Result{}, err)
	}
}

// enqueue puts a call into the queue.
func (e *engine) enqueue(a *asyncCall) error {
	if err := a.call.Prepare(e.host.limits); err != nil {
		return err
	}
	if a.call.Context.Err() != nil {
		return fault.Ended(a.call.Context, a.call.Type)
	}
	select {
	case <-e.closed:
		return fault.Shutdown()
	default:
	}
	if err := e.host.begin(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if most := e.maxQueued(); len(e.queue) >= most {
		e.host.done()
		return host.ErrOverloaded.With("%s: %d actions of the engine wait, as many as MaxQueue allows", a.call.Type, most)
	}
	e.queue, e.last = append(e.queue, a), a.outcome
	if !e.isBusy {
		e.isBusy = true
		go e.sendQueued()
	}
	return nil
}

// sendQueued sends what is in the queue until nothing is left.
func (e *engine) sendQueued() {
	for {
		list := e.takeQueued()
		if list == nil {
			return
		}
		bundle := make([]*calls.Call, len(list))
		for k, a := range list {
			bundle[k] = a.call
		}
		for k, answer := range e.host.server.Call(context.Background(), e.name, bundle, e.host.limits) {
			if errors.Is(answer.Err, host.ErrCanceled) && bundle[k].Context.Err() != nil {
				answer.Err = fault.Ended(bundle[k].Context, bundle[k].Type)
			}
			list[k].outcome.ResolveElsewhere(result(e.note(answer)))
			e.host.done()
		}
	}
}

// takeQueued takes the next calls out of the queue that are sent together. It returns nil if there
// are none: then the goroutine that sends ends.
func (e *engine) takeQueued() []*asyncCall {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, bytes := 0, 0
	for n < len(e.queue) && n < mostTogether {
		if bytes += len(e.queue[n].call.Payload); n > 0 && bytes > bytesTogether {
			break
		}
		n++
	}
	if n == 0 {
		e.isBusy, e.queue, e.last = false, nil, nil
		return nil
	}
	list := e.queue[:n:n]
	e.queue = e.queue[n:]
	return list
}
