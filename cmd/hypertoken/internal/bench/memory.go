package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"hypertoken/host"
)

const (
	// liveEngines are placed on one worker, to see what each takes there.
	liveEngines = 200
	// outEngines are taken out, if there is the time to open as many, and leastOut in any case.
	outEngines, leastOut = 100_000, 500
	// outAfter is how long those are idle.
	outAfter = 200 * time.Millisecond
)

// openWorkerMemory measures the memory of a worker with one engine and with many, and so the
// memory that an engine takes there.
func openWorkerMemory(_ context.Context, r *room) (slice, error) {
	if _, err := pss(os.Getpid()); err != nil {
		return nil, unavailable{fmt.Sprintf("this system does not tell what of a process is its own (PSS): %v", err)}
	}
	measure := func(ctx context.Context, s *sample) error {
		h, err := r.newHost(ctx, 1, host.Options{IdleAfter: -1})
		if err != nil {
			return err
		}
		defer shutdown(h)
		w, err := newDrawer(ctx, r, h)
		if err != nil {
			return err
		}
		for range 2 * (deckSize + 1) {
			if err := drawOrReset(ctx, w); err != nil {
				return err
			}
		}
		if err := onWorkers(h); err != nil {
			return err
		}
		pid := h.Stats().Workers[0].PID
		one, err := pss(pid)
		if err != nil {
			return err
		}
		for range liveEngines {
			if _, err := r.engine(ctx, h, deckSize); err != nil {
				return err
			}
		}
		many, err := pss(pid)
		s.value("worker", "bytes", float64(one))
		s.value("engine", "bytes", max(0, float64(many)-float64(one))/liveEngines)
		return err
	}
	return func(ctx context.Context, _ time.Duration, s *sample) error { return measure(ctx, s) }, nil
}

// openOut measures engines that are taken out: the memory that each takes in this process, and the
// time until one of them answers.
func openOut(ctx context.Context, r *room) (slice, error) {
	before, began := heap(), time.Now()
	h, err := r.hostWith(ctx, 1, host.Options{IdleAfter: outAfter})
	if err != nil {
		return nil, err
	}
	// Half of the time is for opening them.
	var engines []*host.Engine
	for len(engines) < outEngines && (len(engines) < leastOut || time.Since(began) < r.time/2) {
		e, err := r.engine(ctx, h, deckSize)
		if err != nil {
			return nil, err
		}
		engines = append(engines, e)
	}
	n := len(engines)
	for h.Stats().Engines[host.PlaceOut] < n {
		if err := sleep(ctx, outAfter/4); err != nil {
			return nil, err
		}
	}
	each := float64(heap()-before) / float64(n)
	return func(ctx context.Context, d time.Duration, s *sample) error {
		s.value("engine", "bytes", each)
		s.value("engines", "engines", float64(n))
		s.value("hundred_thousand", "bytes", each*100_000)
		for until := time.Now().Add(d); len(s.laps) == 0 || time.Now().Before(until); {
			e := engines[rand.IntN(n)]
			began := time.Now()
			if _, err := e.Dispatch(ctx, actionPeek, nil); err != nil {
				return err
			}
			s.lap(time.Since(began))
		}
		return onWorkers(h)
	}, nil
}

// heap returns the memory that this process uses after a garbage collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the second one frees what the first one has finalized, and the memory of pools
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// openGrowth measures how much more memory a host uses after many actions than after a few.
func openGrowth(ctx context.Context, r *room) (slice, error) {
	h, err := r.host(ctx, 1)
	if err != nil {
		return nil, err
	}
	e, err := r.engine(ctx, h, deckSize)
	if err != nil {
		return nil, err
	}
	g := &ring{engine: e}
	acts := func(ctx context.Context, d time.Duration) (n int, err error) {
		for until := time.Now().Add(d); err == nil && time.Now().Before(until); {
			done := 0
			done, err = g.steps(ctx)
			n += done
		}
		if err == nil {
			err = g.drain(ctx)
		}
		return n, err
	}
	return func(ctx context.Context, d time.Duration, s *sample) error {
		if _, err := acts(ctx, d/5); err != nil {
			return err
		}
		before := heap()
		n, err := acts(ctx, d*4/5)
		s.value("growth", "bytes", float64(heap()-before))
		s.value("actions", "actions", float64(n))
		return err
	}, nil
}

// sleep waits, or fails if ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
