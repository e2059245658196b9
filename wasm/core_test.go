package wasm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hypertoken/internal/cores"
)

// module is a WebAssembly module in the making, by the binary format's sections.
type module struct {
	imports, functions, exports, bodies []byte
	nImports, nFunctions, nExports      byte
	memory                              bool
}

// The types of every module here: () -> i32, (i32) -> i32, (i32, i32) -> i32, () -> ().
var types = []byte{4,
	0x60, 0, 1, 0x7f,
	0x60, 1, 0x7f, 1, 0x7f,
	0x60, 2, 0x7f, 0x7f, 1, 0x7f,
	0x60, 0, 0}

func name(s string) []byte { return append([]byte{byte(len(s))}, s...) }

func (m *module) importing(from, what string, desc ...byte) *module {
	m.imports = slices.Concat(m.imports, name(from), name(what), desc)
	m.nImports++
	return m
}

// function exports a function of a type; it returns a constant.
func (m *module) function(export string, typ, result byte) *module {
	m.exports = slices.Concat(m.exports, name(export), []byte{0, m.nFunctions})
	m.functions = append(m.functions, typ)
	m.nFunctions++
	m.nExports++
	body := []byte{4, 0, 0x41, result, 0x0b}
	if typ == 3 {
		body = []byte{2, 0, 0x0b}
	}
	m.bodies = append(m.bodies, body...)
	return m
}

func (m *module) bytes() []byte {
	section := func(id byte, parts ...[]byte) []byte {
		b := slices.Concat(parts...)
		return slices.Concat([]byte{id, byte(len(b))}, b)
	}
	exports, n := m.exports, m.nExports
	memory := []byte{0}
	if m.memory {
		memory = []byte{1, 0, 1}
		exports, n = slices.Concat(exports, name("memory"), []byte{2, 0}), n+1
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, types), section(2, []byte{m.nImports}, m.imports), section(3, []byte{m.nFunctions}, m.functions),
		section(5, memory), section(7, []byte{n}, exports), section(10, []byte{m.nFunctions}, m.bodies))
}

// whole is a module with all exports of the ABI.
func whole(version byte) *module {
	m := &module{memory: true}
	return m.function("ht_abi", 0, version).function("ht_reply", 0, 0).function("ht_input", 1, 0).function("ht_call", 2, 0)
}

func TestWhatIsNotACoreIsRefusedWithTheReason(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
		want string
	}{
		{"nothing", nil, "magic"},
		{"no WebAssembly", []byte("#!/bin/sh\n"), "magic"},
		{"cut short", Builtin()[:len(Builtin())/2], ""},
		{"imports a function", whole(1).importing("env", "clock", 0, 3).bytes(), "it imports env.clock: a core imports nothing"},
		{"imports a global", whole(1).importing("env", "g", 3, 0x7f, 0).bytes(), "env"},
		{"lacks an export", (&module{memory: true}).function("ht_abi", 0, 1).bytes(), "it does not export the function ht_reply"},
		{"lacks its memory", func() []byte { m := whole(1); m.memory = false; return m.bytes() }(), "it does not export its memory"},
		{"another type", (&module{memory: true}).function("ht_abi", 3, 0).bytes(), "its ht_abi has another type"},
		{"another version", whole(2).bytes(), "the core speaks version 2 of the ABI, not 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(t.Context(), c.code, Options{})
			if !errors.Is(err, ErrCore) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrCore with %q", err, c.want)
			}
		})
	}
	core, err := Compile(t.Context(), whole(1).bytes(), Options{})
	if err != nil {
		t.Fatalf("the module that the others vary is refused itself: %v", err)
	}
	_ = core.Close(t.Context())
}

func TestMemoryLimitIsBounded(t *testing.T) {
	for limit, ok := range map[uint64]bool{2<<20 - 1: false, 2 << 20: true, 4 << 30: true, 4<<30 + 1: false} {
		c, err := Compile(t.Context(), Builtin(), Options{MemoryLimit: limit})
		if (err == nil) != ok {
			t.Errorf("limit %d: %v", limit, err)
		}
		if err == nil {
			_ = c.Close(t.Context())
		}
	}
}

func TestCoreSaysWhatItIs(t *testing.T) {
	c := compile(t, Options{})
	if len(c.Hash()) != 64 || c.Hash() != Hash(Builtin()) {
		t.Errorf("hash %q", c.Hash())
	}
	if !strings.HasPrefix(c.Toolchain(), "rustc ") {
		t.Errorf("toolchain %q", c.Toolchain())
	}
}

func TestCacheIsUsedByTheNextProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	files := func() (n int) {
		_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, _ error) error {
			if !d.IsDir() {
				n++
			}
			return nil
		})
		return n
	}
	compileWith := func() error {
		cache, err := OpenCache(dir)
		if err != nil {
			return err
		}
		defer func() { _ = cache.Close(t.Context()) }()
		c, err := Compile(t.Context(), cores.Test, Options{Cache: cache})
		if err != nil {
			return err
		}
		return errors.Join(cache.Err(), c.Close(t.Context()))
	}
	// Several at once, as several processes would.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := compileWith(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if files() != 1 {
		t.Fatalf("%d files in the cache, want 1", files())
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache's directory: %v, %v", info.Mode(), err)
	}
	// Plain and interruptible code have entries of their own.
	cache, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cache.Close(t.Context()) }()
	c, err := Compile(t.Context(), cores.Test, Options{Cache: cache, Interruptible: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
	if files() != 2 {
		t.Errorf("%d files in the cache, want 2", files())
	}
}

func TestCacheThatOthersMayWriteIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCache(dir); err == nil || !strings.Contains(err.Error(), "others may write there") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCache(file); err == nil {
		t.Error("a file passes for a directory")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCache(link); err == nil {
		t.Error("a link passes for a directory")
	}
}

// Damaged and vanished entries cost time, never the core.
func TestDamagedCacheIsPassedOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	compileOnce := func() *Cache {
		t.Helper()
		cache, err := OpenCache(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cache.Close(t.Context()) })
		c, err := Compile(t.Context(), cores.Test, Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close(t.Context())
		return cache
	}
	compileOnce()
	damage := func(b []byte) {
		t.Helper()
		if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			return os.WriteFile(path, b, 0o600)
		}); err != nil {
			t.Fatal(err)
		}
	}
	damage([]byte("not compiled code"))
	if compileOnce().Err() == nil {
		t.Error("nobody learns that the cache was not used")
	}
	damage(nil)
	compileOnce()
}
