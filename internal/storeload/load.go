// Package storeload measures the store of a host by what its engines do: it keeps actions in flight
// on some engines, and counts those that are committed.
package storeload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/host"
)

// deck is how many tokens an engine has. An engine draws them one by one, and then resets its stack.
const deck = 52

// Workers is how many workers a host has whose store is measured.
const Workers = 2

// Shape says how many engines are called, and how many actions each of them has in flight.
type Shape struct {
	Engines  int `json:"engines"`
	InFlight int `json:"in_flight"`
}

func (s Shape) String() string { return fmt.Sprintf("%dx%d", s.Engines, s.InFlight) }

// Load is engines that can be called.
type Load struct {
	Shape
	players []*player
}

// player keeps actions in flight on one engine. One goroutine at a time uses it.
type player struct {
	engine  *host.Engine
	futures []*host.Future // a ring of the actions in flight; the next one is the oldest
	next    int
	drawn   int
}

// openers is how many engines are being opened at once. A store may take long for each.
const openers = 64

// Open opens the engines, whose names begin with prefix.
func Open(ctx context.Context, h *host.Host, prefix string, s Shape) (*Load, error) {
	l := &Load{Shape: s, players: make([]*player, s.Engines)}
	failed := make([]error, min(openers, s.Engines))
	var opening sync.WaitGroup
	for from := range failed {
		opening.Go(func() {
			for k := from; k < s.Engines; k += len(failed) {
				e, err := h.Open(ctx, fmt.Sprintf("%s%d", prefix, k), host.EngineOptions{Setup: Setup()})
				if err != nil {
					failed[from] = err
					return
				}
				l.players[k] = &player{engine: e, futures: make([]*host.Future, s.InFlight)}
			}
		})
	}
	opening.Wait()
	return l, first(failed)
}

// first returns the first error. Those of many engines have the same cause most often.
func first(failed []error) error {
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// Setup is the setup of an engine: a stack of 52 tokens.
func Setup() map[string]any {
	tokens := make([]map[string]any, deck)
	for k := range tokens {
		tokens[k] = map[string]any{"id": fmt.Sprint("t", k), "kind": "card", "index": k}
	}
	return map[string]any{"stack": tokens}
}

// Next returns the action that follows so many others of an engine with that setup.
func Next(played int) string {
	if played%(deck+1) == deck {
		return "stack:reset"
	}
	return "stack:draw"
}

// step waits for the oldest action in flight, and dispatches another one. It returns whether there
// was one to wait for.
func (p *player) step(ctx context.Context) (waited bool, err error) {
	f := &p.futures[p.next]
	p.next = (p.next + 1) % len(p.futures)
	if *f != nil {
		waited = true
		_, err = (*f).Wait(ctx)
	}
	if err == nil {
		*f = p.engine.DispatchAsync(ctx, Next(p.drawn), nil)
		p.drawn++
	}
	return waited, err
}

// drain waits for the actions in flight.
func (p *player) drain(ctx context.Context) (err error) {
	for k, f := range p.futures {
		if f != nil {
			_, e := f.Wait(ctx)
			err = errors.Join(err, e)
		}
		p.futures[k] = nil
	}
	return err
}

// call dispatches an action and waits for it.
func (p *player) call(ctx context.Context) error {
	_, err := p.engine.Dispatch(ctx, Next(p.drawn), nil)
	p.drawn++
	return err
}

// Result is what was measured.
type Result struct {
	// Laps are how long actions took, in nanoseconds, if one was in flight on each engine. There
	// are at most a million of them.
	Laps []int64
	// Count actions were committed in NS nanoseconds.
	Count int
	NS    int64
}

const maxLaps = 1 << 20

// Run calls the engines for about the time d, of which the first tenth does not count. No action is
// in flight when it returns.
func (l *Load) Run(ctx context.Context, d time.Duration) (r Result, err error) {
	var count atomic.Int64
	var isOver, counts atomic.Bool
	var playing sync.WaitGroup
	failed, laps := make([]error, l.Engines), make([][]int64, l.Engines)
	for k, p := range l.players {
		playing.Go(func() {
			for !isOver.Load() && failed[k] == nil {
				if l.InFlight > 1 {
					var waited bool
					if waited, failed[k] = p.step(ctx); waited {
						count.Add(1)
					}
					continue
				}
				began := time.Now()
				failed[k] = p.call(ctx)
				if count.Add(1); counts.Load() && len(laps[k]) < maxLaps/l.Engines {
					laps[k] = append(laps[k], int64(time.Since(began)))
				}
			}
			failed[k] = errors.Join(failed[k], p.drain(ctx))
		})
	}
	wait(ctx, d/10)
	counts.Store(true)
	began, before := time.Now(), count.Load()
	wait(ctx, d*9/10)
	r.Count, r.NS = int(count.Load()-before), int64(time.Since(began))
	isOver.Store(true)
	playing.Wait()
	for _, some := range laps {
		r.Laps = append(r.Laps, some...)
	}
	return r, errors.Join(first(failed), ctx.Err())
}

// wait returns after the time d, or if ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
