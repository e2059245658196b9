package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/marker"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Reverts, undos and redos in the simulation.

// simPast is what the store has ever had beside actions, by engines and sequences.
type simPast struct {
	markers map[string]map[uint64]*journal.Base
	batches map[string]map[uint64]uint64 // the first sequences of batches
	// steps are the steps that a model has at each sequence.
	steps map[string][]simStep
}

// simStep is what is current at a sequence, and what can be redone there.
type simStep struct {
	current uint64
	redo    []uint64
}

func (p *simPast) marker(name string, at uint64) *journal.Base { return p.markers[name][at] }

func (p *simPast) noteBatch(name string, at, first uint64) {
	if p.batches == nil {
		p.batches = map[string]map[uint64]uint64{}
	}
	if p.batches[name] == nil {
		p.batches[name] = map[uint64]uint64{}
	}
	if first == 0 {
		first = at
	}
	p.batches[name][at] = first
}

// mark stores a marker, or fails as an append does.
func (st *simStore) mark(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s := st.sim
	call := func(d journal.Done) {
		st.Store.Install(name, owner, base, journal.DoneFunc(func(err error) {
			if err == nil {
				p := &st.past
				if p.markers == nil {
					p.markers = map[string]map[uint64]*journal.Base{}
				}
				if p.markers[name] == nil {
					p.markers[name] = map[uint64]*journal.Base{}
				}
				p.markers[name][base.Sequence] = &base
			}
			d.Report(err)
		}))
	}
	switch s.rand.IntN(20) {
	case 0: // it fails
		done.Report(errors.New("the disk is full"))
	case 1: // it fails, but has stored it
		call(journal.Done{})
		done.Report(errors.New("the connection broke"))
	case 2: // it has stored it, and forgets to say so
		call(journal.Done{})
	case 3: // it forgets all of it
	case 4, 5, 6: // it takes its time
		st.late = append(st.late, func() { call(done) })
		return
	case 7:
		done.Report(journal.ErrFull)
		return
	case 8:
		done.Report(journal.ErrUnavailable)
	case 9:
		if s.rand.IntN(4) == 0 {
			st.takeOver(name)
		}
		call(done)
		return
	default:
		call(done)
		return
	}
	s.doubts++
}

func (st *simStore) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	st.Store.(journal.Historian).LoadAt(name, at, done)
}

func (st *simStore) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	st.Store.(journal.Historian).Range(name, from, limit, done)
}

// rewind dispatches a revert, an undo or a redo.
func (s *simulation) rewind(e *simEngine) {
	ctx, cancel := context.WithCancel(context.Background())
	kinds := []rewindKind{toSequence, toParent, toParent, toUndone, toUndone, toUndone}
	c := &call{cancel: cancel, target: &target{kind: kinds[s.rand.IntN(len(kinds))]}}
	if c.target.kind == toSequence {
		c.target.sequence = s.rand.Uint64N(e.m.View().Sequence + 2)
	}
	c.what = fmt.Sprintf("rewind %v %d", *c.target, len(e.calls))
	f := &Call{driver: e.Driver, target: c.target}
	r := &f.request
	r.Kind, r.What, r.IsRewind = ipc.Dispatch, c.what, true
	switch s.rand.IntN(10) {
	case 0:
		c.key = fmt.Sprint("rewind-", c.target.kind, "-", c.target.sequence)
		r.Keyed = engine.NewKey(c.key, engine.NewSum(engine.SumOfRewind))
	case 1:
		r.IsConditional, r.IfSequence = true, e.m.View().Sequence+uint64(s.rand.IntN(2))
	}
	f.setBounds(ctx, e.Driver)
	if s.rand.IntN(4) > 0 {
		r.Allowed = 0
	}
	c.future = f
	if err := s.host.queue.Take(r.What, &f.room); err != nil {
		s.fatal("%v", err)
	}
	e.calls, e.open = append(e.calls, c), append(e.open, c)
	e.submit(f, false)
}

// findBase finds what a rewind leads to, some events later. The states are the toy's; the steps are
// found as they are in a host.
func (s *simulation) findBase(e *Driver, r *engine.Request, newest uint64, found func(*journal.Base, Raw, error)) {
	fate := s.rand.IntN(20)
	s.locals = append(s.locals, func() {
		m := &marker.Marker{Kind: marker.Revert}
		t := r.Owner.(*Call).target
		var err error
		switch t.kind {
		case toParent:
			err = e.engines.undone(context.Background(), r.What, e.name, newest, m)
		case toUndone:
			err = e.engines.redone(context.Background(), r.What, e.name, newest, m)
		default:
			m.To, m.Current = t.sequence, newest+1
			if t.sequence > newest {
				err = badInput("there is no sequence %d", t.sequence)
			}
		}
		isCursed := slices.ContainsFunc(s.engines, func(c *simEngine) bool { return c.name == e.name && c.cursed })
		switch {
		case err != nil:
		case isCursed:
			err = fault.ErrBroken.With("its state can't be placed")
		case fate == 0:
			err = fault.ErrHistoryTrimmed.With("it is said to be trimmed")
		}
		if err != nil {
			found(nil, nil, err)
			return
		}
		t2 := &toy{sim: s}
		s.store.LoadAt(e.name, m.To, func(stored *journal.Stored, err error) {
			if err != nil {
				s.fatal("%s at %d: %v", e.name, m.To, err)
			}
			t2.state = restored(stored.Data)
			for entry := range journal.Entries(stored.Entries) {
				if t2.state, _, err = toyRun(t2.state, &wasm.Action{Now: entry.Now, Entropy: entry.Entropy,
					Type: string(entry.Type), Payload: entry.Payload}); err != nil {
					s.fatal("%s at %d: %v", e.name, m.To, err)
				}
			}
		})
		m.Digest = t2.state
		base := &journal.Base{Snapshot: true, Details: m.Encode()}
		_ = t2.Snapshot(context.Background(), func(b []byte) error { base.Data = append(base.Data, b...); return nil })
		result, err := msgpack.Marshal(rewindResult{To: m.To, Digest: m.Digest})
		found(base, result, err)
	})
}

// stepsUpTo returns the steps of an engine at a sequence, by a model of its own.
func (s *simulation) stepsUpTo(name string, at uint64) simStep {
	p := &s.store.past
	if p.steps == nil {
		p.steps = map[string][]simStep{}
	}
	list := p.steps[name]
	if list == nil {
		list = []simStep{{}}
	}
	for n := uint64(len(list)); n <= at; n++ {
		step := simStep{current: n}
		if base := p.marker(name, n); base != nil {
			m, err := marker.Read(base)
			if err != nil {
				s.fatal("%s: %v", name, err)
			}
			step = simStep{m.Current, m.Redo}
		}
		list = append(list, step)
	}
	p.steps[name] = list
	return list[at]
}

// checkRewind holds a marker against what its caller, which is nil if it is not known, asked for, and
// returns the state.
func (s *simulation) checkRewind(e *simEngine, at uint64, c *call, states []uint64) uint64 {
	base := s.store.past.marker(e.name, at)
	m, err := marker.Read(base)
	if err != nil || m.To >= at || restored(base.Data) != states[m.To] || m.Digest != states[m.To] {
		s.fatal("%s: the marker of sequence %d, %+v, has the state %016x, %v", e.name, at, m, restored(base.Data), err)
	}
	if c == nil {
		return states[m.To]
	}
	if c.target == nil {
		s.fatal("%s: %s has the sequence %d of a marker", e.name, c.what, at)
	}
	was := s.stepsUpTo(e.name, at-1)
	want := simStep{current: at}
	to := c.target.sequence
	switch c.target.kind {
	case toParent:
		s.counts["undos"]++
		first := was.current
		if b := s.store.past.batches[e.name][was.current]; b > 0 {
			first = b
		}
		to = s.stepsUpTo(e.name, first-1).current
		want = simStep{to, append(slices.Clone(was.redo), was.current)}
	case toUndone:
		s.counts["redos"]++
		last := len(was.redo) - 1
		to = was.redo[last]
		want = simStep{to, was.redo[:last]}
	default:
		s.counts["reverts"]++
	}
	if m.To != to || m.Current != want.current || !slices.Equal(m.Redo, want.redo) {
		s.fatal("%s: %s at the sequence %d leads to %+v, want the state of %d and the steps %+v", e.name, c.what, at, m, to,
			want)
	}
	return states[m.To]
}
