package host

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/ipc"
	"hypertoken/journal"
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
	// keyed is what is remembered of the request once it has ended; nil if it has no key.
	keyed *journal.KeyRecord
	// conditional says that a batch has an IfSequence.
	conditional bool
	// deadline is on the host's clock, 0 for none; it is allowed from the dispatch on, by the option
	// limit. ctx, where it is set, withdraws the request when it ends.
	deadline, allowed time.Duration
	limit             string
	ctx               context.Context
	// to is told of the end; nil for a snapshot of the machine's own.
	to completion

	// id is that of the send that is unanswered, at the worker that it went to last.
	id uint64
	at atomic.Pointer[worker]
	// withdrawn says that it is resolved already, while a worker may still run it; killAt is when that worker is to be
	// killed then.
	withdrawn bool
	killAt    time.Duration
	// death is the worker's death that it is a suspect of; deaths counts those while it was alone.
	death  *death
	deaths int

	// kept says that a store may still read the body, though it has not said so in time.
	kept bool

	times

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

// take reads an answer.
func (r *request) take(flags ipc.Flags, body []byte) (err error) {
	r.changed, r.err = flags&ipc.FlagChanged != 0, nil // a withdrawn one has its own
	if flags&ipc.FlagFailed != 0 {
		f, err := ipc.ReadFailure(body)
		if err != nil {
			return err
		}
		r.outcome = ipc.Outcome{RunTime: f.RunTime, Sequence: f.Sequence, Memory: f.Memory}
		r.err = failureError(&f)
		return nil
	}
	if r.outcome, err = ipc.ReadOutcome(body); err != nil {
		return err
	}
	n := len(r.outcome.Result)
	switch r.kind {
	case ipc.Dispatch, ipc.Batch, ipc.Digest:
		if sum := xxhash.Sum64(r.outcome.Result); sum != r.outcome.Checksum {
			return &ipc.MalformedError{Message: fmt.Sprintf("a result with the checksum %016x, it says %016x", sum, r.outcome.Checksum)}
		}
		if r.kind == ipc.Digest && n != digestSize {
			return &ipc.MalformedError{Message: fmt.Sprintf("a digest of %d bytes, it has %d", n, digestSize)}
		}
	default:
		if n > 0 {
			return &ipc.MalformedError{Message: fmt.Sprintf("a result of %d bytes for %v, which has none", n, r.kind)}
		}
	}
	if r.kind == ipc.Batch {
		rest := r.outcome.Result
		for k := range r.members {
			var o ipc.MemberOutcome
			if o, rest, err = ipc.ReadMemberOutcome(rest); err != nil {
				return err
			}
			if o.Code == "" && xxhash.Sum64(o.Result) != o.Checksum {
				return &ipc.MalformedError{Message: fmt.Sprintf("the result of member %d has another checksum than it says", k)}
			}
		}
		if len(rest) > 0 {
			return &ipc.MalformedError{Message: fmt.Sprintf("%d bytes follow the outcomes of a batch of %d", len(rest), len(r.members))}
		}
	}
	kept := make([]byte, 0, len(r.outcome.Result)+len(r.outcome.Events))
	kept = append(append(kept, r.outcome.Result...), r.outcome.Events...)
	r.outcome.Result, r.outcome.Events = kept[:n:n], kept[n:]
	return nil
}

func (r *request) code() string { return CodeOf(r.err) }

// committed returns how many entries of the journal the request is worth.
func (r *request) committed() (n int) {
	switch {
	case r.err != nil:
		return 0
	case r.kind == ipc.Dispatch:
		if r.changed || r.flags&ipc.FlagJournaled != 0 {
			return 1
		}
	case r.kind == ipc.Batch:
		r.eachCommitted(func(span, *ipc.MemberOutcome) { n++ })
	}
	return n
}

// isStored reports whether the store has to hold something of the request before it may be answered.
func (r *request) isStored() bool {
	return r.committed() > 0 || (r.kind == ipc.Batch && r.keyed != nil && r.err == nil)
}

// eachCommitted calls f with the members of a batch that are worth an entry.
func (r *request) eachCommitted(f func(span, *ipc.MemberOutcome)) {
	rest := r.outcome.Result
	for _, s := range r.members {
		o, after, err := ipc.ReadMemberOutcome(rest)
		if err != nil {
			return // take has read it before
		}
		if o.Code == "" && (o.Changed || s.journaled) {
			f(s, &o)
		}
		rest = after
	}
}

// records appends what the request adds to the journal: an entry for each action, and behind those of
// a batch with a key the note of its outcomes.
func (r *request) records(list []journal.Record) []journal.Record {
	switch {
	case r.err != nil:
	case r.kind == ipc.Dispatch:
		if r.committed() > 0 {
			list = append(list, journal.Record{Action: r.body, Checksum: r.outcome.Checksum, Keyed: r.remembered()})
		}
	case r.kind == ipc.Batch:
		r.eachCommitted(func(s span, o *ipc.MemberOutcome) {
			list = append(list, journal.Record{Action: r.body[s.from:s.to], Checksum: o.Checksum})
		})
		if r.keyed != nil {
			list = append(list, journal.Record{Keyed: r.remembered()})
		}
	}
	return list
}

// remembered fills in the record of the request's key, and returns it; nil if it has none.
func (r *request) remembered() *journal.KeyRecord {
	if k := r.keyed; k != nil {
		n := len(r.outcome.Result)
		k.Result, k.Sequence, k.Changed = r.outcome.Result[:n:n], r.outcome.Sequence, r.changed
	}
	return r.keyed
}

// failureError makes the error of a worker's failure.
func failureError(f *ipc.Failure) error {
	switch f.Code {
	case ipc.CodeConflict:
		return &Error{Code: ErrConflict.Code, Message: f.Message}
	case ipc.CodeDiverged:
		return &Error{Code: ErrDiverged.Code, Message: f.Message}
	case ipc.CodeNotPlaced:
		return &Error{Code: ipc.CodeNotPlaced, Message: f.Message}
	}
	return &ActionError{Code: f.Code, Message: f.Message, Index: int(f.Index)}
}
