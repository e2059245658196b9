package cluster_test

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"hypertoken/internal/cluster"
)

// engine is an engine in one tenure, as internal/engine is towards its store: it loads its journal,
// has one append at a time, and loads again if the store takes too long.
type engine struct {
	node   *node
	tenure *cluster.Tenure
	name   string
	state  engineState
	// sequence is that of the last record which is stored, reached that of the state.
	sequence, reached uint64
	// generation is that of the journal, core that of the core which the engine runs on.
	generation, core uint64
	keys             map[uint64]uint64
	queue            []*arrival
	// group is what waits for the append that is under way.
	group    []member
	appendBy time.Duration // when the store is overdue; 0 if it has no append
	isLate   bool          // the engine loads because of that
	// isOvertaken says that the load has taken the append out of the store's queue.
	isOvertaken bool
	baseDue     bool
	isBase      bool // a base is with the store
	answers     int  // answers that are about to be given
	isClosed    bool
	// isRunning says that the group still runs. isFenced says that the engine was stopped
	// meanwhile.
	isRunning, isFenced bool
}

type engineState int

const (
	out engineState = iota
	loading
	live
)

// member is a line in a group, and the sequence that it is answered with.
type member struct {
	*arrival
	sequence uint64
	isWrite  bool
}

// record is what a write leaves in the journal.
type record struct{ id, key uint64 }

func encode(n *node, t *cluster.Tenure, records []record) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(n.id))
	b = binary.LittleEndian.AppendUint64(b, t.Epoch())
	for _, r := range records {
		b = binary.LittleEndian.AppendUint64(b, r.id)
		b = binary.LittleEndian.AppendUint64(b, r.key)
	}
	return b
}

func decode(b []byte) (node cluster.NodeID, epoch uint64, records []record) {
	node, epoch = cluster.NodeID(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])
	for b = b[16:]; len(b) > 0; b = b[16:] {
		records = append(records, record{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])})
	}
	return node, epoch, records
}

// engineOf hands a line to its engine in a tenure.
func (n *node) engineOf(t *cluster.Tenure, a *arrival) {
	engines, ok := n.engines[t]
	if !ok || t.Phase() != cluster.Open {
		a.reply(answer{isRefused: true})
		return
	}
	e := engines[a.engine]
	if e == nil {
		e = &engine{node: n, tenure: t, name: a.engine}
		engines[a.engine] = e
	}
	e.queue = append(e.queue, a)
	e.run()
}

// each calls f for all engines of the node, in an order that depends on the seed alone.
func (n *node) each(f func(*engine)) {
	tenures := slices.SortedFunc(maps.Keys(n.engines), func(a, b *cluster.Tenure) int {
		return cmp.Or(cmp.Compare(a.Slot(), b.Slot()), cmp.Compare(a.Epoch(), b.Epoch()))
	})
	for _, t := range tenures {
		n.eachOf(t, f)
	}
}

func (n *node) eachOf(t *cluster.Tenure, f func(*engine)) {
	for _, name := range slices.Sorted(maps.Keys(n.engines[t])) {
		f(n.engines[t][name])
	}
}

// tickEngines lets time pass for the engines.
func (n *node) tickEngines() {
	n.each(func(e *engine) {
		if e.appendBy != 0 && n.clock() >= e.appendBy {
			// The store is overdue: it has to say what it has.
			n.s.count("loads in doubt")
			e.appendBy, e.isLate = 0, true
			e.load()
		}
		if e.state == live && len(e.group) == 0 && len(e.queue) == 0 && e.answers == 0 && !e.isBase && n.s.oneIn(200) {
			// It is taken out of memory.
			delete(n.engines[e.tenure], e.name)
			e.tenure.Forget(e.name)
			e.isClosed = true
			return
		}
		e.run()
	})
}

func (e *engine) load() {
	n := e.node
	e.state = loading
	least := 0
	if r := n.s.log.Owners[e.tenure.Slot()].Record; r.Node == n.id && r.Epoch == e.tenure.Epoch() {
		least = len(n.s.truth[e.name].records)
	}
	e.tenure.Load(n.newCall(func(r cluster.Result) { e.loaded(r, least) }), e.name, n.clock())
}

// loaded takes in the journal. It has to have what was stored when the load was called, if the slot
// was still this tenure's.
func (e *engine) loaded(r cluster.Result, least int) {
	n := e.node
	switch r.Outcome {
	case cluster.Moved:
		e.isClosed = true
		e.refuse()
		if e.isOvertaken {
			for _, m := range e.group {
				m.reply(answer{isRefused: true})
			}
			e.group = nil
		} // else it hears of its append
		return
	case cluster.NewerCore:
		e.state = out
		n.later(20*ms, func() {
			if !e.isClosed {
				e.run()
			}
		})
		return
	case cluster.OK:
	default:
		n.s.fatal("%s can't be loaded: %v", e.name, r.Outcome)
	}
	for _, g := range r.Journal.Groups {
		if _, epoch, _ := decode(g.Data); epoch > e.tenure.Epoch() {
			n.s.fatal("%s: a load in epoch %d has a group of epoch %d", e.name, e.tenure.Epoch(), epoch)
		}
	}
	e.keys = n.s.inspectJournal(e.name, r.Journal, uint64(least))
	e.state = live
	e.sequence, e.reached, e.generation = r.Journal.Sequence, r.Journal.Sequence, r.Journal.Generation
	e.core = n.slots.Running()
	if e.isLate {
		e.isLate, e.isOvertaken = false, false
		e.endDoubt()
	}
	e.run()
}

// endDoubt decides by the journal whether the group is stored.
func (e *engine) endDoubt() {
	group := e.group
	e.group = nil
	if len(group) == 0 {
		return // the append was answered meanwhile
	}
	last := uint64(0)
	for _, m := range group {
		if m.isWrite {
			last = m.sequence
		}
	}
	if e.sequence >= last {
		for _, m := range group {
			if tr := e.node.s.truth[e.name]; m.isWrite && tr.ids[m.id] != m.sequence {
				e.node.s.fatal("%s: the action %d is taken to be stored at %d, and is at %d", e.name, m.id, m.sequence,
					tr.ids[m.id])
			}
		}
		e.finish(group)
		return
	}
	// It runs again.
	var again []*arrival
	for _, m := range group {
		again = append(again, m.arrival)
	}
	e.queue = slices.Concat(again, e.queue)
}

// run runs what is queued, and has the group stored.
func (e *engine) run() {
	n := e.node
	if e.isClosed {
		e.refuse()
		return
	}
	e.queue = slices.DeleteFunc(e.queue, func(a *arrival) bool {
		if n.clock() >= a.deadline {
			a.reply(answer{isRefused: true})
			return true
		}
		return false
	})
	if len(e.queue) == 0 && !e.baseDue || len(e.group) > 0 {
		return
	}
	switch e.state {
	case out:
		e.load()
		return
	case loading:
		return
	}
	if e.generation < n.slots.Running() {
		if !e.isBase {
			n.s.count("journals upgraded")
			e.upgrade()
		}
		return
	}
	if len(e.queue) == 0 {
		return
	}
	var records []record
	for _, a := range e.queue {
		m := member{arrival: a, sequence: e.reached}
		first, isRepeated := e.keys[a.key]
		switch {
		case a.key != 0 && isRepeated:
			m.sequence = first
		case !a.isRead:
			e.reached++
			m.sequence, m.isWrite = e.reached, true
			records = append(records, record{a.id, a.key})
			if a.key != 0 {
				e.keys[a.key] = e.reached
			}
		}
		e.group = append(e.group, m)
	}
	e.queue = nil
	if len(records) == 0 {
		group := e.group
		e.group = nil
		e.finish(group)
		return
	}
	entry := cluster.Entry{Engine: e.name, After: e.sequence, Count: uint64(len(records)),
		Generation: min(e.generation, e.core),
		Data:       encode(n, e.tenure, records)}
	if n.s.now >= faultsEnd || !n.s.oneIn(40) {
		e.append(entry)
		return
	}
	e.isRunning = true // for long
	n.later(n.s.between(100*ms, 1500*ms), func() {
		if e.isFenced {
			// It was stopped, and comes back from its worker too late: nothing of it may be stored.
			if _, isOpen := n.engines[e.tenure]; !isOpen {
				n.s.count("appends of stopped engines")
				e.tenure.Append(n.newCall(func(cluster.Result) {}), entry, n.clock())
			}
			return
		}
		e.isRunning = false
		e.append(entry)
	})
}

// append hands the group to the store.
func (e *engine) append(entry cluster.Entry) {
	n := e.node
	e.appendBy = n.clock() + n.s.storeTimeout
	e.tenure.Append(n.newCall(func(r cluster.Result) { e.appended(entry, r.Outcome) }), entry, n.clock())
}

func (e *engine) appended(entry cluster.Entry, o cluster.Outcome) {
	if len(e.group) == 0 || entry.After != e.sequence || e.group[0].sequence < entry.After {
		return // a load was faster
	}
	if e.isLate && o == cluster.Overtaken {
		e.isOvertaken = true
		return // the load decides
	}
	e.appendBy = 0
	group := e.group
	e.group = nil
	switch o {
	case cluster.OK:
		e.sequence = entry.After + entry.Count
		e.finish(group)
		if e.node.s.oneIn(12) && !e.isBase {
			e.takeBase()
		}
	case cluster.Overtaken:
		e.node.s.fatal("%s: an append is overtaken by a load that nobody called", e.name)
	default:
		e.isClosed = true
		for _, m := range group {
			m.reply(answer{isRefused: !m.isWrite || o == cluster.Moved, isUnknown: m.isWrite && o == cluster.Unknown})
		}
	}
	e.run()
}

// takeBase has a base of the present sequence stored, after a while in which more may be appended.
func (e *engine) takeBase() {
	n := e.node
	e.isBase = true
	base := cluster.Entry{Engine: e.name, After: e.sequence, IsBase: true, Generation: e.generation,
		Data: encode(n, e.tenure, nil)}
	n.later(n.s.between(0, 300*ms), func() { e.storeBase(base) })
}

func (e *engine) storeBase(base cluster.Entry) {
	n := e.node
	if e.isClosed || e.state != live || e.isLate {
		e.isBase = false
		return
	}
	e.tenure.Append(n.newCall(func(r cluster.Result) {
		e.isBase = false
		if r.Outcome == cluster.OK {
			n.s.count("bases")
			if base.Generation > e.generation {
				e.generation, e.core = base.Generation, base.Generation
			}
			e.run()
		}
	}), base, n.clock())
}

// upgrade takes the journal over to the core that runs here, by a base of that core.
func (e *engine) upgrade() {
	e.isBase = true
	e.storeBase(cluster.Entry{Engine: e.name, After: e.sequence, IsBase: true, Generation: e.node.slots.Running(),
		Data: encode(e.node, e.tenure, nil)})
}

// finish answers what is stored, or changed nothing.
func (e *engine) finish(group []member) {
	n := e.node
	for _, m := range group {
		if m.isWrite {
			m.reply(answer{sequence: m.sequence})
			continue
		}
		e.answers++
		n.later(n.s.between(0, 4*ms), func() { e.answer(m) })
	}
}

// answer gives an answer that changed nothing, if that may be.
func (e *engine) answer(m member) {
	n := e.node
	if e.tenure.MayAnswer(n.clock(), n.member.LeaseEnds()) {
		if _, isDead := n.s.verdicts[n.id]; isDead {
			n.s.fatal("%s: node %x answers from memory, and has a verdict", e.name, n.id)
		}
		e.answers--
		m.reply(answer{sequence: m.sequence})
		return
	}
	n.s.count("reads by barrier")
	e.tenure.Barrier(n.newCall(func(r cluster.Result) {
		e.answers--
		m.reply(answer{sequence: m.sequence, isRefused: r.Outcome != cluster.OK})
	}), n.clock())
}

// refuse sends back what has not run.
func (e *engine) refuse() {
	for _, a := range e.queue {
		a.reply(answer{isRefused: true})
	}
	e.queue = nil
}

// CloseEngines ends the engines of a slot, each when nothing of it is under way.
func (n *node) CloseEngines(t *cluster.Tenure) {
	n.s.after(0, func() { n.on(func() { n.closeWhenQuiet(t) }) })
}

func (n *node) closeWhenQuiet(t *cluster.Tenure) {
	if t.Phase() != cluster.Giving {
		return
	}
	if n.isBusy(t) {
		n.later(2*ms, func() { n.closeWhenQuiet(t) })
		return
	}
	n.eachOf(t, func(e *engine) { e.isClosed = true })
	delete(n.engines, t)
	n.slots.EnginesClosed(t, n.clock())
}

// isBusy reports whether an engine of a slot has something under way. What has not begun to run is
// sent back.
func (n *node) isBusy(t *cluster.Tenure) (busy bool) {
	n.eachOf(t, func(e *engine) {
		e.refuse()
		busy = busy || len(e.group) > 0 || e.answers > 0 || e.state == loading || e.isBase
	})
	return busy
}

// StopEngines fences what still runs: it has no effect, and runs at the next owner.
func (n *node) StopEngines(t *cluster.Tenure) {
	n.s.after(0, func() {
		n.on(func() {
			n.eachOf(t, func(e *engine) {
				if e.isRunning {
					n.s.count("engines that were stopped")
					e.stop()
				}
			})
		})
	})
}

// stop fences an engine that still runs.
func (e *engine) stop() {
	e.isFenced, e.isClosed = true, true
	group := e.group
	e.group = nil
	for _, m := range group {
		m.reply(answer{isRefused: true})
	}
}

// TenureEnded ends the engines of a slot. An engine may be slow to hear of it, and goes on until
// then.
func (n *node) TenureEnded(t *cluster.Tenure) {
	engines := n.engines[t]
	for _, name := range slices.Sorted(maps.Keys(engines)) {
		e := engines[name]
		d := time.Duration(0)
		if n.s.oneIn(2) {
			d = n.s.between(0, time.Second)
		}
		n.later(d, func() {
			e.isClosed = true
			e.refuse()
			if e.isRunning {
				e.stop()
			}
			delete(engines, e.name)
			if len(engines) == 0 {
				delete(n.engines, t)
			}
		})
	}
}
