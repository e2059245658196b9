package host_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
)

// syncBuffer is a buffer for a log that several goroutines write.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// An engine whose actions cost one worker after the other is held back, alone, and is let go again.
func TestAnEngineThatCostsWorkersIsHeldBack(t *testing.T) {
	t.Run(onWorkers, testAnEngineThatCostsWorkersIsHeldBack)
}

func testAnEngineThatCostsWorkersIsHeldBack(t *testing.T) {
	var log syncBuffer
	const kills = 2
	h := newHost(t, host.Options{Workers: 2, MaxKills: kills, HoldFor: time.Second, KillGrace: 10 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	hostile, honest := open(t, h, "hostile", deck(5)), open(t, h, "honest", deck(5))
	spin := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := hostile.Dispatch(ctx, "test:spin", nil)
		return err
	}
	err := spin()
	for !errors.Is(err, host.ErrOverloaded) {
		if !errors.Is(err, host.ErrTimeout) {
			t.Fatalf("got %v", err)
		}
		dispatch(t, honest, "stack:peek", nil)
		err = spin()
	}
	s := h.Stats() // the end of the last worker may not be counted yet
	if n := s.Restarts[host.RestartDeadline]; n < kills || s.Holds == 0 {
		t.Errorf("%d workers were killed, and the engine was held back %d times", n, s.Holds)
	}
	for _, want := range []string{"held back", "MaxKills is 2"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if out := log.String(); !strings.Contains(out, "held back") || !strings.Contains(out, "engine=hostile") {
		t.Errorf("the log says %s", out)
	}
	// The others do not notice.
	for range 50 {
		dispatch(t, honest, "stack:peek", nil)
	}
	// Then it runs again, as it was.
	for {
		r, err := hostile.Dispatch(t.Context(), "stack:peek", nil)
		if err == nil {
			if r.Sequence != 0 {
				t.Errorf("the engine has the sequence %d", r.Sequence)
			}
			break
		}
		if !errors.Is(err, host.ErrOverloaded) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	if held := h.Stats().Held; held != 0 {
		t.Errorf("%d engines are held back", held)
	}
}

// An engine is not charged with a worker that is killed because its journal was in doubt: none of
// its actions ran too long.
func TestAnEngineIsNotHeldBackForItsStore(t *testing.T) {
	t.Run(onWorkers, testAnEngineIsNotHeldBackForItsStore)
}

func testAnEngineIsNotHeldBackForItsStore(t *testing.T) {
	const kills = 3
	store := &flakyStore{Store: journal.NewMemory()}
	h := newHost(t, host.Options{Workers: 1, Store: store, MaxKills: 1, KillGrace: time.Millisecond})
	e := open(t, h, "e", deck(5))
	for h.Stats().Restarts[host.RestartDeadline] < kills {
		dispatch(t, e, "stack:peek", nil)
		store.fail(func(_ func(journal.Done), done journal.Done) { done.Report(errors.New("the disk is full")) })
		first := e.DispatchAsync(t.Context(), "stack:shuffle", nil)
		long := e.DispatchAsync(t.Context(), "test:work", dict{"rounds": 200_000_000})
		if _, err := host.All(t.Context(), first, long); err != nil {
			t.Fatal(err)
		}
	}
	if s := h.Stats(); s.Holds != 0 {
		t.Errorf("the engine was held back %d times", s.Holds)
	}
}

func TestHoldingIsChecked(t *testing.T) {
	for _, o := range []host.Options{{MaxKills: 1001}, {MaxKills: -1}, {HoldFor: 2 * time.Hour}, {HoldFor: -1}} {
		o.InProcess = true
		if _, err := host.New(t.Context(), o); !errors.Is(err, host.ErrBadInput) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
