package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"hypertoken/host"
)

// idleEngines is how many engines are open and not called.
const idleEngines = 1000

// settleFor is how long no engine is called before idleness is measured.
const settleFor = 300 * time.Millisecond

// openIdle measures how much of a CPU the host and the worker use while no engine is called.
func openIdle(ctx context.Context, r *room) (slice, error) {
	if _, err := cpuTime(os.Getpid()); err != nil {
		return nil, unavailable{fmt.Sprintf("this system does not count the CPU time of a process finely enough: %v",
			err)}
	}
	h, err := r.hostWith(ctx, 1, host.Options{IdleAfter: -1})
	if err != nil {
		return nil, err
	}
	for range idleEngines {
		if _, err := r.engine(ctx, h, deckSize); err != nil {
			return nil, err
		}
	}
	if err := onWorkers(h); err != nil {
		return nil, err
	}
	pid := h.Stats().Workers[0].PID
	return func(ctx context.Context, d time.Duration, s *sample) error {
		if err := sleep(ctx, settleFor); err != nil {
			return err
		}
		// Reading the worker's CPU time takes CPU time of this process. It happens outside the
		// measured time.
		theirs, err := cpuTime(pid)
		if err != nil {
			return err
		}
		ours, began := ownTime(), time.Now()
		if err := sleep(ctx, max(d-settleFor, 100*time.Millisecond)); err != nil {
			return err
		}
		ours2, took := ownTime(), time.Since(began)
		theirs2, err := cpuTime(pid)
		percent := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
		s.value("host", "percent", percent(ours2-ours))
		s.value("worker", "percent", percent(theirs2-theirs))
		s.value("cpu", "percent", percent(ours2-ours+theirs2-theirs))
		return err
	}, nil
}
