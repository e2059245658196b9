package host

import (
	"context"

	"hypertoken/internal/driver"
)

// Future is the result, now or later, of an action that was dispatched. If the context of the
// dispatch ends before the action's record is handed to the store, the action is withdrawn and has
// no effect. From then on the future waits for what the store says, however long that takes.
type Future struct{ call driver.Call }

// Done returns a channel that is closed when the outcome is there.
func (f *Future) Done() <-chan struct{} { return f.call.Done() }

// Result returns the outcome, without waiting. ok is false if there is none yet.
func (f *Future) Result() (r Result, err error, ok bool) { //nolint:revive // the error is a value here
	of, err, ok := f.call.Result()
	return resultOf(of), err, ok
}

// Wait waits for the outcome. If ctx ends first it returns [ErrTimeout] or [ErrCanceled], and the action goes on: only
// the context that it was dispatched with withdraws it.
func (f *Future) Wait(ctx context.Context) (Result, error) {
	r, err := f.call.Wait(ctx)
	return resultOf(r), err
}

// All waits for every future and returns their results, zero for those that failed, and the error of the lowest index.
func All(ctx context.Context, futures ...*Future) ([]Result, error) {
	results := make([]Result, len(futures))
	var first error
	for k, f := range futures {
		r, err := f.Wait(ctx)
		if results[k] = r; err != nil && first == nil {
			first = err
		}
	}
	return results, first
}
