package host

import (
	"slices"

	"hypertoken/ipc"
	"hypertoken/journal"
)

// How a batch ends: what its members are told.

// batch is a batch on its way. Its members are futures of their own if they were gathered in a window.
type batch struct {
	Future
	mode     BatchMode
	types    []string
	sent     []int // the index that each had in the call
	outcomes []Outcome
	futures  []*Future
	parts    []*request // its members, if they are sent one by one
	left     int        // those of them that are unanswered
	fault    error
	// sequence and changed are those of the state after it.
	sequence uint64
	changed  bool
}

func (b *batch) complete(r *request, err error) {
	b.engine.discharge(&b.Future)
	// Only the core's own answer names a member.
	if action, ok := err.(*ActionError); ok && b.mode == BatchAtomic && action.Index >= 0 && action.Index < len(b.types) {
		b.outcomes, b.fault = aborted(len(b.types), &BatchError{Index: action.Index, Err: action})
	} else if err != nil {
		b.outcomes, b.fault = nil, err
	} else {
		b.sequence, b.changed = r.outcome.Sequence, r.changed
		b.read(r.outcome.Result)
	}
	b.tell(r)
	b.engine.keyEnded(&b.Future, b.fault)
	b.end(r)
}

// read takes the outcomes of the members apart. The sequence after all of them is known.
func (b *batch) read(outcomes []byte) {
	b.outcomes = make([]Outcome, len(b.types))
	sequence := b.sequence
	var all []ipc.MemberOutcome
	for rest := outcomes; len(all) < len(b.types); {
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

// outcome returns what became of the k-th member.
func (b *batch) outcome(k int) Outcome {
	if b.outcomes == nil {
		return Outcome{Err: b.fault}
	}
	return b.outcomes[k]
}

// tell raises the events of the members. The engine's lock is held, so they are in order.
func (b *batch) tell(r *request) {
	for k, name := range b.types {
		o := b.outcome(k)
		b.engine.told(r, name, o.Result, o.Err)
	}
}

// end measures the batch and resolves it and its members.
func (b *batch) end(r *request) {
	for k, name := range b.types {
		o := b.outcome(k)
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
	b.settle(Result{Sequence: b.sequence, Changed: b.changed}, b.fault)
}

// repeat ends the batch as the record of its key has it, or with an error: nothing runs, and nobody
// but its caller is told.
func (b *batch) repeat(old *journal.KeyRecord, err error) {
	if b.fault = err; err == nil {
		b.sequence, b.changed = old.Sequence, old.Changed
		b.read(old.Result)
	}
	b.endRepeated()
}

// share ends the batch with the failure of another one of the same key.
func (b *batch) share(first *batch) {
	b.outcomes, b.fault = slices.Clone(first.outcomes), first.fault
	b.endRepeated()
}

func (b *batch) endRepeated() {
	for k := range b.types {
		b.engine.host.counts.action(b.engine, b.outcome(k).Err)
	}
	b.end(&b.request)
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
		b.changed = b.changed || r.changed
	}
	b.sequence = max(b.sequence, r.outcome.Sequence)
	if b.left--; b.left == 0 {
		b.sequence = max(b.sequence, b.engine.m.sequence)
		b.engine.discharge(&b.Future)
		b.tell(r)
		b.end(r)
	}
}

func (p batchPart) part(int, *request) completion { panic("host: an action has no parts") }
