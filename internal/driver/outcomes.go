package driver

import (
	"slices"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// How a batch ends, and how its members do.

// batch is a batch on its way. Its members are calls of their own if they were gathered in a
// window.
type batch struct {
	call     Call
	mode     Mode
	types    []string
	sent     []int // the index that each had in the call
	outcomes []Outcome
	members  []*Call
	parts    []*engine.Request // its members, if they are sent one by one
	missing  int               // how many of the parts are unanswered
	fault    error
	// sequence and changed are those of the state after it.
	sequence uint64
	changed  bool
}

func (b *batch) complete(r *engine.Request, err error) {
	// Only the core's own answer names a member.
	if action, ok := err.(*fault.ActionError); ok && b.mode == Atomic && action.Index >= 0 &&
		action.Index < len(b.types) {
		b.outcomes, b.fault = aborted(b.call.driver, len(b.types), action.Index, action)
	} else if err != nil {
		b.outcomes, b.fault = nil, err
	} else {
		b.sequence, b.changed = r.Outcome.Sequence, r.HasChanged
		b.readOutcomes(r.Outcome.Result)
	}
	b.raiseEvents(r)
	b.call.keyEnded(b.fault)
	b.end(r)
}

// readOutcomes takes the outcomes of the members apart. The sequence after all of them is known.
func (b *batch) readOutcomes(outcomes []byte) {
	b.outcomes = make([]Outcome, len(b.types))
	changes := uint64(0)
	for k := range b.outcomes {
		o, rest, err := ipc.ReadMemberOutcome(outcomes)
		if err != nil { // the machine has read it before
			break
		}
		outcomes = rest
		if o.Code != "" {
			b.outcomes[k].Err = &fault.ActionError{Code: o.Code, Message: o.Message, Index: -1}
			continue
		}
		if o.Changed {
			changes++
		}
		b.outcomes[k].Result = Result{Sequence: changes, Changed: o.Changed, Raw: o.Result}
	}
	for k := range b.outcomes {
		if o := &b.outcomes[k]; o.Err == nil {
			o.Result.Sequence += b.sequence - changes
		}
	}
}

// outcome returns what became of the k-th member.
func (b *batch) outcome(k int) Outcome {
	if b.outcomes == nil {
		return Outcome{Err: b.fault}
	}
	return b.outcomes[k]
}

// raiseEvents raises the events of the members. The engine's lock is held, so they are in order.
func (b *batch) raiseEvents(r *engine.Request) {
	for k, name := range b.types {
		o := b.outcome(k)
		b.call.driver.raiseLocked(r, name, o.Result, o.Err)
	}
}

// end measures the batch and resolves it and its members. from is the request that it went with.
func (b *batch) end(from *engine.Request) {
	c, e := &b.call, b.call.driver
	for k, name := range b.types {
		o := b.outcome(k)
		if b.members == nil {
			e.meter.end(&c.times, &c.request, name, o.Err)
			continue
		}
		member := b.members[k]
		e.meter.end(&member.times, &c.request, name, o.Err)
		member.times.endSpan(e.engines, from, o.Err)
		member.discharge()
		member.resolve(o.Result, o.Err)
	}
	e.meter.endParts(c, &c.request)
	c.times.endSpan(e.engines, from, b.fault)
	e.meter.endBatch(b, b.fault)
	c.resolveWithDigest(Result{Sequence: b.sequence, Changed: b.changed}, b.fault)
}

// repeat ends the batch as the record of its key says, or with an error: nothing runs, and nobody
// but its caller is told.
func (b *batch) repeat(old *journal.KeyRecord, err error) {
	if b.fault = err; err == nil {
		b.sequence, b.changed = old.Sequence, old.Changed
		b.readOutcomes(old.Result)
	}
	b.endRepeated()
}

// share ends the batch with the failure of another one of the same key.
func (b *batch) share(first *batch) {
	b.outcomes, b.fault = slices.Clone(first.outcomes), first.fault
	b.endRepeated()
}

func (b *batch) endRepeated() {
	e := b.call.driver
	for k := range b.types {
		e.engines.counts.Action(e.meter.shard, b.outcome(k).Err)
	}
	b.end(&b.call.request)
}

// OwnerOf returns the owner of a member of a batch that is sent member by member.
func (b *batch) OwnerOf(k int, r *engine.Request) engine.Owner {
	if b.missing == 0 {
		b.missing = len(b.types)
		b.outcomes = make([]Outcome, len(b.types))
	}
	b.parts = append(b.parts, r)
	return batchPart{b, k}
}

// batchPart waits for the member of a batch that is sent member by member.
type batchPart struct {
	batch *batch
	index int
}

// Complete takes in the outcome of the member. The last one ends the batch. The engine's lock is
// held.
func (p batchPart) Complete(r *engine.Request, err error) {
	b := p.batch
	o := &b.outcomes[p.index]
	if o.Err = err; err == nil {
		o.Result = Result{Sequence: r.Outcome.Sequence, Changed: r.HasChanged, Raw: r.Outcome.Result}
		b.changed = b.changed || r.HasChanged
	}
	b.sequence = max(b.sequence, r.Outcome.Sequence)
	if b.missing--; b.missing == 0 {
		e := b.call.driver
		b.sequence = max(b.sequence, e.m.View().Sequence)
		b.call.discharge()
		b.raiseEvents(r)
		b.end(r)
	}
}
