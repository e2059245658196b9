package host

import (
	"context"
	"fmt"
	"hash"
	"strconv"
	"time"

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

// batchOptions say how an engine gathers actions.
type batchOptions struct {
	enabled bool
	window  time.Duration
	mode    BatchMode
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

// DispatchBatch runs actions one after the other, nothing between them, and journals what they changed
// as one group.
//
// It returns an outcome for each member. If an atomic batch fails, the error is a [*BatchError], and
// the outcomes say the same: the member that failed has its own error, the others [ErrBatchAborted].
// An independent batch fails as a whole, and with it an atomic one without naming a member, if the
// core does not answer: [ErrTimeout], a trap, exhausted memory. Then the outcomes are nil, and no
// member had an effect. Only an independent batch that a worker died of, and that has neither a Key
// nor an IfSequence, is run member by member, and answered so.
//
// The options are for the whole batch. With [Key] all of it runs once, and a repetition gets every
// outcome of the first one, those of members that failed too; an atomic batch that fails forgets its
// key. [IfSequence] holds just before the first member. [Now] is for the members that have none.
// [Entropy] is for single members. A member's options are Now and Entropy. Anything else fails with
// [ErrBadInput], and nothing is run.
//
// The payloads together are bounded by Options.MaxPayload, the results by MaxResult.
func (e *Engine) DispatchBatch(ctx context.Context, mode BatchMode, members []Action,
	opts ...DispatchOption) (BatchResult, error) {
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
	b, outcomes, err := e.prepareBatch(ctx, mode, members, &whole)
	if err != nil {
		return BatchResult{Outcomes: outcomes}, err
	}
	if len(b.types) == 0 {
		return e.emptyBatch(ctx, outcomes, &whole)
	}
	e.measureCall(ctx, &b.future.call, "batch", len(b.types))
	if err := e.host.queue.wait(ctx, &b.future); err != nil {
		b.fault = err
		b.raiseEvents(&b.future.request)
		b.end(&b.future.request)
		return BatchResult{}, err
	}
	e.submit(&b.future, true)
	r, err := e.awaitBatch(ctx, b)
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
func (e *Engine) prepareBatch(ctx context.Context, mode BatchMode, members []Action,
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
		err := e.prepare(ctx, f, m.Type, m.Payload, d)
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
	b := e.newBatch(mode, futures)
	b.sent = sent
	if payloads := size - len(futures)*actionOverhead; payloads > e.host.options.MaxPayload {
		return nil, nil, tooLarge(b.future.request.What, payloads, e.host.options.MaxPayload)
	}
	if n := ipc.HeaderSize + len(b.future.request.Body); n > e.host.options.MaxFrame {
		return nil, nil, &Error{Code: ErrPayloadTooLarge.Code,
			Message: fmt.Sprintf("%s: its %d bytes do not fit into a frame of %d (MaxFrame)", b.future.request.What, n,
				e.host.options.MaxFrame)}
	}
	e.bound(ctx, &b.future)
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
func (e *Engine) emptyBatch(ctx context.Context, outcomes []Outcome, whole *dispatch) (BatchResult, error) {
	at, err := e.Position(ctx)
	if err != nil {
		return BatchResult{}, err
	}
	if whole.action.Conditional && whole.action.IfSequence != at.Sequence {
		return BatchResult{}, &Error{Code: ErrConflict.Code,
			Message: fmt.Sprintf("the engine has the sequence %d, not %d", at.Sequence, whole.action.IfSequence)}
	}
	r := BatchResult{Outcomes: outcomes, Sequence: at.Sequence}
	if whole.digest {
		r.HasDigest, r.Digest = true, at.Digest
	}
	return r, nil
}

// awaitBatch waits for the truth about a batch. If ctx ends, it withdraws what can still be withdrawn of it.
func (e *Engine) awaitBatch(ctx context.Context, b *batch) (Result, error) {
	f := &b.future
	if f.wait(ctx); !f.isResolved.Load() {
		e.mu.Lock()
		e.m.Withdraw(e.now(), &f.request, ended(ctx, f.request.What))
		e.perform()
		for _, part := range b.parts {
			e.m.Withdraw(e.now(), part, ended(ctx, part.What))
			e.perform()
		}
		e.withdrawDigest(f, ctx)
		e.unlockAndDeliver(false)
		<-f.Done()
	}
	r, err, _ := f.Result()
	return r, err
}

// actionOverhead is about what an action takes beside its type and payload, in bytes.
const actionOverhead = 40

// newBatch returns the batch of actions that are prepared.
func (e *Engine) newBatch(mode BatchMode, members []*Future) *batch {
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

// window gathers what is dispatched within the batch window. The engine's lock guards it.
type window struct {
	engine  *Engine
	members []*Future
	size    int
	timer   *time.Timer
}

// maxWindow bounds the members of a gathered batch.
const maxWindow = 4096

// gather adds an action to the batch that is gathered.
func (e *Engine) gather(f *Future) {
	if w := e.window; w != nil &&
		(len(w.members) == maxWindow || w.size+len(f.request.Body) > e.host.options.MaxPayload) {
		e.flushWindow()
	}
	if e.window == nil {
		w := &window{engine: e}
		w.timer = time.AfterFunc(e.batches.window, func() {
			e.mu.Lock()
			if e.window == w {
				e.flushWindow()
			}
			e.unlockAndDeliver(false)
		})
		e.window = w
	}
	e.window.members = append(e.window.members, f)
	e.window.size += len(f.request.Body)
}

// flushWindow sends what is gathered. Its deadline is its earliest member's.
func (e *Engine) flushWindow() {
	w := e.window
	if w == nil {
		return
	}
	e.window = nil
	w.timer.Stop()
	w.withdrawEnded()
	switch len(w.members) {
	case 0:
		return
	case 1:
		e.enqueue(&w.members[0].request)
		return
	}
	b := e.newBatch(e.batches.mode, w.members)
	b.members = w.members
	b.future.call.began, b.future.call.isCounted = w.members[0].call.began, w.members[0].call.isCounted
	now := e.host.clock.now()
	for _, f := range w.members {
		r := &f.request
		if r.Deadline > 0 {
			b.endsBy(r.Deadline, r.Allowed, r.Limit)
		}
		if r.Context != nil {
			if at, ok := r.Context.Deadline(); ok {
				left := max(1, time.Until(at))
				b.endsBy(now+left, left, "the deadline of a member's context")
			}
		}
	}
	e.enqueue(&b.future.request)
}

// endsBy gives a batch a deadline, unless it has an earlier one.
func (b *batch) endsBy(deadline, allowed time.Duration, limit string) {
	if r := &b.future.request; r.Deadline == 0 || deadline < r.Deadline {
		r.Deadline, r.Allowed, r.Limit = deadline, allowed, limit
	}
}

// withdrawEnded takes out the members whose context has ended.
func (w *window) withdrawEnded() {
	for k := 0; k < len(w.members); {
		if r := &w.members[k].request; r.Context != nil && r.Context.Err() != nil {
			w.remove(k, ended(r.Context, r.What))
		} else {
			k++
		}
	}
}

func (w *window) remove(k int, err error) {
	f := w.members[k]
	w.members = append(w.members[:k:k], w.members[k+1:]...)
	w.size -= len(f.request.Body)
	f.Complete(&f.request, err)
}

// withdrawMember withdraws an action of a batch that is gathered.
func (e *Engine) withdrawMember(f *Future, ctx context.Context) bool {
	if e.window != nil {
		for k := range e.window.members {
			if e.window.members[k] == f {
				e.window.remove(k, ended(ctx, f.request.What))
				return true
			}
		}
	}
	return false
}

// aborted returns the outcomes of a batch of which a member failed.
func aborted(n int, cause *BatchError) ([]Outcome, error) {
	outcomes := make([]Outcome, n)
	for k := range outcomes {
		outcomes[k].Err = &Error{Code: ErrBatchAborted.Code, Message: "it had no effect: " + cause.Error(), Err: cause}
	}
	outcomes[cause.Index].Err = cause.Err
	return outcomes, cause
}
