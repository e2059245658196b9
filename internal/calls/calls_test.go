package calls

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/internal/driver"
	"hypertoken/internal/payload"
	"hypertoken/journal"
)

// An error that was sent has the same code, message and type, and is what it was to errors.Is and
// errors.As.
func TestFailures(t *testing.T) {
	refused := &host.ActionError{Code: "out_of_range", Message: "count: 9 is above 4", Index: 2}
	for name, err := range map[string]error{
		"none":     nil,
		"host":     host.ErrConflict.With("the engine has the sequence 4, not 3"),
		"deadline": host.ErrTimeout.Because(context.DeadlineExceeded, "not done after 1s"),
		"canceled": host.ErrCanceled.Because(errors.Join(context.Canceled, context.Canceled), "draw: canceled"),
		"core":     refused,
		"diverged": host.ErrDiverged.Because(refused, "sequence 4"),
		"batch":    &host.BatchError{Index: 2, Err: refused},
		"aborted":  host.ErrBatchAborted.Because(&host.BatchError{Index: 1, Err: refused}, "it had no effect"),
		"full":     host.ErrStoreFull.Because(journal.ErrFull, "no room"),
		"trimmed":  host.ErrHistoryTrimmed.Because(fmt.Errorf("reading: %w", journal.ErrTrimmed), "not kept"),
		"other":    errors.New("any other error"),
	} {
		t.Run(name, func(t *testing.T) {
			body, failed := msgpack.Marshal(FailureOf(err))
			if failed != nil {
				t.Fatal(failed)
			}
			var f *Failure
			if err := msgpack.Unmarshal(body, &f); err != nil {
				t.Fatal(err)
			}
			got := f.Err()
			if err == nil {
				if got != nil {
					t.Errorf("got %v", got)
				}
				return
			}
			if got.Error() != err.Error() || host.CodeOf(got) != host.CodeOf(err) {
				t.Errorf("got %v, want %v", got, err)
			}
			for _, sentinel := range []error{context.DeadlineExceeded, context.Canceled, journal.ErrFull,
				journal.ErrTrimmed, host.ErrConflict, host.ErrTimeout, host.ErrDiverged} {
				if errors.Is(got, sentinel) != errors.Is(err, sentinel) {
					t.Errorf("errors.Is(%v, %v) is %t", got, sentinel, errors.Is(got, sentinel))
				}
			}
			var wantAction, gotAction *host.ActionError
			if errors.As(err, &wantAction) != errors.As(got, &gotAction) || !reflect.DeepEqual(wantAction, gotAction) {
				t.Errorf("the core's error is %v, want %v", gotAction, wantAction)
			}
			var wantBatch, gotBatch *host.BatchError
			if errors.As(err, &wantBatch) != errors.As(got, &gotBatch) ||
				wantBatch != nil && wantBatch.Index != gotBatch.Index {
				t.Errorf("the batch's error is %v, want %v", gotBatch, wantBatch)
			}
		})
	}
}

// A call gets a key of its own only when it is sent, and only if it has none.
func TestEncodeGivesKeys(t *testing.T) {
	own := &Call{Method: Dispatch, Type: "draw", OwnKey: "own"}
	keyed := &Call{Method: Dispatch, Type: "draw", OwnKey: "own", Choice: driver.Choice{HasKey: true, Key: "caller"}}
	list := []*Call{own, keyed, {Method: State}, {Method: Batch, OwnKey: "batch"}}
	body, err := Encode(list)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range []driver.Choice{{HasKey: true, Key: "own", ForgetsUnchanged: true},
		{HasKey: true, Key: "caller"}, {}, {HasKey: true, Key: "batch"}} {
		c := got[k].Choice
		if c.HasKey != want.HasKey || c.Key != want.Key || c.ForgetsUnchanged != want.ForgetsUnchanged {
			t.Errorf("call %d: %+v, want %+v", k, c, want)
		}
	}
}

// A payload that can't be encoded fails the call, or the member of a batch.
func TestPrepare(t *testing.T) {
	limits := payload.Limits{Depth: 8, MaxDepth: 8, Bytes: 100, Option: "MaxPayload"}
	c := &Call{Method: Dispatch, Type: "draw", Value: map[string]any{"f": func() {}}}
	if err := c.Prepare(limits); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("an action: %v", err)
	}
	b := &Call{Method: Batch, Members: []Member{{Type: "draw", Value: map[string]any{"f": func() {}}},
		{Type: "draw", Value: map[string]any{"count": 1}}}}
	if err := b.Prepare(limits); err != nil {
		t.Fatal(err)
	}
	if err := b.Members[0].Failure.Err(); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("the first member: %v", err)
	}
	if b.Members[1].Failure != nil || len(b.Members[1].Payload) == 0 {
		t.Errorf("the second member: %+v", b.Members[1])
	}
}

// What another node sends may be anything: it is read or refused.
func FuzzDecode(f *testing.F) {
	body, err := Encode([]*Call{{Method: Dispatch, Type: "draw", Payload: []byte{0x80}}, {Method: Batch,
		Members: []Member{{Type: "draw"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	answers, err := EncodeAnswers([]*Answer{{Err: errors.New("x"), Outcomes: []Outcome{{Err: host.ErrConflict}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answers)
	f.Fuzz(func(_ *testing.T, body []byte) {
		if list, err := Decode(body); err == nil {
			_, _ = Encode(list)
		}
		_, _ = DecodeAnswers(body, 1)
	})
}
