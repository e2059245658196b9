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
// An error means that the action had no effect, whatever the error: a bad payload, a deadline, a worker that died, a core
// that trapped. A result is in the journal. An engine whose worker is lost is placed anew from its journal, every result of
// the replay is held against the one that was acknowledged, and what was in flight runs again there.
//
// All types here are safe for use by any number of goroutines.
package host

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/executor"
	"hypertoken/internal/process"
	"hypertoken/internal/sabotage"
	"hypertoken/internal/tap"
	"hypertoken/wasm"
)

// Host runs any number of engines.
type Host struct {
	options  Options
	log      *slog.Logger
	debug    bool
	id       [16]byte
	code     []byte // the core
	hash     string
	cacheDir string
	clock    clock
	queue    *queue
	counts   counts
	limits   machineLimits
	owners   atomic.Uint64
	entropy  entropy
	started  time.Time

	// What a simulation has others of: startWorker starts a worker's process, in goroutines of its own, instantiate makes an
	// instance of the core in this process, runLocal runs its actions there; cpu and memory say what a process uses.
	startWorker func(*worker)
	instantiate func(context.Context) (executor.Instance, error)
	runLocal    func(func())
	cpu         func(pid int) (seconds float64, err error)
	memory      func(pid int) (bytes uint64, err error)
	// tap, where there is one, stands between a worker's pipes and the host.
	tap tap.Func

	// local is the core in this process, there once compiled is closed.
	compiled chan struct{}
	local    localCore

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
	// starved says that an engine waits for a place in this process.
	starved atomic.Bool

	mu      sync.Mutex // guards what follows
	closing bool
	engines map[string]*Engine
	watched []*Engine // those for which time has to pass
	scheduler
}

type localCore struct {
	cache *wasm.Cache
	core  *wasm.Core
	err   error
}

// New starts a host and, in the background, its workers. It fails with [ErrBadInput] for options out of bounds, for a core
// that can't be run, for a core or a worker program that is not the one that is pinned, in a worker, and where neither Options.WorkerPath nor a call of workerproc.Main says which program
// the workers run. Where workers can't be started engines run in this process. The caller calls Shutdown.
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
	h.tap = tap.From(ctx)
	if err := h.readCore(); err != nil {
		return nil, err
	}
	h.goroutines.Go(h.compile)
	if o.InProcess || o.CorePath != "" || o.Core != nil {
		// The built-in core is known to run.
		var err error
		select {
		case <-h.compiled:
			err = h.local.err
		case <-ctx.Done():
			err = ended(ctx, "New")
		}
		if err != nil {
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
		log:      o.Logger,
		debug:    o.Logger.Enabled(context.Background(), slog.LevelDebug),
		limits:   o.machineLimits(),
		started:  time.Now(),
		compiled: make(chan struct{}),
		closed:   make(chan struct{}),
		wake:     make(chan struct{}, 1),
		engines:  map[string]*Engine{},
	}
	h.queue = newQueue(&h.clock, o.MaxQueue, o.MaxQueueBytes)
	_, _ = crand.Read(h.id[:]) // never fails
	h.life, h.end = context.WithCancel(context.Background())
	h.hurried, h.hurry = context.WithCancel(context.Background())
	h.startWorker = func(w *worker) { h.spawn(func() { startProcess(w) }) }
	h.instantiate, h.runLocal, h.cpu, h.memory = h.instance, h.spawn, processCPU, processMemory
	h.slotsFree = o.MaxInProcess
	h.jitter = rand.Float64
	return h
}

// run starts the workers and the clock.
func (h *Host) run() {
	h.clock.advance()
	h.startWorkers()
	h.spawn(h.tickUntilEnd)
}

func (h *Host) startWorkers() {
	if !h.options.InProcess {
		h.mu.Lock()
		for id := range h.options.Workers {
			s := &slot{id: id, supervisor: supervisor{maxRestarts: h.options.MaxRestarts, window: h.options.RestartWindow, startTimeout: h.options.StartTimeout}}
			h.slots = append(h.slots, s)
			h.supervise(s, supervisorEvent{kind: svStart})
		}
		h.mu.Unlock()
	}
}

// spawn runs f in a goroutine that Shutdown waits for.
func (h *Host) spawn(f func()) {
	if sabotage.On(sabotage.WorkerForgotten) {
		go f()
		return
	}
	h.goroutines.Go(f)
}

func (h *Host) readCore() error {
	switch o := &h.options; {
	case o.CorePath != "":
		b, err := os.ReadFile(o.CorePath)
		if err != nil {
			return &Error{Code: ErrBadInput.Code, Message: fmt.Sprintf("Options.CorePath: %v", err), Err: err}
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
	return nil
}

// compile compiles the core for this process, so that it can be interrupted here.
func (h *Host) compile() {
	defer close(h.compiled)
	l, o := &h.local, &h.options
	if h.cacheDir != "" {
		var err error
		if l.cache, err = wasm.OpenCache(h.cacheDir); err != nil {
			h.log.Warn("no cache for compiled code: starting takes longer", "error", err)
		}
	}
	core, err := wasm.Compile(h.life, h.code, wasm.Options{Interruptible: true, MemoryLimit: uint64(o.MaxEngineMemory),
		FirstInstance: o.StartTimeout, Cache: l.cache})
	if err != nil {
		l.err = &Error{Code: ErrBadInput.Code, Message: fmt.Sprintf("%s can't be run: %v", o.coreName(), err), Err: err}
		return
	}
	if err := l.cache.Err(); err != nil {
		h.log.Warn("compiled without the cache: starting takes longer", "error", err)
	}
	l.core = core
	h.log.Debug("core compiled", "hash", core.Hash(), "toolchain", core.Toolchain())
}

// instance makes an instance in this process.
func (h *Host) instance(ctx context.Context) (executor.Instance, error) {
	select {
	case <-h.compiled:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.local.err != nil {
		return nil, h.local.err
	}
	return h.local.core.Instantiate(ctx)
}

// CoreHash returns the SHA-256 of the core, in hexadecimal.
func (h *Host) CoreHash() string { return h.hash }

// CoreToolchain returns what the core says of the compiler that made it, or "". It waits until the core is compiled.
func (h *Host) CoreToolchain() string {
	<-h.compiled
	if h.local.core == nil {
		return ""
	}
	return h.local.core.Toolchain()
}

// ActionInfo describes an action of the core.
type ActionInfo struct {
	Name   string      `msgpack:"name" json:"name"`
	About  string      `msgpack:"about" json:"about"`
	Fields []FieldInfo `msgpack:"fields" json:"fields"`
}

// FieldInfo describes a field of an action's payload.
type FieldInfo struct {
	Name string `msgpack:"name" json:"name"`
	// Kind is what the field may be, such as "string", "count" (a whole number of at least 1) or "token".
	Kind     string `msgpack:"kind" json:"kind"`
	Required bool   `msgpack:"required" json:"required"`
	// Default is JSON; "" where there is none.
	Default string `msgpack:"default" json:"default,omitempty"`
}

// Actions returns the actions of the core, sorted by name.
func (h *Host) Actions(ctx context.Context) ([]ActionInfo, error) {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return nil, shutdownError()
	}
	h.locals.Add(1)
	h.mu.Unlock()
	defer h.locals.Done()
	select {
	case <-h.compiled:
	case <-ctx.Done():
		return nil, ended(ctx, "Actions")
	}
	if h.local.err != nil {
		return nil, h.local.err
	}
	i, err := h.local.core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close(ctx) }()
	b, err := i.Actions(ctx)
	if err != nil {
		return nil, err
	}
	var list []ActionInfo
	if err := msgpack.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("host: the core's list of actions can't be read: %w", err)
	}
	return list, nil
}

// tickUntilEnd lets time pass.
func (h *Host) tickUntilEnd() {
	timer := time.NewTimer(tickEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-h.wake:
		case <-h.life.Done():
			return
		}
		now := h.clock.advance()
		busy := h.tick(now)
		h.clock.idle.Store(!busy)
		every := tickEvery
		if !busy {
			every = idleEvery
		}
		timer.Reset(every)
	}
}

// tick lets time pass for the workers and for the engines that wait for something. It reports whether any does.
func (h *Host) tick(now time.Duration) (busy bool) {
	busy = h.tickWorkers(now)
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
	h.assign()
	return busy
}

// watch has the tick look after an engine. The engine's lock is held.
func (h *Host) watch(e *Engine) {
	h.mu.Lock()
	h.watched = append(h.watched, e)
	h.mu.Unlock()
	if h.clock.idle.Load() {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// EngineOptions configure an engine.
type EngineOptions struct {
	// Setup is what a new engine starts from: a map {stack, source} as the conformance traces have it, any value that
	// encodes to one, or [Raw]. nil is an empty engine. It is not used where the name is known already.
	Setup any

	// Timeout is as Options.Timeout, which is its default.
	Timeout time.Duration
	// EnableBatching gathers what is dispatched within BatchWindow into one batch. Default Options.EnableBatching.
	EnableBatching bool
	// BatchWindow is how long a batch waits for more actions after its first. Default Options.BatchWindow.
	BatchWindow time.Duration
	// BatchMode is that of gathered batches. Default Options.BatchMode.
	BatchMode BatchMode

	// Host configures the host of NewEngine, whose Workers are 1 then. Open does not use it.
	Host Options
}

// NewEngine returns an engine with a worker process of its own. Its Shutdown ends both.
func NewEngine(ctx context.Context, o EngineOptions) (*Engine, error) {
	o.Host.Workers = 1
	h, err := New(ctx, o.Host)
	if err != nil {
		return nil, err
	}
	e, err := h.Open(ctx, "engine", o)
	if err != nil {
		_ = h.Shutdown(context.WithoutCancel(ctx))
		return nil, err
	}
	return e, nil
}

// Open creates the engine of a name, or loads it where the store has it. It fails with [ErrBadInput] where an engine of
// that name is open, with an [*ActionError] where the core refuses the setup, and with [ErrCoreMismatch] where the journal
// of a stored one needs another core to be replayed.
func (h *Host) Open(ctx context.Context, name string, o EngineOptions) (*Engine, error) {
	if name == "" {
		return nil, badInput("Open: an engine's name must not be empty")
	}
	setup, err := encode(o.Setup)
	if err != nil {
		return nil, fmt.Errorf("EngineOptions.Setup: %w", err)
	}
	e := h.newEngine(name, &o)
	h.mu.Lock()
	switch {
	case h.closing:
		h.mu.Unlock()
		return nil, shutdownError()
	case h.engines[name] != nil:
		h.mu.Unlock()
		return nil, badInput("Open: an engine named %q is open; close it first", name)
	}
	h.engines[name] = e
	h.mu.Unlock()
	created, err := e.open(ctx, setup)
	if err != nil {
		e.lockStep(engineEvent{kind: evStop, err: shutdownError()})
		if created {
			h.options.Store.Delete(name, func(error) {})
		}
		return nil, err
	}
	return e, nil
}

func (h *Host) newEngine(name string, o *EngineOptions) *Engine {
	number := h.owners.Add(1)
	e := &Engine{host: h, name: name, number: number, timeout: h.options.Timeout, closed: make(chan struct{}),
		owner: Owner{Host: h.id, Number: number}, shard: int(number % shards), keys: keyTable{window: h.options.KeyWindow}}
	e.m.limits = &h.limits
	if o.Timeout != 0 {
		e.timeout = o.Timeout
	}
	e.batches = batchOptions{h.options.EnableBatching || o.EnableBatching, h.options.BatchWindow, h.options.BatchMode}
	if o.BatchWindow > 0 {
		e.batches.window = o.BatchWindow
	}
	if o.BatchMode != BatchAtomic {
		e.batches.mode = o.BatchMode
	}
	return e
}

// open loads or creates what is stored. created says that the store knows the name only since.
func (e *Engine) open(ctx context.Context, setup []byte) (created bool, err error) {
	h := e.host
	what := fmt.Sprintf("open %q", e.name)
	limited, cancel := h.clock.limit(ctx, h.options.OpenTimeout, ownCause{&Error{Code: ErrTimeout.Code,
		Err: context.DeadlineExceeded, Message: fmt.Sprintf("not done after %v (OpenTimeout)", h.options.OpenTimeout)}})
	defer cancel()
	s, err := e.fetch(limited, what)
	if err != nil {
		return false, err
	}
	if s != nil {
		if h.foreign(s) {
			if s, err = e.migrate(limited, what, s); err != nil {
				return false, err
			}
		}
		e.mu.Lock()
		e.m.sequence = s.Sequence + s.Count
		e.m.baseBytes, e.m.entryBytes = len(s.Data), len(s.Entries)
		e.keys.load(s)
		e.unlock(false)
		return false, nil
	}
	if err := e.install(limited, what, Base{Data: slices.Clone(setup), Core: h.hash}); err != nil {
		return true, err
	}
	e.mu.Lock()
	e.m.baseBytes = len(setup)
	e.opening = true
	e.unlock(false)
	err = e.ready(limited, what)
	e.mu.Lock()
	e.opening = false
	e.unlock(false)
	var refused *ActionError
	if errors.Is(err, ErrBroken) && errors.As(err, &refused) {
		return true, refused
	}
	return true, err
}

// fetch asks the store for the journal, and waits.
func (e *Engine) fetch(ctx context.Context, what string) (*Stored, error) {
	type loaded struct {
		stored *Stored
		err    error
	}
	came := make(chan loaded, 1)
	e.mu.Lock() // so that the owner is still the newest
	e.host.options.Store.Load(e.name, e.owner, func(s *Stored, err error) { came <- loaded{s, err} })
	e.unlock(false)
	select {
	case l := <-came:
		if l.err != nil {
			return nil, fmt.Errorf("%s: the store: %w", what, l.err)
		}
		return l.stored, nil
	case <-ctx.Done():
		return nil, ended(ctx, what)
	}
}

// install has the store install a base, and waits.
func (e *Engine) install(ctx context.Context, what string, base Base) error {
	done := make(chanDone, 1)
	e.host.options.Store.Install(e.name, e.owner, base, Done{to: done})
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: the store: %w", what, err)
		}
		return nil
	case <-ctx.Done():
		return ended(ctx, what)
	}
}

type chanDone chan error

func (c chanDone) stored(_ uint64, err error) { c <- err }

// Delete forgets a closed engine for good. It fails with [ErrBadInput] where it is open; a name that is not known is
// no error.
func (h *Host) Delete(ctx context.Context, name string) error {
	h.mu.Lock()
	open := h.engines[name] != nil
	h.mu.Unlock()
	if open {
		return badInput("Delete: the engine %q is open; close it first", name)
	}
	done := make(chan error, 1)
	h.options.Store.Delete(name, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ended(ctx, "Delete")
	}
}

// forget takes a closed engine off. Its lock is held.
func (h *Host) forget(e *Engine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engines[e.name] == e {
		delete(h.engines, e.name)
	}
}

// Shutdown stops accepting, waits for what is running, closes every engine, ends the workers and frees everything. Where
// ctx ends first, what is running is interrupted, fails with [ErrShutdown] and has no effect; Shutdown still frees
// everything and returns the context's error. It may be called any number of times: whichever context ends first counts.
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
		e.lockStep(engineEvent{kind: evStop, err: shutdownError()})
		<-e.closed
	}
	if ctx.Err() != nil {
		errs = append(errs, ended(ctx, "Shutdown"))
	}
	h.stopWorkers(h.hurried)
	h.end()
	h.locals.Wait()
	h.goroutines.Wait()
	late := context.WithoutCancel(ctx)
	if h.local.core != nil {
		errs = append(errs, h.local.core.Close(late))
	}
	errs = append(errs, h.local.cache.Close(late))
	close(h.closed)
	return errors.Join(errs...)
}

func shutdownError() error {
	return &Error{Code: ErrShutdown.Code, Message: "the engine is closed, or its host shut down"}
}
