package host

import (
	"context"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/wasm"
)

// BatchMode says what the failure of one member of a batch means for the others.
type BatchMode int

const (
	// BatchAtomic is all or nothing: when one member fails, none has an effect.
	BatchAtomic BatchMode = iota
	// BatchIndependent runs every member, whatever becomes of the others.
	BatchIndependent
)

// Outcome is what became of a member of a batch: a result, or the error why it had no effect.
type Outcome struct {
	Result Result
	Err    error
}

// DispatchBatch runs actions one after the other, nothing between them, and journals what they changed as one group.
//
// It returns an outcome for each member. Where an atomic batch fails, the error is a [*BatchError], and the outcomes
// say the same: the member that failed has its own error, the others [ErrBatchAborted]. An independent batch fails as a
// whole, and with it an atomic one without naming a member, where the core does not answer: [ErrTimeout], a trap, exhausted
// memory. Then the outcomes are nil, and no member had an effect.
func (e *Engine) DispatchBatch(ctx context.Context, mode BatchMode, members ...Action) ([]Outcome, error) {
	if mode != BatchAtomic && mode != BatchIndependent {
		return nil, badInput("DispatchBatch: there is no batch mode %d", mode)
	}
	outcomes := make([]Outcome, len(members))
	var sent []int // the members that are sent, by their index
	var dispatches []*dispatch
	size := 0
	for k, m := range members {
		d, err := e.host.prepare(m.Type, m.Payload, m.Options)
		switch {
		case err == nil:
			sent, dispatches = append(sent, k), append(dispatches, d)
			size += len(d.action.Payload)
		case mode == BatchAtomic:
			return aborted(len(members), &BatchError{Index: k, Err: err})
		default:
			outcomes[k].Err = err
		}
	}
	if size > e.host.options.MaxPayload {
		return nil, tooLarge(fmt.Sprintf("a batch of %d", len(members)), size, e.host.options.MaxPayload)
	}
	if len(sent) == 0 {
		return outcomes, nil
	}
	err := e.run(ctx, fmt.Sprintf("a batch of %d", len(members)), func(ctx context.Context, i *wasm.Instance) error {
		actions := make([]wasm.Action, len(dispatches))
		for k, d := range dispatches {
			e.stamp(d)
			actions[k] = d.action
		}
		start := time.Now()
		answers, _, err := i.Batch(ctx, actions, mode == BatchAtomic)
		if err != nil {
			return err
		}
		var group []committed
		sequence := e.journal.sequence
		for k, a := range answers {
			outcome := &outcomes[sent[k]]
			if a.Err != nil {
				outcome.Err = a.Err
				continue
			}
			if a.Changed {
				sequence++
				group = append(group, committed{&actions[k], xxhash.Sum64(a.Result), 0})
			}
			outcome.Result = Result{Sequence: sequence, Changed: a.Changed, Raw: append(Raw(nil), a.Result...)}
		}
		if len(group) > 0 {
			group[0].runTime = time.Since(start)
			e.commit(ctx, group...)
		}
		return nil
	})
	// Only the core's own answer names a member; an error that a context ended with may wrap anything.
	if action, ok := err.(*ActionError); ok && mode == BatchAtomic && action.Index >= 0 {
		return aborted(len(members), &BatchError{Index: action.Index, Err: action})
	}
	if err != nil {
		return nil, err
	}
	return outcomes, nil
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
