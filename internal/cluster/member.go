package cluster

import (
	"cmp"
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
// Tick, Seen, Written, Drain, Leave and HasCores.
type Member struct {
	config *Config
	self   MemberRecord
	// sequence is that of the newest record of this node that is known to be stored; 0 before the
	// first.
	sequence uint64
	isEnded  bool

	// sentAt has the moments at which the renewals were sent that may still be confirmed.
	sentAt    map[uint64]time.Duration
	renewAt   time.Duration // when the next renewal goes out
	misses    int           // renewals in a row without an answer
	leaseEnds time.Duration
	// heldSince is since when the lease has held without a gap.
	heldSince time.Duration

	others map[NodeID]*otherMember
	calls  map[uint64]memberCall
	call   uint64

	effects []memberEffect
}

// otherMember is what this node knows of another one.
type otherMember struct {
	record   MemberRecord
	sequence uint64
	seenAt   time.Duration // when this record was seen
	askAt    time.Duration // no verdict before that
}

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
		calls: map[uint64]memberCall{}}
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
	if o := m.others[node]; o != nil && sequence > o.sequence {
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
	isFirst := m.sequence == 0
	m.sequence, m.misses = sequence, 0
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
			m.isEnded, m.leaseEnds = true, 0
			m.emit(memberEffect{kind: ended})
			return
		}
		m.confirm(r.Renewal, sequence, now)
		return
	}
	o := m.others[r.Node]
	if o == nil {
		o = &otherMember{}
		m.others[r.Node] = o
	}
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
	r.IsDead = true
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
	record         MemberRecord
}

type memberEffectKind uint8

const (
	writeMember memberEffectKind = iota
	readMember
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
