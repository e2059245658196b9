package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"hypertoken/host"
)

// hostLife is an engine from its creation to its deletion, with its callers. It outlives many
// hosts.
type hostLife struct {
	t       *hostTorture
	history history
	ids     placements

	mu sync.Mutex // guards exists
	// exists is true once a caller was told of the engine.
	exists bool
}

const (
	// hostCallsEach is how many calls each caller makes of an engine. The keys of all of them are
	// fewer than host.DefaultKeyWindow, so that the engine knows each to its end.
	hostCallsEach = 60
	// quietEvery: one of so many engines has a single caller, who often asks for the digest.
	quietEvery = 4
)

// errOver ends a life whose torture is over.
var errOver = errors.New("the torture is over")

// live runs the lives of engines, one after the other, until the torture's time is over.
func (t *hostTorture) live(slot int) {
	for n := 0; t.goesOn(); n++ {
		l := &hostLife{t: t}
		l.history.engine = fmt.Sprintf("%s%d-%d", t.prefix(), slot, n)
		seed := rand.New(rand.NewPCG(t.config.Seed, uint64(slot)<<32|uint64(n)))
		err := l.run(seed, slot%quietEvery == quietEvery-1, (n+slot)%largeEvery == largeEvery-1)
		if err != nil {
			if !errors.Is(err, errOver) {
				t.found([]Violation{{Fate: Visible, Engine: l.history.engine, What: err.Error()}})
			}
			return
		}
		t.ended <- &l.history
	}
}

// run has callers call the engine, closes it half way, takes down how it ends, and deletes it.
func (l *hostLife) run(seed *rand.Rand, quiet, large bool) error {
	first := &deal{workload: l.t.workload, rand: seed, ids: &l.ids}
	callers := callersEach
	if quiet {
		callers = 1
	}
	h := &l.history
	h.setup, h.callers, h.dropped = first.setup(large), make([][]*call, callers), true
	h.gathers, h.mode = seed.IntN(6) == 0, host.BatchMode(seed.IntN(2))
	list := make([]*hostCaller, callers)
	for k := range list {
		list[k] = &hostCaller{life: l, quiet: quiet, name: fmt.Sprint("caller-", k),
			deal: &deal{workload: l.t.workload, rand: rand.New(rand.NewPCG(seed.Uint64(), 0)), ids: &l.ids}}
	}
	for half := range 2 {
		var calling sync.WaitGroup
		for _, c := range list {
			calling.Go(func() {
				for c.err == nil && c.made < (half+1)*hostCallsEach/2 && l.t.goesOn() {
					c.next()
				}
			})
		}
		calling.Wait()
		for k, c := range list {
			if h.callers[k] = c.calls; c.err != nil {
				return c.err
			}
		}
		if half == 0 {
			if _, _, err := l.ask(question{What: askClose}); err != nil {
				return fmt.Errorf("its close: %w", err)
			}
		}
	}
	return l.testament()
}

// testament records the last state, digest and journal of the engine, and deletes it.
func (l *hostLife) testament() error {
	h := &l.history
	state, _, err := l.ask(question{What: askState})
	if err != nil {
		return fmt.Errorf("its last state: %w", err)
	}
	if h.last = state.Outcomes[0].outcome(); h.last.err != nil {
		return fmt.Errorf("its last state: %w", h.last.err)
	}
	at, _, err := l.ask(question{What: askPosition})
	if err != nil {
		return fmt.Errorf("its last digest: %w", err)
	}
	h.digest = at.Position.Digest
	journal, _, err := l.ask(question{What: askJournal})
	if err != nil {
		return fmt.Errorf("its journal: %w", err)
	}
	h.journal = journal.Journal
	if _, _, err = l.ask(question{What: askDelete}); err != nil {
		return fmt.Errorf("its deletion: %w", err)
	}
	return nil
}

// ask asks a host about the engine, until there is an answer.
func (l *hostLife) ask(q question) (reply, *hostSession, error) {
	q.Engine = l.history.engine
	r, s := l.t.ask(q, l.opening)
	if s == nil {
		return r, nil, errOver
	}
	if r.Err != nil {
		return r, s, r.Err.err()
	}
	if q.What != askClose { // an engine that is not open need not be there to be closed
		l.mu.Lock()
		l.exists = true
		l.mu.Unlock()
	}
	return r, s, nil
}

// opening says how a host has to open the engine.
func (l *hostLife) opening() *hostOpening {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &hostOpening{Exists: l.exists, Gathers: l.history.gathers, Mode: l.history.mode}
	if !l.exists {
		o.Setup = l.history.setup
	}
	return o
}

// hostCaller is one of the callers of an engine. It repeats what got no answer, with the same key,
// until there is an answer.
type hostCaller struct {
	*deal
	life  *hostLife
	name  string
	quiet bool
	calls []*call
	made  int
	keys  int
	// err ends the caller.
	err error
	// Calls of one burst are made by several goroutines. mu guards the fields below.
	mu      sync.Mutex
	session int // the last one that has answered
	recent  []keyedAnswer
	// at is where the engine is if nothing was sent since.
	at    host.Position
	hasAt bool
}

// keyedAnswer is a question with a key, and its answer.
type keyedAnswer struct {
	question question
	outcomes []toldOutcome
}

// recentKeys is how many of its last questions a caller repeats after a death.
const recentKeys = 3

// next makes one call, or several at once.
func (c *hostCaller) next() {
	if c.quiet && c.rand.IntN(3) > 0 {
		c.position()
		return
	}
	switch n := c.rand.IntN(100); {
	case n < 50:
		c.act(c.action())
	case n < 72:
		var all sync.WaitGroup
		for range 2 + c.rand.IntN(7) {
			f := c.begin(single, askAction, host.BatchAtomic, c.action())
			all.Go(f)
		}
		all.Wait()
	case n < 82:
		c.batch(atomicBatch, host.BatchAtomic)
	case n < 91:
		c.batch(independentBatch, host.BatchIndependent)
	case n < 93:
		c.rewind()
	case n < 95:
		// All callers use the same few keys.
		c.act(c.sharedKey())
	default:
		c.begin(wholeState, askState, host.BatchAtomic)()
	}
}

func (c *hostCaller) act(a action) { c.begin(single, askAction, host.BatchAtomic, a)() }

// rewind goes back to an earlier state, or forward again.
func (c *hostCaller) rewind() {
	a := action{kind: []string{revertKind, undoKind, undoKind, redoKind}[c.rand.IntN(4)], isRewind: true}
	if a.kind == revertKind {
		a.to = c.rand.Uint64N(c.newest() + 1)
	}
	c.begin(single, askRewind, host.BatchAtomic, a)()
}

// newest returns the newest sequence that the caller was told of.
func (c *hostCaller) newest() (n uint64) {
	for _, x := range c.calls {
		for _, o := range x.outcomes {
			n = max(n, o.sequence)
		}
	}
	return n
}

func (c *hostCaller) batch(f form, mode host.BatchMode) {
	actions := make([]action, 2+c.rand.IntN(4))
	for k := range actions {
		actions[k] = c.action()
	}
	c.begin(f, askBatch, mode, actions...)()
}

// begin prepares a call, and returns a function that makes it.
func (c *hostCaller) begin(f form, what string, mode host.BatchMode, actions ...action) func() {
	q := question{What: what, Mode: mode}
	if f != wholeState {
		c.keys++
		q.Key = fmt.Sprintf("%s-%d", c.name, c.keys)
	}
	if f == single {
		// A batch's key is that of the whole batch.
		if actions[0].key == "" {
			actions[0].key = q.Key
		}
		q.Key = actions[0].key
	}
	for _, a := range actions {
		q.Actions = append(q.Actions, askedAction{a.kind, a.payload, a.now, a.entropy, a.to})
	}
	x := &call{form: f, actions: actions, start: c.life.t.clock()}
	c.calls = append(c.calls, x)
	c.made++
	return func() {
		if f != wholeState {
			c.mu.Lock()
			c.hasAt = false
			c.mu.Unlock()
		}
		r := c.ask(q)
		x.end, x.outcomes = c.life.t.clock(), make([]outcome, len(r.Outcomes))
		for k := range r.Outcomes {
			o := &r.Outcomes[k]
			c.ids.saw(o.Placement)
			if x.outcomes[k] = o.outcome(); o.Err == nil && f != wholeState {
				c.life.t.acknowledged.Add(1)
			}
		}
		c.life.t.calls.Add(1)
	}
}

// ask asks until there is an answer. If another host than before has answered, the caller repeats
// its last questions.
func (c *hostCaller) ask(q question) reply {
	r, s, err := c.life.ask(q)
	for _, before := range c.answered(q, r, s, err) {
		c.repeat(before)
	}
	return r
}

// answered notes an answer. It returns the questions to repeat.
func (c *hostCaller) answered(q question, r reply, s *hostSession, err error) (repeat []keyedAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		// An engine that can't be opened fails as a whole: the first error tells the rest.
		if c.err == nil {
			c.err = err
		}
		return nil
	}
	if s.number > c.session {
		c.session = s.number
		repeat = slices.Clone(c.recent)
	}
	if q.Key != "" && !slices.ContainsFunc(r.Outcomes, func(o toldOutcome) bool { return o.Err != nil }) {
		c.recent = append(c.recent, keyedAnswer{q, r.Outcomes})
		c.recent = c.recent[max(0, len(c.recent)-recentKeys):]
	}
	return repeat
}

// repeat asks a question again that was answered by an earlier host. The answer has to be the
// same.
func (c *hostCaller) repeat(before keyedAnswer) {
	r, _, err := c.life.ask(before.question)
	switch {
	case errors.Is(err, errOver):
		return
	case err != nil:
		c.find(Lost, "the key %q was answered, and after the host's death its engine says: %v", before.question.Key, err)
		return
	}
	c.life.t.repeated.Add(1)
	for k := range r.Outcomes {
		if got, want := r.Outcomes[k].outcome(), before.outcomes[k].outcome(); got != want {
			c.find(Duplicated, "the key %q got %v, and after the host's death %v", before.question.Key, want, got)
		}
	}
}

// position asks where the engine is. If this caller has sent nothing since it last asked, the
// answer is the same, whatever died meanwhile.
func (c *hostCaller) position() {
	c.made++
	r := c.ask(question{What: askPosition})
	c.life.t.calls.Add(1)
	if c.err != nil {
		return
	}
	if c.hasAt {
		c.life.t.compared.Add(1)
		if r.Position != c.at {
			c.find(Diverged, "nothing was sent, and it has gone from %d with the digest %v to %d with %v", c.at.Sequence,
				c.at.Digest, r.Position.Sequence, r.Position.Digest)
		}
	}
	c.at, c.hasAt = r.Position, true
}

func (c *hostCaller) find(fate Fate, format string, args ...any) {
	c.life.t.found([]Violation{{fate, c.life.history.engine, fmt.Sprintf(format, args...)}})
}

// sharedKey makes an action with one of a few keys.
func (c *hostCaller) sharedKey() action {
	n := c.rand.IntN(12)
	a := action{kind: frequent[n%3], now: int64(n), key: fmt.Sprint("key-", n), payload: encode(map[string]any{})}
	a.entropy[0] = byte(n)
	if len(c.games) == 0 {
		a.kind = c.all[n%len(c.all)].Name
	}
	return a
}
