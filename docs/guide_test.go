// Package docs holds the guide. Its snippets are the bodies of these examples: they are compiled and run.
package docs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
	"hypertoken/metrics"
	"hypertoken/workerproc"
)

var (
	ctx  = context.Background()
	core = cores.Example
	deck = map[string]any{"stack": []Card{{"ace"}, {"king"}, {"queen"}, {"jack"}, {"ten"}, {"nine"}}}
)

type Card struct {
	ID string `msgpack:"id"`
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func TestMain(m *testing.M) {
	workerproc.Main()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

func Example_quickStart() {
	engine, err := host.NewEngine(ctx, host.Options{}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	hand, err := host.As[[]Card](engine.Dispatch(ctx, "stack:draw", map[string]any{"count": 2}))
	fmt.Println(hand, err)
	// Output: [{nine} {ten}] <nil>
}

func Example_manyEngines() {
	h, err := host.New(ctx, host.Options{Workers: 2})
	check(err)
	defer h.Shutdown(ctx)

	var futures []*host.Future
	for _, name := range []string{"table-1", "table-2", "table-3"} {
		table, err := h.Open(ctx, name, host.EngineOptions{Setup: deck})
		check(err)
		futures = append(futures, table.DispatchAsync(ctx, "stack:draw", nil))
	}
	results, err := host.All(ctx, futures...)
	fmt.Println(len(results), err)
	// Output: 3 <nil>
}

func Example_options() {
	engine, err := host.NewEngine(ctx, host.Options{
		Debug:   true,            // log placings, snapshots, restarts, and what workers log
		Timeout: 5 * time.Second, // default 30 s
		Core:    core,            // a core of your own; CorePath names a file
	}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	processed, err := host.As[map[string]any](engine.Dispatch(ctx, "process:item", map[string]any{"item": "a"}))
	fmt.Println(processed["processed"], err)
	// Output: 1 <nil>
}

func Example_batching() {
	h, err := host.New(ctx, host.Options{EnableBatching: true, BatchWindow: 10 * time.Millisecond})
	check(err)
	defer h.Shutdown(ctx)
	engine, err := h.Open(ctx, "table", host.EngineOptions{Setup: deck})
	check(err)

	first := engine.DispatchAsync(ctx, "stack:draw", map[string]any{"count": 1})
	second := engine.DispatchAsync(ctx, "stack:draw", map[string]any{"count": 0}) // out of range
	_, err = host.All(ctx, first, second)
	fmt.Println(errors.Is(err, host.ErrBatchAborted))

	_, err = second.Wait(ctx)
	fmt.Println(err)

	state, err := engine.State(ctx) // nothing was drawn
	fmt.Println(state.Sequence, err)
	// Output:
	// true
	// out_of_range: field count: 0 is below 1
	// 0 <nil>
}

func Example_dispatchBatch() {
	engine, err := host.NewEngine(ctx, host.Options{}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	batch, err := engine.DispatchBatch(ctx, host.BatchIndependent, []host.Action{
		{Type: "stack:draw"},
		{Type: "no:such"},
		{Type: "stack:reverse"},
	}, host.Key("order-17"))
	for _, o := range batch.Outcomes {
		fmt.Printf("%d %q\n", o.Result.Sequence, host.CodeOf(o.Err))
	}
	fmt.Println(err)
	// Output:
	// 1 ""
	// 0 "unknown_action"
	// 2 ""
	// <nil>
}

func Example_events() {
	engine, err := host.NewEngine(ctx, host.Options{}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	updates, stop := engine.Events(host.EventStateUpdated)
	defer stop()
	_, err = engine.Dispatch(ctx, "stack:draw", nil)
	check(err)
	update := <-updates
	fmt.Println(update.Action, update.Result.Sequence)
	// Output: stack:draw 1
}

func Example_sequential() {
	engine, err := host.NewEngine(ctx, host.Options{}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	// Actions of one engine apply in the order of their dispatch, so nothing has to be awaited in between.
	engine.DispatchAsync(ctx, "stack:shuffle", map[string]any{"seed": 7})
	engine.DispatchAsync(ctx, "stack:reverse", nil)
	hand, err := host.As[[]Card](engine.Dispatch(ctx, "stack:draw", map[string]any{"count": 2}))
	fmt.Println(len(hand), err)
	// Output: 2 <nil>
}

func Example_conditional() {
	engine, err := host.NewEngine(ctx, host.Options{}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	seen, err := engine.State(ctx)
	check(err)
	_, err = engine.Dispatch(ctx, "stack:draw", nil, host.IfSequence(seen.Sequence))
	fmt.Println(err)
	_, err = engine.Dispatch(ctx, "stack:draw", nil, host.IfSequence(seen.Sequence)) // somebody was faster
	fmt.Println(errors.Is(err, host.ErrConflict))
	// Output:
	// <nil>
	// true
}

func Example_key() {
	engine, err := host.NewEngine(ctx, host.Options{}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	a, err := engine.Dispatch(ctx, "stack:draw", nil, host.Key("order-4711"))
	check(err)
	b, err := engine.Dispatch(ctx, "stack:draw", nil, host.Key("order-4711")) // a retry: it does not draw again
	fmt.Println(a.Sequence, b.Sequence, err)
	// Output: 1 1 <nil>
}

func Example_undo() {
	store := journal.NewMemoryWith(journal.MemoryOptions{})
	game, err := host.NewEngine(ctx, host.Options{Store: store}, host.EngineOptions{Setup: deck})
	check(err)
	defer game.Shutdown(ctx)

	before, err := game.Position(ctx)
	check(err)
	_, err = game.Dispatch(ctx, "stack:reverse", nil)
	check(err)
	undone, err := game.Undo(ctx)
	check(err)
	fmt.Println(undone.Digest == before.Digest)
	// Output: true
}

func Example_errors() {
	engine, err := host.NewEngine(ctx, host.Options{Core: core}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)
	before, err := engine.Digest(ctx)
	check(err)

	_, err = engine.Dispatch(ctx, "risky:operation", map[string]any{"fail": true})
	var refused *host.ActionError
	switch {
	case errors.As(err, &refused):
		fmt.Println("refused:", refused.Code)
	case errors.Is(err, host.ErrTimeout), errors.Is(err, host.ErrPoisoned):
		fmt.Println("it did not run to its end, and had no effect:", err)
	}

	after, err := engine.Digest(ctx)
	fmt.Println(before == after, err)
	// Output:
	// refused: risky
	// true <nil>
}

func Example_timeout() {
	engine, err := host.NewEngine(ctx, host.Options{Core: core}, host.EngineOptions{Setup: deck})
	check(err)
	defer engine.Shutdown(ctx)

	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = engine.Dispatch(short, "long:operation", nil)
	fmt.Println(errors.Is(err, host.ErrTimeout), errors.Is(err, context.DeadlineExceeded))

	_, err = engine.Dispatch(ctx, "stack:draw", nil) // the worker that hung was replaced
	fmt.Println(err)
	// Output:
	// true true
	// <nil>
}

func Example_fallback() {
	h, err := host.New(ctx, host.Options{Workers: 1, WorkerPath: "/no/such/program", MaxRestarts: 1})
	check(err)
	defer h.Shutdown(ctx)
	engine, err := h.Open(ctx, "table", host.EngineOptions{Setup: deck})
	check(err)

	_, err = engine.Dispatch(ctx, "stack:draw", nil)
	fmt.Println(err, h.Stats().Engines[host.PlaceInProcess])
	// Output: <nil> 1
}

func Example_overload() {
	h, err := host.New(ctx, host.Options{Workers: 1, Core: core, MaxQueue: 1})
	check(err)
	defer h.Shutdown(ctx)
	engine, err := h.Open(ctx, "table", host.EngineOptions{})
	check(err)

	accepted := engine.DispatchAsync(ctx, "slow:operation", nil)
	_, err = engine.DispatchAsync(ctx, "slow:operation", nil).Wait(ctx)
	fmt.Println(errors.Is(err, host.ErrOverloaded))
	_, err = accepted.Wait(ctx)
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

func Example_metrics() {
	h, err := host.New(ctx, host.Options{Workers: 1})
	check(err)
	defer h.Shutdown(ctx)

	registry := prometheus.NewRegistry()
	check(metrics.Register(registry, h))
	families, err := registry.Gather()
	fmt.Println(len(families) > 0, err, host.SupportsWorkers())

	e, err := h.Open(ctx, "table", host.EngineOptions{Setup: deck})
	check(err)
	for range 3 {
		_, err := e.Dispatch(ctx, "stack:draw", nil)
		check(err)
	}
	m := h.Measure()
	for _, a := range m.ByAction {
		fmt.Println(a.Action, a.Outcomes["ok"], a.Run.Count == a.Duration.Count)
	}
	check(h.Drain(ctx)) // until nothing is in flight
	// Output:
	// true <nil> true
	// stack:draw 3 true
}

// Each block of Go in the guide is, line by line, part of an example above.
func TestTheGuidesSnippetsAreTheseExamples(t *testing.T) {
	guide, err := os.ReadFile("guide.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("guide_test.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := func(s string) string {
		var out []string
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
		return strings.Join(out, "\n")
	}
	all := lines(string(source))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) < 12 {
		t.Errorf("the guide has %d snippets", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(all, lines(b[1])) {
			t.Errorf("no example has this snippet:\n%s", b[1])
		}
	}
}
