package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/wasm"
)

const (
	// deckSize is how many tokens a stack has by default.
	deckSize = 52
	// depth is how many requests are in flight if one goroutine pipelines them.
	depth = 256
	// manyCallers is how many goroutines call at once, and how many engines if each has one.
	manyCallers = 64
	// atOnce is how many actions the guide's table dispatches at once.
	atOnce = 5
)

// The actions that are measured.
const (
	actionPing    = "debug:log"
	actionDraw    = "stack:draw"
	actionPeek    = "stack:peek"
	actionReset   = "stack:reset"
	actionShuffle = "stack:shuffle"
)

var drawing = []string{actionDraw, actionReset}

// token is the part of a token that a caller decodes.
type token struct {
	ID    string `msgpack:"id"`
	Label string `msgpack:"label"`
}

// stackOf is the setup of an engine with a stack of n tokens.
func stackOf(n int) map[string]any {
	tokens := make([]map[string]any, n)
	for k := range tokens {
		tokens[k] = map[string]any{"id": fmt.Sprint("t", k), "label": fmt.Sprint("Token ", k), "kind": "card",
			"index": k}
	}
	return map[string]any{"stack": tokens}
}

// drawer draws the tokens of an engine one by one.
type drawer struct {
	engine *host.Engine
	left   int
}

func newDrawer(ctx context.Context, r *room, h *host.Host) (*drawer, error) {
	e, err := r.engine(ctx, h, deckSize)
	return &drawer{e, deckSize}, err
}

// refill resets a stack that is empty.
func (w *drawer) refill(ctx context.Context) (bool, error) {
	if w.left > 0 {
		return false, nil
	}
	w.left = deckSize
	_, err := w.engine.Dispatch(ctx, actionReset, nil)
	return true, err
}

// draw draws a token and decodes it.
func (w *drawer) draw(ctx context.Context) error {
	w.left--
	drawn, err := host.As[[]token](w.engine.Dispatch(ctx, actionDraw, nil))
	if err == nil && len(drawn) != 1 {
		err = fmt.Errorf("%s of one returned %d tokens", actionDraw, len(drawn))
	}
	return err
}

// deck draws the whole stack without a look at the results.
func (w *drawer) deck(ctx context.Context) error {
	for range deckSize {
		if _, err := w.engine.Dispatch(ctx, actionDraw, nil); err != nil {
			return err
		}
	}
	return nil
}

func openPing(workers int) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		h, err := r.host(ctx, workers)
		if err != nil {
			return nil, err
		}
		e, err := r.engine(ctx, h, deckSize)
		return func(ctx context.Context, d time.Duration, s *sample) error {
			return each(ctx, d, s, func() error {
				_, err := e.Dispatch(ctx, actionPing, nil)
				return err
			})
		}, err
	}
}

// onDrawer opens a host and an engine to draw from.
func onDrawer(workers int, measure func(ctx context.Context, w *drawer, d time.Duration,
	s *sample) error) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		h, err := r.host(ctx, workers)
		if err != nil {
			return nil, err
		}
		w, err := newDrawer(ctx, r, h)
		return func(ctx context.Context, d time.Duration, s *sample) error { return measure(ctx, w, d, s) }, err
	}
}

// openDispatch draws one token at a time, and decodes the result. The resets of the stack are not
// counted.
func openDispatch(workers int) func(context.Context, *room) (slice, error) {
	return onDrawer(workers, func(ctx context.Context, w *drawer, d time.Duration, s *sample) error {
		return eachAfter(ctx, d, s, func() (bool, error) { return w.refill(ctx) }, func() error { return w.draw(ctx) })
	})
}

// openDecks draws whole decks, and does not decode the results. A lap is the mean over a deck.
func openDecks(workers int) func(context.Context, *room) (slice, error) {
	return onDrawer(workers, func(ctx context.Context, w *drawer, d time.Duration, s *sample) error {
		err := eachAfter(ctx, d, s, func() (bool, error) {
			w.left = 0
			return w.refill(ctx)
		}, func() error { return w.deck(ctx) })
		s.divide(deckSize)
		return err
	})
}

// openMix draws a deck, resets it and shuffles it. A lap is the mean over these actions.
func openMix(workers int) func(context.Context, *room) (slice, error) {
	return onDrawer(workers, func(ctx context.Context, w *drawer, d time.Duration, s *sample) error {
		err := each(ctx, d, s, func() error {
			for w.left > 0 {
				if err := w.draw(ctx); err != nil {
					return err
				}
			}
			if _, err := w.refill(ctx); err != nil {
				return err
			}
			_, err := w.engine.Dispatch(ctx, actionShuffle, nil)
			return err
		})
		s.divide(deckSize + 2)
		return err
	})
}

// openFive draws five tokens at once and waits for all. A lap is a fifth of the time.
func openFive(workers int) func(context.Context, *room) (slice, error) {
	return onDrawer(workers, func(ctx context.Context, w *drawer, d time.Duration, s *sample) error {
		futures := make([]*host.Future, atOnce)
		err := eachAfter(ctx, d, s, func() (bool, error) {
			if w.left < atOnce {
				w.left = 0
			}
			return w.refill(ctx)
		}, func() error {
			for k := range futures {
				futures[k] = w.engine.DispatchAsync(ctx, actionDraw, nil)
				w.left--
			}
			_, err := host.All(ctx, futures...)
			return err
		})
		s.divide(atOnce)
		return err
	})
}

// ring keeps depth actions in flight on one engine: draws, and a reset when the deck is drawn.
type ring struct {
	engine  *host.Engine
	futures [depth]*host.Future
	next    uint64
	drawn   int
}

// steps is so many steps that it costs nothing to look at the clock in between.
func (r *ring) steps(ctx context.Context) (n int, err error) {
	for range depth / 4 {
		one, err := r.step(ctx)
		if n += one; err != nil {
			return n, err
		}
	}
	return n, nil
}

// step waits for the oldest action and dispatches another.
func (r *ring) step(ctx context.Context) (int, error) {
	f := &r.futures[r.next%depth]
	r.next++
	n := 0
	if *f != nil {
		n = 1
		if _, err := (*f).Wait(ctx); err != nil {
			return 0, err
		}
	}
	action := actionDraw
	if r.drawn++; r.drawn > deckSize {
		action, r.drawn = actionReset, 0
	}
	*f = r.engine.DispatchAsync(ctx, action, nil)
	return n, nil
}

// drain waits for the requests in flight.
func (r *ring) drain(ctx context.Context) (err error) {
	for k, f := range r.futures {
		if f != nil {
			_, e := f.Wait(ctx)
			err = errors.Join(err, e)
		}
		r.futures[k] = nil
	}
	return err
}

// openPipelined has one goroutine keep an engine busy.
func openPipelined(workers int, o host.Options) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		h, err := r.hostWith(ctx, workers, o)
		if err != nil {
			return nil, err
		}
		e, err := r.engine(ctx, h, deckSize)
		g := &ring{engine: e}
		return func(ctx context.Context, d time.Duration, s *sample) error {
			return errors.Join(flow(ctx, d, s, func() (int, error) { return g.steps(ctx) }), g.drain(ctx))
		}, err
	}
}

// openShared has many goroutines call one engine.
func openShared(ctx context.Context, r *room) (slice, error) {
	h, err := r.host(ctx, 1)
	if err != nil {
		return nil, err
	}
	// So many that the stack lasts until a reset comes, though others overtake it.
	e, err := r.engine(ctx, h, deckSize+manyCallers)
	var calls atomic.Uint64
	return func(ctx context.Context, d time.Duration, s *sample) error {
		return callers(ctx, d, s, manyCallers, func(ctx context.Context, _ int) (bool, error) {
			action := actionDraw
			if calls.Add(1)%deckSize == 0 {
				action = actionReset
			}
			_, err := e.Dispatch(ctx, action, nil)
			return true, err
		})
	}, err
}

// caller is a call that a goroutine makes again and again.
type caller func(ctx context.Context, w *drawer) error

// openMany has many goroutines call an engine each.
func openMany(workers, n, tokens int, o host.Options, call caller) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		h, err := r.hostWith(ctx, workers, o)
		if err != nil {
			return nil, err
		}
		drawers := make([]*drawer, n)
		for k := range drawers {
			e, err := r.engine(ctx, h, tokens)
			if err != nil {
				return nil, err
			}
			drawers[k] = &drawer{e, tokens}
		}
		return func(ctx context.Context, d time.Duration, s *sample) error {
			return callers(ctx, d, s, n, func(ctx context.Context, k int) (bool, error) {
				return true,
					call(ctx, drawers[k])
			})
		}, nil
	}
}

// drawOrReset is a light action.
func drawOrReset(ctx context.Context, w *drawer) error {
	if reset, err := w.refill(ctx); reset || err != nil {
		return err
	}
	w.left--
	_, err := w.engine.Dispatch(ctx, actionDraw, nil)
	return err
}

// shuffle is a heavy one on a large stack.
func shuffle(ctx context.Context, w *drawer) error {
	_, err := w.engine.Dispatch(ctx, actionShuffle, nil)
	return err
}

// openBare calls the core itself as openDecks does.
func openBare(interruptible bool) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		i, err := bareInstance(ctx, r, interruptible)
		if err != nil {
			return nil, err
		}
		calling, cancel := context.WithCancel(context.Background()) // it can be cancelled, like a host's context
		r.closing(cancel)
		draw, reset := bareAction(actionDraw), bareAction(actionReset)
		return func(ctx context.Context, d time.Duration, s *sample) error {
			err := eachAfter(ctx, d, s, func() (bool, error) {
				_, err := i.Dispatch(calling, reset)
				return true, err
			}, func() error {
				for range deckSize {
					if _, err := i.Dispatch(calling, draw); err != nil {
						return err
					}
				}
				return nil
			})
			s.divide(deckSize)
			return err
		}, nil
	}
}

func bareAction(name string) *wasm.Action {
	return &wasm.Action{Now: time.Now().UnixMilli(), Type: name, Entropy: [16]byte{1, 2, 3}}
}

// bareInstance opens a stack in an instance of the core.
func bareInstance(ctx context.Context, r *room, interruptible bool) (*wasm.Instance, error) {
	code := r.config.Core
	switch {
	case r.config.CorePath != "":
		var err error
		if code, err = os.ReadFile(r.config.CorePath); err != nil {
			return nil, err
		}
	case code == nil:
		code = wasm.Builtin()
	}
	o := wasm.Options{Interruptible: interruptible}
	if dir, err := wasm.DefaultCacheDir(); err == nil {
		// Without a cache it only takes longer.
		if o.Cache, err = wasm.OpenCache(dir); err == nil {
			r.closing(func() { _ = o.Cache.Close(context.Background()) })
		}
	}
	core, err := wasm.Compile(ctx, code, o)
	if err != nil {
		return nil, err
	}
	r.closing(func() { _ = core.Close(context.Background()) })
	i, err := core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	r.closing(func() { _ = i.Close(context.Background()) })
	setup, err := msgpack.Marshal(stackOf(deckSize))
	if err == nil {
		err = i.Open(ctx, wasm.DefaultLimits, setup)
	}
	return i, err
}

// openAllocations counts the allocations of a draw in this process. Resets count as draws.
func openAllocations(workers int) func(context.Context, *room) (slice, error) {
	return onDrawer(workers, func(ctx context.Context, w *drawer, d time.Duration, s *sample) error {
		return allocations(d, s, func() error { return drawOrReset(ctx, w) })
	})
}

// openBareAllocations does the same as openAllocations, for the core without a host.
func openBareAllocations(ctx context.Context, r *room) (slice, error) {
	i, err := bareInstance(ctx, r, true)
	if err != nil {
		return nil, err
	}
	calling, cancel := context.WithCancel(context.Background())
	r.closing(cancel)
	draw, reset, left := bareAction(actionDraw), bareAction(actionReset), deckSize
	return func(_ context.Context, d time.Duration, s *sample) error {
		return allocations(d, s, func() error {
			action := draw
			if left--; left < 0 {
				action, left = reset, deckSize
			}
			_, err := i.Dispatch(calling, action)
			return err
		})
	}, nil
}

func allocations(d time.Duration, s *sample, do func() error) error {
	var before, after runtime.MemStats
	n, until := 0, time.Now().Add(d)
	if err := do(); err != nil {
		return err
	}
	runtime.ReadMemStats(&before)
	for n == 0 || time.Now().Before(until) {
		for range deckSize {
			if err := do(); err != nil {
				return err
			}
			n++
		}
	}
	runtime.ReadMemStats(&after)
	s.value("allocs", "allocs", float64(after.Mallocs-before.Mallocs)/float64(n))
	s.value("bytes", "bytes", float64(after.TotalAlloc-before.TotalAlloc)/float64(n))
	return nil
}
