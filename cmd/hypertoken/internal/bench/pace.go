package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// pace divides a slice into its first part, which does not count, and the rest.
type pace struct {
	from, until time.Time
	// over is true if the context has ended. Reading it is faster than asking the context.
	over atomic.Bool
}

// newPace begins a slice. The caller calls done.
func newPace(ctx context.Context, d time.Duration) (p *pace, done func() bool) {
	now := time.Now()
	p = &pace{from: now.Add(d / 10), until: now.Add(d)}
	return p, context.AfterFunc(ctx, func() { p.over.Store(true) })
}

// each calls do again and again, and measures the time of each call.
func each(ctx context.Context, d time.Duration, s *sample, do func() error) error {
	return eachAfter(ctx, d, s, func() (bool, error) { return false, nil }, do)
}

// eachAfter does the same as each, and calls prepare before each call of do. The time of prepare
// is not counted; prepare returns whether it did something.
func eachAfter(ctx context.Context, d time.Duration, s *sample, prepare func() (bool, error), do func() error) error {
	p, done := newPace(ctx, d)
	defer done()
	for now := time.Now(); ; {
		if p.over.Load() {
			return ctx.Err()
		}
		prepared, err := prepare()
		if err != nil {
			return err
		}
		if prepared {
			now = time.Now()
		}
		if err := do(); err != nil {
			return err
		}
		then := time.Now()
		if !now.Before(p.from) {
			s.lap(then.Sub(now))
		}
		if now = then; now.After(p.until) && len(s.laps) > 0 {
			return nil
		}
	}
}

// flow calls do again and again, and counts the n things that each call does.
func flow(ctx context.Context, d time.Duration, s *sample, do func() (n int, err error)) error {
	p, done := newPace(ctx, d)
	defer done()
	count, began := 0, time.Time{}
	for {
		if p.over.Load() {
			return ctx.Err()
		}
		n, err := do()
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case began.IsZero():
			if now.After(p.from) {
				began = now
			}
		default:
			if count += n; now.After(p.until) {
				s.rate(count, now.Sub(began))
				return nil
			}
		}
	}
}
