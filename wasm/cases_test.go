package wasm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// casesFile has the cases that core-rs/benches/core.rs runs natively. That file explains them.
const casesFile = "../core-rs/benches/cases.json"

type benchCases struct {
	Tokens      []int
	Card        any
	Setup, Fill [][2]any
	Cases       []benchCase
}

type benchCase struct {
	Family      string
	Steps, Undo [][2]any
	Repeat      any
	Most        int
}

// BenchmarkAction runs the cases in a plain core, in a core that yields, and in a core whose
// contexts wazero watches. ns/op is the time of one step.
func BenchmarkAction(b *testing.B) {
	text, err := os.ReadFile(casesFile)
	if err != nil {
		b.Fatal(err)
	}
	var cases benchCases
	if err := json.Unmarshal(text, &cases); err != nil {
		b.Fatal(err)
	}
	for _, mode := range []string{"plain", "yielding", "watched"} {
		b.Run(mode, func(b *testing.B) {
			c := compile(b, Options{Interruptible: mode != "plain", watched: mode == "watched", MemoryLimit: 4 << 30})
			for _, n := range cases.Tokens {
				b.Run(fmt.Sprintf("tokens=%d", n), func(b *testing.B) {
					e := newCaseEngine(b, c, &cases, n)
					for _, k := range cases.Cases {
						if k.Most == 0 || n <= k.Most {
							b.Run(k.Family, func(b *testing.B) { e.bench(b, &k) })
						}
					}
				})
			}
		})
	}
}

// caseEngine is an engine with n tokens.
type caseEngine struct {
	core     *Core
	instance *Instance
	sent     uint64
	words    map[string]any
	snapshot []byte
}

func newCaseEngine(b *testing.B, c *Core, cases *benchCases, n int) *caseEngine {
	limits := DefaultLimits
	limits.MaxStateBytes, limits.MaxResult = 2<<30, 1<<30
	e := &caseEngine{core: c, instance: open(b, c, nil)}
	if err := e.instance.Open(b.Context(), limits, pack(b, deck(n))); err != nil {
		b.Fatal(err)
	}
	e.words = map[string]any{"$card": cases.Card, "$hand": deck(52)["stack"], "$tokens": n, "$half": n / 2,
		"$some": min(n/2, 5000), "$last": n - 1}
	e.run(b, e.steps(b, cases.Setup), 1)
	var placed struct {
		ID string `msgpack:"id"`
	}
	for _, s := range cases.Fill {
		e.run(b, e.steps(b, [][2]any{s}), n-1)
		r, err := e.instance.Dispatch(b.Context(), &Action{Type: s[0].(string), Payload: e.pack(b, s[1])})
		if err != nil {
			b.Fatal(err)
		}
		if err := msgpack.Unmarshal(r.Result, &placed); err != nil {
			b.Fatal(err)
		}
	}
	e.words["$id"] = placed.ID
	e.snapshot = snapshot(b, e.instance)
	return e
}

// fill replaces placeholder words by their values, and makes integers of JSON's numbers.
func (e *caseEngine) fill(v any) any {
	switch v := v.(type) {
	case string:
		if word, ok := e.words[v]; ok {
			return e.fill(word)
		}
	case float64:
		return int(v)
	case []any:
		filled := make([]any, len(v))
		for i := range v {
			filled[i] = e.fill(v[i])
		}
		return filled
	case map[string]any:
		filled := dict{}
		for key := range v {
			filled[key] = e.fill(v[key])
		}
		return filled
	}
	return v
}

func (e *caseEngine) pack(b *testing.B, payload any) []byte { return pack(b, e.fill(payload)) }

// steps turns steps into functions. Each dispatch has entropy of its own.
func (e *caseEngine) steps(b *testing.B, steps [][2]any) []func() error {
	ctx, discard := b.Context(), func([]byte) error { return nil }
	var run []func() error
	for _, s := range steps {
		switch name := s[0].(string); name {
		case "@state":
			run = append(run, func() error { return e.instance.State(ctx, discard) })
		case "@snapshot":
			run = append(run, func() error { return e.instance.Snapshot(ctx, discard) })
		case "@digest":
			run = append(run, func() error {
				_, err := e.instance.Digest(ctx)
				return err
			})
		case "@restore":
			run = append(run, func() error {
				i, err := e.core.Instantiate(ctx)
				if err != nil {
					return err
				}
				return errors.Join(i.Restore(ctx, e.snapshot), i.Close(ctx))
			})
		default:
			action := &Action{Now: 1, Type: name, Payload: e.pack(b, s[1])}
			run = append(run, func() error {
				e.sent++
				binary.LittleEndian.PutUint64(action.Entropy[:], e.sent)
				_, err := e.instance.Dispatch(ctx, action)
				return err
			})
		}
	}
	return run
}

func (e *caseEngine) run(b *testing.B, steps []func() error, times int) {
	for range times {
		for _, step := range steps {
			if err := step(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func (e *caseEngine) bench(b *testing.B, k *benchCase) {
	steps, undo := e.steps(b, k.Steps), e.steps(b, k.Undo)
	if len(undo) == 0 {
		for b.Loop() {
			e.run(b, steps, 1)
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N*len(steps)), "ns/op")
		return
	}
	repeat := e.fill(k.Repeat).(int)
	var timed time.Duration
	for b.Loop() {
		start := time.Now()
		e.run(b, steps, repeat)
		timed += time.Since(start)
		e.run(b, undo, 1)
	}
	b.ReportMetric(float64(timed)/float64(b.N*repeat*len(steps)), "ns/op")
}
