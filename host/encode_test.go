package host_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
)

// Types that contain themselves in one way or another.
type (
	cyclicStruct   struct{ Next *cyclicStruct }
	cyclicEmbedded struct {
		*cyclicEmbedded
		Count int
	}
	cyclicPointer *cyclicPointer
	cyclicSlice   []cyclicSlice
	cyclicMap     map[string]cyclicMap
	cyclicEncoder struct{ next *cyclicEncoder }
	onlyJSON      struct{ N int }
)

func (c *cyclicEncoder) EncodeMsgpack(enc *msgpack.Encoder) error {
	if err := enc.EncodeArrayLen(1); err != nil {
		return err
	}
	return enc.Encode(c.next)
}

func (onlyJSON) MarshalJSON() ([]byte, error) { return []byte(`1`), nil }

// deep returns a value of n levels.
func deep(n int) any {
	var v any
	for range n {
		v = []any{v}
	}
	return v
}

// cycles are payloads that have no end, or nearly none.
func cycles() map[string]any {
	m := dict{}
	m["m"] = map[string]any(m)
	any1 := map[string]any{}
	any1["list"] = []any{1, any1}
	st := &cyclicStruct{}
	st.Next = st
	var p cyclicPointer
	p = &p
	var boxed any
	boxed = &boxed
	list := cyclicSlice{nil}
	list[0] = list
	named := cyclicMap{}
	named["m"] = named
	enc := &cyclicEncoder{}
	enc.next = enc
	embedded := &cyclicEmbedded{Count: 1}
	embedded.cyclicEmbedded = embedded
	array := [1]any{}
	array[0] = &array
	return map[string]any{"a map": m, "a map and a list": any1, "a struct": st, "a pointer": p, "an interface": boxed,
		"a slice": list, "a named map": named, "an encoder": enc, "an encoder in a map": dict{"x": enc},
		"an embedded struct": embedded,
		"an array":           &array, "5 million levels": deep(5_000_000), "a member of a struct": struct{ X any }{m}}
}

// A payload that contains itself is an error, wherever a payload goes.
func TestPayloadsThatContainThemselves(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	for name, payload := range cycles() {
		t.Run(name, func(t *testing.T) {
			_, single := e.Dispatch(t.Context(), "debug:log", payload)
			_, async := e.DispatchAsync(t.Context(), "debug:log", payload).Wait(t.Context())
			r, independent := e.DispatchBatch(t.Context(), host.BatchIndependent,
				[]host.Action{{Type: "debug:log", Payload: payload}, {Type: "stack:peek"}})
			_, atomic := e.DispatchBatch(t.Context(), host.BatchAtomic,
				[]host.Action{{Type: "debug:log", Payload: payload}})
			_, setup := h.Open(t.Context(), "f", host.EngineOptions{Setup: payload})
			if independent != nil || r.Outcomes[1].Err != nil {
				t.Fatalf("%v, %v", r, independent)
			}
			for what, err := range map[string]error{"Dispatch": single, "DispatchAsync": async,
				"a member": r.Outcomes[0].Err, "atomic": atomic, "a setup": setup} {
				typeItself := strings.Contains(fmt.Sprint(err), "itself")
				if host.CodeOf(err) != "bad_input" && !errors.Is(err, host.ErrBadInput) ||
					!strings.Contains(err.Error(), "MaxDepth") && !typeItself {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// What is encoded is bounded while it is: neither its time nor its memory follow what a payload could grow to.
func TestPayloadsAreBoundedWhileTheyAreEncoded(t *testing.T) {
	const most = 1 << 20
	h := newHost(t, host.Options{MaxPayload: most})
	e := open(t, h, "e", nil)
	// Each level has the one below it many times.
	var laughs any = strings.Repeat("ha", 32)
	for range 40 {
		laughs = []any{laughs, laughs, laughs, laughs}
	}
	shared := make([]string, 1<<20)
	for k := range shared {
		shared[k] = strings.Repeat("x", 1<<10)[:1<<10]
	}
	numbers := make([]float64, most)
	for name, payload := range map[string]any{"laughs": dict{"v": laughs}, "strings": dict{"v": shared},
		"numbers":    struct{ V []float64 }{numbers},
		"an encoder": dict{"v": endless{}}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := e.Dispatch(t.Context(), "debug:log", payload)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, host.ErrPayloadTooLarge) || !strings.Contains(err.Error(), "MaxPayload") {
			t.Errorf("%s: %v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 16*most {
			t.Errorf("%s: %d bytes were allocated for a payload of at most %d", name, took, most)
		}
	}
	// On both sides of the limit: a map of one key and a string with a header of five bytes.
	for n, want := range map[int]error{most - 8: nil, most - 7: host.ErrPayloadTooLarge} {
		if _, err := e.Dispatch(t.Context(), "debug:log",
			map[string]string{"s": strings.Repeat("x", n)}); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// endless writes for as long as it is let.
type endless struct{}

func (endless) EncodeMsgpack(enc *msgpack.Encoder) error {
	if err := enc.EncodeArrayLen(1 << 30); err != nil {
		return err
	}
	for {
		if err := enc.EncodeString("and so on"); err != nil {
			return err
		}
	}
}

// The depth is bounded on both sides of the limit, by whatever kind of value it is made.
func TestDepthOfPayloads(t *testing.T) {
	const most = 10
	h := newHost(t, host.Options{MaxDepth: most})
	e := open(t, h, "e", nil)
	type list struct{ Next any }
	for name, make := range map[string]func(levels int) any{
		"lists": nested,
		"maps": func(n int) any {
			var v any = 1
			for range n {
				v = dict{"v": v}
			}
			return v
		},
		"structs": func(n int) any {
			var v any = 1
			for range n {
				v = &list{v}
			}
			return v
		},
		"named maps": func(n int) any {
			var v cyclicMap
			for range n {
				v = cyclicMap{"v": v}
			}
			return v
		},
		"raw in a map": func(n int) any {
			raw, err := msgpack.Marshal(nested(n - 1))
			if err != nil {
				t.Fatal(err)
			}
			return dict{"v": host.Raw(raw)}
		},
		"static": func(n int) any {
			if n > most {
				return dict{"v": [][][][][][][][][][]int{{{{{{{{{{1}}}}}}}}}}}
			}
			return dict{"v": [][][][][][][][][][]int{{{{{{{{{}}}}}}}}}}
		},
	} {
		if _, err := e.Dispatch(t.Context(), "debug:log", make(most)); err != nil {
			t.Errorf("%s of %d levels: %v", name, most, err)
		}
		if _, err := e.Dispatch(t.Context(),
			"debug:log", make(most+1)); !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(),
			"MaxDepth is 10") {
			t.Errorf("%s of %d levels: %v", name, most+1, err)
		}
	}
}

// Structs are encoded and decoded by their msgpack tags, else by their json tags; what a json tag
// says is done, or refused.
func TestTagsOfStructs(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(20))
	type embedded struct {
		Count int `json:"count"`
	}
	type noted struct {
		Count  int    `json:"count"`
		Note   string `json:"-"`
		hidden int
	}
	for name, payload := range map[string]any{
		"json": struct {
			Count int `json:"count"`
		}{3},
		"omitempty": struct {
			Count int `json:"count,omitempty"`
		}{3},
		"msgpack first": struct {
			Count int `json:"no" msgpack:"count"`
		}{3},
		"embedded":  struct{ embedded }{embedded{3}},
		"a dash":    noted{3, "not sent", 1},
		"a pointer": &noted{Count: 3},
	} {
		if cards, err := host.As[[]any](e.Dispatch(t.Context(), "stack:draw", payload)); err != nil || len(cards) != 3 {
			t.Errorf("%s: %d cards were drawn, %v", name, len(cards), err)
		}
	}
	// The default of an action holds where the field is left out, and nowhere else.
	if _, err := e.Dispatch(t.Context(), "stack:draw", struct {
		Count int `json:"count"`
	}{0}); host.CodeOf(err) != "out_of_range" {
		t.Errorf("a count of 0: %v", err)
	}
	if cards, err := host.As[[]any](e.Dispatch(t.Context(), "stack:draw", struct {
		Count int `json:"count,omitempty"`
	}{0})); err == nil && len(cards) > 1 {
		t.Errorf("%d cards", len(cards))
	}
	for name, c := range map[string]struct {
		payload any
		says    string
	}{
		"string": {struct {
			Count int `json:"count,string"`
		}{3}, `"string"`},
		"omitzero": {struct {
			Count int `json:"count,omitzero"`
		}{3}, `"omitzero"`},
		"MarshalJSON": {dict{"count": onlyJSON{3}}, "MarshalJSON"},
		"in a list":   {struct{ L []onlyJSON }{[]onlyJSON{{1}}}, "MarshalJSON"},
		"a number":    {dict{"count": json.Number("3")}, "json.Number"},
		"json.Raw":    {dict{"count": json.RawMessage("3")}, "MarshalJSON"},
		"named": {struct {
			embedded `json:"inner"`
		}{}, "noinline"},
	} {
		if _, err := e.Dispatch(t.Context(),
			"stack:draw", c.payload); !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What has its text or bytes is one value; the core says what it thinks of it.
	if _, err := e.Dispatch(t.Context(), "debug:log", dict{"n": big.NewInt(3)}); errors.Is(err, host.ErrBadInput) {
		t.Errorf("a text: %v", err)
	}

	type peeked struct {
		ID    string `json:"id"`
		Index int    `json:"no" msgpack:"index"`
	}
	r, err := e.Dispatch(t.Context(), "stack:peek", nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []map[string]any
	if err := r.Decode(&want); err != nil || len(want) != 1 {
		t.Fatalf("%v, %v", want, err)
	}
	if got, err := host.As[[]peeked](r, nil); err != nil || len(got) != 1 || got[0].ID != want[0]["id"] ||
		fmt.Sprint(got[0].Index) != fmt.Sprint(want[0]["index"]) {
		t.Errorf("decoded %+v, %v; want %v", got, err, want)
	}
	var refused struct {
		Count int `json:"count,string"`
	}
	if err := r.Decode(&refused); err == nil || !strings.Contains(err.Error(), `"string"`) {
		t.Errorf("decoded into a field that would be a string: %v", err)
	}
}
