package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// Every code has one outcome, and there is room for all of them.
func TestOutcomes(t *testing.T) {
	all := Outcomes()
	if len(all) > MaxOutcomes {
		t.Errorf("%d outcomes, there is room for %d", len(all), MaxOutcomes)
	}
	sorted := slices.Sorted(slices.Values(all))
	if len(slices.Compact(sorted)) != len(all) {
		t.Errorf("an outcome is there twice: %q", sorted)
	}
	for _, e := range All() {
		if got := OutcomeOf(fmt.Errorf("wrapped: %w", e.With("x"))); got != e.Code {
			t.Errorf("the outcome of %s is %s", e.Code, got)
		}
	}
	for _, code := range BuiltinCodes() {
		if got := OutcomeOf(&ActionError{Code: code}); got != code {
			t.Errorf("the outcome of a core's %s is %s", code, got)
		}
	}
	for want, err := range map[string]error{"ok": nil, "core": &ActionError{Code: "its own"},
		"other": errors.New("x")} {
		if got := OutcomeOf(err); got != want {
			t.Errorf("the outcome of %v is %s, want %s", err, got, want)
		}
	}
}

// The end of a context is a timeout or a cancellation, or the reason that the host itself gave.
func TestEnded(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithTimeout(context.Background(), -1)
	defer cancel()
	own, end := context.WithCancelCause(context.Background())
	end(OwnCause{ErrTimeout.With("not done after 1 s (OpenTimeout)")})
	for _, c := range []struct {
		ctx  context.Context
		want *Error
		text string
	}{
		{canceled, ErrCanceled, "canceled: draw: the context was canceled"},
		{late, ErrTimeout, "timeout: draw: the context's deadline passed"},
		{own, ErrTimeout, "timeout: draw: not done after 1 s (OpenTimeout)"},
	} {
		err := Ended(c.ctx, "draw")
		if !errors.Is(err, c.want) || err.Error() != c.text {
			t.Errorf("got %v, want %s", err, c.text)
		}
	}
}
