package host

import (
	"context"
	"fmt"
	"time"

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

// DispatchBatch runs actions one after the other, nothing between them, and journals what they changed as one group.
//
// It returns an outcome for each member. Where an atomic batch fails, the error is a [*BatchError], and the outcomes
// say the same: the member that failed has its own error, the others [ErrBatchAborted]. An independent batch fails as a
// whole, and with it an atomic one without naming a member, where the core does not answer: [ErrTimeout], a trap, exhausted
// memory. Then the outcomes are nil, and no member had an effect. Only an independent batch that a worker died of is run
// member by member, and answered so.
//
// The payloads together are bounded by Options.MaxPayload, the results by MaxResult. A member's IfSequence is for the whole
// batch; a Key is for single actions.
func (e *Engine) DispatchBatch(ctx context.Context, mode BatchMode, members ...Action) ([]Outcome, error) {
	if mode != BatchAtomic && mode != BatchIndependent {
		return nil, badInput("DispatchBatch: there is no batch mode %d", mode)
	}
	outcomes := make([]Outcome, len(members))
	var sent []int // the members that are sent, by their index
	var futures []*Future
	size := 0
	for k, m := range members {
		f := new(Future)
		err := e.prepare(ctx, f, m.Type, m.Payload, m.Options)
		if err == nil && f.key != "" {
			err = badInput("%s: a member of a batch has the Key %q; dispatch it by itself", m.Type, f.key)
		}
		switch {
		case err == nil:
			sent, futures = append(sent, k), append(futures, f)
			size += len(f.body)
		case mode == BatchAtomic:
			return aborted(len(members), &BatchError{Index: k, Err: err})
		default:
			outcomes[k].Err = err
		}
	}
	if len(sent) == 0 {
		return outcomes, nil
	}
	b := e.newBatch(mode, futures)
	if payloads := size - len(futures)*actionOverhead; payloads > e.host.options.MaxPayload {
		return nil, tooLarge(b.what, payloads, e.host.options.MaxPayload)
	}
	if n := ipc.HeaderSize + len(b.body); n > e.host.options.MaxFrame {
		return nil, &Error{Code: ErrPayloadTooLarge.Code, Message: fmt.Sprintf("%s: its %d bytes do not fit into a frame of %d (MaxFrame)", b.what, n, e.host.options.MaxFrame)}
	}
	e.bound(ctx, &b.Future)
	b.to = b
	e.begin(ctx, &b.request, "batch", len(b.types))
	if err := e.host.queue.wait(ctx, &b.Future); err != nil {
		b.fault = err
		b.end(&b.request)
		return nil, err
	}
	e.submit(&b.Future, true)
	_, err := e.awaitBatch(ctx, b)
	if b.outcomes == nil {
		return nil, err
	}
	for k, o := range b.outcomes {
		outcomes[sent[k]] = o
	}
	return outcomes, err
}

// awaitBatch waits for the truth about a batch. Where ctx ends, what can still be withdrawn of it is.
func (e *Engine) awaitBatch(ctx context.Context, b *batch) (Result, error) {
	if b.wait(ctx); !b.resolved.Load() {
		e.mu.Lock()
		e.step(engineEvent{kind: evWithdraw, req: &b.request, err: ended(ctx, b.what)})
		for _, part := range b.parts {
			e.step(engineEvent{kind: evWithdraw, req: part, err: ended(ctx, part.what)})
		}
		e.unlock(false)
		<-b.Done()
	}
	r, err, _ := b.Result()
	return r, err
}

// actionOverhead is about what an action takes beside its type and payload, in bytes.
const actionOverhead = 40

// newBatch returns the batch of actions that are prepared.
func (e *Engine) newBatch(mode BatchMode, members []*Future) *batch {
	b := &batch{mode: mode}
	b.engine = e
	b.request = request{kind: ipc.Batch, what: fmt.Sprintf("a batch of %d", len(members)), to: b}
	if mode == BatchAtomic {
		b.flags = ipc.FlagAtomic
	}
	b.body = ipc.AppendBatch(nil, len(members))
	for _, f := range members {
		b.body = ipc.AppendMember(b.body, false, f.body)
		b.request.members = append(b.request.members, span{from: len(b.body) - len(f.body), to: len(b.body)})
		b.types = append(b.types, f.what)
		b.conditional = b.conditional || f.conditional
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
	if w := e.window; w != nil && (len(w.members) == maxWindow || w.size+len(f.body) > e.host.options.MaxPayload) {
		e.flushWindow()
	}
	if e.window == nil {
		w := &window{engine: e}
		w.timer = time.AfterFunc(e.batches.window, func() {
			e.mu.Lock()
			if e.window == w {
				e.flushWindow()
			}
			e.unlock(false)
		})
		e.window = w
	}
	e.window.members = append(e.window.members, f)
	e.window.size += len(f.body)
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
	b.request.to, b.futures = b, w.members
	b.began, b.counted = w.members[0].began, w.members[0].counted
	now := e.host.clock.now()
	for _, f := range w.members {
		if f.deadline > 0 {
			b.endsBy(f.deadline, f.allowed, f.limit)
		}
		if f.ctx != nil {
			if at, ok := f.ctx.Deadline(); ok {
				left := max(1, time.Until(at))
				b.endsBy(now+left, left, "the deadline of a member's context")
			}
		}
	}
	e.enqueue(&b.request)
}

// endsBy gives a batch a deadline, unless it has an earlier one.
func (b *batch) endsBy(deadline, allowed time.Duration, limit string) {
	if b.deadline == 0 || deadline < b.deadline {
		b.deadline, b.allowed, b.limit = deadline, allowed, limit
	}
}

// withdrawEnded takes out the members whose context has ended.
func (w *window) withdrawEnded() {
	for k := 0; k < len(w.members); {
		if f := w.members[k]; f.ctx != nil && f.ctx.Err() != nil {
			w.remove(k, ended(f.ctx, f.what))
		} else {
			k++
		}
	}
}

func (w *window) remove(k int, err error) {
	f := w.members[k]
	w.members = append(w.members[:k:k], w.members[k+1:]...)
	w.size -= len(f.body)
	f.complete(&f.request, err)
}

// withdrawMember withdraws an action of a batch that is gathered.
func (e *Engine) withdrawMember(f *Future, ctx context.Context) bool {
	if e.window != nil {
		for k := range e.window.members {
			if e.window.members[k] == f {
				e.window.remove(k, ended(ctx, f.what))
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
