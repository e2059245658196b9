package cluster_test

import (
	"time"

	"hypertoken/internal/cluster"
)

// request is what a client wants of an engine.
type request struct {
	id     uint64
	key    uint64 // 0 for none
	isRead bool
	engine string
	// least is the sequence that a read has to see: somebody was told of it before the read began.
	least uint64
}

// answer is what a client, or a node that forwarded a line, is told.
type answer struct {
	sequence  uint64
	isRefused bool // nothing ran
	isUnknown bool // it may have run
}

// arrival is a line at the node that may own its slot.
type arrival struct {
	*request
	deadline time.Duration // on the node's clock
	isReply  bool
	reply    func(answer)
}

// line is a line at the node that a client sent it to. It carries out the effects of its machine.
type line struct {
	*request
	node     *node
	slot     int
	deadline time.Duration
	machine  *cluster.Line
	isEnded  bool
	answer   answer
	end      func(cluster.LineOutcome, answer)
}

// submit has a client's request come to a node. end is called at most once, not at all if the node
// goes.
func (n *node) submit(r *request, within time.Duration, end func(cluster.LineOutcome, answer)) {
	l := &line{request: r, node: n, slot: cluster.SlotOf(r.engine, simSlots), deadline: n.clock() + within, end: end}
	l.machine = cluster.NewLine(n.id, r.key != 0, r.isRead, l.deadline, 30*ms)
	n.lines = append(n.lines, l)
	owner, _, epoch := n.slots.Route(l.slot)
	l.machine.Routed(owner, epoch, n.clock())
}

// newArrival returns the line as it comes to an owner, in so much time.
func (l *line) newArrival(at *node, reply func(answer)) *arrival {
	a := &arrival{request: l.request, deadline: at.clock() + l.deadline - l.node.clock()}
	a.reply = func(w answer) {
		if a.isReply {
			l.node.s.fatal("a line is answered twice")
		}
		a.isReply = true
		reply(w)
	}
	return a
}

// take takes in an owner's answer to an attempt.
func (l *line) take(attempt int, w answer) {
	switch {
	case w.isRefused:
		l.machine.Refused(attempt, l.node.clock())
	case w.isUnknown:
		l.machine.Lost(attempt, l.node.clock())
	case !l.isEnded:
		l.answer = w
		l.machine.Answered()
	}
}

func (l *line) RunHere(epoch uint64) {
	n, attempt := l.node, l.machine.Attempt()
	a := l.newArrival(n, func(w answer) { n.s.after(0, func() { n.on(func() { l.take(attempt, w) }) }) })
	n.s.after(0, func() { n.on(func() { n.arrive(a, l.slot, epoch) }) })
}

func (l *line) Forward(to cluster.NodeID, epoch uint64, attempt int, overLog bool) {
	n, s := l.node, l.node.s
	s.count("forwarded")
	var other *node
	for _, m := range s.machines {
		if m.node != nil && m.node.id == to {
			other = m.node
		}
	}
	isCut := func() bool {
		if other == nil || other.isGone {
			return true
		}
		if overLog {
			return other.machine.dataCutUntil > s.now || n.machine.dataCutUntil > s.now
		}
		return s.cut[pair(n.machine, other.machine)] > s.now
	}
	if isCut() {
		s.count("unreached lines")
		n.later(s.latency(), func() { l.machine.Unreached(attempt, n.clock()) })
		return
	}
	lost := func() {
		s.count("lost lines")
		n.later(s.between(10*ms, time.Second), func() { l.machine.Lost(attempt, n.clock()) })
	}
	s.after(s.latency(), func() {
		if isCut() {
			lost()
			return
		}
		isAnswered := false
		a := l.newArrival(other, func(w answer) {
			isAnswered = true
			d := s.latency()
			if isCut() || s.isFaulty() && s.oneIn(200) {
				lost()
				return
			}
			n.later(d, func() { l.take(attempt, w) })
		})
		other.on(func() { other.arrive(a, l.slot, epoch) })
		// The connection to a node that ends breaks.
		var look func()
		look = func() {
			switch {
			case isAnswered || l.isEnded || n.isGone:
			case other.isGone:
				lost()
			default:
				s.after(50*ms, look)
			}
		}
		s.after(50*ms, look)
	})
}

func (l *line) End(o cluster.LineOutcome) {
	l.isEnded = true
	l.end(o, l.answer)
}

// client sends one request after the other, to any node. It repeats those that have a key until
// they are answered.
type client struct {
	s       *simulation
	present *request
}

func (c *client) next() {
	s := c.s
	if s.now >= faultsEnd+mostLate {
		return
	}
	s.lines++
	r := &request{id: s.lines, engine: s.engines[s.rand.IntN(len(s.engines))]}
	switch s.rand.IntN(3) {
	case 0:
		r.isRead = true
	case 1:
		r.key = r.id
	}
	c.send(r)
}

// send sends a request to a node, and looks at what comes back.
func (c *client) send(r *request) {
	s := c.s
	c.present = r
	m := s.machines[s.rand.IntN(len(s.machines))]
	if m.node == nil || m.isLeaving {
		s.after(20*ms, func() { c.send(r) })
		return
	}
	n := m.node
	if r.isRead {
		r.least = s.truth[r.engine].told
	}
	isOver := false
	over := func(o cluster.LineOutcome, w answer) {
		if isOver || n.isGone {
			return
		}
		isOver = true
		c.told(r, o, w)
	}
	within := 5 * time.Second
	if s.hasFaults {
		within = s.between(500*ms, within)
	}
	n.later(s.latency(), func() { n.submit(r, within, over) })
	// The connection breaks if the node ends, and the client's patience ends some time.
	until := s.now + 15*time.Second
	var look func()
	look = func() {
		switch {
		case isOver:
		case n.isGone, s.now >= until:
			isOver = true
			c.told(r, cluster.OutcomeUnknown, answer{})
		default:
			s.after(100*ms, look)
		}
	}
	s.after(100*ms, look)
}

// readEverywhere has each node asked for what somebody was just told of. A node that answers has to
// know of it.
func (s *simulation) readEverywhere(engine string) {
	for _, m := range s.machines {
		if n := m.node; n != nil {
			s.lines++
			r := &request{id: s.lines, isRead: true, engine: engine, least: s.truth[engine].told}
			n.later(s.latency(), func() {
				n.submit(r, 200*ms, func(o cluster.LineOutcome, w answer) {
					if o == cluster.Answered {
						s.inspectTold(r, o, w)
					}
				})
			})
		}
	}
}

// told is what a client is told of its request.
func (c *client) told(r *request, o cluster.LineOutcome, w answer) {
	s := c.s
	c.present = nil
	s.inspectTold(r, o, w)
	if o == cluster.Answered && !r.isRead && s.oneIn(s.readAfter) {
		s.readEverywhere(r.engine)
	}
	if o != cluster.Answered && r.key != 0 {
		s.count("repeated keys")
		s.after(s.between(10*ms, 100*ms), func() { c.send(r) })
		return
	}
	s.after(s.between(ms, s.think), c.next)
}
