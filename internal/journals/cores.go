package journals

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hypertoken/journal"
	"hypertoken/wasm"
)

// firstInstance bounds the time for making the first instance of a core.
const firstInstance = time.Minute

// Options configure a [Verifier] or a [Reader]. The zero value is good.
type Options struct {
	// Parallel is how many journals a Verifier checks at a time. The default is a journal for each core
	// of the machine.
	Parallel int
	// MemoryLimit bounds the memory of an engine, in bytes. 0 is the default of package wasm.
	MemoryLimit uint64
	// Cores are the codes of cores that the store may not have, by their SHA-256 in hexadecimal.
	Cores map[string][]byte
	// Cache keeps compiled code; nil compiles anew. The caller closes it after the verifier.
	Cache *wasm.Cache
}

// cores are the cores that wrote the journals of a store, each compiled once.
type cores struct {
	source Source
	o      Options

	mu       sync.Mutex // guards compiled
	compiled map[string]*compiling
}

// compiling is a core that is compiled once.
type compiling struct {
	ready chan struct{} // closed once core or err is there
	core  *wasm.Core
	err   error
}

func newCores(s Source, o Options) cores {
	return cores{source: s, o: o, compiled: map[string]*compiling{}}
}

// get returns the compiled core of a hash. Several goroutines may call it.
func (c *cores) get(ctx context.Context, hash string) (*wasm.Core, error) {
	c.mu.Lock()
	one := c.compiled[hash]
	if one == nil {
		one = &compiling{ready: make(chan struct{})}
		c.compiled[hash] = one
		go func() {
			defer close(one.ready)
			one.core, one.err = c.compile(context.WithoutCancel(ctx), hash)
		}()
	}
	c.mu.Unlock()
	select {
	case <-one.ready:
		return one.core, one.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *cores) compile(ctx context.Context, hash string) (*wasm.Core, error) {
	code, err := c.code(ctx, hash)
	if err != nil {
		return nil, err
	}
	core, err := wasm.Compile(ctx, code, wasm.Options{Interruptible: true, MemoryLimit: c.o.MemoryLimit,
		FirstInstance: firstInstance, Cache: c.o.Cache})
	if err != nil {
		return nil, fmt.Errorf("the core %s can't be run: %w", hash, err)
	}
	return core, nil
}

// code returns the code of a core.
func (c *cores) code(ctx context.Context, hash string) ([]byte, error) {
	if code := c.o.Cores[hash]; code != nil {
		return code, nil
	}
	code, err := Answer(ctx, func(done func([]byte, error)) { c.source.Core(hash, done) })
	switch {
	case err != nil:
		return nil, fmt.Errorf("the core %s: %w", hash, err)
	case code == nil:
		return nil, fmt.Errorf("the core %s, which wrote it, is not in the store: name its file with --core", hash)
	case wasm.Hash(code) != hash:
		return nil, fmt.Errorf("the core %s: %w: the store has the core %s under that name", hash,
			journal.ErrDamaged, wasm.Hash(code))
	}
	return code, nil
}

// close frees the compiled cores. No get is under way.
func (c *cores) close(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, one := range c.compiled {
		<-one.ready
		if one.core != nil {
			errs = append(errs, one.core.Close(ctx))
		}
	}
	return errors.Join(errs...)
}
