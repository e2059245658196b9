//go:build unix

package host

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hypertoken/internal/driver"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// slowReader lets the host's clock move on before each of the next reads.
type slowReader struct {
	out  ipc.Source
	now  func() time.Duration // on the host's clock
	slow *atomic.Int64
}

func (r *slowReader) Read(b []byte) (int, error)    { return r.read(b, r.out.Read) }
func (r *slowReader) TryRead(b []byte) (int, error) { return r.read(b, r.out.TryRead) }

func (r *slowReader) read(b []byte, from func([]byte) (int, error)) (int, error) {
	n, err := from(b[:min(len(b), 32<<10)])
	if n > 0 && r.slow.Add(-1) >= 0 {
		for until := r.now() + slowRead; r.now() < until; {
			runtime.Gosched()
		}
	}
	return n, err
}

// slowRead is what a slow read takes, slowReads how many there are: all of them take longer than
// StallAfter, and one of them far less, also where the worker itself gets little time.
const (
	slowRead  = time.Second
	slowReads = 6
)

// A worker that waits for a host which is slow to read uses no CPU time either. It is not taken for
// one that stands still.
func TestAWorkerThatWaitsForItsHostIsNotStalled(t *testing.T) {
	o := Options{Workers: 1, Logger: slog.New(slog.DiscardHandler), StallAfter: slowReads * slowRead * 2 / 3}
	o.setDefaults()
	c, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	var slow atomic.Int64
	h := &Host{options: o}
	c.Pool.Seams.CPU = func(int) (float64, error) { return 1, nil }
	c.Pool.Seams.Tap = func(p tap.Process) (ipc.Sink, ipc.Source) {
		return p.In, &slowReader{p.Out, h.engines.Clock().Now, &slow}
	}
	h.engines = driver.New(c)
	if err := h.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	e, err := h.Open(t.Context(), "e", EngineOptions{Setup: map[string]any{"stack": []map[string]any{{"id": "a",
		"text": strings.Repeat("x", 1<<20)}}}})
	if err != nil {
		t.Fatal(err)
	}
	slow.Store(slowReads)
	if _, err := e.State(t.Context()); err != nil {
		t.Error(err)
	}
	if s := h.Stats(); s.Restarts[RestartStalled] > 0 || slow.Load() > 0 {
		t.Errorf("ends: %v, %d reads left", s.Restarts, slow.Load())
	}
}
