// Package replay runs recorded traces on the engines of a host.
package replay

import (
	"context"
	"errors"
	"time"

	"hypertoken/host"
	"hypertoken/internal/trace"
)

// Engine is a host's engine as a trace wants it.
type Engine struct{ *host.Engine }

// Step returns an action as Dispatch takes it.
func Step(s trace.Step) (string, host.Raw, host.DispatchOption) {
	return s.Type, host.Raw(s.Payload), host.Now(time.UnixMilli(s.Now))
}

// Outcome tells an action that failed from a host that did.
func Outcome(r host.Result, err error) (trace.Outcome, error) {
	var action *host.ActionError
	if errors.As(err, &action) || errors.Is(err, host.ErrBatchAborted) {
		return trace.Outcome{Failed: err}, nil
	}
	return trace.Outcome{Result: r.Raw}, err
}

// Dispatch runs a step.
func (e Engine) Dispatch(ctx context.Context, s trace.Step) (trace.Outcome, error) {
	action, payload, now := Step(s)
	return Outcome(e.Engine.Dispatch(ctx, action, payload, now))
}

// Batch runs steps as one batch.
func (e Engine) Batch(ctx context.Context, atomic bool, steps []trace.Step) ([]trace.Outcome, error) {
	mode := host.BatchIndependent
	if atomic {
		mode = host.BatchAtomic
	}
	members := make([]host.Action, len(steps))
	for i, s := range steps {
		action, payload, now := Step(s)
		members[i] = host.Action{Type: action, Payload: payload, Options: []host.DispatchOption{now}}
	}
	answer, err := e.DispatchBatch(ctx, mode, members)
	var failed *host.BatchError
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	outcomes := make([]trace.Outcome, len(answer.Outcomes))
	for i, a := range answer.Outcomes {
		if outcomes[i], err = Outcome(a.Result, a.Err); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// State returns the whole state.
func (e Engine) State(ctx context.Context) ([]byte, error) {
	r, err := e.Engine.State(ctx)
	return r.Raw, err
}
