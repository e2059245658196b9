package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
)

// The last errors that callers were told are there, newest first, and no more than 32.
func TestRecentErrors(t *testing.T) {
	h := newHost(t, host.Options{InProcess: true})
	e := open(t, h, "table", deck(3))
	if _, err := e.Dispatch(t.Context(), "too:early", nil); err == nil {
		t.Fatal("too:early passes")
	}
	if list := h.RecentErrors(); list != nil {
		t.Errorf("%v before anybody has asked for measurements", list)
	}
	h.Measure()
	for n := range 33 {
		began := time.Now()
		_, err := e.Dispatch(t.Context(), fmt.Sprintf("no:such-%d-%s", n, strings.Repeat("x", 600)), nil,
			host.Key(strings.Repeat("k", 257)))
		list := h.RecentErrors()
		if len(list) != min(n+1, 32) {
			t.Fatalf("%d errors after %d", len(list), n+1)
		}
		first := list[0]
		if first.Engine != "table" || !strings.HasPrefix(first.Action, fmt.Sprintf("no:such-%d-", n)) ||
			first.Code != host.CodeOf(err) ||
			len(first.Action) != 512 || len(first.Message) != 512 || !strings.Contains(err.Error(), first.Message) ||
			first.At.Before(began) || first.At.After(time.Now()) {
			t.Errorf("the last error is %+v, the caller has %v", first, err)
		}
	}
}

// Who drains waits until every outcome is there, and not for what comes later.
func TestDrain(t *testing.T) {
	stored, let := make(chan struct{}), make(chan struct{})
	store := &flakyStore{Store: journal.NewMemory()}
	h := newHost(t, host.Options{InProcess: true, Store: store})
	if err := h.Drain(t.Context()); err != nil {
		t.Fatalf("nothing is in flight: %v", err)
	}
	e := open(t, h, "table", deck(3))
	store.fail(func(call func(journal.Done), done journal.Done) {
		go func() {
			close(stored)
			<-let
			call(done)
		}()
	})
	f := e.DispatchAsync(t.Context(), "stack:draw", nil)
	go func() { _, _ = f.Wait(context.Background()) }()
	<-stored
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Drain(ctx); !errors.Is(err, host.ErrCanceled) {
		t.Errorf("it drains while an action is with the store: %v", err)
	}
	drained := make(chan error, 1)
	go func() { drained <- h.Drain(t.Context()) }()
	close(let)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if _, _, ok := f.Result(); !ok {
		t.Error("drained before the outcome was there")
	}
}

func TestWorkersAreMeasured(t *testing.T) { t.Run(onWorkers, testWorkersAreMeasured) }

func testWorkersAreMeasured(t *testing.T) {
	h := newHost(t, host.Options{Workers: 1})
	began := time.Now()
	h.Measure()
	e := open(t, h, "table", deck(52))
	for range 3 {
		if _, err := e.Dispatch(t.Context(), "stack:draw", nil); err != nil {
			t.Fatal(err)
		}
	}
	first := h.Measure()
	w := first.MeasuredWorkers[0]
	if w.Answers.Count != 3 || w.Answered < 6 || w.Busy <= 0 || w.Started.Before(began.Add(-time.Minute)) ||
		w.LastAnswer.Before(began) ||
		w.Restarts != 0 || first.FramesSent < 6 || first.FramesReceived < 6 || first.BytesSent < 100 ||
		first.BytesReceived < 100 {
		t.Errorf("%+v, %d and %d frames, %d and %d bytes", w, first.FramesSent, first.FramesReceived, first.BytesSent,
			first.BytesReceived)
	}
	if first.Records != 3 || first.RecordBytes < 30 || first.Replayed != 0 || first.Recovery.Count != 0 {
		t.Errorf("%d records of %d bytes, %d replayed, %d recoveries", first.Records, first.RecordBytes,
			first.Replayed, first.Recovery.Count)
	}
	process, err := os.FindProcess(w.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dispatch(t.Context(), "stack:draw", nil); err != nil {
		t.Fatal(err)
	}
	then := h.Measure()
	after := then.MeasuredWorkers[0]
	if after.Restarts != 1 || after.Answers.Count != 4 || after.Busy < w.Busy || after.Answered <= w.Answered ||
		!after.Started.After(w.Started) ||
		then.Replayed != 3 || then.FramesSent <= first.FramesSent {
		t.Errorf("after its end: %+v, %d replayed", after, then.Replayed)
	}
}
