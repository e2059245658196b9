// Package host runs engines: independent games, each a deterministic core compiled to WebAssembly with a journal of the
// actions that were acknowledged.
//
//	h, err := host.New(ctx, host.Options{})
//	...
//	defer h.Shutdown(ctx)
//	e, err := h.Open(ctx, "table-1", host.EngineOptions{Setup: setup})
//	...
//	cards, err := host.As[[]Card](e.Dispatch(ctx, "stack:draw", map[string]any{"count": 5}))
//
// An error means that the action had no effect, whatever the error: a bad payload, a deadline, a core that trapped. A
// result is in the journal. An engine whose instance is lost is placed anew from its journal, and every result of the
// replay is held against the one that was acknowledged.
//
// All types here are safe for use by any number of goroutines.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/wasm"
)

// Host runs any number of engines on one core.
type Host struct {
	options Options
	cache   *wasm.Cache
	core    *wasm.Core
	// slots bounds the instances; a token in it is a place that is free. freed wakes one that waits for an engine to
	// become idle.
	slots chan struct{}
	freed chan struct{}
	tick  atomic.Int64
	// closing is set, under mu, once Shutdown has begun: nothing is accepted any more, what waits for its turn still gets it.
	closing atomic.Bool
	// asking counts the calls of Actions, which use the core without an engine.
	asking sync.WaitGroup

	mu      sync.Mutex // guards what follows
	engines map[string]*Engine
	stored  map[string]*journal
	closed  chan struct{}
}

// New starts a host: it compiles the core, which takes some hundred milliseconds the first time and a few where
// Options.CacheDir has it. It fails with [ErrBadInput] for options out of bounds, and where the core can't be run. The
// caller calls Shutdown.
func New(ctx context.Context, o Options) (*Host, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	code := o.Core
	switch {
	case o.CorePath != "":
		b, err := os.ReadFile(o.CorePath)
		if err != nil {
			return nil, &Error{Code: ErrBadInput.Code, Message: fmt.Sprintf("Options.CorePath: %v", err), Err: err}
		}
		code = b
	case code == nil:
		code = wasm.Builtin()
	}
	h := &Host{
		options: o,
		cache:   openCache(&o),
		slots:   make(chan struct{}, o.MaxInProcess),
		freed:   make(chan struct{}, 1),
		engines: map[string]*Engine{},
		stored:  map[string]*journal{},
		closed:  make(chan struct{}),
	}
	for range o.MaxInProcess {
		h.slots <- struct{}{}
	}
	core, err := wasm.Compile(ctx, code, wasm.Options{
		Interruptible: true,
		MemoryLimit:   uint64(o.MaxEngineMemory),
		Cache:         h.cache,
	})
	if err != nil {
		_ = h.cache.Close(ctx)
		where := "the built-in core"
		if o.CorePath != "" {
			where = "the core " + o.CorePath
		} else if o.Core != nil {
			where = "Options.Core"
		}
		return nil, &Error{Code: ErrBadInput.Code, Message: fmt.Sprintf("%s can't be run: %v", where, err), Err: err}
	}
	if err := h.cache.Err(); err != nil {
		o.Logger.Warn("compiled without the cache: starting takes longer", "error", err)
	}
	h.core = core
	o.Logger.Debug("core compiled", "hash", core.Hash(), "toolchain", core.Toolchain())
	return h, nil
}

func openCache(o *Options) *wasm.Cache {
	if o.CacheDir == "off" {
		return nil
	}
	dir, err := o.CacheDir, error(nil)
	if dir == "" {
		dir, err = wasm.DefaultCacheDir()
	}
	if err == nil {
		var cache *wasm.Cache
		if cache, err = wasm.OpenCache(dir); err == nil {
			return cache
		}
	}
	o.Logger.Warn("no cache for compiled code: starting takes longer", "error", err)
	return nil
}

// CoreHash returns the SHA-256 of the core, in hexadecimal.
func (h *Host) CoreHash() string { return h.core.Hash() }

// CoreToolchain returns what the core says of the compiler that made it, or "".
func (h *Host) CoreToolchain() string { return h.core.Toolchain() }

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
	if h.closing.Load() {
		h.mu.Unlock()
		return nil, shutdownError()
	}
	h.asking.Add(1)
	h.mu.Unlock()
	defer h.asking.Done()
	i, err := h.core.Instantiate(ctx)
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

// EngineOptions configure an engine.
type EngineOptions struct {
	// Setup is what a new engine starts from: a map {stack, source} as the conformance traces have it, any value that
	// encodes to one, or [Raw]. nil is an empty engine. It is not used where the name is known already.
	Setup any
}

// Open creates the engine of a name, or loads it where it was closed before. It fails with [ErrBadInput] where an engine
// of that name is open, and with an [*ActionError] where the core refuses the setup.
func (h *Host) Open(ctx context.Context, name string, o EngineOptions) (*Engine, error) {
	if name == "" {
		return nil, badInput("Open: an engine's name must not be empty")
	}
	e := newEngine(h, name)
	h.mu.Lock()
	switch {
	case h.closing.Load():
		h.mu.Unlock()
		return nil, shutdownError()
	case h.engines[name] != nil:
		h.mu.Unlock()
		return nil, badInput("Open: an engine named %q is open; close it first", name)
	}
	h.engines[name] = e
	stored := h.stored[name]
	delete(h.stored, name)
	h.mu.Unlock()

	if err := e.start(ctx, stored, o); err != nil {
		h.mu.Lock()
		delete(h.engines, name)
		if stored != nil {
			h.stored[name] = stored
		}
		h.mu.Unlock()
		return nil, err
	}
	return e, nil
}

// Delete forgets a closed engine for good. It fails with [ErrBadInput] where it is open; a name that is not known is
// no error.
func (h *Host) Delete(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engines[name] != nil {
		return badInput("Delete: the engine %q is open; close it first", name)
	}
	delete(h.stored, name)
	return nil
}

// Shutdown stops accepting, waits for what is running, closes every engine and frees everything. Where ctx ends first,
// what is running is interrupted, fails with [ErrShutdown] and has no effect; Shutdown still frees everything and
// returns the context's error. It may be called any number of times.
func (h *Host) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	first := !h.closing.Swap(true)
	var engines []*Engine
	for _, e := range h.engines {
		engines = append(engines, e)
	}
	h.mu.Unlock()
	if !first {
		select {
		case <-h.closed:
			return nil
		case <-ctx.Done():
			return ended(ctx, "Shutdown")
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, e := range engines {
			e.interrupt(ownCause{ErrShutdown})
		}
	})
	defer stop()
	late := context.WithoutCancel(ctx)
	var errs []error
	for _, e := range engines {
		if err := e.Close(late); err != nil && !errors.Is(err, ErrShutdown) {
			errs = append(errs, err)
		}
	}
	h.asking.Wait()
	errs = append(errs, h.core.Close(late), h.cache.Close(late))
	close(h.closed)
	if ctx.Err() != nil {
		errs = append(errs, ended(ctx, "Shutdown"))
	}
	return errors.Join(errs...)
}

func shutdownError() error {
	return &Error{Code: ErrShutdown.Code, Message: "the host is shut down"}
}

// slot waits for the right to one more instance; where there is none, the engine that was idle longest is taken out.
func (h *Host) slot(ctx context.Context) error {
	for {
		select {
		case <-h.slots:
			return nil
		default:
		}
		if h.evict(ctx) {
			continue
		}
		select {
		case <-h.slots:
		case <-h.freed:
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
}

// wake lets one that waits for a slot look again. Where several engines have become idle for one wake, the first that is
// taken out wakes the next.
func (h *Host) wake() {
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// evict takes the engine out that was idle longest; false where all are busy.
func (h *Host) evict(ctx context.Context) bool {
	h.mu.Lock()
	var idlest *Engine
	for _, e := range h.engines {
		if !e.placed.Load() || (idlest != nil && e.used.Load() >= idlest.used.Load()) {
			continue
		}
		if e.tryAcquire() {
			if idlest != nil {
				idlest.release()
			}
			idlest = e
		}
	}
	h.mu.Unlock()
	if idlest == nil {
		return false
	}
	defer idlest.release()
	idlest.takeOut(ctx)
	return true
}
