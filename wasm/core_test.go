package wasm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hypertoken/internal/cores"
)

func TestWhatIsNotACoreIsRefusedWithTheReason(t *testing.T) {
	table := func(limits ...byte) []byte {
		m := cores.Whole(1)
		m.Table = append([]byte{0x70}, limits...)
		return m.Bytes()
	}
	for _, c := range []struct {
		name string
		code []byte
		want string // "" for a core
	}{
		{"whole", cores.Whole(1).Bytes(), ""},
		{"nothing", nil, "magic"},
		{"no WebAssembly", []byte("#!/bin/sh\n"), "magic"},
		{"cut short", Builtin()[:len(Builtin())/2], "not a core"},
		{"cut in its header", Builtin()[:6], "not a core"},
		{"imports a function", cores.Whole(1).Importing("env", "clock", 0, 3).Bytes(), "it imports env.clock: a core imports nothing"},
		{"imports a global", cores.Whole(1).Importing("env", "g", 3, 0x7f, 0).Bytes(), "env"},
		{"imports a table", cores.Whole(1).Importing("env", "t", 1, 0x70, 0, 1).Bytes(), "env"},
		{"lacks an export", new(cores.Module).Returns("ht_abi", cores.ToInt, 1).Bytes(), "it does not export the function ht_reply"},
		{"lacks its memory", func() []byte { m := cores.Whole(1); m.NoMemory = true; return m.Bytes() }(), "it does not export its memory"},
		{"another type", new(cores.Module).Function("ht_abi", cores.ToNothing).Bytes(), "its ht_abi has another type"},
		{"another version", cores.Whole(2).Bytes(), "the core speaks version 2 of the ABI, not 1"},
		{"a start function", cores.Whole(1).Starting(0x01).Bytes(), ""},
		{"a start function that traps", cores.Whole(1).Starting(0x00).Bytes(), "unreachable"},
		{"a start function that never ends", cores.Whole(1).Starting(cores.Endless...).Bytes(), "its first instance was not ready within 100ms"},
		{"a version that never comes", new(cores.Module).Function("ht_abi", cores.ToInt, cores.Endless...).Returns("ht_reply", cores.ToInt, 0).
			Returns("ht_input", cores.IntToInt, 0).Returns("ht_call", cores.IntsToInt, 0).Bytes(),
			"its first instance was not ready within 100ms"},
		{"a memory at its limit", func() []byte { m := cores.Whole(1); m.Pages = 64; return m.Bytes() }(), ""},
		{"a memory above its limit", func() []byte { m := cores.Whole(1); m.Pages = 65; return m.Bytes() }(), "memory"},
		{"a table", table(1, 1, 2), ""},
		{"a table at its limit", table(1, 1, 0x80, 0x80, 0x40), ""},
		{"a table above its limit", table(1, 1, 0x81, 0x80, 0x40), "a table that may have 1048577 elements, 1048576 are allowed"},
		{"a table that is above it at once", table(1, 0x81, 0x80, 0x40, 0x82, 0x80, 0x40), "a table that may have 1048578 elements"},
		{"a table without end", table(0, 1), "a table without a maximum: 1048576 elements are allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Interruptible: true, MemoryLimit: 4 << 20}
			if strings.Contains(c.want, "100ms") {
				o.FirstInstance = 100 * time.Millisecond
			}
			core, err := Compile(t.Context(), c.code, o)
			if err == nil {
				_ = core.Close(t.Context())
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.Is(err, ErrCore) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want ErrCore with %q", err, c.want)
			}
		})
	}
}

// FuzzTables reads any bytes as the sections of a module.
func FuzzTables(f *testing.F) {
	m := cores.Whole(1)
	m.Table = []byte{0x70, 1, 1, 2}
	f.Add(m.Bytes()[8:])
	f.Add([]byte{4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{4, 11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0x70})
	f.Fuzz(func(_ *testing.T, b []byte) { _ = checkTables(append(make([]byte, 8), b...)) })
}

func TestMemoryLimitIsBounded(t *testing.T) {
	for limit, ok := range map[uint64]bool{2<<20 - 1: false, 2 << 20: true, 4 << 30: true, 4<<30 + 1: false} {
		c, err := Compile(t.Context(), Builtin(), Options{MemoryLimit: limit, Cache: sharedCache()})
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
			if !d.IsDir() && filepath.Ext(d.Name()) != ".sum" {
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
	// Several caches compile at once, as several processes would.
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
	if _, err := OpenCache(dir); err == nil || !strings.Contains(err.Error(), "others may write there") ||
		!strings.Contains(err.Error(), "delete it") || strings.Contains(err.Error(), "chmod") {
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

// A damaged entry is replaced: nobody runs it, and the next process finds a good one.
func TestADamagedCacheEntryIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(file string, b []byte) error
	}{
		{"no code at all", func(f string, _ []byte) error { return os.WriteFile(f, []byte("not compiled code"), 0o600) }},
		{"empty", func(f string, _ []byte) error { return os.Truncate(f, 0) }},
		{"cut in the header", func(f string, _ []byte) error { return os.Truncate(f, 10) }},
		{"cut in the code", func(f string, b []byte) error { return os.Truncate(f, int64(len(b)/2)) }},
		{"cut at its end", func(f string, b []byte) error { return os.Truncate(f, int64(len(b)-1)) }},
		// The magic, a length and a version of that length come first, then how many functions
		// there are.
		{"the number of functions", func(f string, b []byte) error { b[10+b[6]] ^= 0x70; return os.WriteFile(f, b, 0o600) }},
		{"where a function begins", func(f string, b []byte) error { b[11+b[6]+8] ^= 1; return os.WriteFile(f, b, 0o600) }},
		{"the code", func(f string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(f, b, 0o600) }},
		{"its checksum", func(f string, _ []byte) error { return os.WriteFile(f+".sum", []byte("0"), 0o600) }},
		{"without a checksum", func(f string, _ []byte) error { return os.Remove(f + ".sum") }},
		{"without an entry", func(f string, _ []byte) error { return os.Remove(f) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			compileOnce := func() {
				t.Helper()
				cache, err := OpenCache(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = cache.Close(t.Context()) }()
				c, err := Compile(t.Context(), small, Options{Cache: cache})
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close(t.Context())
				if err := cache.Err(); err != nil {
					t.Error(err)
				}
			}
			compileOnce()
			found, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.sum"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			file := strings.TrimSuffix(found[0], ".sum")
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(file, bytes.Clone(whole)); err != nil {
				t.Fatal(err)
			}
			compileOnce()
			after, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(after, whole) {
				t.Fatalf("%d bytes instead of the %d that were there before the damage, %v", len(after), len(whole),
					err)
			}
			// The next process uses the entry as it is.
			before := modified(t, file)
			compileOnce()
			if !modified(t, file).Equal(before) {
				t.Error("it is compiled again each time")
			}
		})
	}
}

// small is a core that is compiled very fast.
var small = cores.Whole(1).Bytes()

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// A temporary file that a dead process has left is removed. A temporary file that is being written
// stays.
func TestACacheIsSweptOfHalfWrittenFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	cache, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cache.Close(t.Context()) }()
	parts := filepath.Join(dir, Hash(small), "wazero")
	if err := os.MkdirAll(parts, 0o700); err != nil {
		t.Fatal(err)
	}
	left, written := filepath.Join(parts, "a.1.tmp"), filepath.Join(parts, "a.2.tmp")
	for path, age := range map[string]time.Duration{left: 2 * tmpAge, written: tmpAge / 2} {
		at := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, []byte("half"), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Compile(t.Context(), small, Options{Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
	if _, err := os.Stat(written); err != nil {
		t.Error(err)
	}
}
