package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"hypertoken/internal/version"
	"hypertoken/journal"
	"hypertoken/journal/jetstream"
)

// The probes here measure what engines of a cluster cost that nobody calls, and what it costs to call one that
// nobody has open, or that another node has.

// mostIdle is how many engines are stored in the cluster, if there is the time for that.
const mostIdle = 100_000

// idleCluster is a cluster with many engines that nobody has open, and what its processes take.
type idleCluster struct {
	*testCluster
	n             int // engines
	before, after clusterUse
	closed        []int // the numbers of those that nobody has opened
}

// clusterUse is what the processes of a cluster take while nobody calls: of all servers, and of all nodes, the
// one that takes most.
type clusterUse struct{ server, node processUse }

// processUse is resident memory in bytes, what of it is not the program's file, and CPU time in percent of
// the time that has passed.
type processUse struct{ memory, own, cpu float64 }

// idleCluster returns the cluster that the probes of the group share. Half of the group's time is for
// storing its engines.
func (r *room) idleCluster(ctx context.Context) (*idleCluster, error) {
	if r.idle != nil {
		return r.idle, nil
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		return nil, unavailable{fmt.Sprintf("this system does not tell what another process takes: %v", err)}
	}
	c, err := r.cluster(ctx)
	if err != nil {
		return nil, err
	}
	i := &idleCluster{testCluster: c}
	idleFor := min(r.time/20, 5*time.Second)
	if i.before, err = c.use(ctx, idleFor); err != nil {
		return nil, err
	}
	c.stopNodes()
	if i.n, err = c.store(ctx, r, time.Now().Add(r.time/2)); err != nil {
		return nil, err
	}
	i.after, err = c.use(ctx, idleFor)
	r.idle = i
	return i, err
}

// store stores engines in the log, as a member of the cluster that leaves when it is done. No node runs
// meanwhile.
func (c *testCluster) store(ctx context.Context, r *room, until time.Time) (n int, err error) {
	self := jetstream.MemberOptions{Address: "127.0.0.1:1", Format: 1, Version: version.String()}
	members := jetstream.NewMembers(self)
	s, err := jetstream.Open(ctx, jetstream.Options{Servers: c.urls(), Sync: jetstream.SyncTrusted, Claims: members,
		Patience: patience, Logger: r.config.Logger})
	if err != nil {
		return 0, err
	}
	if err := members.Join(ctx, s); err != nil {
		return 0, errors.Join(err, s.Close())
	}
	model, err := playOne(ctx, r, journal.NewMemory())
	if err == nil {
		n, err = storeCopies(ctx, model, s, mostIdle, until)
	}
	return n, errors.Join(err, s.Close(), members.Leave(context.WithoutCancel(ctx)))
}

// use starts the nodes, and returns what the processes take in a time in which nobody calls. It waits for a
// while before. If a node ends by itself meanwhile, all begins anew.
func (c *testCluster) use(ctx context.Context, d time.Duration) (u clusterUse, err error) {
	for until := time.Now().Add(patience); ; {
		if err := c.startNodes(ctx); err != nil {
			return u, err
		}
		if err := sleep(ctx, max(d, settleFor)); err != nil {
			return u, err
		}
		if u, err = c.tryUse(ctx, d); err == nil || ctx.Err() != nil || time.Now().After(until) {
			return u, err
		}
	}
}

func (c *testCluster) tryUse(ctx context.Context, d time.Duration) (u clusterUse, err error) {
	all := slices.Concat(c.Servers(), c.Nodes())
	pids, spent := make([]int, len(all)), make([]time.Duration, len(all))
	for k, name := range all {
		pids[k] = c.PID(name)
		if spent[k], err = cpuTime(pids[k]); err != nil {
			return u, fmt.Errorf("%s: %w", name, err)
		}
	}
	began := time.Now()
	if err := sleep(ctx, d); err != nil {
		return u, err
	}
	took := time.Since(began)
	for k, name := range all {
		now, err := cpuTime(pids[k])
		if err != nil {
			return u, fmt.Errorf("%s: %w", name, err)
		}
		memory, own, err := residentBytes(pids[k])
		if err != nil {
			return u, fmt.Errorf("%s: %w", name, err)
		}
		p := &u.node
		if slices.Contains(c.Servers(), name) {
			p = &u.server
		}
		p.memory, p.own = max(p.memory, float64(memory)), max(p.own, float64(own))
		p.cpu = max(p.cpu, 100*(now-spent[k]).Seconds()/took.Seconds())
	}
	return u, nil
}

// openIdleCluster reports what the servers and nodes took before and after engines were stored.
func openIdleCluster(ctx context.Context, r *room) (slice, error) {
	c, err := r.idleCluster(ctx)
	if err != nil {
		return nil, err
	}
	// With fewer engines, what a process with 100,000 takes follows from what these add, unless they are too few.
	perMost := mostIdle / float64(c.n)
	return func(_ context.Context, _ time.Duration, s *sample) error {
		s.value("engines", "engines", float64(c.n))
		for _, p := range []struct {
			name          string
			before, after processUse
		}{{"server", c.before.server, c.after.server}, {"node", c.before.node, c.after.node}} {
			s.value(p.name+"_before", "bytes", p.before.memory)
			s.value(p.name, "bytes", p.after.memory)
			s.value(p.name+"_own", "bytes", p.after.own)
			if c.n >= mostIdle/2 {
				s.value(p.name+"_hundred_thousand", "bytes", p.before.memory+(p.after.memory-p.before.memory)*perMost)
			}
			s.value(p.name+"_cpu_before", "percent", p.before.cpu)
			s.value(p.name+"_cpu", "percent", p.after.cpu)
		}
		return nil
	}, nil
}

// again has a node that has ended by itself started anew, so that a probe can go on.
func (c *testCluster) again(ctx context.Context, err error) error {
	if err == nil || !passes(err) || ctx.Err() != nil {
		return err
	}
	return c.startNodes(ctx)
}

// openClusterNotOpen measures how long an engine that nobody has open takes to answer over HTTP, at any
// node, and how long the next answer takes there.
func openClusterNotOpen(ctx context.Context, r *room) (slice, error) {
	c, err := r.idleCluster(ctx)
	if err != nil {
		return nil, err
	}
	// Each slot gets its owner first, as in a cluster that has run for a while.
	var firsts []int
	var isOwned [jetstream.Slots]bool
	for _, k := range rand.Perm(c.n) {
		if slot := jetstream.SlotOf(storedName(k)); isOwned[slot] {
			c.closed = append(c.closed, k)
		} else {
			isOwned[slot], firsts = true, append(firsts, k)
		}
	}
	err = forEach(firsts, func(k int) error { return c.play(ctx, c.game(k), c.Nodes()) })
	return func(ctx context.Context, d time.Duration, s *sample) error {
		var again []int64
		for until := time.Now().Add(d); len(s.laps) == 0 || time.Now().Before(until); {
			if len(c.closed) == 0 {
				break // all of them are open
			}
			g, node := c.game(c.closed[0]), c.Nodes()[len(c.closed)%clusterSize]
			c.closed = c.closed[1:]
			first, err := c.lap(ctx, node, g)
			if err == nil {
				var second time.Duration
				if second, err = c.lap(ctx, node, g); err == nil {
					s.lap(first)
					again = append(again, int64(second))
				}
			}
			if err := c.again(ctx, err); err != nil {
				return err
			}
		}
		if slices.Sort(again); len(again) > 0 {
			s.value("again", "us", float64(quantile(again, 0.5))/1e3)
		}
		return nil
	}, err
}

// game returns the stored game of a number.
func (c *idleCluster) game(k int) *clusterGame {
	return &clusterGame{name: storedName(k), played: storedActions}
}

// lap plays the next action of a game at a node, and returns how long that took.
func (c *testCluster) lap(ctx context.Context, node string, g *clusterGame) (time.Duration, error) {
	began := time.Now()
	_, err := c.send(ctx, node, g.name, g.line())
	g.played++
	return time.Since(began), err
}

// openWrongNode measures an action at the node that has the engine, and in turn at another one.
func openWrongNode(ctx context.Context, r *room) (slice, error) {
	c, err := r.idleCluster(ctx)
	if err != nil {
		return nil, err
	}
	g := r.newGames(1)[0]
	if err := c.begin(ctx, g, c.Nodes()); err != nil {
		return nil, err
	}
	return func(ctx context.Context, d time.Duration, s *sample) error {
		// A node that was started again may have the game now.
		nodes, err := c.rightFirst(ctx, g)
		if err != nil {
			return err
		}
		var right []int64
		for p, until := time.Now().Add(d/10), time.Now().Add(d); len(s.laps) == 0 || time.Now().Before(until); {
			here, err := c.lap(ctx, nodes[0], g)
			if err == nil {
				var there time.Duration
				if there, err = c.lap(ctx, nodes[1], g); err == nil && time.Now().After(p) {
					right = append(right, int64(here))
					s.lap(there)
				}
			}
			if err != nil {
				if err := c.again(ctx, err); err != nil {
					return err
				}
				if nodes, err = c.rightFirst(ctx, g); err != nil {
					return err
				}
			}
		}
		wrong := slices.Sorted(slices.Values(s.laps))
		slices.Sort(right)
		s.value("right", "us", float64(quantile(right, 0.5))/1e3)
		s.value("added", "us", float64(quantile(wrong, 0.5)-quantile(right, 0.5))/1e3)
		return nil
	}, nil
}

// rightFirst returns the nodes, the one that has a game open first.
func (c *testCluster) rightFirst(ctx context.Context, g *clusterGame) ([]string, error) {
	for until := time.Now().Add(patience); ; {
		err := c.play(ctx, g, c.Nodes())
		for k, name := range c.Nodes() {
			if err != nil {
				break
			}
			var slots map[int]bool
			if slots, err = c.slotsOf(ctx, name); err == nil && slots[jetstream.SlotOf(g.name)] {
				return rotated(c.Nodes(), k), nil
			}
		}
		if err == nil {
			err = errors.New("no node has the game")
		}
		if time.Now().After(until) {
			return nil, err
		}
		if err := c.startNodes(ctx); err != nil {
			return nil, err
		}
	}
}
