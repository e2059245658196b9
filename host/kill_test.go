//go:build unix

package host

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// tapped kills a worker's process at one of its frames.
type tapped struct {
	tap.Process
	sent   func() bool // after a frame was sent: whether to kill now
	came   func() bool // after something was read: the same
	most   int         // what is read at once; 0 for all of it, which is lost with the kill
	killed bool
}

func (t *tapped) TryWrite(b []byte) (int, error) {
	n, err := t.In.TryWrite(b)
	if t.sent != nil && t.sent() {
		t.Kill()
	}
	return n, err
}

func (t *tapped) WriteAll(b []byte, done func(error)) { t.In.WriteAll(b, done) }

// Read reads on, or kills the process and loses what it has written beyond what is read then.
func (t *tapped) Read(b []byte) (int, error)    { return t.read(b, t.Out.Read) }
func (t *tapped) TryRead(b []byte) (int, error) { return t.read(b, t.Out.TryRead) }

func (t *tapped) read(b []byte, from func([]byte) (int, error)) (int, error) {
	if t.killed {
		return 0, io.EOF
	}
	if t.most > 0 {
		b = b[:t.most]
	}
	n, err := from(b)
	if n > 0 && t.came != nil && t.came() {
		t.Kill()
		if t.killed = true; t.most == 0 {
			return 0, io.EOF
		}
	}
	return n, err
}

// A process that is killed after a frame was sent to it, when half of its answer is read, or when none of it is, costs
// nothing: every result is that of an engine that nothing happened to, and so is the digest.
func TestKilledBetweenTwoFrames(t *testing.T) {
	const actions = 200
	type played struct {
		results []string
		digest  Digest
	}
	play := func(t *testing.T, o Options, f tap.Func) (p played, inFlight uint64) {
		o.Logger = slog.New(slog.DiscardHandler)
		h, err := New(tap.With(t.Context(), f), o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := h.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		var deck []map[string]any
		for k := range 52 {
			deck = append(deck, map[string]any{"id": fmt.Sprint(k)})
		}
		e, err := h.Open(t.Context(), "e", EngineOptions{Setup: map[string]any{"stack": deck}})
		if err != nil {
			t.Fatal(err)
		}
		var futures []*Future
		for k := range actions {
			action := []string{"stack:shuffle", "stack:draw", "stack:peek", "stack:draw", "stack:reset"}[k%5]
			futures = append(futures, e.DispatchAsync(t.Context(), action, nil, Now(time.UnixMilli(int64(k))),
				Entropy([16]byte{byte(k)})))
			if k%7 == 0 {
				_, _ = futures[k].Wait(t.Context())
			}
		}
		results, err := All(t.Context(), futures...)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			p.results = append(p.results, fmt.Sprintf("%d %x", r.Sequence, r.Raw))
		}
		if p.digest, err = e.Digest(t.Context()); err != nil {
			t.Fatal(err)
		}
		return p, h.Stats().Recovered
	}
	want, _ := play(t, Options{InProcess: true}, nil)
	for name, at := range map[string]func(frames *atomic.Int64) tapped{
		"a frame is sent": func(n *atomic.Int64) tapped {
			return tapped{sent: func() bool { return n.Add(1)%23 == 0 }}
		},
		"half a frame is read": func(n *atomic.Int64) tapped {
			return tapped{most: ipc.HeaderSize + 3, came: func() bool { return n.Add(1)%41 == 0 }}
		},
		"an answer is unread": func(n *atomic.Int64) tapped {
			return tapped{came: func() bool { return n.Add(1)%17 == 0 }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var frames atomic.Int64
			got, inFlight := play(t, Options{Workers: 1, MaxRestarts: 1 << 20, RestartWindow: 1, MaxAttempts: 100},
				func(p tap.Process) (ipc.Sink, ipc.Source) {
					x := at(&frames)
					x.Process = p
					return &x, &x
				})
			t.Logf("%d requests were in flight when their worker died", inFlight)
			if inFlight == 0 {
				t.Error("no worker died with requests in flight")
			}
			if got.digest != want.digest {
				t.Errorf("digest %v, want %v", got.digest, want.digest)
			}
			for k := range want.results {
				if got.results[k] != want.results[k] {
					t.Errorf("action %d returned %s, want %s", k, got.results[k], want.results[k])
				}
			}
		})
	}
}
