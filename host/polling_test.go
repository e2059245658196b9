//go:build unix

package host

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"

	"hypertoken/internal/clock"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// countedReader counts the calls that do not wait.
type countedReader struct {
	ipc.Source
	tries *atomic.Int64
}

func (r countedReader) TryRead(b []byte) (int, error) {
	r.tries.Add(1)
	return r.Source.TryRead(b)
}

// lateStore says that it has a group when it is let.
type lateStore struct {
	journal.Store
	had, let chan struct{}
}

func (s *lateStore) Append(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done) {
	go func() {
		s.had <- struct{}{}
		<-s.let
		s.Store.Append(name, owner, after, group, done)
	}()
}

// Whoever waits for the store does not look for bytes from the worker meanwhile, which has answered.
func TestWhoWaitsForTheStoreDoesNotPoll(t *testing.T) {
	var tries atomic.Int64
	store := &lateStore{journal.NewMemory(), make(chan struct{}), make(chan struct{})}
	ctx := tap.With(t.Context(), func(p tap.Process) (ipc.Sink, ipc.Source) {
		return p.In,
			countedReader{p.Out, &tries}
	})
	h, err := New(ctx, Options{Workers: 1, Logger: slog.New(slog.DiscardHandler), Store: store})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	e, err := h.Open(t.Context(), "e", EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	for round := range 3 {
		go func() {
			_, err := e.Dispatch(t.Context(), "game:setProperty", map[string]any{"key": "k", "value": round})
			ended <- err
		}()
		<-store.had
		// Each tick looks once. A caller that polled would look a hundred times as often.
		const ticks = 40
		before := tries.Load()
		for until := h.engines.Clock().Now() + ticks*clock.TickEvery; h.engines.Clock().Now() < until; {
			runtime.Gosched()
		}
		if n := tries.Load() - before; n > 10*ticks {
			t.Errorf("it looked %d times in %v", n, ticks*clock.TickEvery)
		}
		store.let <- struct{}{}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}
