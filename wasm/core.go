// Package wasm runs the core under wazero: it compiles a core once per process and makes one instance per engine.
//
// A [Core] is compiled code and may be used by any number of goroutines. An [Instance] is one engine with a linear
// memory of its own; one goroutine at a time may use it. Whatever a core does stays in its instance: a trap, an
// exhausted memory, or a reply that breaks the ABI is an error of that call, of type [*TrapError], and the instance is
// closed with it. The state it held is gone; restore a snapshot into a fresh one.
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

// Builtin returns the core with the built-in actions, as WebAssembly. The caller must not change it.
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
	// Interruptible makes calls end when their context does, and lets the collector stop them, at a
	// cost of some 3 %: loops and functions count down. Without it, a context that ends during a call
	// is ignored.
	Interruptible bool
	// MemoryLimit bounds each instance's linear memory, in bytes, rounded down to 64 KiB pages: at least 2 MiB, at
	// most 4 GiB. 0 means DefaultMemoryLimit.
	MemoryLimit uint64
	// FirstInstance bounds how long the first instance may take, by which an interruptible core is
	// checked: a core's start function may have no end. 0 is no bound.
	FirstInstance time.Duration
	// CompileOnly runs nothing of the core: what only its first instance could tell is not checked.
	CompileOnly bool
	// Cache keeps compiled code between processes. nil compiles anew.
	Cache *Cache
	// Compiled, where it is set, is called once the core is compiled and before any of its code runs.
	// From then on the core needs no file.
	Compiled func()

	// watched leaves an interruptible core as it is, and its contexts to wazero, as happens to one that
	// can't be rewritten.
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
	// interruptible is Options.Interruptible. Where slow is not nil, wazero watches the contexts of its calls.
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

// Hash returns what names a core: the SHA-256 of its bytes, in hexadecimal.
func Hash(code []byte) string {
	if len(code) > 0 && &code[0] == &builtin[0] && len(code) == len(builtin) {
		return builtinHash()
	}
	return hash(code)
}

// builtinHash is asked for several times in a start.
var builtinHash = sync.OnceValue(func() string { return hash(builtin) })

func hash(code []byte) string {
	sum := sha256.Sum256(code)
	return hex.EncodeToString(sum[:])
}

// naming is held where wazero looks up its own version, which it keeps in a variable without a lock: several hosts of a
// process start at once.
var naming sync.Mutex

// Compile compiles a core. It refuses one that imports anything, that lacks an export of the ABI, or that speaks
// another version of it; the error wraps [ErrCore] and says which. With a warm cache this takes a few milliseconds,
// without one some hundred. The core must be closed by its user, after its instances.
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
		err = c.try(ctx, o.FirstInstance)
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
	// yielding is a core that was rewritten, watched one whose context wazero watches, interpreted one
	// that is not compiled.
	yielding, watched, interpreted bool
}

// ofYielding returns a builder of the same core, rewritten.
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

// newRuntime makes a runtime. It gives naming back if wazero panics.
func newRuntime(ctx context.Context, config wazero.RuntimeConfig) wazero.Runtime {
	naming.Lock()
	defer naming.Unlock()
	return wazero.NewRuntimeWithConfig(ctx, config)
}

// cached builds a core with what the cache has of it. A cache that is full, read-only or gone costs
// time, never the core.
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

// check holds a compiled module against the ABI.
func (c *Core) check(code []byte) error {
	var imports []string
	if c.slow != nil || !c.interruptible { // what was rewritten had no imports, and has ours
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

// try makes an instance. It says which ABI the core speaks; imports of other kinds fail here too.
func (c *Core) try(ctx context.Context, within time.Duration) error {
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

// Toolchain returns what the core says of the compiler that made it, such as "rustc 1.96.0", or "".
func (c *Core) Toolchain() string { return c.toolchain }

// Slow says why an interruptible core runs up to five times slower than a plain one: the error
// names what it has that is not known here. It is nil for all others.
func (c *Core) Slow() error { return c.slow }

// Interpreted says why the core is interpreted, some 20 times slower than compiled code: this kind
// of CPU has no compiler, or the system forbids executable memory. It is nil for a core that is
// compiled. Both compute the same.
func (c *Core) Interpreted() error { return c.interpreted }

// Instances returns how many instances are open.
func (c *Core) Instances() int { return int(c.instances.Load()) }

// Close frees the compiled code. Instances must be closed before.
func (c *Core) Close(ctx context.Context) error { return c.runtime.Close(ctx) }
