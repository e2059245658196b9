// Package clock has the clock of a host: how long the host has run, without the time for which it
// was suspended. It moves with the host's tick, so a deadline costs no reading of the system's
// clock.
package clock

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/fault"
)

const (
	// TickEvery is how often a host that has something to do advances its clock.
	TickEvery = 5 * time.Millisecond
	// IdleTickEvery is how often an idle host does: each tick looks after the workers, which wakes
	// several threads.
	IdleTickEvery = time.Second
	// maxStep bounds by how much one tick moves the clock. Beyond it, this process did not run.
	maxStep = 10 * TickEvery
)

// Clock is the clock of a host. The zero value is ready to use.
type Clock struct {
	value  atomic.Int64
	isIdle atomic.Bool
	mu     sync.Mutex // guards last
	last   time.Time
}

// Now returns the time. If the clock is idle, Now advances it.
func (c *Clock) Now() time.Duration {
	if c.isIdle.Load() {
		c.Advance()
	}
	return time.Duration(c.value.Load())
}

// SetIdle says whether nothing waits for a deadline. Then the host ticks once in IdleTickEvery, and
// Now advances the clock for whoever asks.
func (c *Clock) SetIdle(isIdle bool) { c.isIdle.Store(isIdle) }

// IsIdle reports whether the host ticks once in IdleTickEvery only.
func (c *Clock) IsIdle() bool { return c.isIdle.Load() }

// Advance moves the clock by the time that has passed since it was advanced last, and returns the
// time.
func (c *Clock) Advance() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	most := maxStep
	if c.isIdle.Load() {
		most += IdleTickEvery
	}
	step := now.Sub(c.last)
	if c.last.IsZero() {
		step = 0
	}
	c.last = now
	return time.Duration(c.value.Add(int64(min(step, most))))
}

// Skip moves the clock by d, and returns the time. It is for simulations.
func (c *Clock) Skip(d time.Duration) time.Duration { return time.Duration(c.value.Add(int64(d))) }

// Limit returns a context that ends with its parent, or with the cause once d has passed on the
// clock. The caller calls free when it needs the context no more.
func (c *Clock) Limit(ctx context.Context, d time.Duration,
	cause fault.OwnCause) (limited context.Context, free func()) {
	limited, end := context.WithCancelCause(ctx)
	began := c.Now()
	var timer *time.Timer
	timer = time.AfterFunc(math.MaxInt64, func() {
		if left := d - (c.Now() - began); left > 0 {
			timer.Reset(max(left, TickEvery)) // for the rest of the time, this process did not run
			return
		}
		end(cause)
	})
	timer.Reset(d)
	return limited, func() {
		timer.Stop()
		end(context.Canceled)
	}
}
