package driver

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"strconv"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/ipc"
)

// How a batch is made and sent.

// Member is an action of a batch.
type Member struct {
	Type    string
	Payload any
	Choice  Choice
	// Err is why the payload can't be encoded, if another node has tried to; nil otherwise.
	Err error
}

// Members are the actions of a batch: how many there are, and a function that returns the k-th one.
// So a caller that has them as another type need not copy them.
type Members struct {
	Len int
	At  func(k int) Member
}

// DispatchBatch runs actions one after the other, with nothing between them. whole is said of the
// whole batch. If a member of an atomic batch fails, the error is made by Config.BatchError.
func (e *Driver) DispatchBatch(ctx context.Context, mode Mode, members Members, whole Choice) (BatchResult, error) {
	if mode != Atomic && mode != Independent {
		return BatchResult{}, badInput("DispatchBatch: there is no batch mode %d", mode)
	}
	err := whole.checkKey("DispatchBatch")
	if whole.HasEntropy {
		err = badInput("DispatchBatch: Entropy is for single actions; give it to the members")
	}
	if err != nil {
		return BatchResult{}, err
	}
	b, outcomes, err := prepareBatch(ctx, e, mode, members, &whole)
	if err != nil {
		return BatchResult{Outcomes: outcomes}, err
	}
	if len(b.types) == 0 {
		return emptyBatch(ctx, e, outcomes, &whole)
	}
	e.meter.begin(ctx, &b.call.times, "batch", len(b.types))
	if err := b.call.takeRoom(ctx); err != nil {
		b.fault = err
		b.raiseEvents(&b.call.request)
		b.end(&b.call.request)
		return BatchResult{}, err
	}
	e.submit(&b.call, true)
	r, err := b.await(ctx)
	if errors.Is(err, fault.ErrOutcomeUnknown) || b.outcomes == nil {
		return BatchResult{}, err // the engine may still set what became of the members
	}
	if outcomes == nil {
		return BatchResult{Result: r, Outcomes: b.outcomes}, err
	}
	for k, o := range b.outcomes {
		outcomes[b.sent[k]] = o
	}
	return BatchResult{Result: r, Outcomes: outcomes}, err
}

// prepareBatch encodes a batch. It returns the batch of the members that are sent, and the outcomes
// of all members, as far as they are known: nil if all are sent.
func prepareBatch(ctx context.Context, e *Driver, mode Mode, members Members,
	whole *Choice) (*batch, []Outcome, error) {
	var outcomes []Outcome
	sent := make([]int, 0, members.Len) // the members that are sent, by their index
	calls := make([]*Call, 0, members.Len)
	size := 0
	for k := range members.Len {
		m := members.At(k)
		d := m.Choice
		if err := d.checkMember(k, m.Type); err != nil {
			return nil, nil, err
		}
		if whole.HasNow && !d.HasNow {
			d.HasNow, d.Now = true, whole.Now
		}
		if len(sent) == 0 {
			// The worker looks at the condition of each member before it runs the first.
			d.IsConditional, d.IfSequence = whole.IsConditional, whole.IfSequence
		}
		c := new(Call)
		err := m.Err
		if err == nil {
			err = c.prepare(ctx, e, m.Type, m.Payload, &d)
		}
		switch {
		case err == nil:
			sent, calls = append(sent, k), append(calls, c)
			size += len(c.request.Body)
		case mode == Atomic:
			outcomes, err = aborted(e, members.Len, k, err)
			return nil, outcomes, err
		default:
			if outcomes == nil {
				outcomes = make([]Outcome, members.Len)
			}
			outcomes[k].Err = err
		}
	}
	b := newBatch(e, mode, calls)
	b.call.request.IsStep = true
	b.sent = sent
	o := &e.engines.config
	if payloads := size - len(calls)*actionOverhead; payloads > o.Payload.Bytes {
		return nil, nil, tooLarge(b.call.request.What, payloads, o.Payload.Bytes)
	}
	if n := ipc.HeaderSize + len(b.call.request.Body); n > o.Pool.MaxFrame {
		return nil, nil, fault.ErrPayloadTooLarge.With("%s: its %d bytes do not fit into a frame of %d (MaxFrame)",
			b.call.request.What, n, o.Pool.MaxFrame)
	}
	b.call.setBounds(ctx, e)
	if whole.Key != "" {
		b.call.request.Keyed = engine.NewKey(whole.Key, b.sum(members.Len))
	}
	if whole.WantsDigest {
		b.call.waitForDigest()
	}
	return b, outcomes, nil
}

// checkMember fails for options that are for a whole batch.
func (d *Choice) checkMember(index int, what string) error {
	name := ""
	switch {
	case d.HasKey:
		name = "Key"
	case d.IsConditional:
		name = "IfSequence"
	case d.WantsDigest:
		name = "WithDigest"
	default:
		return nil
	}
	return badInput("member %d of the batch, %s, has the option %s, which is for the whole batch: "+
		"give it to DispatchBatch", index, what, name)
}

// sum returns the sum over what a batch asks for: its mode, how many members it has, and those that
// are sent.
func (b *batch) sum(members int) hash.Hash {
	sum := engine.NewSum(engine.SumOfBatch)
	engine.AddToSum(sum, []byte(b.mode.String()))
	engine.AddToSum(sum, strconv.AppendInt(nil, int64(members), 10))
	for k, s := range b.call.request.Members {
		engine.AddToSum(sum, strconv.AppendInt(nil, int64(b.sent[k]), 10))
		engine.AddActionToSum(sum, b.call.request.Body[s.From:s.To])
	}
	return sum
}

// emptyBatch answers a batch of which nothing is sent. Its condition holds, or does not, all the
// same.
func emptyBatch(ctx context.Context, e *Driver, outcomes []Outcome, whole *Choice) (BatchResult, error) {
	at, err := e.Position(ctx, "DispatchBatch")
	if err != nil {
		return BatchResult{}, err
	}
	if whole.IsConditional && whole.IfSequence != at.Sequence {
		return BatchResult{}, fault.ErrConflict.With("the engine has the sequence %d, not %d",
			at.Sequence, whole.IfSequence)
	}
	if outcomes == nil {
		outcomes = []Outcome{} // it has no members, and has not failed
	}
	if at.HasDigest = whole.WantsDigest; !at.HasDigest {
		at.Digest = 0
	}
	return BatchResult{Result: at, Outcomes: outcomes}, nil
}

// await waits for the truth about a batch. If ctx ends, it withdraws what can still be withdrawn of
// it.
func (b *batch) await(ctx context.Context) (Result, error) {
	c, e := &b.call, b.call.driver
	if c.wait(ctx); !c.isResolved.Load() {
		e.mu.Lock()
		e.m.Withdraw(e.now(), &c.request, fault.Ended(ctx, c.request.What))
		e.performLocked()
		for _, part := range b.parts {
			e.m.Withdraw(e.now(), part, fault.Ended(ctx, part.What))
			e.performLocked()
		}
		c.withdrawDigest(ctx)
		e.unlockAndDeliver(false)
		<-c.Done()
	}
	r, err, _ := c.Result()
	return r, err
}

// actionOverhead is about what an action takes beside its type and payload, in bytes.
const actionOverhead = 40

// newBatch returns the batch of actions that are prepared.
func newBatch(e *Driver, mode Mode, members []*Call) *batch {
	b := &batch{mode: mode}
	b.call.driver, b.call.batch = e, b
	r := &b.call.request
	r.Kind, r.What, r.Owner, r.Splitter = ipc.Batch, fmt.Sprintf("a batch of %d", len(members)), &b.call, b
	if mode == Atomic {
		r.Flags = ipc.FlagAtomic
	}
	r.Body = ipc.AppendBatch(nil, len(members))
	for _, c := range members {
		action := c.request.Body
		r.Body = ipc.AppendMember(r.Body, false, action)
		r.Members = append(r.Members, engine.Span{From: len(r.Body) - len(action), To: len(r.Body)})
		b.types = append(b.types, c.request.What)
		r.IsConditional = r.IsConditional || c.request.IsConditional
	}
	return b
}

// aborted returns the outcomes of an atomic batch of n members whose member at that index failed,
// and the error of the batch.
func aborted(e *Driver, n, index int, err error) ([]Outcome, error) {
	cause := e.engines.config.BatchError(index, err)
	outcomes := make([]Outcome, n)
	for k := range outcomes {
		outcomes[k].Err = fault.ErrBatchAborted.Because(cause, "it had no effect: %v", cause)
	}
	outcomes[index].Err = err
	return outcomes, cause
}
