package engine

import (
	"context"
	"time"

	"hypertoken/internal/fault"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// Request is an action, a batch, or a question about an engine.
//
// Its life: the caller fills in the fields of the first group and hands the request to
// Machine.Dispatch. From then on it is the machine's, which changes only the fields of the second
// group and the private ones. With Effects.Resolve it is its owner's again: nothing of the machine
// refers to it any more, unless the request was withdrawn after it was sent ([Request.MayBeReused]
// is false then, and the memory of Body must be left alone).
type Request struct {
	Kind  ipc.Kind
	Flags ipc.Flags
	// What names the request in errors.
	What string
	// Body is the body of the frame. It must not be changed until the request is resolved.
	Body []byte
	// Members are where the actions of a batch lie in Body. A dispatch has none.
	Members []Span
	// IsStep says that the actions of the batch are undone together.
	IsStep bool
	// Keyed is what is to be remembered of the request once it has ended; nil if it has no key.
	Keyed *journal.KeyRecord
	// IsConditional says that the request has an IfSequence. The IfSequence of a rewind is here; the
	// others have theirs in their bodies.
	IsConditional bool
	IfSequence    uint64
	// IsRewind says that the request sets the engine to another state: see rewinding.go. It has the
	// kind of a dispatch, and no body.
	IsRewind bool
	// Note is what a request has stored that runs nothing: what is to be remembered of the batch that
	// Keyed has the key of. It is nil for anything else. See notes.go.
	Note *journal.KeyRecord
	// Deadline is on the host's clock; 0 is none. Allowed is how long the request had when it was
	// dispatched, and Limit the option or the deadline that says so; both are for the error.
	Deadline, Allowed time.Duration
	Limit             string
	// Context, if it is not nil, withdraws the request when it ends. The machine's owner looks at it, see WithdrawEach.
	Context context.Context
	// Owner is told of the end. It is nil for a snapshot of the machine's own.
	Owner Owner
	// Splitter makes owners for the members of a batch if they have to be sent one by one; nil for anything else.
	Splitter Splitter

	// Sent and Answered are times on the clock of measurements; 0 if nothing is measured. The one who sends sets Sent.
	Sent, Answered time.Duration
	// Data is what came of a stream: a state or a snapshot.
	Data []byte
	// Outcome is what the place answered, HasChanged whether the state was changed, Err the error that
	// the request ends with.
	Outcome    ipc.Outcome
	HasChanged bool
	Err        error
	// Base is what a rewind leads to, once that is known.
	Base *journal.Base

	// id is the ID of the send that is unanswered; 0 if there is none.
	id uint64
	// isWithdrawn says that the request is resolved, while a worker may still run it. killAt is when
	// that worker is killed.
	isWithdrawn bool
	killAt      time.Duration
	// death is the worker's death that the request is a suspect of. deaths counts the deaths while it ran alone.
	death  *Death
	deaths int
	// isKept says that a store may still read the body, though it has not said so in time.
	isKept bool
	// isOverdue says that EachOverdue has told of it.
	isOverdue bool
}

// Owner waits for a request.
type Owner interface {
	// Complete is called once, by the one who carries out Effects.Resolve.
	Complete(r *Request, err error)
}

// Splitter stands for a batch whose members are sent one by one.
type Splitter interface {
	// OwnerOf returns who waits for the k-th member, which is sent as r.
	OwnerOf(k int, r *Request) Owner
}

// Span is a part of a body.
type Span struct {
	From, To int
	// IsJournaled says that the member is stored even if it changes nothing.
	IsJournaled bool
}

// Late returns the error of a request that missed its deadline.
func (r *Request) Late() *fault.Error {
	return fault.ErrTimeout.Because(context.DeadlineExceeded, "%s: not done after %v (%s)", r.What, r.Allowed, r.Limit)
}

// MayBeReused reports whether nobody reads the request, or its body, after it was resolved: it was
// not withdrawn, and no store has failed to say that it is done with the body.
func (r *Request) MayBeReused() bool { return !r.isWithdrawn && !r.isKept }

// IsWithdrawn reports whether the request was resolved while a worker may still run it.
func (r *Request) IsWithdrawn() bool { return r.isWithdrawn }

// isSuspect reports whether the request has to run alone.
func (r *Request) isSuspect() bool { return r.death != nil && !r.death.isCleared.Load() }

// code returns the code of the error that the place answered, or "".
func (r *Request) code() string { return fault.CodeOf(r.Err) }

// records returns how many records the answered request is worth.
func (r *Request) records() (n int) {
	switch {
	case r.Err != nil:
		return 0
	case r.Kind == ipc.Dispatch:
		if r.HasChanged || r.Flags&ipc.FlagJournaled != 0 {
			return 1
		}
	case r.Kind == ipc.Batch:
		r.eachRecord(func(Span, *ipc.MemberOutcome) { n++ })
	}
	return n
}

// needsStore reports whether the store has to hold something of the answered request before its owner may be told.
func (r *Request) needsStore() bool {
	return r.records() > 0 || (r.Kind == ipc.Batch && r.Keyed != nil && r.Err == nil)
}

// eachRecord calls f with the members of an answered batch that are worth a record.
func (r *Request) eachRecord(f func(Span, *ipc.MemberOutcome)) {
	rest := r.Outcome.Result
	for _, s := range r.Members {
		o, after, err := ipc.ReadMemberOutcome(rest)
		if err != nil {
			return // readAnswer has read all of it before
		}
		if o.Code == "" && (o.Changed || s.IsJournaled) {
			f(s, &o)
		}
		rest = after
	}
}

// appendRecords appends what the request adds to the journal: a record for each action, and behind
// those of a batch with a key the note of its outcomes.
func (r *Request) appendRecords(list []journal.Record) []journal.Record {
	before := len(list)
	switch {
	case r.Err != nil:
	case r.Kind == ipc.Dispatch:
		if r.records() > 0 {
			list = append(list, journal.Record{Action: r.Body, Checksum: r.Outcome.Checksum, Keyed: r.remembered()})
		}
	case r.Kind == ipc.Batch:
		r.eachRecord(func(s Span, o *ipc.MemberOutcome) {
			list = append(list, journal.Record{Action: r.Body[s.From:s.To], Checksum: o.Checksum})
		})
		r.markStep(list[before:])
		if r.Keyed != nil {
			list = append(list, journal.Record{Keyed: r.remembered()})
		}
	}
	return list
}

// markStep notes in the records of a batch that they are one step.
func (r *Request) markStep(records []journal.Record) {
	if !r.IsStep || len(records) < 2 {
		return
	}
	first := r.Outcome.Sequence - uint64(len(records)) + 1
	for k := range records {
		records[k].Batch = first
	}
}

// Repeatable fills in the record of the request's key if nothing of the request is stored: for those
// who wait for the same key.
func (r *Request) Repeatable() {
	if r.Keyed != nil && r.Keyed.Number == 0 && r.Err == nil {
		r.remembered()
	}
}

// remembered fills in the record of the request's key, and returns it; nil if it has none.
func (r *Request) remembered() *journal.KeyRecord {
	if k := r.Keyed; k != nil {
		n := len(r.Outcome.Result)
		k.Result, k.Sequence, k.Changed = r.Outcome.Result[:n:n], r.Outcome.Sequence, r.HasChanged
	}
	return r.Keyed
}

// forgetAnswer makes a request ready to run again.
func (r *Request) forgetAnswer() {
	r.id, r.Data, r.Outcome, r.Err, r.HasChanged, r.Base = 0, nil, ipc.Outcome{}, nil, false, nil
	r.Sent, r.Answered = 0, 0
	if r.Keyed != nil {
		// A store may still read the present record.
		r.Keyed = &journal.KeyRecord{Key: r.Keyed.Key, Sum: r.Keyed.Sum}
	}
}
