//go:build !windows

package jetstream

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// kills is for a longer look than CI takes.
var kills = flag.Int("kills", 1, "kill NATS servers so many times as often; from 2 on, with all rules of the suite")

// player appends to one engine as a host does: if it is not told what became of an append, it loads
// the journal as a new owner, and goes on from what is there.
type player struct {
	c     client
	name  string
	host  byte
	owner uint64
	// acknowledged are the actions that were reported as stored, in order.
	acknowledged []int
	// known is how many these are, for other goroutines.
	known   atomic.Int64
	next    int
	unknown map[int]bool
}

func (p *player) by() journal.Owner { return ownerOf(p.host, p.owner) }

// play appends until isOver is set.
func (p *player) play(isOver *atomic.Bool, r *rand.Rand, progress *atomic.Int64) error {
	stored, err := p.reload()
	if err != nil {
		return err
	}
	newest := stored.Sequence + stored.Count
	for !isOver.Load() {
		var group []journal.Record
		first := p.next
		for range 1 + r.IntN(3) {
			group = append(group, action(p.next))
			p.next++
		}
		err := p.c.append(p.name, p.by(), newest, group...)
		if err == nil {
			for k := range group {
				p.acknowledged = append(p.acknowledged, first+k)
			}
			newest += uint64(len(group))
			p.known.Store(int64(len(p.acknowledged)))
			progress.Add(1)
			continue
		}
		for k := range group {
			p.unknown[first+k] = !errors.Is(err, journal.ErrRefused) && !errors.Is(err, journal.ErrUnavailable)
		}
		if stored, err = p.reload(); err != nil {
			return err
		}
		newest = stored.Sequence + stored.Count
	}
	return nil
}

// reload takes a new owner, until the store answers.
func (p *player) reload() (*journal.Stored, error) {
	for {
		p.owner++
		stored, err := p.c.load(p.name, p.by())
		if err == nil && stored == nil {
			err = fmt.Errorf("the engine %q is gone", p.name)
		}
		if err == nil || !errors.Is(err, journal.ErrUnavailable) {
			return stored, err
		}
	}
}

// check compares the journal with what the player was told.
func (p *player) check(t *testing.T) {
	t.Helper()
	stored, err := p.reload()
	if err != nil {
		t.Error(err)
		return
	}
	got, next := numbersOf(t, stored.Entries), 0
	for k, n := range got {
		switch {
		case k > 0 && n <= got[k-1]:
			t.Errorf("%s: the action %d follows %d", p.name, n, got[k-1])
		case next < len(p.acknowledged) && n == p.acknowledged[next]:
			next++
		case !p.unknown[n]:
			t.Errorf("%s: the action %d is there, and was refused", p.name, n)
		}
	}
	if next < len(p.acknowledged) {
		t.Errorf("%s: the action %d was acknowledged, and is not there", p.name, p.acknowledged[next])
	}
	checkChain(t, p.c.s, p.name)
}

// TestKilledServers kills, stops and restarts NATS servers while engines append, and checks that each
// caller was told the truth.
func TestKilledServers(t *testing.T) {
	c := startServers(t, deep(1, 3), nil)
	o := c.options(newName())
	o.AnswerTimeout = 500 * time.Millisecond
	s := openStore(t, o)
	cl := client{t, s}
	var progress atomic.Int64
	var players []*player
	for k, name := range append(namesIn(deep(6, 12), false), "same1", "same2") {
		cl.must(cl.install(name, ownerOf(byte(k), 1), setup()))
		players = append(players, &player{c: cl, name: name, host: byte(k), owner: 1, unknown: map[int]bool{}})
	}
	ended := make(chan error, len(players))
	var isOver atomic.Bool
	for k, p := range players {
		go func() { ended <- p.play(&isOver, rand.New(rand.NewPCG(1, uint64(k))), &progress) }()
	}
	hurtServers(t, c, &progress, deep(3, 5)**kills)
	waitForProgress(t, &progress, 40)
	isOver.Store(true)
	for range players {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, p := range players {
		p.check(t)
	}
	t.Logf("%d appends; %+v", progress.Load(), s.Stats())
}

// hurtServers hurts one server after the other, each time once there has been progress since.
func hurtServers(t *testing.T, c *servers, progress *atomic.Int64, times int) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 8))
	for k := range times {
		waitForProgress(t, progress, 40)
		victim := c.list[r.IntN(len(c.list))]
		if k%3 == 1 {
			// It stands still for longer than a write is waited for: not dead, and late.
			if err := victim.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			waitForDoubts(t, 1500*time.Millisecond)
			if err := victim.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			continue
		}
		c.kill(victim)
		if err := c.start(victim); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.list) > 1 { // all at once
		waitForProgress(t, progress, 40)
		for _, s := range c.list {
			c.kill(s)
		}
		if err := c.startAll(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSlotsGivenWhileServersAreKilled gives slots to and fro while servers are killed and started again.
func TestSlotsGivenWhileServersAreKilled(t *testing.T) {
	c := startServers(t, deep(1, 3), nil)
	o := c.options(newName())
	o.AnswerTimeout = 500 * time.Millisecond
	a, b := client{t, openStore(t, o)}, client{t, openStore(t, o)}
	var sender atomic.Pointer[Store]
	sender.Store(a.s)
	var killed atomic.Int64
	isOver, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		r := rand.New(rand.NewPCG(9, 10))
		for waitForBatches(&sender, 40, isOver) {
			victim := c.list[r.IntN(len(c.list))]
			c.kill(victim)
			if err := c.start(victim); err != nil {
				ended <- err
				return
			}
			killed.Add(1)
		}
		ended <- nil
	}()
	giveToAndFro(t, a, b, namesIn(deep(3, 8), false), func(uint64) bool {
		return killed.Load() >= int64(deep(3, 10)**kills) || len(ended) > 0
	})
	close(isOver)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// waitForDoubts is for how long a server stands still. That time is the fault itself, and no test waits
// for something to happen in it.
func waitForDoubts(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
}

// waitForProgress waits until so many more appends were acknowledged.
func waitForProgress(t *testing.T, progress *atomic.Int64, n int64) {
	t.Helper()
	goal := progress.Load() + n
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	last, since := progress.Load(), time.Now()
	for progress.Load() < goal {
		if now := progress.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > 2*time.Minute {
			t.Fatalf("no append was acknowledged for two minutes, after %d", last)
		}
		<-ticker.C
	}
}

// TestTheSuiteWithKilledServers runs the suite while servers are killed by SIGKILL and started again.
// Calls take longer then, and end as if nothing had happened. One server has a few of the rules.
func TestTheSuiteWithKilledServers(t *testing.T) {
	c := startServers(t, deep(1, 3), nil)
	var current atomic.Pointer[Store]
	isOver, killed, ended := make(chan struct{}), 0, make(chan error, 1)
	go func() {
		r := rand.New(rand.NewPCG(3, 4))
		for {
			if !waitForBatches(&current, uint64(max(1, deep(60, 250) / *kills)), isOver) {
				ended <- nil
				return
			}
			victim := c.list[r.IntN(len(c.list))]
			c.kill(victim)
			killed++
			if err := c.start(victim); err != nil {
				ended <- err
				return
			}
		}
	}()
	// These take longest. TestTheSuite runs them on three servers that nobody kills.
	long := []string{"markers and batches are in the past", "an install that arrives late"}
	quick := []string{"a journal is a list", "an append that arrives late", "owners who compete", "groups are whole"}
	for _, rule := range journaltest.Rules() {
		isQuick := slices.Contains(quick, rule.Name)
		isLong := slices.Contains(long, rule.Name) && *kills == 1
		// An orderly end with servers that are gone is an error of Close.
		if rule.Name == "the store is closed under load" || isLong || deep(0, 1) == 0 && !isQuick {
			continue
		}
		t.Run(rule.Name, func(t *testing.T) {
			o := c.options(newName())
			o.AnswerTimeout, o.Patience = 500*time.Millisecond, 28*time.Second
			s := openStore(t, o)
			current.Store(s)
			rule.Check(t, s)
		})
	}
	close(isOver)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	t.Logf("%d servers were killed", killed)
}

// waitForBatches waits until the store has sent so many more batches, or is another one. It returns
// false if isOver is closed first.
func waitForBatches(current *atomic.Pointer[Store], n uint64, isOver <-chan struct{}) bool {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	var s *Store
	goal := uint64(0)
	for {
		if now := current.Load(); now != s {
			s, goal = now, now.Stats().Batches+n
		}
		if s != nil && s.Stats().Batches >= goal {
			return true
		}
		select {
		case <-ticker.C:
		case <-isOver:
			return false
		}
	}
}
