package cluster

import (
	"slices"
	"time"
)

// Slots has the slots of one stream on one node. See the package's comment for how it is driven.
// Its events are methods: Tick, MembersSeen, TargetSeen, CoresHeld, OwnerSeen, OwnerWritten,
// TailRead, EngineRead, BatchAnswered, EnginesClosed, Arrive, End, and those of a Tenure.
type Slots struct {
	config  *Config
	node    NodeID
	address string
	isEnded bool
	now     time.Duration

	slots     []slot
	leaseEnds time.Duration
	living    []MemberRecord
	dead      map[NodeID]bool
	desired   []NodeID
	giving    int // slots that are on their way to another node

	target  Target
	cores   []string
	running uint64 // the generation of the newest target whose core this node has

	nonce, call, part, batch uint64

	ready    []*Tenure
	inFlight []*flight

	effects []effect
}

// slot is what a node knows of one slot, and does with it.
type slot struct {
	number int
	// record is the newest owner record that is known, and sequence is its sequence; 0 if none is.
	record   OwnerRecord
	sequence uint64
	// write is the write of an owner record whose outcome is not known. A slot has one at a time.
	write  ownerWrite
	tenure *Tenure
	// readAt is when the owner record is read again, if the tenure knows that it has changed.
	readAt   time.Duration
	arrivals []arrival
}

// arrival is a line that waits for this node to know who owns the slot.
type arrival struct {
	line     uint64
	epoch    uint64
	deadline time.Duration
}

// ownerWrite is a write of an owner record. It is sent until a newer record than the one that it
// replaces is known: that record says whether one of its sendings was stored.
type ownerWrite struct {
	purpose  purpose
	expected uint64
	record   OwnerRecord
	nonces   []uint64 // one for each sending
	retryAt  time.Duration
}

type purpose uint8

const (
	noWrite purpose = iota
	// claim makes this node the owner of a slot that is nobody's, or a dead node's.
	claim
	// moveFence gives a slot that is this node's a new fence.
	moveFence
	// give makes another node the owner.
	give
)

// NewSlots returns the machine for the slots 0 to slots-1 of a node that owns none of them.
func NewSlots(c *Config, node NodeID, address string, slots int) *Slots {
	s := &Slots{config: c, node: node, address: address, slots: make([]slot, slots), desired: make([]NodeID, slots)}
	for k := range s.slots {
		s.slots[k].number = k
	}
	return s
}

// Route returns the node that owns a slot, as far as this node knows, with its address and the
// epoch. The node is 0 if no owner is known.
func (s *Slots) Route(slot int) (node NodeID, address string, epoch uint64) {
	r := &s.slots[slot].record
	return r.Node, r.Address, r.Epoch
}

// Tenure returns the tenure of a slot that is this node's, or nil.
func (s *Slots) Tenure(slot int) *Tenure { return s.slots[slot].tenure }

// Owned returns how many slots are this node's.
func (s *Slots) Owned() (n int) {
	for k := range s.slots {
		if s.slots[k].tenure != nil {
			n++
		}
	}
	return n
}

// Running returns the generation of the core that engines run on here.
func (s *Slots) Running() uint64 { return s.running }

// MembersSeen says which members live, and which nodes have a verdict. Both are the machine's
// afterwards.
func (s *Slots) MembersSeen(living []MemberRecord, dead map[NodeID]bool, now time.Duration) {
	s.now, s.living, s.dead = now, living, dead
	s.assign()
}

// TargetSeen says which core the journals are to run on. It may come late and twice.
func (s *Slots) TargetSeen(target Target, now time.Duration) {
	s.now = now
	if target.Generation > s.target.Generation {
		s.target = target
		s.coreChanged()
	}
}

// CoresHeld says which cores this node has.
func (s *Slots) CoresHeld(cores []string, now time.Duration) {
	s.now, s.cores = now, cores
	s.coreChanged()
}

func (s *Slots) coreChanged() {
	if slices.Contains(s.cores, s.target.Core) {
		s.running = s.target.Generation
	}
	s.assign()
}

// assign decides who should have which slot, and brings this node closer to it.
func (s *Slots) assign() {
	s.desired = Assign(len(s.slots), s.living, s.target)
	s.claimAndGive()
}

// Tick says that time has passed. leaseEnds is until when the lease of this node holds.
func (s *Slots) Tick(now, leaseEnds time.Duration) {
	s.now, s.leaseEnds = now, leaseEnds
	s.tickFlights()
	if s.isEnded {
		return
	}
	for k := range s.slots {
		sl := &s.slots[k]
		if sl.write.purpose != noWrite && now >= sl.write.retryAt {
			s.emit(effect{kind: readOwner, slot: sl.number})
			s.sendWrite(sl)
		}
		if t := sl.tenure; t != nil {
			t.tick()
		}
		s.refuseLate(sl)
	}
	s.claimAndGive()
}

// claimAndGive claims the slots that this node should have and whose owner is dead, and gives those
// away that another one should have. A node that does not know the target does neither: it can't
// know who may have slots.
func (s *Slots) claimAndGive() {
	if s.isEnded || s.target.Generation == 0 {
		return
	}
	for k := range s.slots {
		sl := &s.slots[k]
		wanted := s.desired[k]
		switch t := sl.tenure; {
		case sl.write.purpose != noWrite:
		case t == nil:
			isFree := sl.sequence == 0 || s.dead[sl.record.Node]
			if wanted == s.node && isFree && s.now < s.leaseEnds {
				s.writeOwner(sl, claim, OwnerRecord{Node: s.node, Address: s.address, Epoch: sl.record.Epoch + 1})
			}
		case t.phase == Open && wanted != s.node && wanted != nobody && s.giving < s.config.MaxGiving:
			t.beginGiving(wanted)
		}
	}
}

// addressOf returns the address of a living member.
func (s *Slots) addressOf(node NodeID) string {
	for k := range s.living {
		if s.living[k].Node == node {
			return s.living[k].Address
		}
	}
	return ""
}

// writeOwner begins to write an owner record over the one that is known.
func (s *Slots) writeOwner(sl *slot, p purpose, r OwnerRecord) {
	r.By = s.node
	sl.write = ownerWrite{purpose: p, expected: sl.sequence, record: r}
	s.sendWrite(sl)
}

// sendWrite sends the write of an owner record once more. All sendings name the same sequence, so
// at most one of them is stored.
func (s *Slots) sendWrite(sl *slot) {
	w := &sl.write
	s.nonce++
	w.nonces = append(w.nonces, s.nonce)
	w.record.Nonce = s.nonce
	w.retryAt = s.now + s.config.AskAfter
	s.emit(effect{kind: writeOwner, slot: sl.number, sequence: w.expected, record: w.record})
}

// OwnerWritten takes in the answer to the write of an owner record with a nonce. sequence is that
// of the record if it is stored.
func (s *Slots) OwnerWritten(slot int, nonce uint64, a Answer, sequence uint64, now time.Duration) {
	s.now = now
	sl := &s.slots[slot]
	w := &sl.write
	if s.isEnded || !slices.Contains(w.nonces, nonce) {
		return
	}
	switch a {
	case Stored:
		r := w.record
		r.Nonce = nonce
		s.OwnerSeen(slot, r, sequence, now)
	case Refused:
		// Another sending may be stored, or another node's record: only the record tells.
		s.emit(effect{kind: readOwner, slot: slot})
		w.retryAt = now + s.config.RetryAfter
	case Unavailable:
		w.retryAt = now + s.config.RetryAfter
	}
}

// OwnerSeen says that the owner record of a slot was read, or came from the watch. Records may come
// late and twice.
func (s *Slots) OwnerSeen(slot int, r OwnerRecord, sequence uint64, now time.Duration) {
	s.now = now
	sl := &s.slots[slot]
	if s.isEnded || sequence <= sl.sequence {
		return
	}
	hasMoved := r.Node != sl.record.Node || r.Epoch != sl.record.Epoch
	sl.record, sl.sequence = r, sequence
	w := sl.write
	sl.write = ownerWrite{}
	isOurs := r.By == s.node && slices.Contains(w.nonces, r.Nonce)
	switch {
	case isOurs && w.purpose == moveFence:
		sl.tenure.fenceMoved(sequence)
	case isOurs && w.purpose == claim:
		s.begin(sl)
	default:
		// The slot was given away, or another node has it after a verdict. In both cases the record
		// may also name this node again.
		if sl.tenure != nil {
			sl.tenure.end()
		}
		if r.Node == s.node {
			s.begin(sl)
		}
	}
	s.settleArrivals(sl)
	if hasMoved {
		s.emit(effect{kind: routeChanged, slot: slot})
	}
}

// begin begins a tenure. It is a new object each time: nothing that was queued in an earlier tenure
// can be sent in this one.
func (s *Slots) begin(sl *slot) {
	t := &Tenure{slots: s, slot: sl, epoch: sl.record.Epoch, fence: sl.sequence, known: sl.sequence,
		copies: map[string][]engineCopy{}}
	sl.tenure = t
	t.readTail()
}

// End says that this node was declared dead, or ends. All its tenures are over.
func (s *Slots) End(now time.Duration) {
	s.now = now
	for k := range s.slots {
		sl := &s.slots[k]
		sl.write = ownerWrite{}
		if sl.tenure != nil {
			sl.tenure.end()
		}
		for _, a := range sl.arrivals {
			s.emit(effect{kind: refuseLine, call: a.line})
		}
		sl.arrivals = nil
	}
	s.isEnded = true
}

// Arrive says that a line came to this node, from a client or from another node, for which it is in
// a slot with an epoch. It runs here, or is refused, as soon as this node knows of that epoch. If
// the deadline passes first, it is refused.
func (s *Slots) Arrive(slot int, line, epoch uint64, deadline, now time.Duration) {
	s.now = now
	if s.isEnded {
		s.emit(effect{kind: refuseLine, call: line})
		return
	}
	sl := &s.slots[slot]
	sl.arrivals = append(sl.arrivals, arrival{line, epoch, deadline})
	s.settleArrivals(sl)
}

// settleArrivals runs or refuses the lines of which that can be said now. A slot that is being
// claimed or given away has its lines wait until that is decided.
func (s *Slots) settleArrivals(sl *slot) {
	kept := sl.arrivals[:0]
	for _, a := range sl.arrivals {
		t := sl.tenure
		switch {
		case sl.record.Epoch < a.epoch, sl.write.purpose == claim:
			kept = append(kept, a)
		case t == nil:
			s.emit(effect{kind: refuseLine, call: a.line})
		case t.phase == Open:
			s.emit(effect{kind: runLine, tenure: t, call: a.line})
		default:
			kept = append(kept, a)
		}
	}
	sl.arrivals = kept
}

// refuseLate refuses the lines that have waited until their deadline.
func (s *Slots) refuseLate(sl *slot) {
	sl.arrivals = slices.DeleteFunc(sl.arrivals, func(a arrival) bool {
		if s.now >= a.deadline {
			s.emit(effect{kind: refuseLine, call: a.line})
			return true
		}
		return false
	})
}
