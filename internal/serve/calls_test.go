package serve

import (
	"errors"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/calls"
	"hypertoken/internal/jsonl"
)

// If a call may have run on a node that went away, only an error of somebody who has looked for
// its key says that it has not. Questions have run nowhere.
func TestTruthAfterALoss(t *testing.T) {
	for _, c := range []struct {
		name   string
		method calls.Method
		isLost bool
		err    error
		isOpen bool // it is not known whether the call ran
	}{
		{"no loss", calls.Dispatch, false, host.ErrTimeout, false},
		{"answered", calls.Dispatch, true, nil, false},
		{"out of time", calls.Dispatch, true, host.ErrTimeout, true},
		{"canceled", calls.Batch, true, host.ErrCanceled, true},
		{"no room", calls.Undo, true, host.ErrOverloaded, true},
		{"the core refuses", calls.Dispatch, true, &host.ActionError{Code: "out_of_range"}, false},
		{"a condition", calls.Dispatch, true, host.ErrConflict, false},
		{"a key", calls.Dispatch, true, host.ErrKeyReused, false},
		{"a question", calls.State, true, host.ErrTimeout, false},
	} {
		b := &bundle{isLost: c.isLost}
		err := b.truth(&calls.Call{Method: c.method, What: "draw"}, c.err)
		if errors.Is(err, host.ErrOutcomeUnknown) != c.isOpen || !errors.Is(err, c.err) && c.err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A line is sent again behind a loss, and the answer may say nothing about the first time.
func TestTruthOfALineAfterALoss(t *testing.T) {
	answer := func(err error) []byte {
		line, _ := jsonl.Outcome(1, host.Result{}, err)
		return line
	}
	for _, c := range []struct {
		err    error
		isOpen bool // it is not known whether the line ran
	}{
		{nil, false},
		{host.ErrTimeout, true},
		{host.ErrOverloaded, true},
		{host.ErrShutdown, true},
		{host.ErrBroken, true},
		{&host.ActionError{Code: "out_of_range"}, false},
		{host.ErrConflict, false},
		{host.ErrKeyReused, false},
	} {
		if err := truthAfterLoss(answer(c.err)); (host.CodeOf(err) == host.ErrOutcomeUnknown.Code) != c.isOpen {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}
