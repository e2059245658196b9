package cluster_test

import (
	"container/heap"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"hypertoken/internal/cluster"
	"hypertoken/internal/cluster/simlog"
	"hypertoken/internal/require"
)

// A simulation runs the machines of several nodes against a model of the log, one event after the
// other, each drawn from a seed: what fails once fails again. The clocks of the nodes run at
// different speeds. Messages are lost, doubled and late, connections break, nodes pause, end and
// come back, the log is out of reach for a while, and its replicas lag. Then the faults end, and
// everything has to work again within recoverWithin.

var (
	simSeed   = flag.Uint64("seed", 0, "run the simulation of this `seed` only")
	simFirst  = flag.Uint64("first", 1, "the first `seed` of the simulation")
	simEvents = flag.Int("events", require.Rounds(1_000_000, 2_000_000), "events of the simulation, over all seeds")
)

const (
	ms = time.Millisecond
	// faultsEnd is when the faults end, drainEnd when the clients stop.
	faultsEnd = 20 * time.Second
	// mostLate is how late a message may be. recoverWithin is the time after the last fault within
	// which every slot has an owner, and every engine answers at every node.
	mostLate      = 4 * time.Second
	recoverWithin = 6 * time.Second
	simSlots      = 6
	replicas      = 2
)

// event is something that happens at a time.
type event struct {
	at     time.Duration
	number int
	run    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

// simulation is the world: the log, the nodes, the clients, and the real time.
type simulation struct {
	t      testing.TB
	rand   *rand.Rand
	seed   uint64
	config cluster.Config
	log    *simlog.Log
	now    time.Duration
	queue  events
	number int
	ran    int
	counts map[string]int

	// hasFaults says that this seed has faults at all. Without them nodes only come and go.
	hasFaults bool
	machines  []*machine
	lagUntil  [replicas]time.Duration // no replica catches up before that
	lives     uint64
	// logDownUntil is until when the log stores nothing. cut has, for two machines, until when they
	// can't reach each other.
	logDownUntil time.Duration
	cut          map[[2]int]time.Duration

	think time.Duration // the most that a client waits between two requests
	// storeTimeout is how long an engine waits for its store.
	storeTimeout time.Duration
	// readAfter says after how many writes all nodes are asked.
	readAfter int
	engines   []string
	truth     map[string]*truth
	clients   []*client
	lines     uint64
	parts     map[cluster.PartID]bool // stored
	doubled   map[cluster.PartID]bool // that came to the log twice
	openers   map[uint64]int          // calls of tenures that are not done
	target    cluster.Target
	// verdicts has when the first verdict on a node was stored. It may be removed since.
	verdicts map[cluster.NodeID]time.Duration
}

// machine is a computer with its clock and its connections. Nodes live on it, one after the other.
type machine struct {
	number      int
	rate        float64
	offset      time.Duration
	pausedUntil time.Duration
	// leaseCutUntil and dataCutUntil are until when the two connections to the log are broken.
	leaseCutUntil, dataCutUntil time.Duration
	// Until slowUntil, answers on the lease's connection are slow. Until muteUntil, nothing that it
	// sends to the log arrives, and what comes from there does. Until lossyUntil, half of what it
	// sends over the data connection is lost. Until lateUntil, watches are late.
	slowUntil, muteUntil, lossyUntil, lateUntil time.Duration
	cores                                       []string
	node                                        *node // nil while none runs
	isLeaving                                   bool
}

func (s *simulation) fatal(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d, %v, event %d: %s", s.seed, s.now, s.ran, fmt.Sprintf(format, args...))
}

func (s *simulation) count(what string) { s.counts[what]++ }

// after has something happen later.
func (s *simulation) after(d time.Duration, f func()) {
	s.number++
	heap.Push(&s.queue, event{s.now + d, s.number, f})
}

// oneIn reports whether something happens that happens once in n times.
func (s *simulation) oneIn(n int) bool { return s.rand.IntN(n) == 0 }

// between draws a duration.
func (s *simulation) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.rand.Int64N(int64(to-from)))
}

func (s *simulation) isFaulty() bool { return s.hasFaults && s.now < faultsEnd }

// latency draws how long a message takes.
func (s *simulation) latency() time.Duration {
	if s.isFaulty() && s.oneIn(300) {
		s.count("late messages")
		return s.between(5*ms, mostLate)
	}
	return s.between(ms/5, 3*ms)
}

// clock returns what a machine's clock shows.
func (s *simulation) clock(m *machine) time.Duration {
	return m.offset + time.Duration(float64(s.now)*m.rate)
}

// newSimulation returns a world in which nothing has happened yet.
func newSimulation(t testing.TB, seed uint64) *simulation {
	s := &simulation{t: t, rand: rand.New(rand.NewPCG(seed, 18)), seed: seed, config: cluster.DefaultConfig(),
		log: simlog.New(replicas), counts: map[string]int{}, cut: map[[2]int]time.Duration{},
		truth: map[string]*truth{}, parts: map[cluster.PartID]bool{}, doubled: map[cluster.PartID]bool{},
		openers: map[uint64]int{}, verdicts: map[cluster.NodeID]time.Duration{}, hasFaults: seed%4 != 0}
	s.config.RemoveAfter = s.between(10*ms, 2*time.Second)
	s.config.SettleGroups = 2 + s.rand.IntN(30)
	s.config.SettleAfter = s.between(50*ms, 3*time.Second)
	s.config.MaxMessages = 4 + s.rand.IntN(12)
	s.config.MaxBytes = 40 + s.rand.IntN(400)
	s.config.SettleBytes = 40 + s.rand.IntN(2000)
	s.config.MaxGiving = 1 + s.rand.IntN(3)
	s.config.KeepsHistory = s.oneIn(2)
	s.config.ReadsLog = s.oneIn(10)
	// Some worlds are busy. In others engines rest between two writes, so that an engine whose node
	// is cut off can still be asked for what it has in memory.
	s.think, s.readAfter = 150*ms, 4
	if s.oneIn(2) {
		s.think, s.readAfter = 2*time.Second, 1
	}
	for k := range 12 + s.rand.IntN(20) {
		name := fmt.Sprintf("engine %d", k)
		s.engines = append(s.engines, name)
		s.truth[name] = &truth{ids: map[uint64]uint64{}, keys: map[uint64]uint64{}}
	}
	for k := range 3 + s.rand.IntN(3) {
		m := &machine{number: k, rate: 0.96 + 0.08*s.rand.Float64(), offset: s.between(0, time.Hour),
			cores: []string{"core 1"}}
		s.machines = append(s.machines, m)
		s.after(s.between(0, time.Second), func() { s.start(m) })
	}
	s.newTarget()
	s.storeTimeout = s.between(300*ms, 1200*ms)
	for range 24 {
		c := &client{s: s}
		s.clients = append(s.clients, c)
		s.after(s.between(0, 500*ms), c.next)
	}
	s.after(10*ms, s.lag)
	s.after(s.between(200*ms, time.Second), s.fault)
	s.after(s.between(2*time.Second, 10*time.Second), s.upgrade)
	s.after(100*ms, s.readElsewhere)
	return s
}

// lag lets replicas catch up, more or less.
func (s *simulation) lag() {
	for k := 1; k <= replicas; k++ {
		switch {
		case s.isFaulty() && s.now < s.lagUntil[k-1]:
		case s.isFaulty() && s.oneIn(40):
			s.lagUntil[k-1] = s.now + s.between(20*ms, 400*ms)
		case s.isFaulty() && !s.oneIn(4):
			s.log.CatchUp(k, s.rand.IntN(4))
		default:
			s.log.CatchUp(k, 1<<30)
		}
	}
	s.after(s.between(ms, 15*ms), s.lag)
}

// newTarget sets a new target core, which all machines get before or after.
func (s *simulation) newTarget() {
	s.target.Generation++
	s.target.Core = fmt.Sprintf("core %d", s.target.Generation)
	s.target.Format = 1
	s.log.WriteTarget(s.target)
	t := s.target
	for _, m := range s.machines {
		if n := m.node; n != nil {
			n.watch(func() { n.slots.TargetSeen(t, n.clock()) })
		}
	}
}

// upgrade gives the machines a new core, one after the other, and makes it the target meanwhile.
func (s *simulation) upgrade() {
	if s.now > faultsEnd-2*time.Second {
		return
	}
	core := fmt.Sprintf("core %d", s.target.Generation+1)
	for _, m := range s.machines {
		s.after(s.between(0, time.Second), func() {
			m.cores = append(m.cores, core)
			s.setCores(m, m.cores)
		})
	}
	s.after(500*ms, s.newTarget)
	s.after(s.between(2*time.Second, 8*time.Second), s.upgrade)
}

// setCores tells the node of a machine which cores it has.
func (s *simulation) setCores(m *machine, cores []string) {
	cores = slices.Clone(cores)
	if n := m.node; n != nil {
		n.on(func() {
			n.member.HasCores(cores, n.clock())
			n.slots.CoresHeld(cores, n.clock())
		})
	}
}

// fault lets something go wrong, or a node come or go.
func (s *simulation) fault() {
	if s.now >= faultsEnd {
		return
	}
	m := s.machines[s.rand.IntN(len(s.machines))]
	until := s.now + s.between(10*ms, 4*time.Second)
	kind := s.rand.IntN(14)
	if !s.hasFaults {
		kind = 0
	}
	switch kind {
	case 0:
		if n := m.node; n != nil && !m.isLeaving && s.running() > 1 {
			s.count("nodes that leave")
			s.leave(m)
		}
	case 1:
		if m.node != nil && s.running() > 1 {
			s.count("nodes killed")
			s.stop(m)
		}
	case 2:
		s.count("pauses")
		m.pausedUntil = until
	case 3:
		s.count("cuts of the lease")
		m.leaseCutUntil = until
	case 4:
		s.count("cuts of the data")
		m.dataCutUntil = until
	case 5:
		s.count("cuts of both")
		m.leaseCutUntil, m.dataCutUntil = until, until
	case 6:
		s.count("cuts between nodes")
		for _, other := range s.machines {
			if s.oneIn(2) {
				s.cut[pair(m, other)] = until
			}
		}
	case 7:
		s.count("outages of the log")
		s.logDownUntil = s.now + s.between(10*ms, 3500*ms)
	case 8, 13:
		s.count("slow, then mute")
		m.slowUntil = s.now + time.Second
		m.lateUntil = s.now + 4*time.Second
		s.after(time.Second, func() { m.muteUntil = s.now + 2500*ms })
	case 9, 10, 11:
		s.count("superseded without noticing")
		until = s.now + s.between(2*time.Second, 4*time.Second)
		m.leaseCutUntil, m.lateUntil = until, until
		s.after(s.between(0, 1500*ms), func() { m.lossyUntil = until })
	case 12:
		s.count("cores away for a while")
		s.setCores(m, nil)
		s.after(s.between(50*ms, 800*ms), func() { s.setCores(m, m.cores) })
	}
	if s.hasFaults {
		s.after(s.between(50*ms, 1500*ms), s.fault)
	} else {
		s.after(s.between(500*ms, 2*time.Second), s.fault)
	}
}

func pair(a, b *machine) [2]int { return [2]int{min(a.number, b.number), max(a.number, b.number)} }

// running returns how many nodes run.
func (s *simulation) running() (n int) {
	for _, m := range s.machines {
		if m.node != nil && !m.isLeaving {
			n++
		}
	}
	return n
}

// start starts a node on a machine, with a new life.
func (s *simulation) start(m *machine) {
	if m.node != nil {
		return
	}
	s.lives++
	id := cluster.NodeID(s.lives<<32 | s.rand.Uint64()>>32)
	n := newNode(s, m, id)
	m.node, m.isLeaving = n, false
	s.count("lives")
	for slot := range simSlots {
		if r, ok := s.log.Owners[slot]; ok {
			n.watch(func() { n.slots.OwnerSeen(slot, r.Record, r.Sequence, n.clock()) })
		}
	}
	for _, other := range slices.Sorted(maps.Keys(s.log.Members)) {
		n.watchMember(s.log.Members[other])
	}
	t := s.log.Target
	n.watch(func() { n.slots.TargetSeen(t.Record, n.clock()) })
	n.tick()
}

// stop ends a node at once, as SIGKILL does. Another life begins later.
func (s *simulation) stop(m *machine) {
	m.node.isGone = true
	m.node = nil
	d := s.between(10*ms, 2*time.Second)
	if s.now >= faultsEnd {
		d = 10 * ms
	}
	s.after(d, func() { s.start(m) })
}

// leave ends a node as SIGTERM does: once it has given its slots away, or after a while.
func (s *simulation) leave(m *machine) {
	n := m.node
	m.isLeaving = true
	n.on(func() { n.member.Drain(n.clock()) })
	deadline := s.now + 5*time.Second
	var look func()
	look = func() {
		switch {
		case n.isGone:
		case n.isIdle() && s.now < deadline:
			s.count("nodes that left with nothing")
			n.on(func() { n.member.Leave() })
			s.after(5*ms, func() {
				if !n.isGone {
					s.stop(m)
				}
			})
		case s.now >= deadline:
			s.stop(m)
		default:
			s.after(20*ms, look)
		}
	}
	s.after(20*ms, look)
}

// run runs events until a time.
func (s *simulation) run(until time.Duration) {
	for len(s.queue) > 0 && s.queue[0].at <= until {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		s.ran++
		e.run()
	}
	s.now = until
}

// simulate runs the world of a seed.
func simulate(t testing.TB, seed uint64) *simulation {
	s := newSimulation(t, seed)
	s.run(faultsEnd)
	s.logDownUntil = 0
	clear(s.cut)
	for _, m := range s.machines {
		m.pausedUntil, m.leaseCutUntil, m.dataCutUntil = 0, 0, 0
		m.slowUntil, m.muteUntil, m.lossyUntil, m.lateUntil = 0, 0, 0, 0
	}
	s.run(faultsEnd + mostLate + recoverWithin)
	s.checkOwners()
	s.probe()
	s.run(s.now + 2*time.Second)
	s.checkEnd()
	return s
}

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		s := simulate(t, *simSeed)
		t.Logf("%d events: %v", s.ran, s.counts)
		return
	}
	counts := map[string]int{}
	seed := *simFirst
	ran := 0
	for ; ran < *simEvents; seed++ {
		s := simulate(t, seed)
		ran += s.ran
		for what, n := range s.counts {
			counts[what] += n
		}
	}
	t.Logf("%d events of %d seeds: %v", ran, seed-*simFirst, counts)
	for _, what := range []string{"acknowledged", "reads", "reads by barrier", "verdicts", "claims", "hand-overs",
		"doubtful and stored", "doubtful and not stored", "groups settled", "bases", "tails removed", "stale readings",
		"overtaken", "moved", "unknown", "verdicts removed", "pauses behind the first record",
		"journals upgraded", "newer cores", "forwarded", "readings elsewhere",
		"lives that ended by verdict", "engines that were stopped", "appends of stopped engines", "repeated keys",
		"lost lines", "unreached lines", "doubled batches", "late messages"} {
		if counts[what] == 0 {
			t.Errorf("there were no %s", what)
		}
	}
}

// The same seed is the same run, so that a failure can be looked at again.
func TestSimulationIsReproducible(t *testing.T) {
	for seed := uint64(1); seed <= 4; seed++ {
		a, b := simulate(t, seed), simulate(t, seed)
		if x, y := fmt.Sprint(a.ran, a.counts, a.rand.Uint64()), fmt.Sprint(b.ran, b.counts, b.rand.Uint64()); x != y {
			t.Errorf("seed %d: two runs differ:\n%s\n%s", seed, x, y)
		}
	}
}
