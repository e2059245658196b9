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
	"log/slog"
	"os"

	"hypertoken/internal/calm"
	"hypertoken/internal/driver"
	"hypertoken/internal/fast"
	"hypertoken/internal/process"
	"hypertoken/internal/tap"
	"hypertoken/wasm"
)

// Host runs any number of engines.
type Host struct {
	options Options
	engines *driver.Engines
	hash    string // of the core
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
	c, err := o.config()
	if err != nil {
		return nil, err
	}
	c.Pool.Seams.Tap, c.Off = tap.From(ctx), fast.Off(ctx)
	c.Pool.Off = c.Off
	if c.Off.Has(fast.Poll) {
		c.Pool.PollFor = 0
	}
	h := &Host{options: o, engines: driver.New(c), hash: c.CoreHash}
	if err := h.start(ctx); err != nil {
		_ = h.Shutdown(context.WithoutCancel(ctx))
		return nil, err
	}
	return h, nil
}

// start starts the workers, and compiles the core: in the background, unless it has to be seen first
// whether it can be run. The built-in core is known to run.
func (h *Host) start(ctx context.Context) error {
	o := &h.options
	h.engines.Core().Compile()
	if o.InProcess || o.CorePath != "" || o.Core != nil {
		if _, err := h.engines.Core().Wait(ctx); err != nil {
			if ctx.Err() != nil {
				err = ended(ctx, "New")
			}
			return err
		}
	}
	h.engines.Start()
	return nil
}

// readCore returns the core, and its hash.
func (o *Options) readCore() (code []byte, hash string, err error) {
	switch {
	case o.CorePath != "":
		if code, err = os.ReadFile(o.CorePath); err != nil {
			return nil, "", ErrBadInput.Because(err, "Options.CorePath: %v", err)
		}
	case o.Core != nil:
		code = o.Core
	default:
		code = wasm.Builtin()
	}
	hash = wasm.Hash(code)
	return code, hash, o.checkCorePin(hash)
}

// cacheDir returns the directory for compiled code, "" for none.
func (o *Options) cacheDir(log *slog.Logger) string {
	switch o.CacheDir {
	case "off":
		return ""
	case "":
		dir, err := wasm.DefaultCacheDir()
		if err != nil {
			log.Warn("no cache for compiled code: starting takes longer", "error", err)
		}
		return dir
	}
	return o.CacheDir
}

// logger returns the host's logger, which does not repeat itself.
func (o *Options) logger() *slog.Logger { return slog.New(calm.New(o.Logger.Handler())) }

// Drain waits for a moment at which nothing is in flight: every request that the host has taken in has
// its outcome. If ctx ends first, it returns [ErrTimeout] or [ErrCanceled].
func (h *Host) Drain(ctx context.Context) error { return h.engines.Drain(ctx) }

// Shutdown takes nothing more in, waits for the requests that it has, closes every engine, ends the
// workers and frees everything. If ctx ends first, the requests that run are interrupted, fail with
// [ErrShutdown] and have no effect; Shutdown still frees everything, and returns the context's error.
// It may be called any number of times: the context that ends first counts.
func (h *Host) Shutdown(ctx context.Context) error { return h.engines.Shutdown(ctx) }

// CoreHash returns the SHA-256 of the core, in hexadecimal.
func (h *Host) CoreHash() string { return h.hash }

// CoreToolchain returns what the core says of the compiler that made it, or "". It waits until the core is compiled.
func (h *Host) CoreToolchain() string {
	if core, err := h.engines.Core().Wait(context.Background()); err == nil {
		return core.Toolchain()
	}
	return ""
}
