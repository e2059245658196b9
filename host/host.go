// Package host runs engines: independent games, each a deterministic core compiled to WebAssembly with a journal of the
// actions that were acknowledged. They run in worker processes, one action at a time each, and a worker's death is
// invisible to the caller.
//
//	func main() {
//		workerproc.Main() // this program is its own worker
//		...
//		h, err := host.New(ctx, host.Options{})
//		...
//		defer h.Shutdown(ctx)
//		e, err := h.Open(ctx, "table-1", host.EngineOptions{Setup: setup})
//		...
//		cards, err := host.As[[]Card](e.Dispatch(ctx, "stack:draw", map[string]any{"count": 5}))
//
// An error means that the action had no effect, whatever the error: a bad payload, a deadline, a
// worker that died, a core that trapped. A result is in the journal. An engine whose worker is lost
// is placed anew from its journal, every result of the replay is held against the one that was
// acknowledged, and what was in flight runs again there.
//
// All types here are safe for use by any number of goroutines.
package host

import (
	"context"
	crand "crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/calm"
	"hypertoken/internal/clock"
	"hypertoken/internal/engine"
	"hypertoken/internal/entropy"
	"hypertoken/internal/fast"
	"hypertoken/internal/fault"
	"hypertoken/internal/inproc"
	"hypertoken/internal/measure"
	"hypertoken/internal/placement"
	"hypertoken/internal/pool"
	"hypertoken/internal/process"
	"hypertoken/internal/queue"
	"hypertoken/internal/scheduler"
	"hypertoken/internal/tap"
	"hypertoken/wasm"
)

// Host runs any number of engines.
type Host struct {
	options  Options
	log      *slog.Logger
	debug    bool
	id       [16]byte
	code     []byte // of the core
	hash     string
	cacheDir string
	clock    clock.Clock
	queue    *queue.Queue
	counts   measure.Counts
	measure  atomic.Pointer[measure.Recorder]
	learning learning
	machines engine.Config
	owners   atomic.Uint64
	keyBytes atomic.Int64 // what the keys of open engines take
	entropy  entropy.Source
	started  time.Time

	// places is what the places in this process go by, seams are those of the pool of workers. A
	// simulation replaces both.
	places inproc.Config
	seams  pool.Seams
	// off are the ways to be fast that a test does without.
	off fast.Set

	// core is the core in this process, actions are those that a worker has told.
	core    *inproc.Core
	actions actionList

	// life ends with the host; goroutines are those that it waits for then. locals are the engines' places here.
	life       context.Context
	end        context.CancelFunc
	goroutines sync.WaitGroup
	locals     sync.WaitGroup
	closed     chan struct{}
	// hurried ends, by hurry, with the patience of who shuts down.
	hurried context.Context
	hurry   context.CancelFunc
	wake    chan struct{}
	// pool has the workers, scheduler places engines on them.
	pool      *pool.Pool
	scheduler *scheduler.Scheduler

	mu      sync.Mutex // guards what follows; it is taken behind an engine's lock
	closing bool
	engines map[string]*driver
	watched []*driver // those for which time has to pass
}

// New starts a host and, in the background, its workers. If workers can't be started, engines run in
// this process, unless Options.NoFallback is set. The caller calls Shutdown.
//
// New fails with [ErrBadInput] for options out of bounds, for a core that can't be run, for a core or
// a worker program that is not the one that is pinned, if this process is a worker itself, and if
// neither Options.WorkerPath nor a call of workerproc.Main says which program the workers run. It
// fails with [ErrTimeout] or [ErrCanceled] if ctx ends before a core of one's own is compiled.
func New(ctx context.Context, o Options) (*Host, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	switch {
	case process.InWorker():
		return nil, badInput("host.New was called in a worker: call workerproc.Main first in main, before anything else")
	case !o.InProcess && o.WorkerPath == "" && !process.SelfWorker():
		return nil, badInput("this program can't be its own worker: call workerproc.Main first in main, " +
			"name another program in Options.WorkerPath, or set Options.InProcess")
	}
	if err := o.checkWorkerPin(); err != nil {
		return nil, err
	}
	h := newHost(o)
	h.seams.Tap, h.off = tap.From(ctx), fast.Off(ctx)
	if h.off.Has(fast.Poll) {
		h.options.PollFor = 0
	}
	if err := h.readCore(); err != nil {
		return nil, err
	}
	h.core.Compile()
	if o.InProcess || o.CorePath != "" || o.Core != nil {
		// The built-in core is known to run.
		if _, err := h.core.Wait(ctx); err != nil {
			if ctx.Err() != nil {
				err = ended(ctx, "New")
			}
			_ = h.Shutdown(context.WithoutCancel(ctx))
			return nil, err
		}
	}
	h.run()
	return h, nil
}

func newHost(o Options) *Host {
	h := &Host{
		options:  o,
		log:      slog.New(calm.New(o.Logger.Handler())),
		debug:    o.Logger.Enabled(context.Background(), slog.LevelDebug),
		machines: o.machineConfig(),
		started:  time.Now(),
		actions:  actionList{known: make(chan struct{})},
		closed:   make(chan struct{}),
		wake:     make(chan struct{}, 1),
		engines:  map[string]*driver{},
	}
	h.queue = queue.New(&h.clock, o.MaxQueue, o.MaxQueueBytes)
	_, _ = crand.Read(h.id[:]) // never fails
	h.life, h.end = context.WithCancel(context.Background())
	h.hurried, h.hurry = context.WithCancel(context.Background())
	h.places = inproc.Config{MaxFrame: o.MaxFrame, Spawn: h.spawn}
	h.pool = pool.New((*landlord)(h))
	h.scheduler = scheduler.New(h.schedulerConfig())
	return h
}

func (h *Host) schedulerConfig() scheduler.Config {
	o := &h.options
	return scheduler.Config{Pool: h.pool, Clock: &h.clock, MaxInProcess: o.MaxInProcess, IdleAfter: o.IdleAfter,
		Rules: placement.Rules{InProcess: o.InProcess, NoFallback: o.NoFallback, SuspectWait: o.SuspectWait,
			Cores: runtime.GOMAXPROCS(0)}}
}

// run starts the workers and the clock.
func (h *Host) run() {
	h.clock.Advance()
	if !h.options.InProcess {
		h.pool.Start(h.poolConfig())
	}
	h.spawn(h.tickUntilEnd)
}

// spawn runs f in a goroutine that Shutdown waits for.
func (h *Host) spawn(f func()) {
	h.goroutines.Go(f)
}

func (h *Host) readCore() error {
	switch o := &h.options; {
	case o.CorePath != "":
		b, err := os.ReadFile(o.CorePath)
		if err != nil {
			return ErrBadInput.Because(err, "Options.CorePath: %v", err)
		}
		h.code = b
	case o.Core != nil:
		h.code = o.Core
	default:
		h.code = wasm.Builtin()
	}
	h.hash = wasm.Hash(h.code)
	if err := h.options.checkCorePin(h.hash); err != nil {
		return err
	}
	if h.options.CacheDir == "" {
		dir, err := wasm.DefaultCacheDir()
		if err != nil {
			h.log.Warn("no cache for compiled code: starting takes longer", "error", err)
		}
		h.cacheDir = dir
	} else if h.options.CacheDir != "off" {
		h.cacheDir = h.options.CacheDir
	}
	o := &h.options
	h.core = inproc.NewCore(h.life, inproc.CoreConfig{Code: h.code, Name: o.coreName(), CacheDir: h.cacheDir,
		CheckOnly: o.NoFallback, MemoryLimit: uint64(o.MaxEngineMemory), StartTimeout: o.StartTimeout, Log: h.log})
	h.places.Instantiate = h.core.Instantiate
	return nil
}

// tickUntilEnd lets time pass.
func (h *Host) tickUntilEnd() {
	timer := time.NewTimer(clock.TickEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-h.wake:
		case <-h.life.Done():
			return
		}
		now := h.clock.Advance()
		busy := h.tick(now)
		h.clock.SetIdle(!busy)
		every := clock.TickEvery
		if !busy {
			every = clock.IdleTickEvery
		}
		timer.Reset(every)
	}
}

// tick lets time pass for the workers and for the engines that wait for something. It reports whether any does.
func (h *Host) tick(now time.Duration) (busy bool) {
	busy = h.pool.Tick(now)
	h.scheduler.TakeIdleOut(now)
	h.mu.Lock()
	watched := h.watched
	h.watched = nil
	h.mu.Unlock()
	kept := watched[:0]
	for _, e := range watched {
		if e.tick() {
			kept = append(kept, e)
		}
	}
	h.mu.Lock()
	h.watched = append(h.watched, kept...)
	busy = busy || len(h.watched) > 0
	h.mu.Unlock()
	h.scheduler.Assign()
	return busy
}

// watch has the tick look after an engine. The engine's lock is held.
func (h *Host) watch(e *driver) {
	h.mu.Lock()
	h.watched = append(h.watched, e)
	h.mu.Unlock()
	h.hurryTick()
}

// hurryTick has time pass now, where the tick is slow because nothing has waited for it.
func (h *Host) hurryTick() {
	if h.clock.IsIdle() {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// Drain waits for a moment at which nothing is in flight: every request that the host has taken in has
// its outcome. If ctx ends first, it returns [ErrTimeout] or [ErrCanceled].
func (h *Host) Drain(ctx context.Context) error { return h.queue.Drain(ctx) }

// Shutdown takes nothing more in, waits for the requests that it has, closes every engine, ends the
// workers and frees everything. If ctx ends first, the requests that run are interrupted, fail with
// [ErrShutdown] and have no effect; Shutdown still frees everything, and returns the context's error.
// It may be called any number of times: the context that ends first counts.
func (h *Host) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	first := !h.closing
	h.closing = true
	engines := byAge(slices.Collect(maps.Values(h.engines)))
	h.mu.Unlock()
	if !first {
		select {
		case <-h.closed:
			return nil
		case <-ctx.Done():
		}
		// Who has more patience waits for the same end.
		h.hurry()
		<-h.closed
		return ended(ctx, "Shutdown")
	}
	defer context.AfterFunc(ctx, h.hurry)()
	for _, e := range engines {
		e.beginClose()
	}
	var errs []error
	for _, e := range engines {
		select {
		case <-e.closed:
			continue
		case <-h.hurried.Done():
		}
		e.stop()
		<-e.closed
	}
	if ctx.Err() != nil {
		errs = append(errs, ended(ctx, "Shutdown"))
	}
	h.pool.Stop(h.hurried)
	h.end()
	h.locals.Wait()
	h.goroutines.Wait()
	late := context.WithoutCancel(ctx)
	errs = append(errs, h.core.Close(late))
	close(h.closed)
	return errors.Join(errs...)
}

func shutdownError() error { return fault.Shutdown() }
