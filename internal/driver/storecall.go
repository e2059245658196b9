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
		switch {
		case errors.Is(o.err, journal.ErrNotOwner):
			return answer, fault.Moved(what, o.err)
		case errors.Is(o.err, journal.ErrDamaged):
			return answer, fault.ErrBroken.Because(o.err, "%s: the store: %v", what, o.err)
		case o.err != nil:
			return answer, fmt.Errorf("%s: the store: %w", what, o.err)
		}
		return o.answer, nil
	case <-ctx.Done():
		return answer, fault.Ended(ctx, what)
	}
}
