package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// ClusterKind is a kind of fault that strikes a cluster.
type ClusterKind string

// The kinds of faults of a cluster.
const (
	KillNode      ClusterKind = "kill-node"
	KillServer    ClusterKind = "kill-server"
	KillBoth      ClusterKind = "kill-both"
	KillNodes     ClusterKind = "kill-nodes"
	KillServers   ClusterKind = "kill-servers"
	TermNode      ClusterKind = "term-node"
	TermServer    ClusterKind = "term-server"
	RestartNode   ClusterKind = "restart-node"
	PauseNode     ClusterKind = "pause-node"
	SuspendNode   ClusterKind = "suspend-node"
	PauseServer   ClusterKind = "pause-server"
	PauseServers  ClusterKind = "pause-servers"
	JoinNode      ClusterKind = "join-node"
	CutNode       ClusterKind = "cut-node"
	CutNodes      ClusterKind = "cut-nodes"
	CutLease      ClusterKind = "cut-lease"
	CutServer     ClusterKind = "cut-server"
	CutServers    ClusterKind = "cut-servers"
	CutHalves     ClusterKind = "cut-halves"
	CutSets       ClusterKind = "cut-sets"
	CutOneWay     ClusterKind = "cut-one-way"
	FillDisk      ClusterKind = "fill-disk"
	maxClusterLag             = 4 * time.Second // of a node or a server that stands still
)

// A lease is 1 s, and a node whose record stands still for 1.1 s is declared dead.
const (
	leastSuspension = 1500 * time.Millisecond
	mostPause       = 700 * time.Millisecond
	mostDown        = 2500 * time.Millisecond
	leastCut        = 200 * time.Millisecond
	mostCut         = 5 * time.Second
)

// clusterFault says what a kind is, and causes it. cause returns once the fault has ended. What it kills is
// started again later.
type clusterFault struct {
	kind  ClusterKind
	about string
	// deaths is how many processes it kills or terminates.
	deaths int
	cause  func(f *clusterFaults)
}

var clusterFaultKinds = []clusterFault{
	{KillNode, "a node is killed", 1, func(f *clusterFaults) { f.kill(f.node()) }},
	{KillServer, "a NATS server is killed", 1, func(f *clusterFaults) { f.kill(f.server()) }},
	{KillBoth, "a node and a NATS server are killed together", 2,
		func(f *clusterFaults) { f.kill(f.node(), f.server()) }},
	{KillNodes, "all nodes are killed together", clusterSize,
		func(f *clusterFaults) { f.kill(f.t.cluster.Nodes()[:clusterSize]...) }},
	{KillServers, "all NATS servers are killed together", clusterSize,
		func(f *clusterFaults) { f.kill(f.t.cluster.Servers()...) }},
	{TermNode, "a node is terminated", 1, func(f *clusterFaults) { f.terminate(f.node()) }},
	{TermServer, "a NATS server is terminated", 1, func(f *clusterFaults) { f.terminate(f.server()) }},
	{RestartNode, "a node is terminated, and started again at once", 1,
		func(f *clusterFaults) { f.restart(f.node()) }},
	{PauseNode, "a node stands still for less than its lease", 0, func(f *clusterFaults) {
		f.pause(50*time.Millisecond+f.drawn(mostPause), f.node())
	}},
	{SuspendNode, "a node stands still for longer than its lease: the others declare it dead", 0,
		func(f *clusterFaults) {
			f.pause(leastSuspension+f.drawn(maxClusterLag-leastSuspension), f.node())
		}},
	{PauseServer, "a NATS server stands still", 0, func(f *clusterFaults) {
		f.pause(100*time.Millisecond+f.drawn(maxClusterLag), f.server())
	}},
	{PauseServers, "two NATS servers stand still: nothing can be stored", 0, func(f *clusterFaults) {
		servers := f.t.cluster.Servers()
		k := f.rand.IntN(len(servers))
		f.pause(100*time.Millisecond+f.drawn(maxClusterLag), servers[k], servers[(k+1)%len(servers)])
	}},
	{JoinNode, "a fourth node joins; the next time it is terminated, and so on", 0,
		func(f *clusterFaults) { f.join() }},
	{CutNode, "a node reaches no server and no other node", 0, func(f *clusterFaults) {
		f.cutOff(f.node())
	}},
	{CutNodes, "two nodes do not reach each other", 0, func(f *clusterFaults) {
		nodes, k := f.t.cluster.Nodes(), f.rand.IntN(clusterSize)
		f.cut(nodes[k:k+1], []string{nodes[(k+1)%clusterSize]})
	}},
	{CutLease, "a node reaches the other nodes, and no server", 0, func(f *clusterFaults) {
		f.cut([]string{f.node()}, f.t.cluster.Servers())
	}},
	{CutServer, "a NATS server reaches no other one and no node", 0, func(f *clusterFaults) {
		f.cutOff(f.server())
	}},
	{CutServers, "two NATS servers do not reach each other; the third one and all nodes reach both", 0,
		func(f *clusterFaults) {
			servers, k := f.t.cluster.Servers(), f.rand.IntN(clusterSize)
			f.cut(servers[k:k+1], []string{servers[(k+1)%clusterSize]})
		}},
	{CutHalves, "a node and a NATS server reach each other only", 0, func(f *clusterFaults) {
		f.cutOff(f.node(), f.server())
	}},
	{CutSets, "any set of nodes and servers does not reach any other set", 0,
		func(f *clusterFaults) { f.cut(f.sets()) }},
	{CutOneWay, "what one process sends does not reach another one, and the other way it does", 0,
		func(f *clusterFaults) {
			all := f.t.processNames()
			from := f.rand.IntN(len(all))
			to := (from + 1 + f.rand.IntN(len(all)-1)) % len(all)
			f.hold(all[from:from+1], all[to:to+1], oneWay)
		}},
	{FillDisk, "the disk of a NATS server is full; later it has room, and the server is started again", 1,
		func(f *clusterFaults) { f.fill() }},
}

// ClusterKinds returns all kinds of faults of a cluster.
func ClusterKinds() (list []ClusterKind) {
	for _, f := range clusterFaultKinds {
		list = append(list, f.kind)
	}
	return list
}

// AboutCluster describes the kinds of faults of a cluster, a line for each.
func AboutCluster() string {
	var b strings.Builder
	for _, f := range clusterFaultKinds {
		fmt.Fprintf(&b, "  %-14s %s\n", f.kind, f.about)
	}
	return b.String()
}

// ParseClusterKinds reads a list of kinds of faults of a cluster, or "all".
func ParseClusterKinds(s string) ([]ClusterKind, error) {
	all := ClusterKinds()
	if s == "all" {
		return all, nil
	}
	var list []ClusterKind
	for name := range strings.SplitSeq(s, ",") {
		k := ClusterKind(strings.TrimSpace(name))
		if !slices.Contains(all, k) {
			return nil, fmt.Errorf("%q is no fault of a cluster: want all, or some of %v", name, all)
		}
		if !slices.Contains(list, k) {
			list = append(list, k)
		}
	}
	return list, nil
}

// Kills reports whether one of the kinds kills or terminates a process.
func Kills(kinds []ClusterKind) bool {
	return slices.ContainsFunc(clusterFaultKinds, func(f clusterFault) bool {
		return f.deaths > 0 && slices.Contains(kinds, f.kind)
	})
}

// Cuts reports whether one of the kinds cuts processes off from each other.
func Cuts(kinds []ClusterKind) bool {
	return slices.ContainsFunc(kinds, func(k ClusterKind) bool { return strings.HasPrefix(string(k), "cut-") })
}

// clusterFaults draws faults, and causes them one after the other.
type clusterFaults struct {
	t    *clusterTorture
	rand *rand.Rand
	deck []clusterFault // the kinds that are still to come before all have come once
	said string         // what the present fault does
}

// mostProgress is how many calls may end, at most, between two faults.
const mostProgress = 400

// run causes faults until the torture is over. All kinds come once before one comes again.
func (f *clusterFaults) run() {
	for {
		if !f.t.awaitCalls(1 + f.rand.IntN(mostProgress)) {
			return
		}
		if len(f.deck) == 0 {
			f.deck = slices.DeleteFunc(slices.Clone(clusterFaultKinds), func(c clusterFault) bool {
				return !slices.Contains(f.t.config.Faults, c.kind)
			})
			f.rand.Shuffle(len(f.deck), func(i, j int) { f.deck[i], f.deck[j] = f.deck[j], f.deck[i] })
		}
		next := f.deck[0]
		f.deck, f.said = f.deck[1:], ""
		f.t.beginFault(next.kind)
		next.cause(f)
		f.t.endFault(next.kind, f.said)
	}
}

func (f *clusterFaults) drawn(most time.Duration) time.Duration {
	return time.Duration(f.rand.Int64N(int64(most)))
}

func (f *clusterFaults) node() string { return f.t.cluster.Nodes()[f.rand.IntN(clusterSize)] }

func (f *clusterFaults) server() string {
	servers := f.t.cluster.Servers()
	return servers[f.rand.IntN(len(servers))]
}

// ready waits until the processes are ready. It returns false if the torture is over before.
func (f *clusterFaults) ready(names []string) bool {
	for _, name := range names {
		if !f.t.awaitReady(name) {
			return false
		}
	}
	return true
}

func (f *clusterFaults) say(format string, args ...any) { f.said += fmt.Sprintf(" "+format, args...) }

// kill kills processes at the same time.
func (f *clusterFaults) kill(names ...string) {
	down := make([]time.Duration, len(names))
	for k := range down {
		down[k] = f.drawn(mostDown)
	}
	if !f.ready(names) {
		return
	}
	var killing sync.WaitGroup
	for k, name := range names {
		f.say("%s for %v", name, down[k].Round(time.Millisecond))
		f.t.willDie(name, down[k])
		// It may have ended by itself in this moment.
		killing.Go(func() { _ = f.t.cluster.Kill(name) })
	}
	killing.Wait()
}

func (f *clusterFaults) terminate(name string) {
	down := f.drawn(mostDown)
	if !f.ready([]string{name}) {
		return
	}
	f.say("%s for %v", name, down.Round(time.Millisecond))
	f.t.willDie(name, down)
	_ = f.t.cluster.Terminate(name)
}

// termPatience is how long a terminated process may take to end.
const termPatience = 60 * time.Second

// restart terminates a process, and waits for its end. It is started again at once.
func (f *clusterFaults) restart(name string) {
	if !f.ready([]string{name}) {
		return
	}
	f.say("%s", name)
	f.t.willDie(name, 0)
	_ = f.t.cluster.Shut(name, termPatience)
}

// pause has processes stand still for a time.
func (f *clusterFaults) pause(d time.Duration, names ...string) {
	if !f.ready(names) {
		return
	}
	for _, name := range names {
		f.say("%s for %v", name, d.Round(time.Millisecond))
		_ = f.t.cluster.Stop(name)
	}
	ctx, cancel := context.WithTimeout(f.t.ctx, d)
	<-ctx.Done() // the fault itself
	cancel()
	for _, name := range names {
		_ = f.t.cluster.Resume(name)
	}
}

// join starts the fourth node, or terminates it if it runs.
func (f *clusterFaults) join() {
	name := f.t.cluster.Nodes()[clusterSize]
	if f.t.setWanted(name, true) {
		f.say("%s comes", name)
		if err := f.t.cluster.Run(name); err == nil {
			f.t.awaitReady(name)
		}
		return
	}
	f.t.setWanted(name, false)
	f.say("%s goes", name)
	f.t.willDie(name, 0)
	_ = f.t.cluster.Shut(name, termPatience)
}

// fill lets the disk of a server be full for a time. A server that could not store something stores nothing
// any more until it is started again.
func (f *clusterFaults) fill() {
	name, d := f.t.cluster.DiskOwner(), leastCut+f.drawn(mostCut-leastCut)
	if !f.ready([]string{name}) {
		return
	}
	f.say("%s for %v", name, d.Round(time.Millisecond))
	if err := f.t.cluster.FillDisk(); err != nil {
		f.t.stop(err)
	}
	ctx, cancel := context.WithTimeout(f.t.ctx, d)
	<-ctx.Done() // the fault itself
	cancel()
	if err := f.t.cluster.FreeDisk(); err != nil {
		f.t.stop(err)
	}
	f.t.willDie(name, 0)
	_ = f.t.cluster.Shut(name, termPatience)
}

// sets draws two sets of processes, neither of them empty. Some processes are in none.
func (f *clusterFaults) sets() (some, others []string) {
	all := slices.Clone(f.t.processNames())
	f.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	end := 2 + f.rand.IntN(len(all)-1)
	middle := 1 + f.rand.IntN(end-1)
	return all[:middle], all[middle:end]
}

// cutOff cuts processes off from all others.
func (f *clusterFaults) cutOff(names ...string) {
	others := slices.DeleteFunc(slices.Clone(f.t.processNames()), func(name string) bool {
		return slices.Contains(names, name)
	})
	f.cut(names, others)
}

// cutForm says what a cut does to what is sent.
type cutForm int

const (
	oneWay   cutForm = iota // it is held in one direction
	bothWays                // it is held in both directions
	resets                  // connections are reset
)

func (c cutForm) String() string {
	return [...]string{"hold what goes from %s to %s", "hold what goes between %s and %s",
		"reset what goes between %s and %s"}[c]
}

// cut lets nothing through between two sets of processes for a time. Its seed draws whether connections
// stand still or are reset.
func (f *clusterFaults) cut(some, others []string) {
	form := bothWays
	if f.rand.IntN(2) == 0 {
		form = resets
	}
	f.hold(some, others, form)
}

// hold cuts some processes off from others for a time. Some cuts are shorter than a lease.
func (f *clusterFaults) hold(some, others []string, form cutForm) {
	d := leastCut + f.drawn(mostCut-leastCut)
	if !f.ready(slices.Concat(some, others)) {
		return
	}
	f.say(form.String()+" for %v", strings.Join(some, ","), strings.Join(others, ","), d.Round(time.Millisecond))
	err := f.t.cluster.Cut(some, others, form == resets)
	if err == nil && form == bothWays {
		err = f.t.cluster.Cut(others, some, false)
	}
	if err != nil {
		f.t.stop(err)
	}
	ctx, cancel := context.WithTimeout(f.t.ctx, d)
	<-ctx.Done() // the fault itself
	cancel()
	f.t.cluster.Heal()
}
