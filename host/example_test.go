package host_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hypertoken/host"
)

// exampleHost returns a host without workers, so that the examples need no program for them.
func exampleHost() *host.Host {
	h, err := host.New(context.Background(), host.Options{InProcess: true})
	if err != nil {
		panic(err)
	}
	return h
}

// exampleDeck is the setup of an engine with three cards.
var exampleDeck = map[string]any{"stack": []map[string]any{{"id": "ace"}, {"id": "king"}, {"id": "queen"}}}

// exampleTable returns an engine with three cards, and what ends it.
func exampleTable(ctx context.Context) (table *host.Engine, shutdown func()) {
	h := exampleHost()
	table, err := h.Open(ctx, "table-1", host.EngineOptions{Setup: exampleDeck})
	if err != nil {
		panic(err)
	}
	return table, func() { _ = h.Shutdown(ctx) }
}

func ExampleHost_Open() {
	ctx := context.Background()
	h := exampleHost()
	defer h.Shutdown(ctx)
	// The store does not know the name, so the engine begins with the setup.
	table, err := h.Open(ctx, "table-1", host.EngineOptions{Setup: exampleDeck})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = table.Dispatch(ctx, "stack:draw", nil)
	fmt.Println(err, table.Close(ctx))
	// Now it does: the engine goes on where it was, and the setup is not used.
	table, err = h.Open(ctx, "table-1", host.EngineOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := table.Position(ctx)
	fmt.Println(p.Sequence, err)
	// Output:
	// <nil> <nil>
	// 1 <nil>
}

func ExampleAs() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	type card struct {
		ID string `json:"id"`
	}
	hand, err := host.As[[]card](table.Dispatch(ctx, "stack:draw", map[string]any{"count": 2}))
	fmt.Println(hand, err)
	// Output: [{queen} {king}] <nil>
}

func ExampleEngine_DispatchAsync() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	// The actions run one after the other, in this order.
	first := table.DispatchAsync(ctx, "stack:reverse", nil)
	second := table.DispatchAsync(ctx, "stack:draw", nil)
	results, err := host.All(ctx, first, second)
	fmt.Println(results[0].Sequence, results[1].Sequence, err)
	// Output: 1 2 <nil>
}

func ExampleEngine_DispatchBatch() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	// The second member fails, so the first one has no effect.
	r, err := table.DispatchBatch(ctx, host.BatchAtomic, []host.Action{
		{Type: "stack:draw"},
		{Type: "stack:fly"},
	})
	var failed *host.BatchError
	if errors.As(err, &failed) {
		fmt.Println("member", failed.Index, "failed:", host.CodeOf(failed.Err))
	}
	fmt.Println(host.CodeOf(r.Outcomes[0].Err))
	// Output:
	// member 1 failed: unknown_action
	// batch_aborted
}

func ExampleKey() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	// A caller that does not know whether its action ran sends it again with the same key.
	for range 2 {
		r, err := table.Dispatch(ctx, "stack:draw", nil, host.Key("draw of player 1, turn 7"))
		fmt.Println(r.Sequence, err)
	}
	// Output:
	// 1 <nil>
	// 1 <nil>
}

func ExampleIfSequence() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	seen, _ := table.Dispatch(ctx, "stack:peek", nil)
	_, _ = table.Dispatch(ctx, "stack:shuffle", nil) // another player is faster
	_, err := table.Dispatch(ctx, "stack:draw", nil, host.IfSequence(seen.Sequence))
	fmt.Println(errors.Is(err, host.ErrConflict))
	// Output: true
}

func ExampleEngine_On() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	events := make(chan host.Event)
	stop := table.On(host.EventAction, func(e host.Event) { events <- e })
	defer stop()
	_, _ = table.Dispatch(ctx, "stack:draw", nil)
	e := <-events
	fmt.Println(e.Engine, e.Action, e.Result.Sequence)
	// Output: table-1 stack:draw 1
}

func ExampleEngine_Journal() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	_, _ = table.Dispatch(ctx, "stack:peek", nil) // changes nothing, and is not in the journal
	_, _ = table.Dispatch(ctx, "stack:reverse", nil, host.Now(time.UnixMilli(1000)))
	entries, err := table.Journal(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for e := range entries {
		fmt.Println(e.Sequence, e.Now, e.Type)
	}
	// Output: 1 1000 stack:reverse
}

func ExampleCodeOf() {
	ctx := context.Background()
	table, shutdown := exampleTable(ctx)
	defer shutdown()
	_, err := table.Dispatch(ctx, "stack:fly", nil)
	fmt.Println(host.CodeOf(err), errors.Is(err, host.ErrUnknownAction))
	// Output: unknown_action true
}
