package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"hypertoken/internal/executor"
	"hypertoken/wasm"
)

// The core in this process: compiled in the background, and again if that failed and somebody needs
// it; and the list of its actions, wherever that comes from.

// compilation is one attempt to compile the core for this process. The fields below done are set once done is closed.
type compilation struct {
	done  chan struct{}
	ended time.Time
	cache *wasm.Cache
	core  *wasm.Core
	err   error
}

// localCore is the core in this process.
type localCore struct {
	mu     sync.Mutex // guards newest
	newest *compilation
}

// compileAgainAfter is how long after a failed attempt to compile the core the next one may begin.
const compileAgainAfter = time.Second

// compilation returns the newest attempt to compile the core. If it failed, what was in its way may
// have gone: a machine that was too slow for StartTimeout, a lack of memory or of descriptors. So
// whoever needs the core starts another attempt then.
func (h *Host) compilation() *compilation {
	l := &h.local
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.newest; c != nil {
		select {
		case <-c.done:
			if c.err == nil || time.Since(c.ended) < compileAgainAfter || h.life.Err() != nil {
				return c
			}
		default:
			return c
		}
	}
	c := &compilation{done: make(chan struct{})}
	l.newest = c
	h.spawn(func() {
		defer close(c.done)
		c.compile(h)
		c.ended = time.Now()
	})
	return c
}

// wait returns the core once it is compiled. It fails with ErrBadInput if the core can't be run, and
// with the error of a context that ends first.
func (c *compilation) wait(ctx context.Context) (*wasm.Core, error) {
	select {
	case <-c.done:
		return c.core, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// compile compiles the core for this process. There it can be interrupted; with Options.NoFallback it is only checked.
func (c *compilation) compile(h *Host) {
	o := &h.options
	if h.cacheDir != "" {
		var err error
		if c.cache, err = wasm.OpenCache(h.cacheDir); err != nil {
			h.log.Warn("no cache for compiled code: starting takes longer", "error", err)
		}
	}
	core, err := wasm.Compile(h.life, h.code, wasm.Options{
		Interruptible: !o.NoFallback, CompileOnly: o.NoFallback,
		MemoryLimit: uint64(o.MaxEngineMemory), FirstInstance: o.StartTimeout, Cache: c.cache})
	if err != nil {
		c.err = ErrBadInput.Because(err, "%s can't be run: %v", o.coreName(), err)
		_ = c.cache.Close(context.Background())
		c.cache = nil
		return
	}
	if err := c.cache.Err(); err != nil {
		h.log.Warn("compiled without the cache: starting takes longer", "error", err)
	}
	if err := c.cache.Untrusted(); err != nil {
		h.log.Warn("compiled code in the cache was not this user's own, and is replaced", "error", err,
			"remedy", "delete the cache's directory: others could write there")
	}
	if err := core.Slow(); err != nil {
		h.log.Warn("the core is up to five times slower in this process: it has something that is not known here",
			"error", err)
	}
	if err := core.Interpreted(); err != nil {
		h.log.Warn("actions run some 20 times slower: cores are interpreted, as they can't be compiled here",
			"error", err,
			"remedy", "allow executable memory (systemd: MemoryDenyWriteExecute=no; SELinux: execmem; prctl: no PR_SET_MDWE)")
	}
	c.core = core
	h.log.Debug("core compiled", "hash", core.Hash(), "toolchain", core.Toolchain())
}

// close frees the compiled core. Nothing runs in this process any more.
func (l *localCore) close(ctx context.Context) error {
	c := l.newest
	if c == nil {
		return nil
	}
	<-c.done
	var err error
	if c.core != nil {
		err = c.core.Close(ctx)
	}
	return errors.Join(err, c.cache.Close(ctx))
}

// instance makes an instance in this process.
func (h *Host) instance(ctx context.Context) (executor.Instance, error) {
	core, err := h.compilation().wait(ctx)
	if err != nil {
		return nil, err
	}
	return core.Instantiate(ctx)
}

// CoreHash returns the SHA-256 of the core, in hexadecimal.
func (h *Host) CoreHash() string { return h.hash }

// CoreToolchain returns what the core says of the compiler that made it, or "". It waits until the core is compiled.
func (h *Host) CoreToolchain() string {
	if core, err := h.compilation().wait(context.Background()); err == nil {
		return core.Toolchain()
	}
	return ""
}

// actionList is the core's list of actions as a worker told it, once one has.
type actionList struct {
	once  sync.Once // guards known
	known chan struct{}
	list  []byte
}

// tell takes in a list of actions that a worker has told. The first one counts.
func (a *actionList) tell(list []byte) {
	if len(list) == 0 {
		return
	}
	a.once.Do(func() {
		a.list = append([]byte(nil), list...)
		close(a.known)
	})
}

// encodedActions returns the core's list of actions as MessagePack. With Options.NoFallback a worker tells it.
func (h *Host) encodedActions(ctx context.Context) ([]byte, error) {
	if h.options.NoFallback {
		select {
		case <-h.actions.known:
			return h.actions.list, nil
		case <-ctx.Done():
			return nil, ended(ctx, "Actions")
		case <-h.life.Done():
			return nil, shutdownError()
		}
	}
	return h.askCore(ctx, "Actions", (*wasm.Instance).Actions)
}

// askCore returns what an instance of the core in this process says of the core. what names the caller in errors.
func (h *Host) askCore(
	ctx context.Context, what string, question func(*wasm.Instance, context.Context) ([]byte, error),
) ([]byte, error) {
	core, err := h.compilation().wait(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ended(ctx, what)
		}
		return nil, err
	}
	i, err := core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close(ctx) }()
	return question(i, ctx)
}
