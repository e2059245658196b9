package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypertoken/internal/leaks"
)

var clusterSeed = flag.Uint64("cluster-seed", 0, "the seed of the cluster's faults; 0 for another one each time")

// clusterFault is one thing that goes wrong in a cluster. cause brings it about and ends it.
type clusterFault struct {
	name  string
	cause func(c *clusterUnderTest, r *rand.Rand)
}

// How long a process stands still: until a node has renewed its lease so often. A node does that every
// 250 ms, its lease is 1 s, and a node whose record stands still for 1.1 s is declared dead.
const (
	shorterThanLease = 1
	longerThanLease  = 9
)

// pause stops a process until a node has renewed its lease so often.
func (c *clusterUnderTest) pause(p *clusterProcess, renewals uint64) {
	watch := watchRenewals(c.natsURLs, renewals)
	defer watch.close()
	p.signal(syscall.SIGSTOP)
	select {
	case <-watch.ended:
	case <-time.After(time.Minute): // the checks at the end say what is wrong
	}
	p.signal(syscall.SIGCONT)
}

func oneOf(r *rand.Rand, list []*clusterProcess) *clusterProcess { return list[r.IntN(len(list))] }

var clusterFaults = []clusterFault{
	{"a node is killed", func(c *clusterUnderTest, r *rand.Rand) { oneOf(r, c.nodes).signal(syscall.SIGKILL) }},
	{"a node stands still for longer than its lease", func(c *clusterUnderTest, r *rand.Rand) {
		c.pause(oneOf(r, c.nodes), longerThanLease)
	}},
	{"a NATS server is killed", func(c *clusterUnderTest, r *rand.Rand) { oneOf(r, c.servers).signal(syscall.SIGKILL) }},
	{"a node stands still for a moment", func(c *clusterUnderTest, r *rand.Rand) {
		c.pause(oneOf(r, c.nodes), shorterThanLease)
	}},
	{"a node is terminated", func(c *clusterUnderTest, r *rand.Rand) { oneOf(r, c.nodes).signal(syscall.SIGTERM) }},
	{"a node and a NATS server are killed", func(c *clusterUnderTest, r *rand.Rand) {
		oneOf(r, c.nodes).signal(syscall.SIGKILL)
		oneOf(r, c.servers).signal(syscall.SIGKILL)
	}},
	{"a NATS server stands still", func(c *clusterUnderTest, r *rand.Rand) {
		c.pause(oneOf(r, c.servers), longerThanLease)
	}},
	{"all nodes are killed", func(c *clusterUnderTest, _ *rand.Rand) {
		for _, p := range c.nodes {
			p.signal(syscall.SIGKILL)
		}
	}},
}

// Whatever happens to nodes and NATS servers: what a client was told is true, at any node, and in the
// end each engine answers at each node.
func TestClusterUnderFaults(t *testing.T) {
	leaks.Check(t)
	seed := *clusterSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("go test ./integration -run %s -cluster-seed %d", t.Name(), seed)
	// The short form has each of the first kinds once, the deep form all kinds several times.
	engines, faults := 12, 4
	if os.Getenv("HYPERTOKEN_DEEP") != "" {
		engines, faults = 36, 4*len(clusterFaults)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	c := &clusterUnderTest{}
	defer c.stop(t)
	c.start(t)
	callers := newClusterCallers(c.urls, seed)
	defer callers.client.CloseIdleConnections()
	names := make([]string, engines)
	for k := range names {
		names[k] = fmt.Sprint("engine", k)
		setUpEngine(t, callers, r, names[k])
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for k := range 2 * engines {
		running.Go(func() { callers.run(names[k/2], k, stop) })
	}
	type moment struct {
		name      string
		at, until time.Duration
	}
	var moments []moment
	order := r.Perm(len(clusterFaults))
	if faults < len(order) { // the first four are the ones that a short run should not miss
		order = r.Perm(faults)
	}
	for k := range faults {
		callers.untilAnswers(t, engines*(30+r.IntN(60))) // callers get on between faults
		f := clusterFaults[order[k%len(order)]]
		if n := len(moments); n > 0 {
			moments[n-1].until = callers.now()
		}
		t.Logf("%v: %s", callers.now().Round(time.Millisecond), f.name)
		moments = append(moments, moment{f.name, callers.now(), time.Hour})
		f.cause(c, r)
	}
	c.untilReady(t, time.Minute)
	close(stop)
	running.Wait()
	checkEndOfFaults(t, callers, names)
	for _, m := range moments {
		t.Logf("after %v (%s) the longest wait was %v", m.at.Round(time.Millisecond), m.name,
			longestWait(callers.calls, m.at, m.until).Round(time.Millisecond))
	}
	for _, h := range callers.hung {
		t.Error(h)
	}
	checkJournals(t, callers, names)
}

// setUpEngine makes an engine. A node may refuse it while slots find their first owner.
func setUpEngine(t *testing.T, callers *clusterCallers, r *rand.Rand, name string) {
	t.Helper()
	way := &overHTTP{callers}
	for until := time.Now().Add(time.Minute); ; {
		b, err := way.send(r.IntN(len(callers.urls)), name, `{"setup":{}}`)
		if err == nil && (strings.HasPrefix(string(b), `{"ok"`) || strings.Contains(string(b), "exists")) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s can't be set up: %s %v", name, b, err)
		}
	}
}

// answersWithin is how long after the faults an engine may take at most to answer at each node.
const answersWithin = 30 * time.Second

// checkEndOfFaults expects that each engine answers an action at each node.
func checkEndOfFaults(t *testing.T, callers *clusterCallers, names []string) {
	t.Helper()
	var running sync.WaitGroup
	for _, name := range names {
		running.Go(func() {
			r := rand.New(rand.NewPCG(callers.seed, 1))
			for node := range callers.urls {
				one := &atNode{overHTTP{callers}, node}
				began := callers.now()
				call := callers.send(one, r, name, callers.nextID(), true)
				if took := callers.now() - began; call.outcome != wasAnswered || took > answersWithin {
					t.Errorf("%s at node %d after the faults: %v %s after %v", name, node, call.outcome, call.code,
						took)
				}
			}
		})
	}
	running.Wait()
}

// atNode sends all lines to one node.
type atNode struct {
	overHTTP
	node int
}

func (a *atNode) send(_ int, engine, line string) ([]byte, error) {
	return a.overHTTP.send(a.node, engine, line)
}

// checkJournals compares all that callers were told with the journals.
func checkJournals(t *testing.T, callers *clusterCallers, names []string) {
	t.Helper()
	count := map[string]int{}
	codes := map[string]int{}
	for _, call := range callers.calls {
		count[[]string{"answered", "no effect", "unknown"}[call.outcome]]++
		if call.outcome != wasAnswered {
			code, _, _ := strings.Cut(call.code, ": ")
			codes[code]++
		}
	}
	t.Logf("%d calls: %v; failures: %v", len(callers.calls), count, codes)
	for _, name := range names {
		journal, err := callers.journalOf(name)
		if err != nil {
			t.Errorf("the journal of %s: %v", name, err)
			continue
		}
		calls := slices.DeleteFunc(slices.Clone(callers.calls), func(c clusterCall) bool { return c.engine != name })
		for _, breach := range checkHistory(name, calls, journal) {
			t.Error(breach)
		}
	}
}
