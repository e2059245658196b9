package workerproc

import (
	"context"
	"fmt"
	"log/slog"

	"hypertoken/internal/executor"
	"hypertoken/ipc"
	"hypertoken/wasm"
)

// wazeroRuntime runs cores under wazero. They are not interruptible, because a worker that hangs
// is killed.
type wazeroRuntime struct {
	log   *slog.Logger
	cache *wasm.Cache
	core  *wasm.Core
	// compiled is called before any of the core's code runs.
	compiled func()
}

func (r *wazeroRuntime) Has(hash string) bool { return hash == wasm.Hash(wasm.Builtin()) }

func (r *wazeroRuntime) Use(ctx context.Context, c ipc.ConfigureBody, core []byte) (err error) {
	if core == nil {
		core = wasm.Builtin()
	}
	if c.EngineMemory <= 0 {
		return fmt.Errorf("an engine's memory of %d bytes", c.EngineMemory)
	}
	if c.CacheDir != "" {
		if r.cache, err = wasm.OpenCache(c.CacheDir); err != nil {
			// The host uses the same directory, and warns once. So this is for debugging only.
			r.log.Debug("no cache for compiled code: starting takes longer", "error", err)
		}
	}
	r.core, err = wasm.Compile(ctx, core, wasm.Options{MemoryLimit: uint64(c.EngineMemory), Cache: r.cache,
		Compiled: r.compiled})
	if err := r.cache.Untrusted(); err != nil {
		r.log.Warn("compiled code in the cache was not this user's own, and is replaced", "error", err,
			"remedy", "delete the cache's directory: others could write there")
	}
	if err == nil && r.core.Interpreted() != nil {
		// The host interprets its core, too, and warns once. So this is for debugging only.
		r.log.Debug("the core is interpreted", "error", r.core.Interpreted())
	}
	if err == nil && r.cache.Err() != nil {
		r.log.Debug("compiled without the cache: starting takes longer", "error", r.cache.Err())
	}
	return err
}

func (r *wazeroRuntime) Instantiate(ctx context.Context) (executor.Instance, error) {
	return r.core.Instantiate(ctx)
}

func (r *wazeroRuntime) Actions(ctx context.Context) ([]byte, error) {
	i, err := r.core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close(ctx) }()
	return i.Actions(ctx)
}
