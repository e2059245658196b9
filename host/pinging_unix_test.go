//go:build unix

package host

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"hypertoken/internal/driver"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// A worker that is stopped while it has nothing to do is found by a ping and replaced, though no
// caller needs it. Its engine goes on.
func TestAWorkerThatIsStoppedWhileIdle(t *testing.T) {
	o := Options{Workers: 1, Logger: slog.New(slog.DiscardHandler), StallAfter: 500 * time.Millisecond}
	o.setDefaults()
	c, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	processes := make(chan int, 100)
	c.Pool.Seams.PingEvery = 100 * time.Millisecond
	c.Pool.Seams.Tap = func(p tap.Process) (ipc.Sink, ipc.Source) {
		processes <- p.PID
		return p.In, p.Out
	}
	h := &Host{options: o, engines: driver.New(c), hash: c.CoreHash}
	if err := h.start(t.Context()); err != nil {
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
	set := func(value int) Result {
		r, err := e.Dispatch(t.Context(), "game:setProperty", map[string]any{"key": "k", "value": value})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	set(1)
	first := <-processes
	if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case second := <-processes:
		if second == first {
			t.Errorf("process %d is started twice", first)
		}
	case <-t.Context().Done():
		t.Fatal("the worker is never replaced")
	}
	if s := h.Stats(); s.Restarts[RestartStalled] == 0 || s.Restarts[RestartDied] != 0 || s.Recovered != 0 {
		t.Errorf("ends: %v, %d requests were in flight", s.Restarts, s.Recovered)
	}
	if r := set(2); r.Sequence != 2 {
		t.Errorf("got %+v", r)
	}
}
