package driver

import (
	"context"
	"errors"
	"fmt"

	"hypertoken/internal/fault"
	"hypertoken/journal"
)

// Calls of the store that a goroutine waits for.

// storeCall begins a call of the store, and waits for its end, or for that of ctx.
func storeCall(ctx context.Context, what string, begin func(done journal.Done)) error {
	_, err := storeAnswer(ctx, what, func(done func(struct{}, error)) {
		begin(journal.DoneFunc(func(err error) { done(struct{}{}, err) }))
	})
	return err
}

// storeAnswer begins a call of the store that has an answer, and waits for that, or for the end of
// ctx. A store may report a call that nobody waits for any more, or report it twice.
func storeAnswer[T any](ctx context.Context, what string, begin func(done func(T, error))) (answer T, err error) {
	type outcome struct {
		answer T
		err    error
	}
	came := make(chan outcome, 1)
	begin(func(answer T, err error) {
		select {
		case came <- outcome{answer, err}:
		default:
		}
	})
	select {
	case o := <-came:
		if o.err != nil {
			return answer, storeError(what, o.err)
		}
		return o.answer, nil
	case <-ctx.Done():
		return answer, fault.Ended(ctx, what)
	}
}

// storeError gives what a store says of a call its code. An error whose meaning the store does not say
// has none.
func storeError(what string, err error) error {
	var code *fault.Error
	switch {
	case errors.Is(err, journal.ErrNotOwner):
		return fault.Moved(what, err)
	case errors.Is(err, journal.ErrFull):
		code = fault.ErrStoreFull
	case errors.Is(err, journal.ErrNotTarget):
		code = fault.ErrCoreMismatch
	case errors.Is(err, journal.ErrRefused):
		code = fault.ErrStoreRefused
	case errors.Is(err, journal.ErrUnavailable):
		code = fault.ErrTimeout // the store has waited for as long as it does
	case errors.Is(err, journal.ErrDamaged), errors.Is(err, journal.ErrFailed):
		code = fault.ErrBroken
	default:
		return fmt.Errorf("%s: the store: %w", what, err)
	}
	return code.Because(err, "%s: the store: %v", what, err)
}
