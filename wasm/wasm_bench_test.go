package wasm

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/cores"
)

// pack encodes a value in canonical form, if its keys are strings. On an error the test fails.
func pack(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	enc.SetSortMapKeys(true)
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type dict = map[string]any

// deck returns a setup with a stack of n tokens.
func deck(n int) dict {
	tokens := make([]dict, n)
	for i := range tokens {
		tokens[i] = dict{"id": fmt.Sprint("t", i), "label": fmt.Sprint("Token ", i), "kind": "card", "index": i}
	}
	return dict{"stack": tokens, "source": dict{"stacks": [][]dict{tokens}}}
}

// sharedCache returns the user's cache of compiled code, which all test programs share; nil if
// there is none.
var sharedCache = sync.OnceValue(func() *Cache {
	dir, err := DefaultCacheDir()
	if err != nil {
		return nil
	}
	cache, err := OpenCache(dir)
	if err != nil {
		return nil
	}
	return cache
})

// compile returns the built-in core. It is compiled, or taken from the shared cache.
func compile(t testing.TB, o Options) *Core { return compileCode(t, Builtin(), o) }

// compileTest does the same with the core for tests.
func compileTest(t testing.TB, o Options) *Core { return compileCode(t, cores.Test, o) }

func compileCode(t testing.TB, code []byte, o Options) *Core {
	t.Helper()
	o.Cache = sharedCache()
	c, err := Compile(t.Context(), code, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func BenchmarkCompile(b *testing.B) {
	for _, interruptible := range []bool{false, true} {
		b.Run(fmt.Sprintf("interruptible=%t/cold", interruptible), func(b *testing.B) {
			for b.Loop() {
				c, err := Compile(b.Context(), Builtin(), Options{Interruptible: interruptible})
				if err != nil {
					b.Fatal(err)
				}
				_ = c.Close(b.Context())
			}
		})
		b.Run(fmt.Sprintf("interruptible=%t/cached", interruptible), func(b *testing.B) {
			dir := b.TempDir() + "/cache"
			for b.Loop() {
				cache, err := OpenCache(dir)
				if err != nil {
					b.Fatal(err)
				}
				c, err := Compile(b.Context(), Builtin(), Options{Interruptible: interruptible, Cache: cache})
				if err != nil {
					b.Fatal(err)
				}
				_ = c.Close(b.Context())
				_ = cache.Close(b.Context())
			}
			b.ReportMetric(float64(entrySize(b, dir))/1e6, "MB-code")
		})
	}
}

// entrySize returns the size of the files in a cache, in bytes.
func entrySize(t testing.TB, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		size += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func BenchmarkInstantiate(b *testing.B) {
	c := compile(b, Options{})
	b.ReportAllocs()
	memory := uint64(0)
	for b.Loop() {
		i, err := c.Instantiate(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := i.Open(b.Context(), DefaultLimits, nil); err != nil {
			b.Fatal(err)
		}
		memory = i.Memory()
		_ = i.Close(b.Context())
	}
	b.ReportMetric(float64(memory)/1024, "KiB/engine")
}

func BenchmarkRewrite(b *testing.B) {
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		code, err := rewrite(Builtin())
		if err != nil {
			b.Fatal(err)
		}
		n = len(code)
	}
	b.ReportMetric(float64(n)/float64(len(Builtin())), "size")
}
