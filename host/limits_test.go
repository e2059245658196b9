package host_test

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
)

// Every limit lets through what is exactly as large, and refuses what is one larger, with an error
// that names the limit.
func TestLimitsOnBothSides(t *testing.T) { everywhere(t, testLimitsOnBothSides) }

func testLimitsOnBothSides(t *testing.T) {
	const (
		depth  = 10
		result = 1 << 12
	)
	h := newHost(t, host.Options{MaxDepth: depth, MaxResult: result})
	type send func(e *host.Engine, n int) error
	one := func(action string, payload func(n int) any, options ...host.DispatchOption) send {
		return func(e *host.Engine, n int) error {
			_, err := e.Dispatch(t.Context(), action, payload(n), options...)
			return err
		}
	}
	for _, c := range []struct {
		name string
		at   int
		send send
		code string
		says string
	}{
		// A string of up to 65,535 bytes has a header of three.
		{"MaxResult", result, one("test:huge", func(n int) any { return dict{"bytes": n - 3} }), "too_large", "4096 bytes (MaxResult)"},
		{"MaxResult, two results together", result, func(e *host.Engine, n int) error {
			_, err := e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{
				{Type: "test:huge", Payload: dict{"bytes": 1000 - 3}},
				{Type: "test:huge", Payload: dict{"bytes": n - 1000 - 3}}})
			return err
		}, "too_large", "4096 bytes (MaxResult)"},
		{"MaxDepth", depth, one("debug:log", func(n int) any { return nested(n) }), "bad_input", "more than 10 levels deep (MaxDepth"},
		{"MaxDepth, of what is encoded already", depth, one("debug:log", func(n int) any {
			raw, err := msgpack.Marshal(nested(n))
			if err != nil {
				t.Fatal(err)
			}
			return host.Raw(raw)
		}), "too_deep", "more than 10 levels deep (MaxDepth"},
		{"the length of a type", 1024, func(e *host.Engine, n int) error {
			_, err := e.Dispatch(t.Context(), strings.Repeat("t", n), nil)
			if errors.Is(err, host.ErrUnknownAction) {
				return nil // it got as far as the core
			}
			return err
		}, "bad_input", "longer than 1024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := open(t, h, c.name, deck(5))
			for _, below := range []int{c.at - 1, c.at} {
				if err := c.send(e, below); err != nil {
					t.Errorf("%d: %v", below, err)
				}
			}
			before := digest(t, e)
			if err := c.send(e, c.at+1); host.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%d: got %v, want %s with %q", c.at+1, err, c.code, c.says)
			}
			if digest(t, e) != before {
				t.Error("what was refused had an effect")
			}
		})
	}
}

// nested is a payload of n levels, of which the map itself is one.
func nested(n int) any {
	var v any = 1
	for range n - 1 {
		v = []any{v}
	}
	return dict{"v": v}
}

// A state may have MaxStateBytes, and an action that would make it a byte larger fails, again and again: also after a
// placing, and after a snapshot.
func TestStateLimitOnBothSides(t *testing.T) { everywhere(t, testStateLimitOnBothSides) }

func testStateLimitOnBothSides(t *testing.T) {
	const most = 4 << 10
	place := func(e *host.Engine, n int) error {
		_, err := e.Dispatch(t.Context(), "space:place",
			dict{"zone": "z", "card": dict{"id": "c", "text": strings.Repeat("x", n)}})
		return err
	}
	h := newHost(t, host.Options{MaxStateBytes: most})
	try := 0
	fits := sort.Search(most, func(n int) bool { // the least that does not fit
		try++
		return place(open(t, h, fmt.Sprint(try), nil), n) != nil
	}) - 1
	if fits < most/2 {
		t.Fatalf("a text of %d bytes is all that fits into %d", fits, most)
	}
	e := open(t, h, "e", nil)
	before := digest(t, e)
	if err := place(e, fits+1); host.CodeOf(err) != "too_large" || !strings.Contains(err.Error(),
		"4096 are allowed (MaxStateBytes)") {
		t.Errorf("got %v", err)
	}
	if digest(t, e) != before {
		t.Error("what was refused had an effect")
	}
	if err := place(e, fits); err != nil {
		t.Fatal(err)
	}
	before = digest(t, e)
	for _, lose := range []func(){
		func() { _, _ = e.Dispatch(t.Context(), "test:trap", nil) },
		func() { // loaded from its snapshot
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			e = open(t, h, "e", nil)
		},
	} {
		lose()
		if digest(t, e) != before {
			t.Error("placed again, the engine differs")
		}
		if err := place(e, 0); host.CodeOf(err) != "too_large" {
			t.Errorf("a full engine takes more: %v", err)
		}
	}
	// One byte less is one byte less.
	tight := newHost(t, host.Options{MaxStateBytes: most - 1})
	if err := place(open(t, tight, "e", nil), fits); host.CodeOf(err) != "too_large" || !strings.Contains(err.Error(),
		"4095 are allowed (MaxStateBytes)") {
		t.Errorf("got %v", err)
	}
}

// The largest payload and the largest result that the defaults allow pass through a frame.
func TestTheLargestFrames(t *testing.T) { everywhere(t, testTheLargestFrames) }

func testTheLargestFrames(t *testing.T) {
	const most = 16 << 20
	e := open(t, newHost(t, host.Options{}), "e", nil)
	// {"s": string}: a byte for the map, two for the key, five for the string's header.
	payload := func(n int) host.Raw {
		b, err := msgpack.Marshal(dict{"s": strings.Repeat("x", n-8)})
		if err != nil || len(b) != n {
			t.Fatal(len(b), err)
		}
		return b
	}
	if _, err := e.Dispatch(t.Context(), "debug:log", payload(most)); err != nil {
		t.Error(err)
	}
	if _, err := e.Dispatch(t.Context(),
		"debug:log", payload(most+1)); !errors.Is(err, host.ErrPayloadTooLarge) || !strings.Contains(err.Error(),
		"16777216 (MaxPayload)") {
		t.Errorf("got %v", err)
	}
	r, err := e.Dispatch(t.Context(), "test:huge", dict{"bytes": most - 5})
	if err != nil || len(r.Raw) != most {
		t.Errorf("%d bytes, %v", len(r.Raw), err)
	}
	if _, err := e.Dispatch(t.Context(),
		"test:huge", dict{"bytes": most - 4}); host.CodeOf(err) != "too_large" || !strings.Contains(err.Error(),
		"16777216 bytes (MaxResult)") {
		t.Errorf("got %v", err)
	}
	// Nearly as much in one batch, both ways.
	if _, err := e.DispatchBatch(context.Background(), host.BatchAtomic, []host.Action{
		{Type: "debug:log", Payload: payload(most/2 - 64)}, {Type: "test:huge", Payload: dict{"bytes": most/2 - 64}}}); err != nil {
		t.Error(err)
	}
}
