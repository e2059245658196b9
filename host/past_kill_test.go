//go:build unix

package host

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// A worker that is killed while it computes a state of the past costs nothing: the state is
// computed again, on a worker that has taken its place, and the engine, which was there too, goes
// on.
func TestAWorkerIsKilledInTheMiddleOfStateAt(t *testing.T) {
	var countdown atomic.Int64 // to the kill, in events; 0 if nothing is to be killed
	strikes := func() bool { return countdown.Load() > 0 && countdown.Add(-1) == 0 }
	var kills atomic.Int64
	for name, newTapped := range map[string]func() tapped{
		"pieces are sent": func() tapped {
			return tapped{sent: strikes}
		},
		"an answer is unread": func() tapped {
			return tapped{came: strikes}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := New(tap.With(t.Context(), func(p tap.Process) (ipc.Sink, ipc.Source) {
				x := newTapped()
				x.Process = p
				kill := p.Kill
				x.Process.Kill = func() { kills.Add(1); kill() }
				return &x, &x
			}), Options{Workers: 1, MaxRestarts: 1 << 20, RestartWindow: 1, MaxAttempts: 100, NoFallback: true,
				Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				countdown.Store(0)
				if err := h.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			e, err := h.Open(t.Context(), "e", EngineOptions{Setup: map[string]any{"stack": []any{
				map[string]any{"id": "a"}, map[string]any{"id": "b"}, map[string]any{"id": "c"}}}})
			if err != nil {
				t.Fatal(err)
			}
			var digests []Digest
			for range 600 { // the replay takes several frames
				r, err := e.Dispatch(t.Context(), "stack:shuffle", nil, WithDigest())
				if err != nil {
					t.Fatal(err)
				}
				digests = append(digests, r.Digest)
			}
			kills.Store(0)
			for k := range int64(4) {
				countdown.Store(1 + k)
				at := 600 - uint64(k)
				r, err := e.StateAt(t.Context(), at)
				if err != nil || r.Digest != digests[at-1] {
					t.Fatalf("at %d: %v, want %v, %v", at, r.Digest, digests[at-1], err)
				}
				countdown.Store(0)
			}
			if kills.Load() == 0 {
				t.Error("no worker was killed")
			}
			if d, err := e.Digest(t.Context()); err != nil || d != digests[599] {
				t.Errorf("the engine has the digest %v, want %v, %v", d, digests[599], err)
			}
			t.Logf("%d workers were killed", kills.Load())
		})
	}
}
