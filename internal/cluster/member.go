package cluster

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// MemberEffects carries out what a [Member] asks for. Everything goes over a connection of its own:
// a lease must not wait for journals.
type MemberEffects interface {
	// WriteMember writes a member record, on the condition that the newest one of that node has the
	// sequence expected; 0 if there must be none. The answer goes to Member.Written with the call.
	WriteMember(call, expected uint64, r MemberRecord)
	// ReadMember reads the newest record of a node, from any replica. What is found goes to
	// Member.Seen.
	ReadMember(node NodeID)
	// RemoveMember removes the record of a node if it still is the one with the sequence.
	RemoveMember(node NodeID, sequence uint64)
	// Reconnect makes the connection anew: several renewals in a row got no answer.
	Reconnect()
	// MembersChanged says that a member has come, has another record in more than its renewal, or
	// is dead.
	MembersChanged()
	// Ended says that this node was declared dead. It goes on under another NodeID, with new
	// machines.
	Ended()
}

// Member keeps the member record of this node and watches those of the others. Its events are
// Tick, Seen, Listed, Named, OwnersRead, Written, Drain, Leave and HasCores.
//
// A verdict is removed once no owner record names its node. Three rules see to it that a dead node
// does not come back all the same:
//
//   - Only the verdict on a node is removed that knew of a record of its own. All renewals that such
//     a node sends name that record or a later one, so they are refused.
//   - A renewal that it had sent before, as a first record, may still arrive and be stored. The node
//     knows of a later renewal than that, so it knows that it is dead.
//   - An owner record may come to name the node later, by a write that was on its way. A node of
//     which there is no record is declared dead like any other, on the condition that there is none.
type Member struct {
	config *Config
	self   MemberRecord
	// sequence is that of the newest record of this node that is known to be stored; 0 before the
	// first.
	sequence uint64
	// renewal is the newest renewal of this node that is known to be stored.
	renewal uint64
	isEnded bool

	// sentAt has the moments at which the renewals were sent that may still be confirmed.
	sentAt    map[uint64]time.Duration
	renewAt   time.Duration // when the next renewal goes out
	misses    int           // renewals in a row without an answer
	leaseEnds time.Duration
	// heldSince is since when the lease has held without a gap.
	heldSince time.Duration

	others map[NodeID]*otherMember
	// unknown are nodes that owner records name, and of which there is no record.
	unknown map[NodeID]*unknownMember
	// absences counts how often in a row there was no record of this node.
	absences int
	calls    map[uint64]memberCall
	call     uint64

	effects []memberEffect
}

// otherMember is what this node knows of another one.
type otherMember struct {
	record   MemberRecord
	sequence uint64
	seenAt   time.Duration // when this record was seen
	askAt    time.Duration // no verdict before that
	absences int           // how often in a row there was no record of it
}

// unknownMember is a node that an owner record names.
type unknownMember struct {
	since time.Duration
	askAt time.Duration // no verdict before that
}

// mostAbsences is how often in a row there has to be no record of a node. A single reading may meet
// the moment at which a record replaces another one.
const mostAbsences = 2

// memberCall is a write of a member record that is not answered.
type memberCall struct {
	node    NodeID
	renewal uint64
	isDead  bool
}

// misses in a row after which the connection is made anew.
const mostMisses = 3

// NewMember returns the machine of a member that is not in the log yet. Its first tick writes the
// record.
func NewMember(c *Config, self MemberRecord) *Member {
	return &Member{config: c, self: self, sentAt: map[uint64]time.Duration{}, others: map[NodeID]*otherMember{},
		unknown: map[NodeID]*unknownMember{}, calls: map[uint64]memberCall{}}
}

// HoldsLease reports whether the lease holds at a moment. No other node has one of this node's
// slots then, unless this node gave it away.
func (m *Member) HoldsLease(now time.Duration) bool { return !m.isEnded && now < m.leaseEnds }

// LeaseEnds returns when the lease ends, as far as renewals are confirmed.
func (m *Member) LeaseEnds() time.Duration { return m.leaseEnds }

// Dead returns the nodes on which the log has the verdict. The map is the caller's.
func (m *Member) Dead() map[NodeID]bool {
	dead := map[NodeID]bool{}
	for node, o := range m.others {
		if o.record.IsDead {
			dead[node] = true
		}
	}
	return dead
}

// Record returns the newest record of another node; the zero record if none was seen.
func (m *Member) Record(node NodeID) MemberRecord {
	if o := m.others[node]; o != nil {
		return o.record
	}
	return MemberRecord{}
}

// Living returns the members that are not dead, in the order of their IDs. This node is one of them
// once its record is stored.
func (m *Member) Living() []MemberRecord {
	var list []MemberRecord
	for _, o := range m.others {
		if !o.record.IsDead {
			list = append(list, o.record)
		}
	}
	if m.sequence > 0 && !m.isEnded {
		list = append(list, m.self)
	}
	slices.SortFunc(list, func(a, b MemberRecord) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// Clients returns the URLs at which clients reach the members that live, sorted, and behind them those of
// members whose death was seen less than within ago, the last one first. Each is there once.
func (m *Member) Clients(now, within time.Duration) []string {
	var living, dead []*otherMember
	for _, node := range m.known() {
		switch o := m.others[node]; {
		case o.record.Client == "":
		case !o.record.IsDead:
			living = append(living, o)
		case now-o.seenAt < within:
			dead = append(dead, o)
		}
	}
	if m.self.Client != "" {
		living = append(living, &otherMember{record: m.self})
	}
	slices.SortFunc(living, func(a, b *otherMember) int { return cmp.Compare(a.record.Client, b.record.Client) })
	slices.SortStableFunc(dead, func(a, b *otherMember) int { return cmp.Compare(b.seenAt, a.seenAt) })
	var list []string
	for _, o := range slices.Concat(living, dead) {
		if !slices.Contains(list, o.record.Client) {
			list = append(list, o.record.Client)
		}
	}
	return list
}

// Tick says that time has passed.
func (m *Member) Tick(now time.Duration) {
	if m.isEnded {
		return
	}
	if now >= m.renewAt {
		if m.misses++; m.misses > mostMisses {
			m.misses = 1
			m.emit(memberEffect{kind: reconnect})
		}
		m.renew(now)
	}
	m.judge(now)
}

// renew sends a renewal. An earlier one may still be under way: both name the same sequence, so at
// most one of them is stored.
func (m *Member) renew(now time.Duration) {
	m.self.Renewal++
	m.self.IsConfirmed = m.sequence > 0
	m.sentAt[m.self.Renewal] = now
	m.renewAt = now + m.config.RenewEvery
	m.write(m.self.Node, m.sequence, m.self)
}

func (m *Member) write(node NodeID, expected uint64, r MemberRecord) {
	m.call++
	m.calls[m.call] = memberCall{node, r.Renewal, r.IsDead}
	m.emit(memberEffect{kind: writeMember, call: m.call, expected: expected, record: r})
}

// Written takes in the answer to a write. sequence is that of the record if it is stored.
func (m *Member) Written(call uint64, a Answer, sequence uint64, now time.Duration) {
	c, ok := m.calls[call]
	if !ok || m.isEnded {
		return
	}
	delete(m.calls, call)
	switch {
	case a == Refused:
		m.emit(memberEffect{kind: readMember, node: c.node})
	case a != Stored:
	case c.node == m.self.Node && !c.isDead:
		m.confirm(c.renewal, sequence, now)
	default:
		m.take(c.node, sequence, now)
	}
}

// take notes the verdict that this node wrote on another one.
func (m *Member) take(node NodeID, sequence uint64, now time.Duration) {
	o := m.others[node]
	switch {
	case o == nil:
		m.Seen(MemberRecord{Node: node, IsDead: true}, sequence, now)
	case sequence > o.sequence:
		r := o.record
		r.IsDead = true
		m.Seen(r, sequence, now)
	}
}

// confirm notes that a renewal of this node is stored.
func (m *Member) confirm(renewal, sequence uint64, now time.Duration) {
	if sequence <= m.sequence {
		return
	}
	if renewal <= m.renewal {
		// An early renewal was stored after the verdict on this node was removed.
		m.end()
		return
	}
	isFirst := m.sequence == 0
	m.sequence, m.renewal, m.misses, m.absences = sequence, renewal, 0, 0
	// The lease counts from the sending: only that moment is certain to be before the one at which
	// another node has seen the renewal.
	sent, ok := m.sentAt[renewal]
	for r := range m.sentAt {
		if r <= renewal {
			delete(m.sentAt, r)
		}
	}
	if ok {
		if now >= m.leaseEnds {
			m.heldSince = now
		}
		m.leaseEnds = max(m.leaseEnds, sent+m.config.Lease)
	}
	if isFirst {
		m.emit(memberEffect{kind: membersChanged})
	}
}

// Seen says that a member record was read, or came from the watch. Records may come late and twice.
func (m *Member) Seen(r MemberRecord, sequence uint64, now time.Duration) {
	if m.isEnded {
		return
	}
	if r.Node == m.self.Node {
		if r.IsDead {
			m.end()
			return
		}
		m.confirm(r.Renewal, sequence, now)
		return
	}
	o := m.others[r.Node]
	if o == nil {
		o = &otherMember{}
		m.others[r.Node] = o
		delete(m.unknown, r.Node)
	}
	o.absences = 0
	if sequence <= o.sequence || o.record.IsDead {
		return
	}
	before := o.record
	o.record, o.sequence, o.seenAt = r, sequence, now
	if before.Node == 0 || before.IsDead != r.IsDead || before.IsDraining != r.IsDraining ||
		before.Format != r.Format || !slices.Equal(before.Cores, r.Cores) {
		m.emit(memberEffect{kind: membersChanged})
	}
}

// end notes that this node is dead.
func (m *Member) end() {
	m.isEnded, m.leaseEnds = true, 0
	m.emit(memberEffect{kind: ended})
}

// Listed says that the records of all members were read from a replica which had everything up to a
// sequence. isThere has the nodes of which there was one. Seen was called with these before.
//
// A node is forgotten if its record is gone: there was a verdict on it.
func (m *Member) Listed(isThere map[NodeID]bool, through uint64, now time.Duration) {
	if m.isEnded {
		return
	}
	for node, o := range m.others {
		switch {
		case isThere[node]:
			o.absences = 0
		case o.sequence > through:
		default:
			if o.absences++; o.absences >= mostAbsences {
				delete(m.others, node)
				m.emit(memberEffect{kind: membersChanged})
			}
		}
	}
	switch {
	case m.sequence == 0 || isThere[m.self.Node]:
		m.absences = 0
	case m.sequence <= through && now-m.leaseEnds >= m.config.StandStill:
		if m.absences++; m.absences >= mostAbsences {
			m.end()
		}
	}
}

// Named says that an owner record names a node. If there is no record of that node, it is declared
// dead, so that the slot can be claimed.
func (m *Member) Named(node NodeID, now time.Duration) {
	if m.isEnded || node == 0 || node == m.self.Node || m.others[node] != nil || m.unknown[node] != nil {
		return
	}
	m.unknown[node] = &unknownMember{since: now}
}

// HasRemovable reports whether there are verdicts that may be removed by this node, if no owner
// record names their nodes. One member does that for all: the first one.
func (m *Member) HasRemovable(now time.Duration) bool {
	return m.isFirst(now) && len(m.removable(now)) > 0
}

// OwnersRead says which nodes the owner records name that were read from asOf on. Verdicts on other
// nodes are removed.
func (m *Member) OwnersRead(named map[NodeID]bool, asOf, now time.Duration) {
	if m.isEnded || !m.isFirst(now) {
		return
	}
	n := 0
	for _, node := range m.removable(asOf) {
		if !named[node] && n < m.config.MaxRemoved {
			m.emit(memberEffect{kind: removeMember, node: node, sequence: m.others[node].sequence})
			n++
		}
	}
}

// isFirst reports whether this node is the first of those that live.
func (m *Member) isFirst(now time.Duration) bool {
	living := m.Living()
	return m.HoldsLease(now) && len(living) > 0 && living[0].Node == m.self.Node
}

// removable returns the nodes in order whose verdicts have been known for long at a moment.
func (m *Member) removable(now time.Duration) (list []NodeID) {
	for node, o := range m.others {
		if o.record.IsDead && o.record.IsConfirmed && now-o.seenAt >= m.config.RemoveAfter {
			list = append(list, node)
		}
	}
	slices.Sort(list)
	return list
}

// judge declares members dead whose records stand still. It does so only if this node's own
// renewals went through all that time: else it may be this node that is cut off.
func (m *Member) judge(now time.Duration) {
	if !m.HoldsLease(now) || now-m.heldSince < m.config.StandStill {
		return
	}
	for _, node := range m.known() {
		o := m.others[node]
		if o.record.IsDead || now-o.seenAt < m.config.StandStill || now < o.askAt {
			continue
		}
		o.askAt = now + m.config.RenewEvery
		r := o.record
		r.IsDead = true
		m.write(node, o.sequence, r)
	}
	for _, node := range slices.Sorted(maps.Keys(m.unknown)) {
		u := m.unknown[node]
		if now-u.since >= m.config.StandStill && now >= u.askAt {
			u.askAt = now + m.config.RenewEvery
			m.write(node, 0, MemberRecord{Node: node, IsDead: true})
		}
	}
}

// known returns the other nodes in the order of their IDs.
func (m *Member) known() []NodeID {
	list := make([]NodeID, 0, len(m.others))
	for node := range m.others {
		list = append(list, node)
	}
	slices.Sort(list)
	return list
}

// Drain says that this node is about to end: with the next renewal the others know that it takes no
// slots.
func (m *Member) Drain(now time.Duration) {
	m.self.IsDraining = true
	m.announce(now)
}

// HasCores says which cores this node has now.
func (m *Member) HasCores(cores []string, now time.Duration) {
	m.self.Cores = cores
	m.announce(now)
}

func (m *Member) announce(now time.Duration) {
	m.emit(memberEffect{kind: membersChanged})
	if !m.isEnded && m.sequence > 0 {
		m.renew(now)
	}
}

// Leave declares this node dead, once it has given all its slots away. So nobody waits for its
// lease.
func (m *Member) Leave() {
	if m.isEnded {
		return
	}
	m.leaseEnds = 0
	r := m.self
	r.IsDead, r.IsConfirmed = true, m.sequence > 0
	m.write(m.self.Node, m.sequence, r)
	m.isEnded = true
	m.emit(memberEffect{kind: ended})
}

// memberEffect is a call of MemberEffects: kind says which method, the other fields are its
// parameters.
type memberEffect struct {
	kind           memberEffectKind
	node           NodeID
	call, expected uint64
	sequence       uint64
	record         MemberRecord
}

type memberEffectKind uint8

const (
	writeMember memberEffectKind = iota
	readMember
	removeMember
	reconnect
	membersChanged
	ended
)

func (m *Member) emit(e memberEffect) { m.effects = append(m.effects, e) }

// Perform carries out the effects of the steps since it was last called.
func (m *Member) Perform(to MemberEffects) {
	for len(m.effects) > 0 {
		list := m.effects
		m.effects = nil
		for _, e := range list {
			switch e.kind {
			case writeMember:
				to.WriteMember(e.call, e.expected, e.record)
			case readMember:
				to.ReadMember(e.node)
			case removeMember:
				to.RemoveMember(e.node, e.sequence)
			case reconnect:
				to.Reconnect()
			case membersChanged:
				to.MembersChanged()
			case ended:
				to.Ended()
			}
		}
	}
}
