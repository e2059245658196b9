// Package wasm runs the core under wazero. It compiles a core once per process, and makes one
// instance per engine.
//
// A [Core] is compiled code and may be used by any number of goroutines. An [Instance] is one
// engine with a linear memory of its own; one goroutine at a time may use it. A core can damage
// only its own instance. A trap, an exhausted memory, or a reply that breaks the ABI is an error
// of that call, of type [*TrapError], and closes the instance. Its state is gone; restore a
// snapshot into a new instance.
//
// The ABI is described in core-rs/ABI.md.
package wasm

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

//go:embed core.wasm
var builtin []byte

// Builtin returns the core with the built-in actions, as WebAssembly. The caller must not change
// it.
func Builtin() []byte { return builtin }

const (
	// ABIVersion is the version of the ABI that this package speaks.
	ABIVersion = 1
	// DefaultMemoryLimit bounds an instance's memory, in bytes.
	DefaultMemoryLimit = 1 << 30

	pageSize = 64 << 10
	// toolchainSection is the custom section in which a core names the compiler that made it.
	toolchainSection = "hypertoken.toolchain"
)

// ErrCore is wrapped by every error about a core that can't be run at all.
var ErrCore = errors.New("not a core")

// Options say how a core is compiled.
type Options struct {
	// Interruptible makes calls end when their context does, and lets the collector stop them, at
	// a cost of some 3 %: loops and functions count down. Without it, a context that ends during a
	// call is ignored.
	Interruptible bool
	// MemoryLimit bounds each instance's linear memory, in bytes, rounded down to 64 KiB pages: at
	// least 2 MiB, at most 4 GiB. 0 means DefaultMemoryLimit.
	MemoryLimit uint64
	// FirstInstance bounds the time for making the first instance, with which an interruptible
	// core is checked: a core's start function may never end. 0 is no bound.
	FirstInstance time.Duration
	// CompileOnly leaves out the first instance, so no code of the core runs. Its version of the
	// ABI is not checked then.
	CompileOnly bool
	// Cache keeps compiled code between processes. nil compiles anew.
	Cache *Cache
	// Compiled, if it is set, is called once the core is compiled and before any of its code runs.
	// From then on the core needs no file.
	Compiled func()

	// watched makes an interruptible core be compiled without rewriting it, so that wazero watches
	// its contexts. That also happens to a core that can't be rewritten.
	watched bool
}

var errWatched = errors.New("it was not tried")

// Core is a compiled core.
type Core struct {
	runtime   wazero.Runtime
	module    wazero.CompiledModule
	hash      string
	toolchain string
	limit     uint64
	instances atomic.Int64
	// interruptible is Options.Interruptible. If slow is not nil, wazero watches the contexts of
	// the calls.
	interruptible bool
	slow          error
	interpreted   error
}

// exports are the functions of the ABI, with their parameters and results, all i32.
var exports = []struct {
	name            string
	params, results int
}{
	{"ht_abi", 0, 1},
	{"ht_reply", 0, 1},
	{"ht_input", 1, 1},
	{"ht_call", 2, 1},
}

// Hash returns the name of a core: the SHA-256 of its bytes, in hexadecimal.
func Hash(code []byte) string {
	if len(code) > 0 && &code[0] == &builtin[0] && len(code) == len(builtin) {
		return builtinHash()
	}
	return hash(code)
}

// builtinHash returns the hash of the built-in core. A start asks for it several times, so it is
// kept.
var builtinHash = sync.OnceValue(func() string { return hash(builtin) })

func hash(code []byte) string {
	sum := sha256.Sum256(code)
	return hex.EncodeToString(sum[:])
}

// naming is held while wazero looks up its own version. wazero keeps the version in a variable
// without a lock, and several hosts of one process may start at once.
var naming sync.Mutex

// Compile compiles a core. It refuses a core that imports anything, that lacks an export of the
// ABI, or that speaks another version of the ABI; the error wraps [ErrCore] and gives the reason.
// It takes a few milliseconds if the cache has the core, else some hundred. The caller closes the
// core, after its instances.
func Compile(ctx context.Context, code []byte, o Options) (*Core, error) {
	limit := o.MemoryLimit
	if limit == 0 {
		limit = DefaultMemoryLimit
	}
	if limit < 2<<20 || limit > 4<<30 {
		return nil, fmt.Errorf("wasm: a memory limit of %d bytes is outside 2 MiB to 4 GiB", limit)
	}
	name, why, cache := Hash(code), interpreted(), o.Cache
	b := builder{limit: limit, code: code, interpreted: why != nil}
	if why != nil {
		cache = nil // there is no code to keep
	}
	var c *Core
	var slow error
	var err error
	if o.Interruptible {
		var yielding []byte
		if slow = errWatched; !o.watched {
			yielding, slow = rewrite(code)
		}
		if slow == nil {
			c, slow = cached(cache, name+"-yielding", b.ofYielding(yielding).build(ctx))
		}
		if slow != nil {
			// It has something that is not known here, or is no core, of which wazero says more.
			b.watched = true
			c, err = cached(cache, name+"-interruptible", b.build(ctx))
		}
	} else {
		c, err = cached(cache, name, b.build(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("wasm: %w: %w", ErrCore, err)
	}
	c.hash, c.limit, c.interruptible, c.slow, c.interpreted = name, limit, o.Interruptible, slow, why
	if o.Compiled != nil {
		o.Compiled()
	}
	if err = c.check(code); err == nil && !o.CompileOnly {
		err = c.checkInstance(ctx, o.FirstInstance)
	}
	if err != nil {
		_ = c.Close(ctx)
		return nil, fmt.Errorf("wasm: %w: %w", ErrCore, err)
	}
	return c, nil
}

// builder compiles a module for a runtime of its own.
type builder struct {
	limit uint64
	code  []byte
	// yielding is true for a core that was rewritten, watched if wazero watches its contexts,
	// interpreted if the core is not compiled.
	yielding, watched, interpreted bool
}

// ofYielding returns a builder for the same core; code is its rewritten form.
func (b builder) ofYielding(code []byte) builder {
	b.code, b.yielding = code, true
	return b
}

func (b builder) build(ctx context.Context) func(wazero.CompilationCache) (*Core, error) {
	return func(cache wazero.CompilationCache) (_ *Core, err error) {
		defer guard(&err)
		config := wazero.NewRuntimeConfigCompiler()
		if b.interpreted {
			config = wazero.NewRuntimeConfigInterpreter()
		}
		config = config.
			WithCloseOnContextDone(b.watched).
			WithMemoryLimitPages(uint32(b.limit / pageSize)).
			WithDebugInfoEnabled(false).
			WithCustomSections(true).
			WithCoreFeatures(api.CoreFeaturesV2)
		if cache != nil {
			config = config.WithCompilationCache(cache)
		}
		r := newRuntime(ctx, config)
		module, err := r.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), b.code)
		if err == nil && b.yielding {
			err = offerYield(ctx, r)
		}
		if err != nil {
			_ = r.Close(ctx)
			return nil, err
		}
		return &Core{runtime: r, module: module}, nil
	}
}

// newRuntime makes a runtime. It unlocks naming even if wazero panics.
func newRuntime(ctx context.Context, config wazero.RuntimeConfig) wazero.Runtime {
	naming.Lock()
	defer naming.Unlock()
	return wazero.NewRuntimeWithConfig(ctx, config)
}

// cached builds a core with the cache. If the cache is full, read-only or gone, the core is built
// without it, which only takes longer.
func cached(cache *Cache, name string, build func(wazero.CompilationCache) (*Core, error)) (*Core, error) {
	if cache == nil {
		return build(nil)
	}
	var c *Core
	entry, err := cache.entry(name)
	if err == nil {
		defer entry.unlock()
		if c, err = build(entry.files); err == nil {
			if err := entry.stored(); err != nil {
				cache.note(err)
			}
			return c, nil
		}
	}
	c, plain := build(nil)
	if plain == nil {
		cache.note(err)
	}
	return c, plain
}

// check fails if a compiled module does not have the imports and exports that the ABI asks for.
func (c *Core) check(code []byte) error {
	var imports []string
	if c.slow != nil || !c.interruptible { // a rewritten core had no imports, and now has that of yield
		for _, f := range c.module.ImportedFunctions() {
			module, name, _ := f.Import()
			imports = append(imports, module+"."+name)
		}
	}
	for _, m := range c.module.ImportedMemories() {
		module, name, _ := m.Import()
		imports = append(imports, module+"."+name)
	}
	if len(imports) > 0 {
		return fmt.Errorf("it imports %s: a core imports nothing", strings.Join(imports, ", "))
	}
	functions := c.module.ExportedFunctions()
	for _, e := range exports {
		f, ok := functions[e.name]
		if !ok {
			return fmt.Errorf("it does not export the function %s", e.name)
		}
		i32 := func(n int) []api.ValueType { return slices.Repeat([]api.ValueType{api.ValueTypeI32}, n) }
		if !slices.Equal(f.ParamTypes(), i32(e.params)) || !slices.Equal(f.ResultTypes(), i32(e.results)) {
			return fmt.Errorf("its %s has another type than %d i32 to %d i32", e.name, e.params, e.results)
		}
	}
	if _, ok := c.module.ExportedMemories()["memory"]; !ok {
		return errors.New("it does not export its memory")
	}
	for _, s := range c.module.CustomSections() {
		if s.Name() == toolchainSection {
			c.toolchain = string(s.Data())
		}
	}
	return checkTables(code)
}

// checkInstance makes an instance and closes it. It fails if the core speaks another version of
// the ABI, or has imports that check does not see.
func (c *Core) checkInstance(ctx context.Context, within time.Duration) error {
	making := ctx
	if within > 0 {
		var cancel context.CancelFunc
		making, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	i, err := c.Instantiate(making)
	switch {
	case err == nil:
		return i.Close(ctx)
	case making.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("its first instance was not ready within %v: %w", within, err)
	}
	return err
}

// Hash returns the SHA-256 of the core's bytes, in hexadecimal.
func (c *Core) Hash() string { return c.hash }

// Toolchain returns the compiler that made the core, such as "rustc 1.96.0"; "" if the core does
// not name it.
func (c *Core) Toolchain() string { return c.toolchain }

// Slow returns the reason why an interruptible core could not be rewritten: it has something that
// this package does not know. Such a core runs up to five times slower. Slow returns nil for all
// other cores.
func (c *Core) Slow() error { return c.slow }

// Interpreted returns the reason why the core is interpreted: wazero has no compiler for this kind
// of CPU, or the system forbids executable memory. Such a core gives the same results, and runs
// some 20 times slower. Interpreted returns nil for a compiled core.
func (c *Core) Interpreted() error { return c.interpreted }

// Instances returns how many instances are open.
func (c *Core) Instances() int { return int(c.instances.Load()) }

// Close frees the compiled code. Instances must be closed before.
func (c *Core) Close(ctx context.Context) error { return c.runtime.Close(ctx) }
