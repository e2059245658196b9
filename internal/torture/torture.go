// Package torture kills, stops and garbles the worker processes of a host while callers call its engines, and holds what they
// were told against what may be: every history is linearizable, every engine ends as one that was fed the acknowledged
// actions only, and no fault becomes a caller's error.
//
// Faults come from a schedule that depends on the seed alone. Each strikes when a worker's session has come as far as the
// schedule says: when half an answer is read, when a snapshot is under way.
package torture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/host"
	"hypertoken/internal/tap"
)

// Config says what is tortured, and how.
type Config struct {
	// For is how long new calls are made. Checking what was called takes a little longer.
	For time.Duration
	// Seed is what the faults and the calls are drawn from.
	Seed uint64
	// Workers is how many worker processes run, Engines how many engines are called at once, by three callers each.
	Workers, Engines int
	// Faults are the kinds that strike.
	Faults []Kind
	// CorePath names a file with a core, Core holds one; neither is the built-in core.
	CorePath string
	Core     []byte
	// Logger gets what the host has to say. Its warnings are part of the torture.
	Logger *slog.Logger
	// Progress, where it is set, is called several times a second.
	Progress func(Report)
}

// torture is one run.
type torture struct {
	config   Config
	ctx      context.Context
	stop     context.CancelCauseFunc
	host     *host.Host
	model    *host.Host
	injector *injector
	workload *workload
	cancels  bool
	until    time.Time
	ended    chan *history

	// began is when calls began, stopped when they ended before their time: 0 where they have not.
	began, stopped atomic.Int64
	calls          atomic.Uint64 // ended
	acknowledged   atomic.Uint64

	mu     sync.Mutex // guards what follows
	report Report
	// recovered is when each engine answered first after a death, by the death's number.
	recovered map[int]map[string]time.Duration
}

// stuckAfter is how long no call may end.
const stuckAfter = 60 * time.Second

// Run tortures a host, and returns what came of it. Where ctx ends, no more calls are made, and what was called is checked.
// An error is that of a torture that could not be.
func Run(ctx context.Context, c Config) (Report, error) {
	t := &torture{config: c, injector: newInjector(c.Seed, c.Faults, c.Workers), cancels: slices.Contains(c.Faults, Cancel),
		ended: make(chan *history, c.Engines), recovered: map[int]map[string]time.Duration{}}
	t.report = Report{Seed: c.Seed, Failed: map[string]uint64{}}
	t.ctx, t.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	defer t.stop(nil)
	defer context.AfterFunc(ctx, t.enough)()
	o := host.Options{
		Workers: c.Workers, CorePath: c.CorePath, Core: c.Core, Logger: c.Logger,
		// Deaths are at least pace apart, unless no worker survives its start.
		MaxRestarts: 1, RestartWindow: pace / 2,
		// Faults that strike one action by chance are not its doing.
		MaxAttempts: 100,
		StallAfter:  300 * time.Millisecond, KillGrace: 50 * time.Millisecond,
		SnapshotBytes: 4 << 10, ReplayBudget: 20 * time.Millisecond, MaxEngineMemory: 64 << 20,
	}
	var err error
	t.injector.fallbacks = func() uint64 { return t.host.Stats().Fallbacks }
	if t.host, err = host.New(tap.With(t.ctx, t.injector.tap), o); err != nil {
		return t.report, err
	}
	o.InProcess, o.Logger = true, slog.New(slog.DiscardHandler)
	if t.model, err = host.New(t.ctx, o); err != nil {
		return t.report, errors.Join(err, t.host.Shutdown(context.WithoutCancel(ctx)))
	}
	err = t.run()
	t.injector.calm()
	closed := context.WithoutCancel(ctx)
	err = errors.Join(err, t.host.Shutdown(closed), t.model.Shutdown(closed))
	t.leaks()
	r := t.snapshot()
	r.finish()
	return r, err
}

func (t *torture) run() error {
	actions, err := t.model.Actions(t.ctx)
	if err != nil {
		return err
	}
	t.workload = newWorkload(actions)
	// The host has started, the core is compiled.
	t.began.Store(t.clock())
	t.until = time.Now().Add(t.config.For)
	var living, checking, watching sync.WaitGroup
	errs := make([]error, t.config.Engines+1)
	for slot := range t.config.Engines {
		living.Go(func() {
			if errs[slot] = t.live(slot); errs[slot] != nil {
				t.stop(errs[slot])
			}
		})
	}
	checking.Go(func() {
		for h := range t.ended {
			if err := t.check(h); err != nil && errs[t.config.Engines] == nil {
				errs[t.config.Engines] = err
				t.stop(err)
			}
		}
	})
	over := make(chan struct{})
	watching.Go(func() { t.watch(over) })
	living.Wait()
	close(t.ended)
	checking.Wait()
	close(over)
	watching.Wait()
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	return errors.Join(errs...)
}

// goesOn reports whether more is to be called.
func (t *torture) goesOn() bool {
	return time.Now().Before(t.until) && t.stopped.Load() == 0 && t.ctx.Err() == nil
}

// enough ends the calls before their time.
func (t *torture) enough() { t.stopped.CompareAndSwap(0, t.clock()) }

// clock returns the nanoseconds since the torture began.
func (t *torture) clock() int64 { return int64(time.Since(t.injector.epoch)) }

// watch reports progress, and ends a torture that is stuck.
func (t *torture) watch(over <-chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last, since := uint64(0), time.Now()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		if n := t.calls.Load(); n != last {
			last, since = n, time.Now()
		} else if t.goesOn() && time.Since(since) > stuckAfter {
			t.stop(fmt.Errorf("no call has ended for %v: the host is stuck", stuckAfter))
		}
		if t.config.Progress != nil {
			t.config.Progress(t.snapshot())
		}
	}
}

func (t *torture) callEnded(x *call, gaveUp bool) {
	t.calls.Add(1)
	n := uint64(0)
	for k := range x.outcomes {
		if x.outcomes[k].err == nil && x.form != wholeState {
			n++
		}
	}
	t.acknowledged.Add(n)
	t.injector.callEnded(gaveUp)
}

// check holds a history against what may be, and takes its figures.
func (t *torture) check(h *history) error {
	model, err := t.model.Open(t.ctx, h.engine, host.EngineOptions{Setup: h.setup})
	if err != nil {
		return fmt.Errorf("the model of %s: %w", h.engine, err)
	}
	found, err := check(t.ctx, h, model, slices.Contains(t.config.Faults, Start))
	if err != nil {
		return fmt.Errorf("checking %s: %w", h.engine, err)
	}
	if err := model.Delete(t.ctx); err != nil {
		return fmt.Errorf("the model of %s: %w", h.engine, err)
	}
	t.injector.mu.Lock()
	deaths := slices.Clone(t.injector.deaths)
	slices.SortFunc(deaths, func(a, b death) int { return cmp.Compare(a.at, b.at) })
	struck := slices.Clone(t.injector.struck)
	t.injector.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Histories++
	t.report.found(found, struck)
	for _, calls := range h.callers {
		for _, x := range calls {
			t.report.Operations++
			t.count(h, x, deaths)
		}
	}
	return nil
}

// count counts a call, and whose deaths it has outlived.
func (t *torture) count(h *history, x *call, deaths []death) {
	ok := false
	for _, o := range x.outcomes {
		if o.err != nil {
			t.report.Failed[host.CodeOf(o.err)]++
		} else {
			ok = true
		}
	}
	if !ok {
		return
	}
	from, _ := slices.BinarySearchFunc(deaths, time.Duration(x.start), func(d death, at time.Duration) int { return cmp.Compare(d.at, at) })
	for _, d := range deaths[from:] {
		if int64(d.at) >= x.end {
			break
		}
		if d.waiting == 0 || d.storm {
			continue
		}
		if t.recovered[d.id] == nil {
			t.recovered[d.id] = map[string]time.Duration{}
		}
		took := time.Duration(x.end) - d.at
		if first, there := t.recovered[d.id][h.engine]; !there || took < first {
			t.recovered[d.id][h.engine] = took
		}
	}
}

// leaks looks for what is left of the workers.
func (t *torture) leaks() {
	t.injector.mu.Lock()
	defer t.injector.mu.Unlock()
	var left []int
	for _, pid := range t.injector.pids {
		if running(pid) {
			left = append(left, pid)
		}
	}
	if len(left) > 0 {
		t.report.found([]Violation{{Fate: Leaked, What: fmt.Sprintf("worker processes are left after Shutdown: %v", left)}}, nil)
	}
}
