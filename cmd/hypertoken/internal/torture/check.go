package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"hypertoken/host"
)

// Fate is a way in which a guarantee may fail.
type Fate string

// The fates of actions that must not be.
const (
	// Lost: an action was acknowledged, and the engine does not have it.
	Lost Fate = "lost"
	// Duplicated: the engine has an effect that no caller was told of: an action ran twice, or
	// failed and had an effect.
	Duplicated Fate = "duplicated"
	// Diverged: an engine that is fed the acknowledged actions only gives another result, state or
	// digest.
	Diverged Fate = "diverged"
	// Disordered: the answers that callers got fit no order of their calls.
	Disordered Fate = "disordered"
	// Visible: a fault has become a caller's error.
	Visible Fate = "visible"
	// Leaked: something is left after the host's end.
	Leaked Fate = "leaked"
	// Accused: the host said that a worker broke the protocol, and the worker did not.
	Accused Fate = "accused"
	// Miscounted: the host's measurements differ from the outcomes that callers got, or a counter
	// has gone back.
	Miscounted Fate = "miscounted"
	// Stuck: a call does not end.
	Stuck Fate = "stuck"
	// Stale: an answer shows an older state than one that a caller had got before the call began.
	Stale Fate = "stale"
)

// fates are those that a torture of workers can find.
var fates = []Fate{Lost, Duplicated, Diverged, Disordered, Visible, Leaked, Accused, Miscounted, Stuck}

// Violation is a guarantee that did not hold.
type Violation struct {
	Fate   Fate   `json:"fate"`
	Engine string `json:"engine,omitempty"`
	What   string `json:"what"`
}

func (v Violation) String() string {
	if v.Engine == "" {
		return fmt.Sprintf("%s: %s", v.Fate, v.What)
	}
	return fmt.Sprintf("%s: %s: %s", v.Fate, v.Engine, v.What)
}

// placed is the position of an acknowledged action in the order of an engine's changes.
type placed struct {
	call  *call
	index int
}

func (p placed) action() *action   { return &p.call.actions[p.index] }
func (p placed) outcome() *outcome { return &p.call.outcomes[p.index] }

// checker checks the history of an engine.
type checker struct {
	*history
	model *host.Engine // a fresh engine, in process
	found []Violation
	// suspectWait is how long a suspect waits for a worker before it fails; 0 if there was always
	// a worker.
	suspectWait time.Duration

	changes map[uint64]placed
	reads   map[uint64][]placed
	// repeats are calls whose key was known already: they took no place in the order.
	repeats map[*call]bool
}

// check returns the violations in a history.
func check(ctx context.Context, h *history, model *host.Engine, suspectWait time.Duration) ([]Violation, error) {
	c := &checker{history: h, model: model, suspectWait: suspectWait, changes: map[uint64]placed{},
		reads: map[uint64][]placed{}, repeats: map[*call]bool{}}
	c.errors()
	c.sort()
	c.callersOrder()
	c.linearizable()
	c.journaled()
	c.stepsFollow()
	c.eventsOrder()
	err := c.replay(ctx)
	return c.found, err
}

func (c *checker) find(fate Fate, format string, args ...any) {
	if len(c.found) < 5 { // the first ones tell the rest
		c.found = append(c.found, Violation{fate, c.engine, fmt.Sprintf(format, args...)})
	}
}

func (c *checker) all(f func(x *call)) {
	for _, calls := range c.callers {
		for _, x := range calls {
			f(x)
		}
	}
}

// errors looks for errors that no caller has asked for.
func (c *checker) errors() {
	c.all(func(x *call) {
		for k, o := range x.outcomes {
			var core *host.ActionError
			code := host.CodeOf(o.err)
			switch {
			case o.err == nil, errors.As(o.err, &core):
			case x.mayEnd && (errors.Is(o.err, host.ErrTimeout) || errors.Is(o.err, host.ErrCanceled)):
			case c.gathers && errors.Is(o.err, host.ErrTimeout): // a batch ends with its earliest deadline
			case errors.Is(o.err, host.ErrConflict) && (x.actions[k].conditional || x.actions[k].isRewind):
			case errors.Is(o.err, host.ErrWorkerUnavailable) && c.suspectWait > 0 &&
				time.Duration(x.end-x.start) >= c.suspectWait:
			case errors.Is(o.err, host.ErrBatchAborted) && (x.form == atomicBatch ||
				(c.gathers && c.mode == host.BatchAtomic)):
			default:
				c.find(Visible, "a call failed with %q after %v: %v", code,
					time.Duration(x.end-x.start).Round(time.Microsecond), o.err)
			}
		}
	})
}

// sort puts each acknowledged action at its position.
func (c *checker) sort() {
	keys := map[string]placed{}
	c.all(func(x *call) {
		for k, o := range x.outcomes {
			p := placed{x, k}
			switch {
			case o.err != nil:
				continue
			case !x.advances(k):
				c.reads[o.sequence] = append(c.reads[o.sequence], p)
				continue
			}
			if key := keyOf(p); key != "" {
				first, again := keys[key]
				if again && (first.outcome().sequence != o.sequence || first.outcome().hash != o.hash) {
					c.find(Duplicated, "the key %q has run as the changes %d and %d", key, first.outcome().sequence,
						o.sequence)
				}
				if again {
					c.repeats[x] = true
					first.call.start, first.call.end = min(first.call.start, x.start), min(first.call.end, x.end)
					continue
				}
				keys[key] = p
			}
			if other, twice := c.changes[o.sequence]; twice {
				c.find(Lost, "%s and %s were both told that they are change %d", other.action().kind, p.action().kind,
					o.sequence)
				continue
			}
			c.changes[o.sequence] = p
		}
	})
	last := c.last.sequence
	for n := uint64(1); n <= last; n++ {
		if _, told := c.changes[n]; !told {
			c.find(Duplicated, "nobody was told of change %d of %d", n, last)
		}
	}
	for n, p := range c.changes {
		if n > last {
			c.find(Lost, "%s was acknowledged as change %d, and the engine ends with change %d", p.action().kind, n,
				last)
		}
	}
}

func keyOf(p placed) string {
	if p.call.form.isQuestion() {
		return ""
	}
	return p.action().key
}

// callersOrder: the actions of a caller have the order of their dispatch.
func (c *checker) callersOrder() {
	for _, calls := range c.callers {
		last := uint64(0)
		for _, x := range calls {
			for k, o := range x.outcomes {
				if o.err != nil || (!x.form.isQuestion() && x.actions[k].key != "") {
					continue
				}
				if o.sequence < last || (o.sequence == last && x.advances(k)) {
					c.find(Disordered, "a caller was told %d for what it dispatched after %d", o.sequence, last)
				}
				last = o.sequence
			}
		}
	}
}

// step is an operation for porcupine: it takes an engine from one sequence to another, or leaves
// it.
type step struct {
	reads, ends uint64 // the sequence before it, and after it
	conflict    bool   // it saw another sequence than reads
}

// linearizable asks porcupine for an order of the calls. The order must fit the answers that the
// callers got, and the times of their calls and answers.
func (c *checker) linearizable() {
	var operations []porcupine.Operation
	add := func(client int, x *call, s step) {
		operations = append(operations, porcupine.Operation{ClientId: client, Input: s, Call: x.start, Return: x.end})
	}
	for client, calls := range c.callers {
		for _, x := range calls {
			if c.repeats[x] {
				continue
			}
			c.steps(x, func(s step) { add(client, x, s) })
		}
	}
	model := porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, input, _ any) (bool, any) {
			at, s := state.(uint64), input.(step)
			if s.conflict {
				return at != s.reads, at
			}
			return at == s.reads, s.ends
		},
	}
	const limit = 20 * time.Second
	switch porcupine.CheckOperationsTimeout(model, operations, limit) {
	case porcupine.Illegal:
		c.find(Disordered, "no order of its %d operations fits what the callers were told", len(operations))
	case porcupine.Unknown:
		c.find(Disordered, "whether its %d operations have an order was not found out within %v", len(operations),
			limit)
	}
}

// steps makes operations of a call.
func (c *checker) steps(x *call, add func(step)) {
	whole, first, failed := step{}, true, false
	for k, o := range x.outcomes {
		failed = failed || o.err != nil
		if errors.Is(o.err, host.ErrConflict) && x.actions[k].conditional {
			add(step{reads: x.actions[k].ifSequence, conflict: true})
		}
		if o.err != nil {
			continue
		}
		s := step{reads: o.sequence, ends: o.sequence}
		if x.advances(k) {
			s.reads--
		}
		if x.form == single && x.actions[0].conditional && s.reads != x.actions[0].ifSequence {
			c.find(Disordered, "%s ran at %d, and only at %d it was to", x.actions[0].kind, s.reads,
				x.actions[0].ifSequence)
		}
		switch {
		case x.form != atomicBatch:
			add(s) // a batch whose worker died may have been sent member by member
		case first:
			whole, first = s, false
		case whole.ends != s.reads:
			c.find(Disordered, "an atomic batch was interrupted between %d and %d", whole.ends, s.reads)
		default:
			whole.ends = s.ends
		}
	}
	if !first {
		add(whole)
	}
	if !first && failed && x.form == atomicBatch {
		c.find(Disordered, "of an atomic batch some members failed, and others did not")
	}
}

// journaled compares the journal with the acknowledged actions.
func (c *checker) journaled() {
	for k, entry := range c.journal {
		p, told := c.changes[entry.Sequence]
		switch {
		case !told:
			c.find(Duplicated, "the journal has %s as change %d, and nobody was told", entry.Type, entry.Sequence)
		case p.action().isRewind != (entry.Marker != nil):
			c.find(Lost, "change %d was acknowledged as %s, the journal has %q, marker %v", entry.Sequence, p.action().kind,
				entry.Type, entry.Marker != nil)
		case entry.Marker != nil && uint64(entry.Marker.Digest) != p.outcome().hash:
			c.find(Diverged, "change %d, %s, was told the digest %016x, the journal has %v", entry.Sequence, p.action().kind,
				p.outcome().hash, entry.Marker.Digest)
		case entry.Marker == nil && (entry.Type != p.action().kind || entry.Checksum != p.outcome().hash):
			c.find(Lost, "change %d was acknowledged as %s, the journal has %s with another result", entry.Sequence,
				p.action().kind, entry.Type)
		case k == len(c.journal)-1 && entry.Sequence != c.last.sequence:
			c.find(Lost, "the journal ends with change %d, the engine with %d", entry.Sequence, c.last.sequence)
		}
	}
}

// eventsOrder: each change raised one event, in their order.
func (c *checker) eventsOrder() {
	if !slices.IsSorted(c.events) || len(slices.Compact(slices.Clone(c.events))) != len(c.events) {
		c.find(Disordered, "events came twice, or in another order than the changes")
	}
	changed := 0
	for _, p := range c.changes {
		if p.outcome().changed {
			changed++
		}
	}
	if !c.dropped && changed != len(c.events) {
		c.find(Disordered, "%d changes raised %d events", changed, len(c.events))
	}
}

// replay runs the acknowledged actions on a new engine, in their order. Every result must be the
// same, also of actions that only read, and so must the state and the digest at the end.
func (c *checker) replay(ctx context.Context) error {
	for n := uint64(0); n <= c.last.sequence; n++ {
		if n > 0 {
			p, told := c.changes[n]
			if !told {
				return nil // and found already
			}
			a := p.action()
			if a.isRewind {
				if !c.revertModel(ctx, n, p) {
					return nil
				}
				continue
			}
			r, err := c.model.Dispatch(ctx, a.kind, a.payload, a.options()...)
			if got := outcomeOf(r, err); got != *p.outcome() {
				c.find(Diverged, "change %d, %s: %s; again %s", n, a.kind, p.outcome(), got)
				return nil
			}
		}
		for _, p := range c.reads[n] {
			var got outcome
			what := "the state"
			switch p.call.form {
			case wholeState:
				r, err := c.model.State(ctx)
				got = outcomeOf(r, err)
			case wholeDigest:
				d, err := c.model.Digest(ctx)
				what, got = "the digest", outcome{sequence: n, hash: uint64(d), err: err}
			default:
				what = p.action().kind
				r, err := c.model.Dispatch(ctx, what, p.action().payload, p.action().options()...)
				got = outcomeOf(r, err)
			}
			if got != *p.outcome() {
				c.find(Diverged, "%s after change %d: %s; again %s", what, n, p.outcome(), got)
				return nil
			}
		}
	}
	state, err := c.model.State(ctx)
	if err != nil {
		return fmt.Errorf("the model's state: %w", err)
	}
	digest, err := c.model.Digest(ctx)
	if err != nil {
		return fmt.Errorf("the model's digest: %w", err)
	}
	if got := outcomeOf(state, nil); got != c.last || digest != c.digest {
		c.find(Diverged, "it ends with %s and the digest %v; its acknowledged actions with %s and %v", c.last,
			c.digest, got, digest)
	}
	return nil
}

func (o outcome) String() string {
	if o.err != nil {
		return o.err.Error()
	}
	return fmt.Sprintf("a result of checksum %016x at %d", o.hash, o.sequence)
}
