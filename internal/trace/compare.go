package trace

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"hypertoken/internal/msgjson"
	"hypertoken/internal/printable"
)

// Difference is a place at which an engine differs from the trace.
type Difference struct {
	// Step is N of the step, or of the last one before a state; Action its type, or "state".
	Step   int
	Action string
	// Path is the place of the difference, such as "result.resources.gold" or
	// "state.zones.hand[2].x".
	Path      string
	Want, Got string
}

func (d *Difference) Error() string {
	return fmt.Sprintf("step %d (%s) at %s: want %s, got %s", d.Step, d.Action, d.Path, d.Want, d.Got)
}

const (
	missing = "nothing"
	// shown bounds how much of a value an error shows, in bytes.
	shown = 400
)

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	b = printable.AppendJSON(nil, b)
	if len(b) > shown {
		return string(b[:shown]) + fmt.Sprintf("... (%d bytes)", len(b))
	}
	return string(b)
}

// decode reads a value of the core as JSON values.
func decode(b []byte) (any, error) {
	text, err := msgjson.Append(nil, b)
	if err != nil {
		return nil, err
	}
	var v any
	err = json.Unmarshal(text, &v)
	return v, err
}

// compare compares a value with the wanted one of a trace. It binds each identifier at the first
// place where it appears.
func (b Bindings) compare(want, got any, path string) *Difference {
	differ := func() *Difference { return &Difference{Path: path, Want: show(want), Got: show(got)} }
	switch w := want.(type) {
	case string:
		g, ok := got.(string)
		if ok && strings.HasPrefix(w, prefix) {
			if id, known := b[w]; known && id != g {
				return &Difference{Path: path, Want: fmt.Sprintf("%s, which is %q", w, id), Got: show(got)}
			}
			b[w] = g
			return nil
		}
		if !ok || g != w {
			return differ()
		}
	case float64:
		if g, ok := got.(float64); !ok || math.Abs(g-w) > 1e-9 {
			return differ()
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			return differ()
		}
		for i := range min(len(w), len(g)) {
			if d := b.compare(w[i], g[i], fmt.Sprintf("%s[%d]", path, i)); d != nil {
				return d
			}
		}
		if len(w) != len(g) {
			return &Difference{Path: path, Want: fmt.Sprintf("%d items", len(w)), Got: fmt.Sprintf("%d items", len(g))}
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return differ()
		}
		named := make(map[string]any, len(w))
		for k, v := range w {
			named[b.name(k)] = v
		}
		w = named
		for _, k := range slices.Sorted(maps.Keys(w)) {
			at := path + "." + k
			x, there := g[k]
			if !there {
				return &Difference{Path: at, Want: show(w[k]), Got: missing}
			}
			if d := b.compare(w[k], x, at); d != nil {
				return d
			}
		}
		for _, k := range slices.Sorted(maps.Keys(g)) {
			if _, there := w[k]; !there {
				return &Difference{Path: path + "." + k, Want: missing, Got: show(g[k])}
			}
		}
	default: // nil, bool
		if want != got {
			return differ()
		}
	}
	return nil
}

// result holds a step's result against the trace.
func (b Bindings) result(l *Line, result []byte) *Difference {
	got, err := decode(result)
	if err != nil {
		return l.differ(&Difference{Path: "result", Want: show(l.Result), Got: err.Error()})
	}
	want := l.Result
	if l.Type == "agent:getAll" {
		want, got = byName(want), byName(got)
	}
	return l.differ(b.compare(want, got, "result"))
}

func (l *Line) differ(d *Difference) *Difference {
	if d != nil {
		d.Step, d.Action = l.N, l.Type
	}
	return d
}

func byName(v any) any {
	items, ok := v.([]any)
	if !ok {
		return v
	}
	items = slices.Clone(items)
	name := func(v any) string {
		m, _ := v.(map[string]any)
		s, _ := m["name"].(string)
		return s
	}
	sort.SliceStable(items, func(i, j int) bool { return name(items[i]) < name(items[j]) })
	return items
}

// state holds a whole state against the trace. An empty section equals an absent one.
func (b Bindings) state(want any, state []byte) *Difference {
	got, err := decode(state)
	if err != nil {
		return &Difference{Path: "state", Want: show(want), Got: err.Error()}
	}
	return b.compare(trim(want), trim(got), "state")
}

func trim(state any) any {
	m, ok := state.(map[string]any)
	if !ok {
		return state
	}
	m = maps.Clone(m)
	for _, k := range []string{"zones", "agents", "transactions", "gameState", "locked"} {
		switch v := m[k].(type) {
		case []any:
			if len(v) == 0 {
				delete(m, k)
			}
		case map[string]any:
			if len(v) == 0 {
				delete(m, k)
			}
		}
	}
	return m
}
