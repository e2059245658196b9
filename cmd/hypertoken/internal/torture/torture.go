// Package torture kills, stops and garbles the worker processes of a host while callers call its
// engines. Then it checks the answers that the callers got. Every history must be linearizable.
// Every engine must end in the state of an engine that ran only the acknowledged actions. No fault
// may become an error of a caller.
//
// Faults come from a schedule that depends on the seed alone. A fault strikes at a certain step of
// a worker's session, for example when half an answer is read, or when a snapshot is under way.
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
	"hypertoken/internal/fast"
	"hypertoken/internal/tap"
)

// Config describes the host to torture, and the torture.
type Config struct {
	// For is how long new calls are made. Checking the calls takes a little longer.
	For time.Duration
	// Deaths, if it is not 0, ends the calls as soon as that many deaths had requests in flight;
	// For is then the most that it may take.
	Deaths int
	// Seed is the seed from which the faults and the calls are drawn.
	Seed uint64
	// Workers is how many worker processes run, Engines how many engines are called at once, by
	// three callers each.
	Workers, Engines int
	// Spares is how many spare workers the host keeps.
	Spares int
	// Faults are the kinds that strike.
	Faults []Kind
	// CorePath names a file with a core, Core holds one; neither is the built-in core.
	CorePath string
	Core     []byte
	// Without has the optimizations that the host must not use.
	Without fast.Set
	// Logger gets the log of the host. Its warnings are part of the torture.
	Logger *slog.Logger
	// FailFast ends the calls with the first violation.
	FailFast bool
	// Progress, if it is set, is called several times a second.
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
	store    *slowStore
	accused  atomic.Int64
	cancels  bool
	until    time.Time
	ended    chan *history

	// began is when calls began, stopped when they ended before their time: 0 if they have not.
	began, stopped atomic.Int64
	calls          atomic.Uint64 // ended
	acknowledged   atomic.Uint64

	mu     sync.Mutex // guards the fields below
	report Report
	// told counts the outcomes of actions that callers got, by the names that host.OutcomeOf gives
	// them. measured has the host's own measurements when they were last compared.
	told     map[string]uint64
	measured tally
	// recovered has, for each death and each engine, the time until the engine answered again.
	recovered map[int]map[string]time.Duration
}

// suspectWait is the host's Options.SuspectWait.
const suspectWait = time.Second

// stuckAfter is the time after which the torture is stuck, if no call and no check has ended.
const stuckAfter = 60 * time.Second

// Run tortures a host, and returns the report. If ctx ends, no more calls are made, and the calls
// that were made are checked. If the host is stuck, its workers and its goroutines are left
// behind, and the report says so. Run returns an error if the torture could not begin, or a check
// could not run; violations are in the report.
func Run(ctx context.Context, c Config) (Report, error) {
	t := &torture{config: c, injector: newInjector(c.Seed, c.Faults, c.Workers+c.Spares),
		cancels: slices.Contains(c.Faults, Cancel),
		store:   newStore(c.Seed, slices.Contains(c.Faults, Store)), ended: make(chan *history, c.Engines),
		recovered: map[int]map[string]time.Duration{},
		told:      map[string]uint64{}}
	t.report = Report{Seed: c.Seed, Failed: map[string]uint64{}}
	t.ctx, t.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	defer t.stop(nil)
	defer context.AfterFunc(ctx, t.enough)()
	o := host.Options{
		Workers: c.Workers, Spares: c.Spares, CorePath: c.CorePath, Core: c.Core, Store: t.store,
		Logger: slog.New(accusations{c.Logger.Handler(), &t.accused}),
		// Faults kill a worker at most once in pace, so a worker that can start is never given up.
		MaxRestarts: 1, RestartWindow: pace / 2,
		// Faults strike actions at random, so an innocent action must not be poisoned.
		MaxAttempts: 20, SuspectWait: suspectWait,
		StallAfter: 300 * time.Millisecond, KillGrace: 50 * time.Millisecond,
		SnapshotBytes: 4 << 10, ReplayBudget: 20 * time.Millisecond, MaxEngineMemory: 64 << 20,
	}
	var err error
	t.injector.fallbacks = func() uint64 { return t.host.Stats().Fallbacks }
	if t.host, err = host.New(fast.Without(tap.With(t.ctx, t.injector.tap), c.Without), o); err != nil {
		return t.report, err
	}
	// An action that is done in time on a worker may take longer in process.
	o.InProcess, o.Timeout, o.Store, o.Logger = true, -1, nil, slog.New(slog.DiscardHandler)
	if t.model, err = host.New(t.ctx, o); err != nil {
		return t.report, errors.Join(err, t.host.Shutdown(context.WithoutCancel(ctx)))
	}
	over := make(chan error, 1)
	go func() { over <- t.run() }()
	var watching sync.WaitGroup
	stuck, calm := make(chan struct{}), make(chan struct{})
	watching.Go(func() { t.watch(stuck, calm) })
	select {
	case err = <-over:
		close(calm)
		watching.Wait()
	case <-stuck:
		// Nobody can be waited for, the host least of all: its workers end with this process.
		return t.finished(), nil
	}
	t.injector.calm()
	closed := context.WithoutCancel(ctx)
	err = errors.Join(err, t.host.Shutdown(closed), t.model.Shutdown(closed))
	t.store.pending.Wait()
	t.leaks()
	t.accusations()
	return t.finished(), err
}

func (t *torture) finished() Report {
	r := t.snapshot()
	r.finish()
	return r
}

func (t *torture) run() error {
	actions, err := t.model.Actions(t.ctx)
	if err != nil {
		return err
	}
	t.workload = newWorkload(actions)
	t.measure()
	// The host has started, the core is compiled.
	t.began.Store(t.clock())
	t.injector.begin()
	t.until = time.Now().Add(t.config.For)
	startLives(t.config.Engines, t.ended, t.live, t.check, t.stop).wait(func() {})
	t.measure()
	t.compare()
	return context.Cause(t.ctx)
}

// found takes down violations.
func (t *torture) found(list []Violation) {
	if len(list) == 0 {
		return
	}
	t.injector.mu.Lock()
	struck := slices.Clone(t.injector.struck)
	t.injector.mu.Unlock()
	t.mu.Lock()
	t.report.found(list, struck)
	t.mu.Unlock()
	if t.config.FailFast {
		t.enough()
	}
}

// goesOn reports whether more is to be called.
func (t *torture) goesOn() bool {
	return time.Now().Before(t.until) && t.stopped.Load() == 0 && t.ctx.Err() == nil
}

// enough ends the calls before their time.
func (t *torture) enough() { t.stopped.CompareAndSwap(0, t.clock()) }

// clock returns the nanoseconds since the torture began.
func (t *torture) clock() int64 { return int64(time.Since(t.injector.epoch)) }

// watch reports progress until it is calm, and finds out when a torture is stuck: no call ends,
// and no history is checked.
func (t *torture) watch(stuck chan<- struct{}, calm <-chan struct{}) {
	stall := newStall(stuckAfter)
	eachTick(200*time.Millisecond, calm, func() bool {
		r := t.snapshot()
		if found := stall.look(t.calls.Load() + uint64(r.Histories)); found != nil {
			t.found(found)
			close(stuck)
			return false
		}
		t.measure()
		if t.config.Deaths > 0 && r.InFlight >= t.config.Deaths {
			t.enough()
		}
		if t.config.Progress != nil {
			t.config.Progress(r)
		}
		return true
	})
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

// check checks a history, and adds its figures to the report.
func (t *torture) check(h *history) error {
	wait := time.Duration(0)
	if slices.Contains(t.config.Faults, Start) {
		wait = suspectWait
	}
	found, err := checkOnModel(t.ctx, t.model, h, wait)
	if err != nil {
		return err
	}
	t.injector.mu.Lock()
	deaths := slices.Clone(t.injector.deaths)
	slices.SortFunc(deaths, func(a, b death) int { return cmp.Compare(a.at, b.at) })
	t.injector.mu.Unlock()
	t.found(found)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Histories++
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
		if x.form != wholeState {
			t.told[host.OutcomeOf(o.err)]++
		}
		if o.err != nil {
			t.report.Failed[host.CodeOf(o.err)]++
		} else {
			ok = true
		}
	}
	if !ok {
		return
	}
	from, _ := slices.BinarySearchFunc(deaths, time.Duration(x.start),
		func(d death, at time.Duration) int { return cmp.Compare(d.at, at) })
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

// leaks looks for worker processes that still run after Shutdown of the workers.
func (t *torture) leaks() {
	var left []int
	for _, pid := range t.injector.started() {
		if running(pid) {
			left = append(left, pid)
		}
	}
	if len(left) > 0 {
		t.found([]Violation{{Fate: Leaked, What: fmt.Sprintf("worker processes are left after Shutdown: %v", left)}})
	}
}

// accusations compares the host's warnings about its workers with the faults in their answers.
func (t *torture) accusations() {
	said, done := t.accused.Load(), t.injector.garbled()
	if said > done {
		t.found([]Violation{{Fate: Accused,
			What: fmt.Sprintf("%d workers broke the protocol, says the host; the answers of %d were garbled", said,
				done)}})
	}
}
