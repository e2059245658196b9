package host

import (
	"context"
	"fmt"
	"hash"
	"strconv"

	"hypertoken/internal/engine"
	"hypertoken/ipc"
)

// BatchMode says what the failure of one member of a batch means for the others.
type BatchMode int

const (
	// BatchAtomic is all or nothing: when one member fails, none has an effect.
	BatchAtomic BatchMode = iota
	// BatchIndependent runs every member, whatever becomes of the others.
	BatchIndependent
)

// String returns "atomic" or "independent".
func (m BatchMode) String() string {
	if m == BatchAtomic {
		return "atomic"
	}
	return "independent"
}

// Outcome is what became of a member of a batch: a result, or the error why it had no effect.
type Outcome struct {
	Result Result
	Err    error
}

// BatchResult is what a batch returns.
type BatchResult struct {
	// Outcomes has one for each member, in their order; nil if the batch failed as a whole.
	Outcomes []Outcome
	// Sequence is that of the state after the batch.
	Sequence uint64
	// Changed says whether any member changed the state.
	Changed bool
	// HasDigest says whether Digest is there, as Result.HasDigest does.
	HasDigest bool
	// Digest is that of the state right after the batch, if it was asked for by [WithDigest].
	Digest Digest
}

func (e *driver) dispatchBatch(ctx context.Context, mode BatchMode, members []Action,
	opts []DispatchOption) (BatchResult, error) {
	if mode != BatchAtomic && mode != BatchIndependent {
		return BatchResult{}, badInput("DispatchBatch: there is no batch mode %d", mode)
	}
	whole := chosen(opts)
	err := whole.checkKey("DispatchBatch")
	if whole.entropy {
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
	e.meter.begin(ctx, &b.future.call, "batch", len(b.types))
	if err := e.takeRoom(ctx, &b.future); err != nil {
		b.fault = err
		b.raiseEvents(&b.future.request)
		b.end(&b.future.request)
		return BatchResult{}, err
	}
	e.submit(&b.future, true)
	r, err := b.await(ctx)
	if b.outcomes == nil {
		return BatchResult{}, err
	}
	for k, o := range b.outcomes {
		outcomes[b.sent[k]] = o
	}
	return BatchResult{Outcomes: outcomes, Sequence: r.Sequence, Changed: r.Changed, HasDigest: r.HasDigest,
		Digest: r.Digest}, err
}

// prepareBatch encodes a batch. It returns the batch of the members that are sent, and the outcomes of
// all members, as far as they are known.
func prepareBatch(ctx context.Context, e *driver, mode BatchMode, members []Action,
	whole *dispatch) (*batch, []Outcome, error) {
	outcomes := make([]Outcome, len(members))
	var sent []int // the members that are sent, by their index
	var futures []*Future
	size := 0
	for k, m := range members {
		d := chosen(m.Options)
		if err := d.checkMember(k, m.Type); err != nil {
			return nil, nil, err
		}
		if whole.now && !d.now {
			d.now, d.nowTime = true, whole.nowTime
		}
		if len(sent) == 0 {
			// The worker looks at the condition of each member before it runs the first.
			d.action.Conditional, d.action.IfSequence = whole.action.Conditional, whole.action.IfSequence
		}
		f := new(Future)
		err := f.prepare(ctx, e, m.Type, m.Payload, d)
		switch {
		case err == nil:
			sent, futures = append(sent, k), append(futures, f)
			size += len(f.request.Body)
		case mode == BatchAtomic:
			outcomes, err = aborted(len(members), &BatchError{Index: k, Err: err})
			return nil, outcomes, err
		default:
			outcomes[k].Err = err
		}
	}
	b := newBatch(e, mode, futures)
	b.sent = sent
	if payloads := size - len(futures)*actionOverhead; payloads > e.host.options.MaxPayload {
		return nil, nil, tooLarge(b.future.request.What, payloads, e.host.options.MaxPayload)
	}
	if n := ipc.HeaderSize + len(b.future.request.Body); n > e.host.options.MaxFrame {
		return nil, nil, ErrPayloadTooLarge.With("%s: its %d bytes do not fit into a frame of %d (MaxFrame)",
			b.future.request.What, n, e.host.options.MaxFrame)
	}
	b.future.bound(ctx, e)
	if whole.key != "" {
		b.future.request.Keyed = engine.NewKey(whole.key, b.sum(len(members)))
	}
	if whole.digest {
		b.future.waitForDigest()
	}
	return b, outcomes, nil
}

// checkMember fails for options that are for a whole batch.
func (d *dispatch) checkMember(index int, what string) error {
	name := ""
	switch {
	case d.keyed:
		name = "Key"
	case d.action.Conditional:
		name = "IfSequence"
	case d.digest:
		name = "WithDigest"
	default:
		return nil
	}
	return badInput("member %d of the batch, %s, has the option %s, which is for the whole batch: give it to DispatchBatch", index, what, name)
}

// sum returns the sum over what a batch asks for: its mode, how many members it has, and those that are sent.
func (b *batch) sum(members int) hash.Hash {
	sum := engine.NewSum(engine.SumOfBatch)
	engine.AddToSum(sum, []byte(b.mode.String()))
	engine.AddToSum(sum, strconv.AppendInt(nil, int64(members), 10))
	for k, s := range b.future.request.Members {
		engine.AddToSum(sum, strconv.AppendInt(nil, int64(b.sent[k]), 10))
		engine.AddActionToSum(sum, b.future.request.Body[s.From:s.To])
	}
	return sum
}

// emptyBatch answers a batch of which nothing is sent. Its condition holds, or does not, all the same.
func emptyBatch(ctx context.Context, e *driver, outcomes []Outcome, whole *dispatch) (BatchResult, error) {
	at, err := e.position(ctx, "DispatchBatch")
	if err != nil {
		return BatchResult{}, err
	}
	if whole.action.Conditional && whole.action.IfSequence != at.Sequence {
		return BatchResult{}, ErrConflict.With("the engine has the sequence %d, not %d",
			at.Sequence, whole.action.IfSequence)
	}
	r := BatchResult{Outcomes: outcomes, Sequence: at.Sequence}
	if whole.digest {
		r.HasDigest, r.Digest = true, at.Digest
	}
	return r, nil
}

// await waits for the truth about a batch. If ctx ends, it withdraws what can still be withdrawn of it.
func (b *batch) await(ctx context.Context) (Result, error) {
	f, e := &b.future, b.future.engine
	if f.wait(ctx); !f.isResolved.Load() {
		e.mu.Lock()
		e.m.Withdraw(e.now(), &f.request, ended(ctx, f.request.What))
		e.perform()
		for _, part := range b.parts {
			e.m.Withdraw(e.now(), part, ended(ctx, part.What))
			e.perform()
		}
		f.withdrawDigest(ctx)
		e.unlockAndDeliver(false)
		<-f.Done()
	}
	r, err, _ := f.Result()
	return r, err
}

// actionOverhead is about what an action takes beside its type and payload, in bytes.
const actionOverhead = 40

// newBatch returns the batch of actions that are prepared.
func newBatch(e *driver, mode BatchMode, members []*Future) *batch {
	b := &batch{mode: mode}
	b.future.engine, b.future.batch = e, b
	r := &b.future.request
	r.Kind, r.What, r.Owner, r.Splitter = ipc.Batch, fmt.Sprintf("a batch of %d", len(members)), &b.future, b
	if mode == BatchAtomic {
		r.Flags = ipc.FlagAtomic
	}
	r.Body = ipc.AppendBatch(nil, len(members))
	for _, f := range members {
		action := f.request.Body
		r.Body = ipc.AppendMember(r.Body, false, action)
		r.Members = append(r.Members, engine.Span{From: len(r.Body) - len(action), To: len(r.Body)})
		b.types = append(b.types, f.request.What)
		r.IsConditional = r.IsConditional || f.request.IsConditional
	}
	return b
}

// aborted returns the outcomes of a batch of which a member failed.
func aborted(n int, cause *BatchError) ([]Outcome, error) {
	outcomes := make([]Outcome, n)
	for k := range outcomes {
		outcomes[k].Err = ErrBatchAborted.Because(cause, "it had no effect: %v", cause)
	}
	outcomes[cause.Index].Err = cause.Err
	return outcomes, cause
}
