package host

import (
	"context"
	"fmt"
	"time"

	"hypertoken/ipc"
)

// request is an action, or a question about an engine, on its way. The machine of its engine owns it until it is
// resolved.
type request struct {
	kind  ipc.Kind
	flags ipc.Flags
	// what names it in errors.
	what string
	body []byte
	// members are where the actions of a batch lie in the body; a dispatch's is the body.
	members []span
	key     string
	// conditional says that a batch has an IfSequence.
	conditional bool
	// deadline is on the host's clock, 0 for none; it is allowed from the dispatch on, by the option limit. ctx, where it
	// is set, withdraws the request when it ends.
	deadline, allowed time.Duration
	limit             string
	ctx               context.Context
	// to is told of the end; nil for a snapshot of the machine's own.
	to completion

	// id is that of the send that is unanswered.
	id uint64
	// withdrawn says that it is resolved already, while a worker may still run it; killAt is when that worker is to be
	// killed then.
	withdrawn bool
	killAt    time.Duration
	// death is the worker's death that it is a suspect of; deaths counts those while it was alone.
	death  *death
	deaths int

	// What has come back.
	data    []byte
	outcome ipc.Outcome
	changed bool
	err     error
}

// completion is who waits for a request.
type completion interface {
	// complete is called once, with the engine's lock held. The request is the caller's again.
	complete(r *request, err error)
	// part returns who waits for the k-th member of a batch, which is sent as r.
	part(k int, r *request) completion
}

// late is the error of a request that missed its deadline.
func (r *request) late() error {
	return &Error{Code: ErrTimeout.Code, Err: context.DeadlineExceeded,
		Message: fmt.Sprintf("%s: not done after %v (%s)", r.what, r.allowed, r.limit)}
}

// span is a part of a body; journaled members are committed though they change nothing.
type span struct {
	from, to  int
	journaled bool
}

// death is one death of a worker, which its unanswered requests are suspected of until one of them dies alone.
type death struct{ cleared bool }

// suspect reports whether the request has to run alone.
func (r *request) suspect() bool { return r.death != nil && !r.death.cleared }
