package torture

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
)

// workload makes actions of a core: those that are frequent in games, and, less often, any of the
// core's actions.
type workload struct {
	games []host.ActionInfo // the frequent ones
	all   []host.ActionInfo
	spins bool // the core has test:spin, which never ends
}

// frequent are the actions that are frequent in games.
var frequent = []string{"stack:draw", "stack:shuffle", "stack:reset", "stack:cut", "stack:peek", "stack:swap",
	"stack:burn", "space:place", "space:move",
	"space:shuffleZone", "space:transferZone", "agent:giveResource", "agent:transferResource", "agent:drawCards",
	"agent:discardCards", "game:nextPhase",
	"game:setProperty", "game:getState", "source:draw", "source:shuffle", "debug:log"}

func newWorkload(actions []host.ActionInfo) *workload {
	w := &workload{}
	for _, a := range actions {
		switch a.Name {
		case "test:spin":
			w.spins = true
			continue
		case "test:differ": // its results differ in a replay, which no core may do
			continue
		}
		w.all = append(w.all, a)
		for _, name := range frequent {
			if a.Name == name {
				w.games = append(w.games, a)
			}
		}
	}
	return w
}

// deal is the source from which one caller draws its actions.
type deal struct {
	*workload
	rand *rand.Rand
	ids  *placements
}

// placements are the identifiers that the actions of a life have made.
type placements struct {
	mu   sync.Mutex // guards the fields below
	list []string
}

// madePlacement returns the identifier in the result of space:place, or "" if there is none.
func madePlacement(r host.Result) string {
	var made struct {
		ID string `msgpack:"id"`
	}
	if r.Decode(&made) != nil {
		return ""
	}
	return made.ID
}

func (p *placements) saw(id string) {
	if id == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, id)
	p.list = p.list[max(0, len(p.list)-16):]
}

func (p *placements) one(r *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == 0 {
		return "none"
	}
	return p.list[r.IntN(len(p.list))]
}

// action makes one.
func (d *deal) action() action {
	from := d.games
	if len(from) == 0 || d.rand.IntN(5) == 0 {
		from = d.all
	}
	info := from[d.rand.IntN(len(from))]
	a := action{kind: info.Name, now: int64(d.rand.IntN(1 << 40))}
	for k := range a.entropy {
		a.entropy[k] = byte(d.rand.Uint32())
	}
	a.payload = d.payload(info)
	return a
}

func (d *deal) payload(info host.ActionInfo) host.Raw {
	fields := map[string]any{}
	for _, f := range info.Fields {
		if f.Required || d.rand.IntN(2) == 0 || worksLong(f) {
			fields[f.Name] = d.value(f)
		}
	}
	if strings.HasPrefix(info.Name, "test:") {
		sizes := map[string]any{"rounds": d.rand.IntN(2_000_000), "bytes": 32 << 20}
		maps.DeleteFunc(sizes, func(name string, _ any) bool {
			return !slices.ContainsFunc(info.Fields, func(f host.FieldInfo) bool { return f.Name == name })
		})
		fields = sizes
	}
	return encode(fields)
}

// worksLong reports whether a field has a default of millions: rounds of work, of which an action
// would take seconds. Such a field always gets a value. A torture needs many calls, and the time
// of a call is bounded.
func worksLong(f host.FieldInfo) bool {
	n, err := strconv.ParseFloat(f.Default, 64)
	return err == nil && n >= 1e6
}

// encode encodes a value of this package. Such a value can always be encoded.
func encode(v any) host.Raw {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// value makes a value for a field. Most are sound, so that most actions succeed.
func (d *deal) value(f host.FieldInfo) any {
	r := d.rand
	switch {
	case f.Kind == "string":
		return d.name(f.Name)
	case f.Kind == "token":
		return map[string]any{"id": fmt.Sprint("x", r.IntN(200)), "rev": r.IntN(2) == 0, "_rev": r.IntN(2) == 0}
	case f.Kind == "map" && f.Name == "stack":
		return map[string]any{"tokens": []any{map[string]any{"id": fmt.Sprint("s", r.IntN(100))}}}
	case f.Kind == "map" && strings.HasPrefix(f.Name, "offer"):
		return map[string]any{"resource": "gold", "amount": 1}
	case f.Kind == "map" && f.Name == "opts":
		return map[string]any{"x": r.IntN(1000), "faceUp": r.IntN(2) == 0}
	case f.Kind == "map":
		return map[string]any{fmt.Sprint("k", r.IntN(5)): r.IntN(1000)}
	case f.Kind == "array of strings":
		return []string{fmt.Sprint("t", r.IntN(60)), "stack", "drawn"}
	case f.Kind == "array of tokens":
		return []any{map[string]any{"id": "a"}, map[string]any{"id": "b", "rev": true}}
	case f.Kind == "array of arrays of tokens":
		return []any{[]any{map[string]any{"id": "a"}, map[string]any{"id": "b"}}}
	case f.Kind == "array":
		return []any{1}
	case f.Kind == "count":
		return 1 + r.IntN(3)
	case f.Kind == "bool":
		return r.IntN(2) == 0
	case strings.HasPrefix(f.Kind, "number or string"):
		return r.IntN(1 << 20)
	}
	return r.IntN(8)
}

// name makes a string for a field.
func (d *deal) name(field string) string {
	r := d.rand
	switch field {
	case "name", "from", "to", "agent1", "agent2":
		return []string{"ann", "bob", "cid"}[r.IntN(3)]
	case "zone", "fromZone", "toZone":
		return []string{"hand", "table", "river"}[r.IntN(3)]
	case "placementId":
		return d.ids.one(r)
	case "resource":
		return []string{"gold", "wood"}[r.IntN(2)]
	case "key":
		return fmt.Sprint("key", r.IntN(8))
	case "predicate":
		return "reversed"
	case "operation":
		return "flip"
	}
	return fmt.Sprint("t", r.IntN(60))
}

// spin returns an action that ends only at its deadline, and that deadline.
func (d *deal) spin() (action, time.Duration) {
	return action{kind: "test:spin", payload: encode(map[string]any{})}, 10 * time.Millisecond
}

// setup makes the setup of an engine. An engine with a large one has a snapshot of several pieces.
func (d *deal) setup(large bool) host.Raw {
	n := 52
	text := ""
	if large {
		n, text = 6000, strings.Repeat("long ago ", 40)
	}
	tokens := make([]map[string]any, n)
	for k := range tokens {
		tokens[k] = map[string]any{"id": fmt.Sprint("t", k)}
		if large {
			tokens[k]["text"] = text
		}
	}
	return encode(map[string]any{"stack": tokens, "source": map[string]any{"stacks": []any{tokens[:20]}}})
}
