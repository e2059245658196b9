package cluster_test

import (
	"time"

	"hypertoken/internal/cluster"
)

// truth is what the log has stored of an engine, and what clients know of it.
type truth struct {
	records    []record
	ids, keys  map[uint64]uint64 // the sequences of records
	generation uint64
	// told is the highest sequence that anybody was told of.
	told uint64
	// withoutEffect are requests that were said to have had no effect.
	withoutEffect []uint64
}

// batchStored checks a batch that the log has just stored.
func (s *simulation) batchStored(b *cluster.Batch) {
	for k := range b.Parts {
		p := &b.Parts[k]
		isAgain := s.parts[p.Tail.ID]
		if isAgain && !s.doubled[p.Tail.ID] {
			s.fatal("slot %d: the part %v was sent again, and is stored twice", p.Slot, p.Tail.ID)
		}
		s.parts[p.Tail.ID] = true
		for _, m := range p.Engines {
			for _, e := range m.Entries {
				switch {
				case e.IsBase:
					s.entryStored(p.Slot, e, isAgain)
				case e.After+e.Count > uint64(len(s.truth[e.Engine].records)):
					s.fatal("%s: a group after %d is settled that was not stored", e.Engine, e.After)
				default:
					s.count("groups settled")
				}
			}
		}
		for _, e := range p.Tail.Entries {
			s.entryStored(p.Slot, e, isAgain)
		}
	}
}

// entryStored checks an entry that the log has just stored: whether its tenure was the slot's, and
// whether it follows the records before it.
func (s *simulation) entryStored(slot int, e cluster.Entry, isAgain bool) {
	owner := s.log.Owners[slot].Record
	t := s.truth[e.Engine]
	node, epoch, records := decode(e.Data)
	if node != owner.Node || epoch != owner.Epoch {
		s.fatal("%s: an append of node %x in epoch %d is stored, and slot %d is node %x's in epoch %d", e.Engine, node,
			epoch, slot, owner.Node, owner.Epoch)
	}
	if isAgain {
		return
	}
	if e.Generation < t.generation {
		s.fatal("%s: stored by a core of generation %d, the journal has %d", e.Engine, e.Generation, t.generation)
	}
	if e.IsBase {
		if e.After > uint64(len(t.records)) {
			s.fatal("%s: a base of %d, the journal ends at %d", e.Engine, e.After, len(t.records))
		}
		if e.Generation > t.generation && e.After != uint64(len(t.records)) {
			s.fatal("%s: an upgrade at %d, the journal ends at %d", e.Engine, e.After, len(t.records))
		}
		t.generation = e.Generation
		return
	}
	if e.Generation != t.generation {
		s.fatal("%s: a group of generation %d, the journal has %d", e.Engine, e.Generation, t.generation)
	}
	if e.After != uint64(len(t.records)) {
		s.fatal("%s: a group after %d is stored, the journal ends at %d", e.Engine, e.After, len(t.records))
	}
	for _, r := range records {
		t.records = append(t.records, r)
		if at := t.ids[r.id]; at != 0 {
			s.fatal("%s: the action %d is stored twice, at %d and %d", e.Engine, r.id, at, len(t.records))
		}
		t.ids[r.id] = uint64(len(t.records))
		if r.key != 0 {
			if at := t.keys[r.key]; at != 0 {
				s.fatal("%s: the key %d is stored twice, at %d and %d", e.Engine, r.key, at, len(t.records))
			}
			t.keys[r.key] = uint64(len(t.records))
		}
	}
}

// inspectJournal checks a journal that an owner has loaded, or that was read elsewhere. It has to
// have least records or more, and those that were stored. It returns the keys.
func (s *simulation) inspectJournal(name string, j cluster.Journal, least uint64) map[uint64]uint64 {
	t := s.truth[name]
	if j.Sequence < least || j.Sequence > uint64(len(t.records)) {
		s.fatal("%s: a journal that ends at %d; %d were stored before, %d are now", name, j.Sequence, least,
			len(t.records))
	}
	at := j.Base.After
	for _, g := range j.Groups {
		_, _, records := decode(g.Data)
		for _, r := range records {
			if t.records[at] != r {
				s.fatal("%s: the journal has %v at %d, and %v was stored", name, r, at+1, t.records[at])
			}
			at++
		}
	}
	keys := map[uint64]uint64{}
	for k, r := range t.records[:j.Sequence] {
		if r.key != 0 {
			keys[r.key] = uint64(k) + 1
		}
	}
	return keys
}

// inspectTold checks what a client is told.
func (s *simulation) inspectTold(r *request, o cluster.LineOutcome, w answer) {
	t := s.truth[r.engine]
	switch {
	case o == cluster.TimedOut:
		s.count("timed out")
		if !s.hasFaults {
			s.fatal("%s: the line %d timed out, and there are no faults", r.engine, r.id)
		}
		if r.key == 0 {
			t.withoutEffect = append(t.withoutEffect, r.id)
		}
	case o == cluster.OutcomeUnknown:
		s.count("outcomes unknown")
	case r.isRead:
		s.count("reads")
		if w.sequence < r.least || w.sequence > uint64(len(t.records)) {
			s.fatal("%s: a read saw the sequence %d, somebody was told of %d before, the journal ends at %d", r.engine,
				w.sequence, r.least, len(t.records))
		}
	default:
		s.count("acknowledged")
		if t.ids[r.id] != w.sequence {
			s.fatal("%s: the action %d is acknowledged with %d, and is stored at %d", r.engine, r.id, w.sequence,
				t.ids[r.id])
		}
	}
	if o == cluster.Answered {
		t.told = max(t.told, w.sequence)
	}
}

// inspectGive checks that a node gives a slot away only once its engines are closed.
func (n *node) inspectGive(slot int, r cluster.OwnerRecord) {
	if t := n.slots.Tenure(slot); r.Node != n.id && t != nil {
		if _, isOpen := n.engines[t]; isOpen {
			n.s.fatal("slot %d: node %x gives it away, and its engines are open", slot, n.id)
		}
	}
}

// readElsewhere reads a journal as a node does that does not own the slot.
func (s *simulation) readElsewhere() {
	name := s.engines[s.rand.IntN(len(s.engines))]
	r := cluster.NewReading(name)
	r.TailRead(s.replica().Tail(cluster.SlotOf(name, simSlots)))
	var second func()
	second = func() {
		result, ok := r.EngineRead(s.replica().Engine(name))
		switch {
		case !ok:
			s.after(5*ms, second)
		case result.Outcome != cluster.OK:
			s.fatal("%s can't be read elsewhere: %v", name, result.Outcome)
		default:
			s.count("readings elsewhere")
			s.inspectJournal(name, result.Journal, 0)
		}
	}
	s.after(s.between(0, 20*ms), second)
	s.after(s.between(20*ms, 100*ms), s.readElsewhere)
}

// checkOwners checks that every slot has an owner that runs.
func (s *simulation) checkOwners() {
	for slot := range simSlots {
		owner := s.log.Owners[slot].Record
		var n *node
		for _, m := range s.machines {
			if m.node != nil && m.node.id == owner.Node {
				n = m.node
			}
		}
		if n == nil {
			s.fatal("slot %d is node %x's, which does not run", slot, owner.Node)
		}
		t := n.slots.Tenure(slot)
		if t == nil || t.Phase() != cluster.Open {
			s.fatal("slot %d is node %x's, which has no open tenure of it", slot, owner.Node)
		}
	}
}

// probe sends a write for each engine to each node. All have to be acknowledged.
func (s *simulation) probe() {
	for _, name := range s.engines {
		for _, m := range s.machines {
			n := m.node
			if n == nil {
				s.fatal("no node runs on machine %d", m.number)
			}
			s.lines++
			r := &request{id: s.lines, engine: name}
			s.clients = append(s.clients, &client{s: s, present: r})
			c := s.clients[len(s.clients)-1]
			n.later(s.latency(), func() {
				n.submit(r, 2*time.Second, func(o cluster.LineOutcome, w answer) {
					c.present = nil
					if o != cluster.Answered {
						s.fatal("%s: a probe is %v", name, o)
					}
					s.inspectTold(r, o, w)
				})
			})
		}
	}
}

// checkEnd checks that nothing hangs, and that what was said to have no effect has none.
func (s *simulation) checkEnd() {
	for k, c := range s.clients {
		if c.present != nil {
			s.fatal("client %d waits for the action %d of %s", k, c.present.id, c.present.engine)
		}
	}
	for _, m := range s.machines {
		if n := m.node; n != nil && (len(n.calls) > 0 || len(n.arrivals) > 0 || len(n.lines) > 0) {
			s.fatal("node %x has %d calls, %d arrivals and %d lines", n.id, len(n.calls), len(n.arrivals), len(n.lines))
		}
	}
	for _, name := range s.engines {
		t := s.truth[name]
		for _, id := range t.withoutEffect {
			if t.ids[id] != 0 {
				s.fatal("%s: the action %d was said to have no effect, and is stored at %d", name, id, t.ids[id])
			}
		}
	}
}
