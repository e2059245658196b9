package clock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"hypertoken/internal/clock"
	"hypertoken/internal/fault"
)

// Time for which the process did not run does not count.
func TestTheClockDoesNotCountASuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock.Clock
		c.Advance()
		time.Sleep(clock.TickEvery)
		if now := c.Advance(); now != clock.TickEvery {
			t.Errorf("after a tick it is %v", now)
		}
		before := c.Now()
		time.Sleep(time.Hour)
		if passed := c.Advance() - before; passed <= 0 || passed > time.Second {
			t.Errorf("after an hour without a tick %v have passed", passed)
		}
		c.SetIdle(true)
		before = c.Now()
		time.Sleep(clock.IdleTickEvery)
		if passed := c.Now() - before; passed != clock.IdleTickEvery {
			t.Errorf("on an idle clock %v have passed", passed)
		}
	})
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock.Clock
		c.SetIdle(true) // so that it moves by itself
		own := fault.OwnCause{Err: fault.ErrTimeout.With("not done")}
		ctx, free := c.Limit(t.Context(), 20*time.Millisecond, own)
		defer free()
		<-ctx.Done()
		if c.Now() < 20*time.Millisecond || context.Cause(ctx) != error(own) {
			t.Errorf("it ends after %v with %v", c.Now(), context.Cause(ctx))
		}
		ctx, free = c.Limit(t.Context(), time.Hour, own)
		free()
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("once it is free: %v", ctx.Err())
		}
	})
}
