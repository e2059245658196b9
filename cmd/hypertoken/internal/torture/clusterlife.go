package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hypertoken/host"
)

// clusterLife is an engine from its creation to its deletion, with its callers. It outlives many nodes.
type clusterLife struct {
	t       *clusterTorture
	history history
	ids     placements
}

const (
	// clusterCallsEach is how many calls each caller makes of an engine. Some faults strike meanwhile.
	clusterCallsEach = 120
	// clusterThinks is the most that a caller thinks between two calls, so that the machine has time for
	// the faults, too.
	clusterThinks = 20 * time.Millisecond
	// clusterSilence is how long a caller waits for the answer to what it may send again, before it asks
	// another node.
	clusterSilence = 5 * time.Second
	// clusterPatience is how long a line may be without an answer while no fault strikes. With more, it is
	// stuck.
	clusterPatience = 90 * time.Second
	// againAfter is the pause before a line is sent again.
	againAfter = 20 * time.Millisecond
)

// live runs the lives of engines, one after the other, until the torture is over.
func (t *clusterTorture) live(slot int) {
	for n := 0; t.goesOn(); n++ {
		l := &clusterLife{t: t}
		l.history.engine = fmt.Sprintf("%s%d-%d", t.prefix(), slot, n)
		seed := rand.New(rand.NewPCG(t.config.Seed, uint64(slot)<<32|uint64(n)))
		if err := l.run(seed, (n+slot)%largeEvery == largeEvery-1); err != nil {
			if t.ctx.Err() == nil && !errors.Is(err, errStuck) {
				t.found([]Violation{{Fate: Visible, Engine: l.history.engine, What: err.Error()}})
			}
			return
		}
		select {
		case t.ended <- &l.history:
		case <-t.ctx.Done():
			return
		}
	}
}

// errStuck ends the life of an engine of which a call has no end. The violation is reported already.
var errStuck = errors.New("a call of it has no end")

// run creates the engine, has callers call it, takes down how it ends, and deletes it.
func (l *clusterLife) run(seed *rand.Rand, large bool) error {
	first := &deal{workload: l.t.workload, rand: seed, ids: &l.ids}
	l.history.setup, l.history.dropped = first.setup(large), true
	list := make([]*clusterCaller, callersEach)
	for k := range list {
		list[k] = &clusterCaller{life: l, name: fmt.Sprint("caller-", k),
			deal: &deal{workload: l.t.workload, rand: rand.New(rand.NewPCG(seed.Uint64(), 0)), ids: &l.ids}}
		list[k].way = &overHTTP{l.t.client, l.history.engine}
		if k == 0 {
			list[k].way = &overWebSocket{engine: l.history.engine}
		}
		defer list[k].way.close()
	}
	if err := list[1].create(l.history.setup); err != nil {
		return fmt.Errorf("its creation: %w", err)
	}
	calls := clusterCallsEach
	if large {
		calls /= 5
	}
	var calling sync.WaitGroup
	for _, c := range list {
		calling.Go(func() {
			for c.err == nil && c.made < calls && l.t.goesOn() {
				c.next()
			}
		})
	}
	calling.Wait()
	var made [][]*clusterCall
	for _, c := range list {
		if c.err != nil {
			return c.err
		}
		made = append(made, c.calls)
	}
	return l.testament(list[1], made)
}

// testament records the last state, digest and journal of the engine, settles the calls of its callers,
// and deletes it. It asks every node for the digest.
func (l *clusterLife) testament(c *clusterCaller, made [][]*clusterCall) error {
	for {
		state := c.ask(wholeState)
		if state == nil {
			return c.err
		}
		h := &l.history
		if h.last = state.outcomes[0]; h.last.err != nil {
			return fmt.Errorf("its last state: %w", h.last.err)
		}
		digest, isNewest, err := l.digests(c)
		if err != nil {
			return err
		}
		journal, err := l.journal(c)
		if err != nil {
			return fmt.Errorf("its journal: %w", err)
		}
		// An action that was sent long ago may still have had its effect.
		if !isNewest || uint64(len(journal)) > h.last.sequence {
			continue
		}
		h.digest = digest
		l.t.found(settle(h, made, journal, l.t.clock()))
		break
	}
	if err := l.delete(c); err != nil {
		return fmt.Errorf("its deletion: %w", err)
	}
	return nil
}

// digests asks each node for the digest. It returns false if the engine has gone on meanwhile. Nodes
// that do not answer while faults strike are left out.
func (l *clusterLife) digests(c *clusterCaller) (digest host.Digest, isNewest bool, err error) {
	last := l.history.last.sequence
	hasOne := false
	for _, node := range l.t.cluster.Nodes() {
		if !l.t.isWanted(node) {
			continue
		}
		x := c.askAt(node)
		switch {
		case c.err != nil:
			return 0, false, c.err
		case x == nil:
			continue
		}
		switch o := &x.outcomes[0]; {
		case o.err != nil:
			return 0, false, fmt.Errorf("its digest at %s: %w", node, o.err)
		case o.sequence > last:
			return 0, false, nil
		case o.sequence < last:
			c.find(Stale, "node %s says that it is at %d, and the state was at %d before", node, o.sequence, last)
		case hasOne && host.Digest(o.hash) != digest:
			c.find(Diverged, "node %s gives the digest %016x at %d, another one %v", node, o.hash, o.sequence, digest)
		default:
			digest, hasOne = host.Digest(o.hash), true
		}
	}
	if !hasOne {
		x := c.ask(wholeDigest)
		if x == nil {
			return 0, false, c.err
		}
		return host.Digest(x.outcomes[0].hash), x.outcomes[0].sequence == last && x.outcomes[0].err == nil, nil
	}
	return digest, true, nil
}

// journal reads the journal from whichever node has it.
func (l *clusterLife) journal(c *clusterCaller) (journal []host.Entry, err error) {
	err = l.insist(c, func(ctx context.Context, node string) (bool, error) {
		journal, err = readJournal(ctx, l.t.client, node, l.history.engine)
		return err == nil, err
	})
	return journal, err
}

// delete deletes the engine.
func (l *clusterLife) delete(c *clusterCaller) error {
	return l.insist(c, func(ctx context.Context, node string) (bool, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodDelete, node+"/v1/engines/"+l.history.engine, nil)
		if err != nil {
			return false, err
		}
		w, err := l.t.client.Do(r)
		if err != nil {
			return false, err
		}
		defer w.Body.Close()
		b, _ := io.ReadAll(w.Body)
		return w.StatusCode/100 == 2 || w.StatusCode == http.StatusNotFound,
			fmt.Errorf("%s: %s", w.Status, strings.TrimSpace(string(b)))
	})
}

// insist asks nodes until one of them has done what is asked for.
func (l *clusterLife) insist(c *clusterCaller, ask func(ctx context.Context, node string) (bool, error)) error {
	began := l.t.clock()
	for {
		ctx, cancel := context.WithTimeout(l.t.ctx, clusterPatience)
		isDone, err := ask(ctx, l.t.cluster.Address(c.node()))
		cancel()
		switch {
		case isDone:
			return nil
		case l.t.isOverdue(began):
			return fmt.Errorf("no node has done it: %w", err)
		case !l.t.pause(againAfter):
			return context.Cause(l.t.ctx)
		}
	}
}

// clusterCaller is one of the callers of an engine. Each call goes to any node.
type clusterCaller struct {
	*deal
	life  *clusterLife
	name  string
	way   lineSender
	calls []*clusterCall
	made  int
	keys  int
	seen  uint64 // the newest sequence that it was told
	err   error  // ends the caller
}

// node draws the name of a node.
func (c *clusterCaller) node() string {
	nodes := c.life.t.cluster.Nodes()
	return nodes[c.rand.IntN(len(nodes))]
}

// next makes one call.
func (c *clusterCaller) next() {
	if !c.life.t.pause(time.Duration(c.rand.Int64N(int64(clusterThinks)))) {
		c.err = context.Cause(c.life.t.ctx)
		return
	}
	c.made++
	switch n := c.rand.IntN(100); {
	case n < 35:
		c.make(c.begin(single, c.key(), c.action()))
	case n < 55:
		c.make(c.begin(single, "", c.action()))
	case n < 61:
		c.make(c.begin(atomicBatch, c.key(), c.actions()...))
	case n < 66:
		c.make(c.begin(atomicBatch, "", c.actions()...))
	case n < 70:
		c.make(c.begin(independentBatch, c.key(), c.actions()...))
	case n < 74:
		c.make(c.begin(independentBatch, "", c.actions()...))
	case n < 78:
		a := c.action()
		a.conditional, a.ifSequence = true, c.seen
		c.make(c.begin(single, "", a))
	case n < 80:
		c.make(c.begin(single, c.key(), c.rewind()))
	case n < 83:
		c.repeat()
	case n < 89:
		c.make(c.begin(wholeState, ""))
	default:
		c.make(c.begin(wholeDigest, ""))
	}
}

func (c *clusterCaller) actions() []action {
	list := make([]action, 2+c.rand.IntN(4))
	for k := range list {
		list[k] = c.action()
	}
	return list
}

// rewind makes a step back to an earlier state, or forward again.
func (c *clusterCaller) rewind() action {
	a := action{kind: []string{revertKind, undoKind, undoKind, redoKind}[c.rand.IntN(4)], isRewind: true}
	if a.kind == revertKind {
		a.to = c.rand.Uint64N(c.seen + 1)
	}
	return a
}

// key makes a key. The keys of an engine are fewer than host.DefaultKeyWindow, so that it knows each to its
// end.
func (c *clusterCaller) key() string {
	c.keys++
	return c.name + "-" + strconv.Itoa(c.keys)
}

func (c *clusterCaller) begin(f form, key string, actions ...action) *clusterCall {
	if f == single {
		actions[0].key = key
	}
	x := &clusterCall{call: &call{form: f, actions: actions, outcomes: make([]outcome, max(1, len(actions)))}, key: key,
		failed: errNoAnswer}
	for k := range x.outcomes {
		x.outcomes[k].err = errNoAnswer
	}
	return x
}

// make makes a call, and notes it.
func (c *clusterCaller) make(x *clusterCall) {
	c.calls = append(c.calls, x)
	c.send(x, func() string { return c.node() }, nil)
	if x.wasTold {
		c.seen = max(c.seen, x.sequence)
	}
}

// ask makes a call that no history has. It returns nil if the caller has to end.
func (c *clusterCaller) ask(f form) *clusterCall {
	x := c.begin(f, "")
	if c.send(x, func() string { return c.node() }, nil); c.err != nil {
		return nil
	}
	return x
}

// askAt asks one node for the digest. It returns nil if the node does not answer while faults strike, or
// if the caller has to end.
func (c *clusterCaller) askAt(node string) *clusterCall {
	x := c.begin(wholeDigest, "")
	isAnswered := c.send(x, func() string { return node }, func() bool {
		return !c.life.t.isCalm() || !c.life.t.isWanted(node)
	})
	if !isAnswered || c.err != nil {
		return nil
	}
	return x
}

// repeat sends a call again that was answered. The answer has to be the same.
func (c *clusterCaller) repeat() {
	from := max(0, len(c.calls)-20)
	k := slices.IndexFunc(c.calls[from:], func(x *clusterCall) bool {
		hasFailed := slices.ContainsFunc(x.outcomes, func(o outcome) bool { return o.err != nil })
		return x.key != "" && x.wasTold && !hasFailed
	})
	if k < 0 {
		return
	}
	before := c.calls[from+k]
	again := c.begin(before.form, before.key, before.actions...)
	if c.send(again, func() string { return c.node() }, nil); c.err != nil {
		return
	}
	c.life.t.repeated.Add(1)
	if !slices.Equal(again.outcomes, before.outcomes) || again.sequence != before.sequence {
		c.find(Duplicated, "the key %q got %v at %d, and later %v at %d", before.key, before.outcomes, before.sequence,
			again.outcomes, again.sequence)
	}
}

// send sends the line of a call until there is an answer, or once if it must not be sent again. After an
// attempt without an answer it gives up if mayGiveUp is not nil and returns true. It reports whether there
// was an answer.
func (c *clusterCaller) send(x *clusterCall, node func() string, mayGiveUp func() bool) bool {
	t := c.life.t
	repeats := x.form.isQuestion() || x.key != ""
	timeout := []time.Duration{2 * time.Second, 6 * time.Second, 6 * time.Second, 20 * time.Second}[c.rand.IntN(4)]
	line := lineOf(x.call, x.key, int(timeout.Milliseconds()))
	x.start = t.clock()
	began := x.start
	for {
		if x.form.isQuestion() {
			x.start = t.clock()
		}
		limit := clusterPatience
		if repeats {
			limit = clusterSilence
		}
		name := node()
		ctx, cancel := context.WithTimeout(t.ctx, limit)
		b, err := c.way.send(ctx, t.cluster.Address(name), line)
		cancel()
		x.end = t.clock()
		isFinal := c.judge(x, b, err)
		switch {
		case isFinal:
			t.callEnded(x, began)
			return true
		case t.ctx.Err() != nil:
			c.err = context.Cause(t.ctx)
			return false
		case t.isOverdue(began):
			c.find(Stuck, "no answer for %v, the last time of node %s (%v %s) to %.300s",
				time.Duration(x.end-began).Round(time.Millisecond), name, err, b, line)
			c.err = errStuck
			t.enough()
			return false
		case !repeats:
			t.callEnded(x, began)
			return false
		case mayGiveUp != nil && mayGiveUp():
			return false
		}
		c.way.close() // the next attempt goes to any node
		t.pause(againAfter)
	}
}

// judge takes in an answer to a call, or that there was none. It returns true if the line need not be sent
// again.
func (c *clusterCaller) judge(x *clusterCall, b []byte, err error) bool {
	t := c.life.t
	if err != nil {
		if !errors.Is(err, errNotSent) {
			x.isUnknown = true
			t.noteFailure("no_answer")
		}
		return false
	}
	if err := x.readAnswer(b); err != nil {
		x.isUnknown = true
		t.noteFailure("no_answer")
		return false
	}
	for k := range x.outcomes {
		switch o := &x.outcomes[k]; {
		case o.err == nil:
			continue
		case errors.Is(o.err, host.ErrOutcomeUnknown):
			x.isUnknown = true
			t.noteFailure(host.CodeOf(o.err))
			return false
		case k == 0 || x.failed == nil:
			t.noteFailure(host.CodeOf(o.err))
		}
	}
	if x.failed != nil && isRefusal(x.failed) {
		return false
	}
	if x.form == single && x.failed == nil && x.actions[0].kind == "space:place" {
		c.ids.saw(madePlacementIn(b))
	}
	x.wasTold = true
	return true
}

// create sets the engine up.
func (c *clusterCaller) create(setup host.Raw) error {
	line := append(appendValue([]byte(`{"setup":`), setup), '}')
	return c.life.insist(c, func(ctx context.Context, node string) (bool, error) {
		b, err := c.way.send(ctx, node, line)
		if err != nil {
			return false, err
		}
		s := string(b)
		return strings.HasPrefix(s, `{"ok"`) || strings.Contains(s, `"exists"`), errors.New(s)
	})
}

func (c *clusterCaller) find(fate Fate, format string, args ...any) {
	c.life.t.found([]Violation{{fate, c.life.history.engine, fmt.Sprintf(format, args...)}})
}
