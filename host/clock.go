package host

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/fault"
)

// clock is the host's time: how long it has run, without what it was suspended for. It moves with the host's tick, so a
// deadline costs no reading of the system's.
type clock struct {
	value atomic.Int64
	// idle says that nothing waits for a deadline: the tick is slow, and who wants to know the time moves it.
	idle atomic.Bool
	mu   sync.Mutex // guards last
	last time.Time
}

const (
	tickEvery = 5 * time.Millisecond
	// idleEvery is how often an idle host looks after its workers: each look wakes several of its threads.
	idleEvery = time.Second
	// mostStep is what one tick moves the clock by at most: beyond it, this process did not run.
	mostStep = 10 * tickEvery
)

func (c *clock) now() time.Duration {
	if c.idle.Load() {
		c.advance()
	}
	return time.Duration(c.value.Load())
}

// advance moves the clock.
func (c *clock) advance() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	most := mostStep
	if c.idle.Load() {
		most += idleEvery
	}
	step := now.Sub(c.last)
	if c.last.IsZero() {
		step = 0
	}
	c.last = now
	return time.Duration(c.value.Add(int64(min(step, most))))
}

// limit returns a context that ends with its parent, or with the cause once d of the host's time has passed.
func (c *clock) limit(ctx context.Context, d time.Duration,
	cause fault.OwnCause) (limited context.Context, free func()) {
	limited, end := context.WithCancelCause(ctx)
	began := c.now()
	var timer *time.Timer
	timer = time.AfterFunc(math.MaxInt64, func() {
		if left := d - (c.now() - began); left > 0 {
			timer.Reset(max(left, tickEvery)) // the rest was not this process's
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
