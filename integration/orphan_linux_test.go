package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"hypertoken/host"
)

// An action that runs on when its engine has left the worker has no deadline any more. It does not
// hold the worker for ever.
func TestAnActionThatNobodyWaitsForIsEnded(t *testing.T) {
	h := newHost(t, host.Options{Workers: 1, KillGrace: 2 * time.Second, Timeout: 20 * time.Second})
	e, f := open(t, h, "e", deck(5)), open(t, h, "f", deck(5))
	// The first has a key, so its end counts; it is withdrawn while it runs, so the engine is placed
	// anew when it ends. By then the second has begun at the old place.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := e.DispatchAsync(t.Context(), "stack:peek", nil)
	work := e.DispatchAsync(ctx, "test:work", dict{"rounds": 30_000_000}, host.Key("k"))
	until, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	spin := e.DispatchAsync(until, "test:spin", nil)
	// Its answer is written when the next one begins.
	if _, err := before.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if _, err := work.Wait(t.Context()); !errors.Is(err, host.ErrCanceled) {
		t.Errorf("got %v", err)
	}
	if _, err := spin.Wait(t.Context()); !errors.Is(err, host.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	for _, engine := range []*host.Engine{e, f} {
		if r := dispatch(t, engine, "stack:draw", nil); r.Sequence != 1 {
			t.Errorf("got %+v", r)
		}
	}
	if s := h.Stats(); s.Restarts[host.RestartDeadline] == 0 {
		t.Errorf("ends: %v", s.Restarts)
	}
}
