package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"hypertoken/host"
)

// life is an engine from its opening to its close, with its callers.
type life struct {
	t       *torture
	name    string
	history history
	ids     placements
}

const (
	callersEach = 3
	// callsEach is how many calls each caller makes of an engine. Then the engine is closed and
	// checked.
	callsEach = 150
	// largeEvery: one of so many engines is large, so that its snapshots have several pieces.
	largeEvery = 12
)

// live runs the lives of engines, one after the other, until the torture's time is over. It also
// ends if the life of an engine fails.
func (t *torture) live(slot int) {
	for n := 0; t.goesOn(); n++ {
		l := &life{t: t, name: fmt.Sprintf("engine-%d-%d", slot, n)}
		seed := rand.New(rand.NewPCG(t.config.Seed, uint64(slot)<<32|uint64(n)))
		if err := l.run(seed, n%largeEvery == largeEvery-1); err != nil {
			t.found([]Violation{{Fate: Visible, Engine: l.name, What: err.Error()}})
			return
		}
		select {
		case t.ended <- &l.history:
		case <-t.ctx.Done():
			return
		}
	}
}

// run opens the engine, has callers call it, closes it half way and opens it again, and takes down
// how it ends.
func (l *life) run(seed *rand.Rand, large bool) error {
	ctx, h := l.t.ctx, l.t.host
	first := &deal{workload: l.t.workload, rand: seed, ids: &l.ids}
	l.history = history{engine: l.name, setup: first.setup(large), callers: make([][]*call, callersEach)}
	l.history.gathers, l.history.mode = first.rand.IntN(6) == 0, host.BatchMode(first.rand.IntN(2))
	calls := callsEach
	if large {
		calls /= 5
	}
	decks := make([]*deal, callersEach)
	for k := range decks {
		decks[k] = &deal{workload: l.t.workload, rand: rand.New(rand.NewPCG(seed.Uint64(), 0)), ids: &l.ids}
	}
	for half := range 2 {
		dropped := h.Stats().DroppedEvents
		e, err := insist(func() (*host.Engine, error) {
			return h.Open(ctx, l.name, host.EngineOptions{Setup: l.history.setup,
				EnableBatching: l.history.gathers, BatchMode: l.history.mode, BatchWindow: time.Millisecond})
		})
		if err != nil {
			return fmt.Errorf("its opening: %w", err)
		}
		events, stop := e.Events(host.EventStateUpdated)
		var listening, calling sync.WaitGroup
		listening.Go(func() {
			for ev := range events {
				l.history.events = append(l.history.events, ev.Result.Sequence)
			}
		})
		for k := range callersEach {
			calling.Go(func() {
				c := caller{life: l, engine: e, deal: decks[k], ctx: ctx}
				for c.made < calls/2 && l.t.goesOn() {
					c.next()
				}
				l.history.callers[k] = append(l.history.callers[k], c.calls...)
			})
		}
		calling.Wait()
		if half == 1 {
			if err := l.testament(ctx, e); err != nil {
				return err
			}
		}
		if err := e.Close(ctx); err != nil {
			return fmt.Errorf("its close: %w", err)
		}
		listening.Wait()
		stop()
		if h.Stats().DroppedEvents != dropped {
			l.history.dropped = true
		}
	}
	return h.Delete(ctx, l.name)
}

// insist calls ask again as long as it fails because no worker is available.
func insist[T any](ask func() (T, error)) (T, error) {
	for {
		v, err := ask()
		if !errors.Is(err, host.ErrWorkerUnavailable) {
			return v, err
		}
	}
}

// testament records the last state, digest and journal of the engine.
func (l *life) testament(ctx context.Context, e *host.Engine) error {
	state, err := insist(func() (host.Result, error) { return e.State(ctx) })
	if err != nil {
		return fmt.Errorf("its last state: %w", err)
	}
	l.history.last = outcomeOf(state, nil)
	if l.history.digest, err = insist(func() (host.Digest, error) { return e.Digest(ctx) }); err != nil {
		return fmt.Errorf("its last digest: %w", err)
	}
	entries, err := e.Journal(ctx)
	if err != nil {
		return fmt.Errorf("its journal: %w", err)
	}
	for entry := range entries {
		l.history.journal = append(l.history.journal, entry)
	}
	return nil
}

// caller is one of the callers of an engine.
type caller struct {
	*deal
	life   *life
	engine *host.Engine
	ctx    context.Context
	calls  []*call
	made   int
	seen   uint64 // the last sequence that it got
}

// next makes one call, or several at once.
func (c *caller) next() {
	switch n := c.rand.IntN(100); {
	case n < 45:
		c.dispatch(c.action())
	case n < 68:
		c.burst(2 + c.rand.IntN(7))
	case n < 78:
		c.batch(atomicBatch)
	case n < 86:
		c.batch(independentBatch)
	case n < 90:
		c.state()
	case n < 95:
		// Callers that use the same key share its outcome. So these calls are never cancelled.
		c.dispatchIn(c.ctx, c.keyed(), false)
	case n < 99 || !c.spins || c.rand.IntN(4) > 0:
		a := c.action()
		a.conditional, a.ifSequence = true, c.seen
		c.dispatch(a)
	default:
		a, limit := c.spin()
		c.dispatchWithin(a, limit)
	}
}

// keyed makes an action with one of a few keys. All callers use the same keys.
func (c *caller) keyed() action {
	n := c.rand.IntN(12)
	a := action{kind: frequent[n%3], now: int64(n), key: fmt.Sprint("key-", n), payload: encode(map[string]any{})}
	a.entropy[0] = byte(n)
	if len(c.games) == 0 {
		a.kind = c.all[n%len(c.all)].Name
	}
	return a
}

// patience returns a context whose end withdraws a call, if callers give up at times.
func (c *caller) patience() (ctx context.Context, cancel context.CancelFunc, mayEnd bool) {
	if c.life.t.cancels && c.rand.IntN(16) == 0 {
		ctx, cancel = context.WithTimeout(c.ctx, time.Duration(c.rand.Int64N(int64(20*time.Millisecond))))
		return ctx, cancel, true
	}
	return c.ctx, func() {}, false
}

func (c *caller) begin(f form, actions ...action) *call {
	x := &call{form: f, actions: actions, start: c.life.t.clock()}
	c.calls = append(c.calls, x)
	c.made++
	return x
}

// end records the answer that the caller got.
func (c *caller) end(x *call, mayEnd bool, outcomes ...outcome) {
	x.end, x.outcomes, x.mayEnd = c.life.t.clock(), outcomes, mayEnd
	gaveUp := false
	for k := range outcomes {
		o := &outcomes[k]
		if o.err == nil {
			c.seen = max(c.seen, o.sequence)
		} else {
			code := host.CodeOf(o.err)
			gaveUp = gaveUp || code == host.ErrTimeout.Code || code == host.ErrCanceled.Code
		}
	}
	c.life.t.callEnded(x, gaveUp)
}

func (c *caller) options(a *action) []host.DispatchOption {
	list := a.options()
	if a.conditional {
		list = append(list, host.IfSequence(a.ifSequence))
	}
	return list
}

func (c *caller) dispatch(a action) {
	ctx, cancel, mayEnd := c.patience()
	defer cancel()
	c.dispatchIn(ctx, a, mayEnd)
}

// dispatchWithin dispatches an action that never ends, and gives up after the limit.
func (c *caller) dispatchWithin(a action, limit time.Duration) {
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	c.dispatchIn(ctx, a, true)
}

func (c *caller) dispatchIn(ctx context.Context, a action, mayEnd bool) {
	x := c.begin(single, a)
	r, err := c.engine.Dispatch(ctx, a.kind, a.payload, c.options(&a)...)
	c.end(x, mayEnd, outcomeOf(r, err))
	if err == nil && a.kind == "space:place" {
		c.ids.saw(madePlacement(r))
	}
}

// burst dispatches several actions before it waits for the first. At times it withdraws them all
// at once.
func (c *caller) burst(n int) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	calls, futures := make([]*call, n), make([]*host.Future, n)
	for k := range n {
		a := c.action()
		calls[k] = c.begin(single, a)
		futures[k] = c.engine.DispatchAsync(ctx, a.kind, a.payload, c.options(&a)...)
	}
	withdrawn := c.life.t.cancels && c.rand.IntN(20) == 0
	if withdrawn {
		cancel()
	}
	for k, f := range futures {
		r, err := f.Wait(c.ctx)
		c.end(calls[k], withdrawn, outcomeOf(r, err))
	}
}

func (c *caller) batch(f form) {
	actions := make([]action, 2+c.rand.IntN(4))
	members := make([]host.Action, len(actions))
	for k := range actions {
		actions[k] = c.action()
		members[k] = host.Action{Type: actions[k].kind, Payload: actions[k].payload, Options: c.options(&actions[k])}
	}
	mode := host.BatchAtomic
	if f == independentBatch {
		mode = host.BatchIndependent
	}
	ctx, cancel, mayEnd := c.patience()
	defer cancel()
	x := c.begin(f, actions...)
	answer, err := c.engine.DispatchBatch(ctx, mode, members)
	outcomes := make([]outcome, len(actions))
	for k := range outcomes {
		if outcomes[k].err = err; answer.Outcomes != nil {
			outcomes[k] = outcomeOf(answer.Outcomes[k].Result, answer.Outcomes[k].Err)
		}
	}
	c.end(x, mayEnd, outcomes...)
}

func (c *caller) state() {
	ctx, cancel, mayEnd := c.patience()
	defer cancel()
	x := c.begin(wholeState)
	r, err := c.engine.State(ctx)
	c.end(x, mayEnd, outcomeOf(r, err))
}
