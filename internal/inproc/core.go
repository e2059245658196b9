package inproc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"hypertoken/internal/executor"
	"hypertoken/internal/fault"
	"hypertoken/wasm"
)

// CoreConfig says how the core is compiled for this process.
type CoreConfig struct {
	// Code is the core, Name what errors call it.
	Code []byte
	Name string
	// CacheDir is where compiled code is kept; "" for nowhere.
	CacheDir string
	// CheckOnly has the core checked and compiled, and never run.
	CheckOnly bool
	// MemoryLimit bounds an instance, in bytes. StartTimeout bounds the making of the first one.
	MemoryLimit  uint64
	StartTimeout time.Duration
	Log          *slog.Logger
}

// Core is the core in this process. It is compiled in the background, and again if that failed and
// it is needed.
type Core struct {
	config CoreConfig
	life   context.Context

	mu     sync.Mutex // guards newest
	newest *compilation
}

// NewCore returns a core that is not compiled yet. If life ends, so does compiling. The caller
// calls Close.
func NewCore(life context.Context, c CoreConfig) *Core { return &Core{config: c, life: life} }

// compilation is one attempt to compile the core. The fields below done are set once done is
// closed.
type compilation struct {
	done  chan struct{}
	ended time.Time
	cache *wasm.Cache
	core  *wasm.Core
	err   error
}

// compileAgainAfter is how long after a failed attempt to compile the core the next one may begin.
const compileAgainAfter = time.Second

// Compile begins to compile the core, unless that has begun. If the newest attempt failed, what was
// in its way may have gone: a machine that was too slow for StartTimeout, a lack of memory or of
// descriptors. So Compile begins another attempt then, but not at once.
func (c *Core) Compile() { c.compilation() }

// compilation returns the newest attempt to compile the core, after Compile.
func (c *Core) compilation() *compilation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.newest; n != nil {
		select {
		case <-n.done:
			if n.err == nil || time.Since(n.ended) < compileAgainAfter || c.life.Err() != nil {
				return n
			}
		default:
			return n
		}
	}
	n := &compilation{done: make(chan struct{})}
	c.newest = n
	go func() { // Close waits for its end
		defer close(n.done)
		n.compile(c.life, &c.config)
		n.ended = time.Now()
	}()
	return n
}

// Wait compiles the core, and returns it. It fails with ErrBadInput if the core can't be run, and
// with the error of ctx if that ends first.
func (c *Core) Wait(ctx context.Context) (*wasm.Core, error) {
	n := c.compilation()
	select {
	case <-n.done:
		return n.core, n.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// compile compiles the core, so that it can be interrupted.
func (c *compilation) compile(life context.Context, o *CoreConfig) {
	if o.CacheDir != "" {
		var err error
		if c.cache, err = wasm.OpenCache(o.CacheDir); err != nil {
			o.Log.Warn("no cache for compiled code: starting takes longer", "error", err)
		}
	}
	core, err := wasm.Compile(life, o.Code, wasm.Options{
		Interruptible: !o.CheckOnly, CompileOnly: o.CheckOnly,
		MemoryLimit: o.MemoryLimit, FirstInstance: o.StartTimeout, Cache: c.cache})
	if err != nil {
		c.err = fault.ErrBadInput.Because(err, "%s can't be run: %v", o.Name, err)
		_ = c.cache.Close(context.Background())
		c.cache = nil
		return
	}
	if err := c.cache.Err(); err != nil {
		o.Log.Warn("compiled without the cache: starting takes longer", "error", err)
	}
	if err := c.cache.Untrusted(); err != nil {
		o.Log.Warn("compiled code in the cache was not this user's own, and is replaced", "error", err,
			"remedy", "delete the cache's directory: others could write there")
	}
	if err := core.Slow(); err != nil {
		o.Log.Warn("the core is up to five times slower in this process: it has something that is not known here",
			"error", err)
	}
	if err := core.Interpreted(); err != nil {
		o.Log.Warn("actions run some 20 times slower: cores are interpreted, as they can't be compiled here",
			"error", err,
			"remedy", "allow executable memory (systemd: MemoryDenyWriteExecute=no; SELinux: execmem; prctl: no PR_SET_MDWE)")
	}
	c.core = core
	o.Log.Debug("core compiled", "hash", core.Hash(), "toolchain", core.Toolchain())
}

// Close frees the compiled core. Nothing runs in this process any more, and life has ended.
func (c *Core) Close(ctx context.Context) error {
	c.mu.Lock()
	n := c.newest
	c.mu.Unlock()
	if n == nil {
		return nil
	}
	<-n.done
	var err error
	if n.core != nil {
		err = n.core.Close(ctx)
	}
	return errors.Join(err, n.cache.Close(ctx))
}

// Instantiate makes an instance, once the core is compiled.
func (c *Core) Instantiate(ctx context.Context) (executor.Instance, error) {
	core, err := c.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return core.Instantiate(ctx)
}

// Question is something that an instance can be asked about the core.
type Question func(*wasm.Instance, context.Context) ([]byte, error)

// Ask returns what an instance says of the core. what names the caller in errors.
func (c *Core) Ask(ctx context.Context, what string, q Question) ([]byte, error) {
	core, err := c.Wait(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = fault.Ended(ctx, what)
		}
		return nil, err
	}
	i, err := core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close(ctx) }()
	return q(i, ctx)
}
