package measure

import (
	"sort"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"hypertoken/internal/fault"
	"hypertoken/internal/histogram"
)

// Measurements of single actions, by their names in the core's list. Until the list is known, all
// actions are measured as one.

// Action is what was measured of an action.
type Action struct {
	Name string
	// Outcomes counts its outcomes by their names, without those that there were none of.
	Outcomes map[string]uint64
	// Duration is from the call to the outcome, Run what the core took.
	Duration, Run histogram.Snapshot
	// Exemplars are the last traces, one at most for each classic bucket of Duration, newest first.
	Exemplars []Exemplar
}

// Exemplar is a trace in which an action took that long.
type Exemplar struct {
	TraceID, SpanID string
	Value           time.Duration
	At              time.Time
}

// actionMeasure is what is measured of an action in a shard.
type actionMeasure struct {
	outcomes      [fault.MaxOutcomes]atomic.Uint64
	duration, run histogram.Histogram
	exemplars     [len(histogram.Bounds) + 1]atomic.Pointer[Exemplar]
}

// otherActions is the name under which actions are measured that are not in the list.
const otherActions = "other"

// Bounds of the list, whatever the core says that it has: actions, and bytes of a name.
const (
	maxNames = 4096
	maxName  = 256
)

// actionTable has what is measured of each action of a list, in shards.
type actionTable struct {
	isKnown bool // the core has told its list
	names   map[string]int
	list    []string // the names, and behind them otherActions
	shards  [Shards][]atomic.Pointer[actionMeasure]
}

// newActionTable returns a table for the actions of those names. Measurements taken as other before go on.
func newActionTable(names []string, isKnown bool, before *actionTable) *actionTable {
	t := &actionTable{isKnown: isKnown, names: map[string]int{}}
	for _, name := range names {
		_, twice := t.names[name]
		if len(t.list) < maxNames && !twice && name != otherActions && len(name) <= maxName && utf8.ValidString(name) {
			t.names[name] = len(t.list)
			t.list = append(t.list, name)
		}
	}
	other := len(t.list)
	t.list = append(t.list, otherActions)
	for s := range t.shards {
		t.shards[s] = make([]atomic.Pointer[actionMeasure], len(t.list))
		switch {
		case before != nil:
			t.shards[s][other].Store(before.shards[s][len(before.list)-1].Load())
		case !isKnown:
			// It is there from the start, so that the next table has the same one: nothing that is counted
			// meanwhile is lost.
			t.shards[s][other].Store(new(actionMeasure))
		}
	}
	return t
}

// Learn tells the names of the core's actions. What was measured before stays measured as other.
func (m *Recorder) Learn(names []string) {
	m.table.Store(newActionTable(names, true, m.table.Load()))
}

// KnowsActions reports whether Learn was called.
func (m *Recorder) KnowsActions() bool { return m.table.Load().isKnown }

// action returns what is measured of an action in a shard.
func (t *actionTable) action(shard int, name string) *actionMeasure {
	k, known := t.names[name]
	if !known {
		k = len(t.list) - 1
	}
	cell := &t.shards[shard][k]
	a := cell.Load()
	if a == nil {
		cell.CompareAndSwap(nil, new(actionMeasure))
		a = cell.Load()
	}
	return a
}

// measurements returns those of the actions that there were, in the order of the list.
func (t *actionTable) measurements() (list []Action) {
	names := fault.Outcomes()
	for k := range t.list {
		if a := t.measurementsOf(k, names); a.Duration.Count > 0 {
			list = append(list, a)
		}
	}
	return list
}

func (t *actionTable) measurementsOf(k int, outcomes []string) Action {
	c := Action{Name: t.list[k], Outcomes: map[string]uint64{}}
	for s := range t.shards {
		a := t.shards[s][k].Load()
		if a == nil {
			continue
		}
		for o, name := range outcomes {
			if n := a.outcomes[o].Load(); n > 0 {
				c.Outcomes[name] += n
			}
		}
		a.duration.AddTo(&c.Duration)
		a.run.AddTo(&c.Run)
		for b := range a.exemplars {
			if x := a.exemplars[b].Load(); x != nil {
				c.Exemplars = append(c.Exemplars, *x)
			}
		}
	}
	// The last exemplar of each bucket.
	sort.SliceStable(c.Exemplars, func(a, b int) bool { return c.Exemplars[a].At.After(c.Exemplars[b].At) })
	seen := map[int]bool{}
	last := c.Exemplars[:0]
	for _, x := range c.Exemplars {
		if b := histogram.ClassicBucket(x.Value); !seen[b] {
			seen[b] = true
			last = append(last, x)
		}
	}
	c.Exemplars = last
	return c
}
