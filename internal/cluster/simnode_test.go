package cluster_test

import (
	"maps"
	"slices"
	"time"

	"hypertoken/internal/cluster"
	"hypertoken/internal/cluster/simlog"
)

// node is one life of a node: its machines, and the engines that run there. It carries out the
// effects of the machines.
type node struct {
	s       *simulation
	machine *machine
	id      cluster.NodeID
	isGone  bool
	member  *cluster.Member
	slots   *cluster.Slots

	engines map[*cluster.Tenure]map[string]*engine
	calls   map[uint64]func(cluster.Result)
	call    uint64
	// lines are those that came to this node's slots, arrivals by number.
	arrivals map[uint64]*arrival
	arrived  uint64
	lines    []*line // that clients sent to this node
	sent     [simSlots]cluster.PartID
	listAt   time.Duration // when it reads the records of all members again
}

func newNode(s *simulation, m *machine, id cluster.NodeID) *node {
	n := &node{s: s, machine: m, id: id, engines: map[*cluster.Tenure]map[string]*engine{},
		calls: map[uint64]func(cluster.Result){}, arrivals: map[uint64]*arrival{}}
	cores := slices.Clone(m.cores)
	n.member = cluster.NewMember(&s.config, cluster.MemberRecord{Node: id, Address: "here", Cores: cores, Format: 1})
	n.slots = cluster.NewSlots(&s.config, id, "here", simSlots)
	n.slots.CoresHeld(cores, n.clock())
	return n
}

func (n *node) clock() time.Duration { return n.s.clock(n.machine) }

// on has an event happen at the node: now, or when its machine goes on. It never happens if the
// node is gone.
func (n *node) on(f func()) {
	switch {
	case n.isGone:
	case n.machine.pausedUntil > n.s.now:
		n.s.after(n.machine.pausedUntil-n.s.now, func() { n.on(f) })
	default:
		f()
		n.perform()
	}
}

// later has an event happen at the node after some real time.
func (n *node) later(d time.Duration, f func()) { n.s.after(d, func() { n.on(f) }) }

// perform carries out the effects of all machines of the node.
func (n *node) perform() {
	n.member.Perform(n)
	n.slots.Perform(n)
	for _, l := range n.lines {
		l.machine.Perform(l)
	}
	n.lines = slices.DeleteFunc(n.lines, func(l *line) bool { return l.isEnded })
}

// tick lets time pass for the node.
func (n *node) tick() {
	if n.isGone {
		return
	}
	n.later(n.s.between(5*ms, 25*ms), func() {
		n.member.Tick(n.clock())
		n.slots.Tick(n.clock(), n.member.LeaseEnds())
		for _, l := range n.lines {
			l.machine.Tick(n.clock())
		}
		n.tickEngines()
		n.inspectLease()
		if n.clock() >= n.listAt {
			n.listAt = n.clock() + n.s.config.RenewEvery
			n.list()
		}
		n.tick()
	})
}

// list reads the records of all members, and, if verdicts may be removed, all owner records.
func (n *node) list() {
	n.askLease(1, func() func() {
		r := n.s.replica()
		records, through := maps.Clone(r.Members), r.Last
		return func() {
			isThere := map[cluster.NodeID]bool{}
			for _, id := range slices.Sorted(maps.Keys(records)) {
				isThere[id] = true
				n.member.Seen(records[id].Record, records[id].Sequence, n.clock())
			}
			n.member.Listed(isThere, through, n.clock())
			for slot := range simSlots {
				owner, _, _ := n.slots.Route(slot)
				n.member.Named(owner, n.clock())
			}
		}
	})
	if !n.member.HasRemovable(n.clock()) {
		return
	}
	asOf := n.clock()
	n.askData(1, func() func() {
		named := map[cluster.NodeID]bool{}
		for _, r := range n.s.replica().Owners {
			named[r.Record.Node] = true
		}
		return func() { n.member.OwnersRead(named, asOf, n.clock()) }
	})
}

// inspectLease checks that no renewal counts that was sent after the verdict on this node was stored.
func (n *node) inspectLease() {
	verdictAt, isDead := n.s.verdicts[n.id]
	sentAt := n.member.LeaseEnds() - n.s.config.Lease - n.machine.offset
	if isDead && float64(sentAt)/n.machine.rate > float64(verdictAt+ms) {
		n.s.fatal("node %x was declared dead at %v, and has a lease again", n.id, verdictAt)
	}
}

// isIdle reports whether the node has no slots.
func (n *node) isIdle() bool { return n.slots.Owned() == 0 }

// ask sends a request to the log, over one of the two connections. apply is what the log does with
// it; it returns what the node does with the answer. The request comes to the log up to copies
// times, and is applied each time.
func (n *node) ask(cutUntil *time.Duration, copies int, apply func() func()) {
	s := n.s
	for range copies {
		d := s.latency()
		isData := cutUntil == &n.machine.dataCutUntil
		if n.machine.muteUntil > s.now || isData && n.machine.lossyUntil > s.now && s.oneIn(2) {
			continue // lost
		}
		if *cutUntil > s.now {
			if s.oneIn(2) {
				continue // lost
			}
			d += *cutUntil - s.now
		} else if s.isFaulty() && s.oneIn(200) {
			continue
		}
		s.after(d, func() {
			answer := apply()
			if answer == nil || s.isFaulty() && s.oneIn(200) || *cutUntil > s.now && s.oneIn(2) {
				return
			}
			d := s.latency() + max(0, *cutUntil-s.now)
			if !isData && n.machine.slowUntil > s.now {
				d += s.between(300*ms, 1200*ms)
			}
			n.later(d, answer)
		})
	}
}

func (n *node) askLease(copies int, apply func() func()) {
	n.ask(&n.machine.leaseCutUntil, copies, apply)
}

func (n *node) askData(copies int, apply func() func()) {
	n.ask(&n.machine.dataCutUntil, copies, apply)
}

// copies draws how often a write comes to the log.
func (s *simulation) copies() int {
	if s.isFaulty() && s.oneIn(50) {
		return 2
	}
	return 1
}

// watch delivers an update over the data connection. Nothing of a watch is lost, but it may come
// late and twice.
func (n *node) watch(f func()) { n.deliver(&n.machine.dataCutUntil, f) }

func (n *node) deliver(cutUntil *time.Duration, f func()) {
	times := 1
	if n.s.isFaulty() && n.s.oneIn(50) {
		times = 2
	}
	for range times {
		d := n.s.latency() + max(0, *cutUntil-n.s.now)
		if n.machine.lateUntil > n.s.now {
			d += n.s.between(500*ms, 3*time.Second)
		}
		n.later(d, f)
	}
}

func (n *node) watchMember(r simlog.Stored[cluster.MemberRecord]) {
	n.deliver(&n.machine.leaseCutUntil, func() { n.member.Seen(r.Record, r.Sequence, n.clock()) })
}

// isDown reports whether the log stores nothing now. It returns the answer, or nil for none.
func (n *node) isDown(unavailable func()) (answer func(), down bool) {
	if n.s.logDownUntil <= n.s.now {
		return nil, false
	}
	if n.s.oneIn(2) {
		return nil, true
	}
	return unavailable, true
}

// replica returns a replica of the log.
func (s *simulation) replica() *simlog.State { return s.log.Replica(s.rand.IntN(replicas + 1)) }

func (n *node) WriteMember(call, expected uint64, r cluster.MemberRecord) {
	s := n.s
	r.Cores = slices.Clone(r.Cores)
	isMissed := r.Node == n.id && expected == 0 && s.isFaulty() && s.oneIn(12)
	if isMissed {
		// It is not told that its first record is stored, and is declared dead meanwhile.
		s.count("pauses behind the first record")
		n.machine.pausedUntil = s.now + s.between(time.Second, mostLate)
	}
	n.askLease(n.s.copies(), func() func() {
		if answer, down := n.isDown(func() { n.member.Written(call, cluster.Unavailable, 0, n.clock()) }); down {
			return answer
		}
		a, sequence := s.log.WriteMember(expected, r)
		if a == cluster.Stored {
			if r.IsDead && r.Node != n.id {
				s.count("verdicts")
			}
			if _, isDead := s.verdicts[r.Node]; isDead && expected == 0 {
				s.count("first records of dead nodes")
			}
			if _, isKnown := s.verdicts[r.Node]; r.IsDead && !isKnown {
				s.verdicts[r.Node] = s.now
			}
			s.memberStored(r.Node)
		}
		if isMissed {
			return nil
		}
		return func() { n.member.Written(call, a, sequence, n.clock()) }
	})
}

func (s *simulation) memberStored(id cluster.NodeID) {
	for _, m := range s.machines {
		if m.node != nil && m.node.id != id { // a node learns of its own record from answers
			m.node.watchMember(s.log.Members[id])
		}
	}
}

func (n *node) ReadMember(id cluster.NodeID) {
	n.askLease(1, func() func() {
		r, ok := n.s.replica().Members[id]
		if !ok {
			return nil
		}
		return func() { n.member.Seen(r.Record, r.Sequence, n.clock()) }
	})
}

func (n *node) RemoveMember(id cluster.NodeID, sequence uint64) {
	n.askLease(n.s.copies(), func() func() {
		n.s.count("verdicts removed")
		n.s.log.RemoveMember(id, sequence)
		return nil
	})
}

func (n *node) Reconnect() { n.s.count("reconnects") }

func (n *node) MembersChanged() {
	n.slots.MembersSeen(n.member.Living(), n.member.Dead(), n.clock())
}

// Ended is the end of this life. The machine goes on with another one.
func (n *node) Ended() {
	if !n.machine.isLeaving {
		n.s.count("lives that ended by verdict")
	}
	n.slots.End(n.clock())
	n.s.after(20*ms, func() {
		if !n.isGone {
			n.s.stop(n.machine)
		}
	})
}

func (n *node) WriteOwner(slot int, expected uint64, r cluster.OwnerRecord) {
	s := n.s
	n.inspectGive(slot, r)
	n.askData(n.s.copies(), func() func() {
		answer, down := n.isDown(func() { n.slots.OwnerWritten(slot, r.Nonce, cluster.Unavailable, 0, n.clock()) })
		if down {
			return answer
		}
		before := s.log.Owners[slot].Record
		a, sequence := s.log.WriteOwner(slot, expected, r)
		if a == cluster.Stored {
			n.ownerStored(slot, before, r)
		}
		return func() { n.slots.OwnerWritten(slot, r.Nonce, a, sequence, n.clock()) }
	})
}

// ownerStored checks who replaced an owner record, and tells all nodes.
func (n *node) ownerStored(slot int, before, r cluster.OwnerRecord) {
	s := n.s
	switch {
	case r.By == before.Node && r.Node == before.Node && s.parts[n.sent[slot]]:
		s.count("doubtful and stored")
	case r.By == before.Node && r.Node == before.Node:
		s.count("doubtful and not stored")
	case r.By == before.Node:
		s.count("hand-overs")
	default:
		s.count("claims")
		if _, isDead := s.verdicts[before.Node]; before.Node != 0 && !isDead {
			s.fatal("slot %d: node %x claims it from node %x, which has no verdict", slot, r.By, before.Node)
		}
	}
	stored := s.log.Owners[slot]
	for _, m := range s.machines {
		if n := m.node; n != nil {
			n.watch(func() { n.slots.OwnerSeen(slot, stored.Record, stored.Sequence, n.clock()) })
		}
	}
}

func (n *node) ReadOwner(slot int) {
	n.askData(1, func() func() {
		r, ok := n.s.replica().Owners[slot]
		if !ok {
			return nil
		}
		return func() { n.slots.OwnerSeen(slot, r.Record, r.Sequence, n.clock()) }
	})
}

func (n *node) SendBatch(b *cluster.Batch) {
	s := n.s
	for k := range b.Parts {
		n.sent[b.Parts[k].Slot] = b.Parts[k].Tail.ID
	}
	copies := s.copies()
	if copies > 1 {
		s.count("doubled batches")
		for k := range b.Parts {
			s.doubled[b.Parts[k].Tail.ID] = true
		}
	}
	isAnswered := false
	n.askData(copies, func() func() {
		// A sending has one answer: that of the copy which comes first.
		if isAnswered {
			s.storeSilently(b)
			return nil
		}
		isAnswered = true
		answer, down := n.isDown(func() { n.slots.BatchAnswered(b.Number, cluster.Unavailable, 0, n.clock()) })
		if down {
			return answer
		}
		a, last := s.log.StoreBatch(b)
		if a == cluster.Stored {
			s.batchStored(b)
		} else if len(b.Parts) > 1 {
			s.count("batches split")
		}
		return func() { n.slots.BatchAnswered(b.Number, a, last, n.clock()) }
	})
}

// storeSilently has the log take a copy of a batch whose answer nobody waits for.
func (s *simulation) storeSilently(b *cluster.Batch) {
	if s.logDownUntil > s.now {
		return
	}
	if a, _ := s.log.StoreBatch(b); a == cluster.Stored {
		s.batchStored(b)
	}
}

func (n *node) ReadTail(slot int, call uint64) {
	n.askData(1, func() func() {
		tail, seen := n.s.replica().Tail(slot)
		return func() { n.slots.TailRead(slot, call, tail, seen, n.clock()) }
	})
}

func (n *node) ReadEngine(slot int, call uint64, engine string) {
	n.askData(1, func() func() {
		r := n.s.replica()
		if r.Last < n.s.log.Last {
			n.s.count("stale readings")
		}
		subject, seen := r.Engine(engine)
		return func() { n.slots.EngineRead(slot, call, subject, seen, n.clock()) }
	})
}

func (n *node) RemoveTail(slot int, through uint64) {
	n.askData(n.s.copies(), func() func() { n.s.count("tails removed"); n.s.log.RemoveTail(slot, through); return nil })
}

func (n *node) TrimEngine(engine string, before uint64) {
	n.askData(n.s.copies(), func() func() { n.s.log.TrimEngine(engine, before); return nil })
}

func (n *node) TenureBegan(t *cluster.Tenure) { n.engines[t] = map[string]*engine{} }

func (n *node) Done(call uint64, r cluster.Result) {
	f := n.calls[call]
	if f == nil {
		n.s.fatal("the call %d is done twice", call)
	}
	delete(n.calls, call)
	switch r.Outcome {
	case cluster.Overtaken, cluster.Moved, cluster.Unknown:
		n.s.count(r.Outcome.String())
	case cluster.NewerCore:
		n.s.count("newer cores")
	}
	n.s.after(0, func() { n.on(func() { f(r) }) })
}

// newCall returns a number for a call of a tenure.
func (n *node) newCall(f func(cluster.Result)) uint64 {
	n.call++
	n.calls[n.call] = f
	return n.call
}

func (n *node) RunLine(t *cluster.Tenure, number uint64) {
	a := n.arrivals[number]
	delete(n.arrivals, number)
	n.s.after(0, func() { n.on(func() { n.engineOf(t, a) }) })
}

func (n *node) RefuseLine(number uint64) {
	a := n.arrivals[number]
	delete(n.arrivals, number)
	n.s.after(0, func() { n.on(func() { a.reply(answer{isRefused: true}) }) })
}

func (n *node) RouteChanged(slot int) {
	owner, _, epoch := n.slots.Route(slot)
	for _, l := range n.lines {
		if l.slot == slot {
			l.machine.Routed(owner, epoch, n.clock())
		}
	}
}

// arrive hands a line to the slots of this node.
func (n *node) arrive(a *arrival, slot int, epoch uint64) {
	n.arrived++
	n.arrivals[n.arrived] = a
	n.slots.Arrive(slot, n.arrived, epoch, n.clock()+2*time.Second, n.clock())
}
