package wasm

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// pack encodes a value, or fails the test.
func pack(t testing.TB, v any) []byte {
	t.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
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

func compile(t testing.TB, o Options) *Core {
	t.Helper()
	c, err := Compile(t.Context(), Builtin(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(t.Context()) })
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

// entrySize is how much a cache holds.
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

// BenchmarkAction runs an action of each family, on a state of 52 and of a million tokens: in a plain core, in one that yields
// by itself, and in one whose contexts wazero watches.
func BenchmarkAction(b *testing.B) {
	for _, kind := range []string{"plain", "yielding", "watched"} {
		c := compile(b, Options{Interruptible: kind != "plain", watched: kind == "watched"})
		for _, n := range []int{52, 1_000_000} {
			i, err := c.Instantiate(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			limits := DefaultLimits
			limits.MaxStateBytes = 1 << 30
			if err := i.Open(b.Context(), limits, pack(b, deck(n))); err != nil {
				b.Fatal(err)
			}
			if _, err := i.Dispatch(b.Context(), &Action{Type: "agent:create", Payload: pack(b, dict{"name": "Alice"})}); err != nil {
				b.Fatal(err)
			}
			for _, a := range families(n) {
				payload := pack(b, a.Payload)
				action := &Action{Now: 1, Type: a.Type, Payload: payload}
				undo := make([]*Action, len(a.Undo))
				for k, u := range a.Undo {
					undo[k] = &Action{Now: 1, Type: u.Type, Payload: pack(b, u.Payload)}
				}
				name := fmt.Sprintf("core=%s/tokens=%d/%s", kind, n, a.Type)
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := i.Dispatch(b.Context(), action); err != nil {
							b.Fatal(err)
						}
						for _, u := range undo {
							if _, err := i.Dispatch(b.Context(), u); err != nil {
								b.Fatal(err)
							}
						}
					}
				})
			}
			_ = i.Close(b.Context())
		}
	}
}

type family struct {
	Type    string
	Payload dict
	// Undo puts back what the action took, so that a benchmark may run it any number of times.
	Undo []family
}

// families are the actions that the benchmarks run, one or more a family: those of core-rs/examples/bench.rs.
func families(n int) []family {
	card := dict{"id": "x", "label": "X", "kind": "card", "index": 1}
	return []family{
		{Type: "debug:log", Payload: dict{"n": 1}},
		{Type: "stack:peek", Payload: dict{"count": 1}},
		{Type: "stack:insertAt", Payload: dict{"card": card, "position": n},
			Undo: []family{{Type: "stack:removeAt", Payload: dict{"position": n}}}},
		{Type: "stack:swap", Payload: dict{"i": 0, "j": n - 1}},
		{Type: "stack:shuffle", Payload: dict{"seed": 42}},
		{Type: "space:lockZone", Payload: dict{"zone": "z"},
			Undo: []family{{Type: "space:lockZone", Payload: dict{"zone": "z", "locked": false}}}},
		{Type: "source:shuffle", Payload: dict{"seed": 42}},
		{Type: "agent:addToken", Payload: dict{"name": "Alice", "token": card},
			Undo: []family{{Type: "agent:removeToken", Payload: dict{"name": "Alice", "tokenId": "x"}}}},
		{Type: "game:setProperty", Payload: dict{"key": "pot", "value": 5}},
		{Type: "game:nextTurn", Payload: dict{"agentCount": 4}},
		{Type: "rule:initRules", Payload: dict{}},
		{Type: "token:transform", Payload: dict{"token": card, "properties": dict{"label": "Y"}}},
		{Type: "tokens:count", Payload: dict{"tokens": []dict{card, card}, "predicate": "kind:card"}},
	}
}
