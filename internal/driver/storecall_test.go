package driver

import (
	"errors"
	"fmt"
	"testing"

	"hypertoken/internal/fault"
	"hypertoken/journal"
)

// Each error of a store gets a code, and is still what the store said.
func TestWhatAStoreSaysHasACode(t *testing.T) {
	for said, code := range map[error]*fault.Error{
		journal.ErrNotOwner:    fault.ErrMoved,
		journal.ErrFull:        fault.ErrStoreFull,
		journal.ErrRefused:     fault.ErrStoreRefused,
		journal.ErrUnavailable: fault.ErrTimeout,
		journal.ErrDamaged:     fault.ErrBroken,
		journal.ErrFailed:      fault.ErrBroken,
	} {
		err := storeCall(t.Context(), "it", func(done journal.Done) { done.Report(fmt.Errorf("no: %w", said)) })
		if !errors.Is(err, code) || !errors.Is(err, said) {
			t.Errorf("%v: %v, want the code %s", said, err, code.Code)
		}
	}
	unknown := errors.New("unknown")
	err := storeCall(t.Context(), "it", func(done journal.Done) { done.Report(unknown) })
	if !errors.Is(err, unknown) || fault.CodeOf(err) != "" {
		t.Errorf("%v has the code %q", err, fault.CodeOf(err))
	}
}
