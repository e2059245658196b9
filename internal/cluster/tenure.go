package cluster

import (
	"slices"
	"time"
)

// Phase is where a tenure is.
type Phase uint8

const (
	// Opening: the slot's tail is being read.
	Opening Phase = iota
	// Open: engines may run.
	Open
	// Giving: the engines are closed, then another node gets the slot.
	Giving
	// Over: the slot is not this node's any more, or not in this tenure.
	Over
)

// String returns the phase in lower case.
func (p Phase) String() string { return [...]string{"opening", "open", "giving", "over"}[p] }

// Tenure is one period in which a node owns a slot. Engines hold it as their store: once it is
// over, or its engines were closed, every call ends with Moved. Its events, Append, Load, Barrier,
// are those of Slots: the same lock, and Slots.Perform.
type Tenure struct {
	slots *Slots
	slot  *slot
	epoch uint64
	// fence is the sequence of the owner record. known is the highest sequence in the log that this
	// tenure knows to be stored: a replica that is not as far may lack something of the slot.
	fence, known uint64
	phase        Phase

	// tail has the messages of the slot's subject that are not settled, settled is the sequence up
	// to which the slot's subject is settled. groups and bytes are what the tail has; the oldest
	// group is settled at settleAt.
	tail          []StoredTail
	settled       uint64
	groups, bytes int
	settleAt      time.Duration
	tailRead      asking // the reading of the tail that is under way
	// copies has, for each engine that was loaded, the messages on its subject with groups after
	// its newest base.
	copies map[string][]engineCopy

	queue    []pending
	barriers []uint64
	loads    []*load
	// sent is what is with the log, or in doubt. There is one part at a time.
	sent *sentPart
	// isInDoubt says that sent was not answered: the fence is moved, then the tail shows whether it
	// is stored. hasLostFence says that another owner record is there, which is not known yet.
	isInDoubt, hasLostFence bool
	isReady                 bool // it is in Slots.ready

	heir     NodeID        // the node that gets the slot
	stopAt   time.Duration // when engines that still run are stopped
	isClosed bool          // no engine runs
}

// pending is an entry that an engine wants to have stored.
type pending struct {
	call  uint64
	entry Entry
}

// sentPart is a part that was sent, and the calls that wait for it.
type sentPart struct {
	part     Part
	pending  []pending
	barriers []uint64
}

// asking is a question to the log that is repeated until the answer counts.
type asking struct {
	call     uint64 // 0 if there is none
	repeatAt time.Duration
}

// load is a journal that an engine waits for.
type load struct {
	call   uint64
	engine string
	asking asking
	// required is how far a replica has to be for its reply to count. tail is what the slot's tail
	// had of the engine when the reading began. It is taken before the engine's subject is read, so
	// that what is settled meanwhile is in one of both.
	required uint64
	tail     []Entry
}

// Slot returns the number of the slot, Epoch the epoch of the tenure, Phase where it is.
func (t *Tenure) Slot() int     { return t.slot.number }
func (t *Tenure) Epoch() uint64 { return t.epoch }
func (t *Tenure) Phase() Phase  { return t.phase }

// MayAnswer reports whether an answer that changed nothing and was computed before now may be
// given. leaseEnds is that of Member.LeaseEnds. If it returns false, the answer needs a Barrier.
// After Slots.EnginesClosed none may be given: another node gets the slot.
func (t *Tenure) MayAnswer(now, leaseEnds time.Duration) bool {
	if t.slots.config.ReadsLog {
		return false
	}
	return !t.isShut() && !t.hasLostFence && now < leaseEnds
}

// isShut reports whether no engine of this tenure may do anything any more.
func (t *Tenure) isShut() bool { return t.phase == Over || t.isClosed }

// Append has an entry stored behind all that is queued for the slot. An engine has one append at a
// time. The call ends with OK, Moved, Overtaken or Unknown.
func (t *Tenure) Append(call uint64, e Entry, now time.Duration) {
	t.slots.now = now
	if t.isShut() {
		t.slots.emitDone(call, Moved)
		return
	}
	e.Epoch = t.epoch
	t.queue = append(t.queue, pending{call, e})
	t.markReady()
}

// Barrier ends with OK once it is certain that this node owned the slot at a moment after the call,
// else with Moved.
func (t *Tenure) Barrier(call uint64, now time.Duration) {
	t.slots.now = now
	if t.isShut() {
		t.slots.emitDone(call, Moved)
		return
	}
	t.barriers = append(t.barriers, call)
	t.markReady()
}

// Load reads the journal of an engine. An append of the engine that is still queued is taken out,
// and ends with Overtaken; the load waits for one that was sent, so that it shows whether it is
// stored. The call ends with OK, Moved, NewerCore or Damaged.
func (t *Tenure) Load(call uint64, engine string, now time.Duration) {
	t.slots.now = now
	if t.isShut() {
		t.slots.emitDone(call, Moved)
		return
	}
	t.queue = slices.DeleteFunc(t.queue, func(p pending) bool {
		if p.entry.Engine == engine {
			t.slots.emitDone(p.call, Overtaken)
			return true
		}
		return false
	})
	t.loads = append(t.loads, &load{call: call, engine: engine})
	t.beginLoads()
}

// has reports whether the part has an entry of an engine.
func (s *sentPart) has(engine string) bool {
	return s != nil && slices.ContainsFunc(s.pending, func(p pending) bool { return p.entry.Engine == engine })
}

// beginLoads begins the readings that have nothing to wait for.
func (t *Tenure) beginLoads() {
	if t.phase == Opening {
		return
	}
	for _, l := range t.loads {
		if l.asking.call == 0 && !t.sent.has(l.engine) {
			l.required, l.tail = t.known, entriesOf(t.tail, l.engine)
			t.copies[l.engine] = nil
			t.readEngine(l)
		}
	}
}

func (t *Tenure) readEngine(l *load) {
	t.slots.ask(&l.asking)
	t.slots.emit(effect{kind: readEngine, slot: t.slot.number, call: l.asking.call, engine: l.engine})
}

// ask notes that a question goes to the log, for the first time or again. It keeps its call, so that
// the answer to an earlier sending counts as well.
func (s *Slots) ask(a *asking) {
	if a.call == 0 {
		s.call++
		a.call = s.call
	}
	a.repeatAt = s.now + s.config.AskAfter
}

// EngineRead takes in an engine's subject, from a replica that was as far as seen.
func (s *Slots) EngineRead(slot int, call uint64, subject []StoredEngine, seen uint64, now time.Duration) {
	s.now = now
	t := s.slots[slot].tenure
	if t == nil {
		return
	}
	k := slices.IndexFunc(t.loads, func(l *load) bool { return l.asking.call == call })
	if k < 0 {
		return
	}
	l := t.loads[k]
	if seen < l.required {
		l.asking.repeatAt = now + s.config.RetryAfter
		return
	}
	t.loads = slices.Delete(t.loads, k, k+1)
	t.foundCopies(l.engine, subject)
	r := Result{}
	j, ok := assemble(subject, l.tail)
	switch {
	case j.Epoch > t.epoch:
		// A later owner has written it already. The journal may lack what that owner has in its
		// tail, and has records that an engine here must not take for its own.
		r.Outcome = Moved
		t.hasLostFence = true
		t.readOwner()
	case !ok:
		r.Outcome = Damaged
	case j.Generation > s.running:
		r.Outcome = NewerCore
	default:
		r.Journal = j
	}
	s.emit(effect{kind: done, call: l.call, result: r})
	t.giveIfQuiet()
}

// readTail asks for the messages of the slot's subject.
func (t *Tenure) readTail() {
	t.slots.ask(&t.tailRead)
	t.slots.emit(effect{kind: readTail, slot: t.slot.number, call: t.tailRead.call})
}

// TailRead takes in the messages of a slot's subject, from a replica that was as far as seen.
func (s *Slots) TailRead(slot int, call uint64, tail []StoredTail, seen uint64, now time.Duration) {
	s.now = now
	t := s.slots[slot].tenure
	if t == nil || t.tailRead.call != call {
		return
	}
	if seen < t.known {
		t.tailRead.repeatAt = now + s.config.RetryAfter
		return
	}
	t.tailRead = asking{}
	t.takeTail(tail)
	if t.isInDoubt {
		t.endDoubt(tail)
	}
	if t.phase == Opening {
		t.phase = Open
		s.emit(effect{kind: tenureBegan, tenure: t})
		s.settleArrivals(t.slot)
	}
	t.beginLoads()
	t.markReady()
	t.giveIfQuiet()
}

// tick says that time has passed.
func (t *Tenure) tick() {
	s := t.slots
	if t.tailRead.call != 0 && s.now >= t.tailRead.repeatAt {
		t.readTail()
	}
	for _, l := range t.loads {
		if l.asking.call != 0 && s.now >= l.asking.repeatAt {
			t.readEngine(l)
		}
	}
	if t.hasLostFence && s.now >= t.slot.readAt {
		t.readOwner()
	}
	if t.phase == Giving && t.stopAt != 0 && s.now >= t.stopAt {
		t.stopAt = 0
		s.emit(effect{kind: stopEngines, tenure: t})
	}
	t.markReady()
}

// readOwner asks for the owner record that has replaced this tenure's.
func (t *Tenure) readOwner() {
	t.slot.readAt = t.slots.now + t.slots.config.AskAfter
	t.slots.emit(effect{kind: readOwner, slot: t.slot.number})
}

// beginGiving begins to give the slot to another node: first the engines close.
func (t *Tenure) beginGiving(heir NodeID) {
	t.phase, t.heir = Giving, heir
	t.stopAt = t.slots.now + t.slots.config.QuietWithin
	t.slots.giving++
	t.slots.emit(effect{kind: closeEngines, tenure: t})
}

// EnginesClosed says that no engine of the slot runs any more, after CloseEngines.
func (s *Slots) EnginesClosed(t *Tenure, now time.Duration) {
	s.now = now
	t.isClosed = true
	t.giveIfQuiet()
}

// giveIfQuiet writes the owner record that gives the slot away, once nothing of the slot is under
// way.
func (t *Tenure) giveIfQuiet() {
	if t.phase != Giving || t.slot.write.purpose != noWrite {
		return
	}
	isQuiet := t.isClosed && t.sent == nil && len(t.queue) == 0 && len(t.loads) == 0 && len(t.barriers) == 0
	if !isQuiet || t.hasLostFence {
		return
	}
	t.stopAt = 0
	// The heir may have gone meanwhile. If this node should have the slot again, it takes it in a new
	// tenure.
	if wanted := t.slots.desired[t.slot.number]; wanted != nobody {
		t.heir = wanted
	}
	t.slots.writeOwner(t.slot, give,
		OwnerRecord{Node: t.heir, Address: t.slots.addressOf(t.heir), Epoch: t.epoch + 1})
}

// end ends the tenure: the slot is another node's, or in another tenure. What was sent may still be
// answered, and ends then; nothing else of this tenure is ever sent.
func (t *Tenure) end() {
	s := t.slots
	if t.phase == Giving {
		s.giving--
	}
	t.phase = Over
	t.slot.tenure = nil
	for _, p := range t.queue {
		s.emitDone(p.call, Moved)
	}
	for _, call := range t.barriers {
		s.emitDone(call, Moved)
	}
	for _, l := range t.loads {
		s.emitDone(l.call, Moved)
	}
	t.queue, t.barriers, t.loads, t.tailRead = nil, nil, nil, asking{}
	if t.isInDoubt {
		t.finishSent(Unknown)
	}
	s.emit(effect{kind: tenureEnded, tenure: t})
}
