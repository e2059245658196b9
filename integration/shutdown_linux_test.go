package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
)

// shutting is a host that is shut down with work on its way, and the store that outlives it.
type shutting struct {
	t       *testing.T
	host    *host.Host
	store   journal.Store
	engines []*host.Engine
	futures [][]*host.Future // of each engine, in their order
}

const (
	shuttingEngines = 6
	shuttingActions = 60
)

func newShutting(t *testing.T, o host.Options) *shutting {
	t.Helper()
	s := &shutting{t: t, store: journal.NewMemory(), futures: make([][]*host.Future, shuttingEngines)}
	o.Store = s.store
	s.host = newHost(t, o)
	for k := range shuttingEngines {
		s.engines = append(s.engines, open(t, s.host, fmt.Sprint(k), deck(52)))
	}
	return s
}

// dispatch sends turns of the game to every engine, and a long action between them.
func (s *shutting) dispatch() {
	for n := range shuttingActions {
		for k, e := range s.engines {
			action, options := turn(n)
			s.futures[k] = append(s.futures[k], e.DispatchAsync(s.t.Context(), action, nil, options...))
			if n == shuttingActions/2 {
				s.futures[k] = append(s.futures[k],
					e.DispatchAsync(s.t.Context(), "test:work", dict{"rounds": 2_000_000}))
			}
		}
	}
}

// settled holds every future against the store: each has an outcome, and each engine is what the
// actions make of a fresh one that returned a result, and only those. It returns how many did, and
// how many failed.
func (s *shutting) settled() (answered, failed int) {
	t := s.t
	t.Helper()
	o := host.Options{InProcess: true, Core: cores.Test, Logger: slog.New(slog.DiscardHandler)}
	model, err := host.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = model.Shutdown(context.Background()) }()
	o.Store = s.store
	again, err := host.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Shutdown(context.Background()) }()
	for k, futures := range s.futures {
		fresh := open(t, model, fmt.Sprint(k), deck(52))
		n := 0
		for _, f := range futures {
			r, err, done := f.Result()
			switch {
			case !done:
				t.Fatalf("engine %d: an action has no outcome after Shutdown", k)
			case err != nil:
				if !errors.Is(err, host.ErrShutdown) {
					t.Errorf("engine %d: %v", k, err)
				}
				failed++
			case !r.Changed: // test:work
				answered++
			default:
				answered++
				action, options := turn(n)
				if want := dispatch(t, fresh, action, nil, options...); want.Sequence != r.Sequence ||
					string(want.Raw) != string(r.Raw) {
					t.Fatalf("engine %d: turn %d returned %d %x, again %d %x", k, n, r.Sequence, r.Raw, want.Sequence,
						want.Raw)
				}
			}
			if err != nil || r.Changed {
				n++
			}
		}
		stored := open(t, again, fmt.Sprint(k), nil)
		if got, want := digest(t, stored), digest(t, fresh); got != want {
			t.Errorf("engine %d: the store has %v, what was acknowledged makes %v", k, got, want)
		}
	}
	return answered, failed
}

// What is on its way when a host is shut down is answered, whatever becomes of the workers meanwhile.
func TestShutdownWithRequestsInFlight(t *testing.T) {
	for _, callers := range []int{1, 8} {
		t.Run(fmt.Sprint(callers), func(t *testing.T) {
			s := newShutting(t, host.Options{Workers: 2})
			s.dispatch()
			var calls sync.WaitGroup
			for range callers {
				calls.Go(func() {
					if err := s.host.Shutdown(context.Background()); err != nil {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			if err := s.host.Shutdown(context.Background()); err != nil {
				t.Errorf("the second time: %v", err)
			}
			if answered, failed := s.settled(); failed > 0 || answered != shuttingEngines*(shuttingActions+1) {
				t.Errorf("%d were answered, %d failed", answered, failed)
			}
		})
	}
}

// A shutdown that can't wait interrupts what is on its way: each action has a result that is
// stored, or an error and no effect.
func TestShutdownWithAnExpiredContext(t *testing.T) {
	for _, c := range []struct {
		name string
		by   func(*host.Host) error
	}{
		{"at once", func(h *host.Host) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return h.Shutdown(ctx)
		}},
		{"in the middle", func(h *host.Host) error {
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				for h.Stats().Actions["ok"] < shuttingEngines*10 {
					betweenLooks()
				}
				cancel()
			}()
			return h.Shutdown(ctx)
		}},
		{"while another waits", func(h *host.Host) error {
			waits := make(chan error)
			go func() { waits <- h.Shutdown(context.Background()) }()
			// The first call has begun once nothing can be opened.
			for k := 0; ; k++ {
				if _, err := h.Open(context.Background(), fmt.Sprint("new", k), host.EngineOptions{}); errors.Is(err,
					host.ErrShutdown) {
					break
				}
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			err := h.Shutdown(ctx)
			if err := <-waits; err != nil {
				return fmt.Errorf("the one that waits: %v", err)
			}
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShutting(t, host.Options{Workers: 2})
			s.dispatch()
			// It would hold up a shutdown that waits.
			hung := open(t, s.host, "hung", nil).DispatchAsync(t.Context(), "test:spin", nil)
			if err := c.by(s.host); !errors.Is(err, host.ErrCanceled) {
				t.Errorf("got %v", err)
			}
			if _, err, done := hung.Result(); !done || !errors.Is(err, host.ErrShutdown) {
				t.Errorf("what hangs: %v, %v", err, done)
			}
			if now := s.host.Stats(); now.InFlight != 0 ||
				now.Engines[host.PlaceWorker]+now.Engines[host.PlaceInProcess] > 0 {
				t.Errorf("it is not all freed: %+v", now)
			}
			answered, failed := s.settled()
			t.Logf("%d were answered, %d failed", answered, failed)
		})
	}
}

// A host whose workers die as fast as they start shuts down, too.
func TestShutdownDuringARestartStorm(t *testing.T) {
	t.Run("none starts", func(t *testing.T) {
		o := endless
		o.Workers, o.WorkerPath = 4, "/bin/false"
		h := newHost(t, o)
		for h.Stats().Restarts[host.RestartDied] < 20 {
			betweenLooks()
		}
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				if err := h.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	})
	t.Run("all are killed", func(t *testing.T) {
		o := endless
		o.Workers, o.MaxAttempts = 2, 100
		s := newShutting(t, o)
		var stop atomic.Bool
		var killer sync.WaitGroup
		killer.Go(func() {
			for next := uint64(10); !stop.Load(); runtime.Gosched() {
				now := s.host.Stats()
				for _, w := range now.Workers {
					if now.Actions["ok"] >= next && w.PID != 0 {
						next = now.Actions["ok"] + rand.Uint64N(30)
						_ = syscall.Kill(w.PID, syscall.SIGKILL)
					}
				}
			}
		})
		s.dispatch()
		err := s.host.Shutdown(context.Background())
		stop.Store(true)
		killer.Wait()
		if err != nil {
			t.Error(err)
		}
		if answered, failed := s.settled(); failed > 0 || answered != shuttingEngines*(shuttingActions+1) {
			t.Errorf("%d were answered, %d failed", answered, failed)
		}
		if died := s.host.Stats().Restarts[host.RestartDied]; died == 0 {
			t.Error("no worker died")
		}
	})
	t.Run("an expired context", func(t *testing.T) {
		o := endless
		o.Workers, o.WorkerPath, o.SuspectWait = 2, "/bin/false", time.Hour
		h := newHost(t, o)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, host.ErrCanceled) {
			t.Errorf("got %v", err)
		}
	})
}
