package host

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"hypertoken/internal/histogram"
)

// Measurements of single actions, by their names in the core's list. Until the list is known, all actions are measured
// as one.

// actionMeasure is what is measured of an action.
type actionMeasure struct {
	outcomes      [maxOutcomes]atomic.Uint64
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
	shards  [measureShards][]atomic.Pointer[actionMeasure]
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
			// It is there from the start, so that the next table has the same: nothing that is counted
			// meanwhile is lost.
			t.shards[s][other].Store(new(actionMeasure))
		}
	}
	return t
}

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

// learning asks for the core's list of actions, again and again until it is known.
type learning struct {
	mu       sync.Mutex    // guards what follows
	attempt  chan struct{} // closed with the attempt under way; nil if there is none
	attempts int
	next     time.Time // no attempt before
}

const (
	firstLearning = time.Second
	mostLearning  = time.Minute
)

// learn has the list of actions asked for, unless it is known, or was asked for a moment ago in vain.
// It returns a channel that is closed when the attempt under way has ended, nil if there is none.
func (h *Host) learn(m *measure) <-chan struct{} {
	l := &m.learning
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attempt != nil || m.table.Load().isKnown || h.life.Err() != nil || time.Now().Before(l.next) {
		return l.attempt
	}
	ended := make(chan struct{})
	l.attempt = ended
	h.spawn(func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(h.life, h.options.StartTimeout)
		defer cancel()
		list, err := h.Actions(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.attempt = nil
		if err != nil {
			wait := min(firstLearning<<min(l.attempts, 10), mostLearning)
			l.next = time.Now().Add(wait)
			l.attempts++
			if h.life.Err() == nil {
				h.log.Warn("actions are not told apart in measurements yet: the core can't be asked for them", "error", err, "next_try", wait)
			}
			return
		}
		var names []string
		for _, a := range list {
			names = append(names, a.Name)
		}
		m.table.Store(newActionTable(names, true, m.table.Load()))
	})
	return ended
}

// measuring returns the host's measure. The first call begins with that, and waits for the list of
// actions as long as a start may take; each later one has it asked for again if it is not known.
func (h *Host) measuring() *measure {
	m := h.measure.Load()
	first := m == nil
	if first {
		m = new(measure)
		m.table.Store(newActionTable(nil, false, nil))
		if !h.measure.CompareAndSwap(nil, m) {
			m = h.measure.Load()
		}
	}
	if attempt := h.learn(m); first && attempt != nil {
		<-attempt
	}
	return m
}
