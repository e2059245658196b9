package jetstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/internal/cluster"
	"hypertoken/journal"
)

// node is a member of a cluster with its store.
type node struct {
	*Members
	store   *Store
	changed chan struct{}
}

// joinNode opens a store whose slots are those of a member, and joins.
func joinNode(t *testing.T, c *servers, name, address string) *node {
	t.Helper()
	return joinNodeWith(t, c, name, address, func(*Members) {})
}

// joinNodeWith does the same, and calls change before the node joins.
func joinNodeWith(t *testing.T, c *servers, name, address string, change func(*Members)) *node {
	t.Helper()
	n := &node{changed: make(chan struct{}, 1)}
	n.Members = NewMembers(MemberOptions{Address: address, Cores: []string{"core"}, Format: 1, Changed: func() {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}})
	change(n.Members)
	o := c.options(name)
	o.Claims, o.Address = n.Members, address
	n.store = openStore(t, o)
	if err := n.MayClaim(0, OwnerRecord{}); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("before it has joined: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Join(ctx, n.store); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// until waits until a condition holds that can change only when a member does.
func (n *node) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		select {
		case <-n.changed:
		case <-time.After(time.Minute):
			t.Fatalf("after a minute: not %s; %+v", what, n.Living())
		}
	}
}

func (n *node) sees(addresses ...string) func() bool {
	return func() bool {
		var list []string
		for _, m := range n.Living() {
			list = append(list, m.Address)
		}
		slices.Sort(list)
		return slices.Equal(list, addresses)
	}
}

// load loads a journal. It tries again while nobody may have its slot.
func (n *node) load(t *testing.T, name string) (*journal.Stored, error) {
	t.Helper()
	for {
		stored, err := client{t, n.store}.load(name, ownerOf(1, 1))
		if !errors.Is(err, journal.ErrUnavailable) {
			return stored, err
		}
	}
}

// Each slot belongs to one member. When that dies, another one has it, with all that was stored. A
// member that leaves gives its slots up at once.
func TestMembersTakeOver(t *testing.T) {
	c := shared(t)
	name := newName()
	a, b := joinNode(t, c, name, "a"), joinNode(t, c, name, "b")
	third := joinNode(t, c, name, "c")
	for _, n := range []*node{a, b, third} {
		n.until(t, "all three", n.sees("a", "b", "c"))
	}
	// Each engine belongs to one of them, and the others say to which.
	owners := map[string]string{}
	for _, engine := range namesIn(40, false) {
		for _, n := range []*node{a, b, third} {
			_, err := n.load(t, engine)
			var moved *MovedError
			if err == nil {
				if owners[engine] != "" {
					t.Fatalf("%s: %s and %s have it", engine, owners[engine], n.o.Address)
				}
				owners[engine] = n.o.Address
				c := client{t, n.store}
				c.must(c.install(engine, ownerOf(1, 1), setup()))
				c.must(c.append(engine, ownerOf(1, 1), 0, action(1)))
			} else if !errors.As(err, &moved) {
				t.Fatal(err)
			}
		}
		if owners[engine] == "" {
			t.Fatalf("nobody has %s", engine)
		}
	}
	// It dies without a word: its store answers nothing, its record stands still.
	third.Close()
	a.until(t, "two", a.sees("a", "b"))
	if third.HoldsLease() {
		t.Error("it was declared dead in its lease")
	}
	b.until(t, "two", b.sees("a", "b"))
	taken := 0
	for engine, address := range owners {
		for _, n := range []*node{a, b} {
			stored, err := n.load(t, engine)
			var moved *MovedError
			switch {
			case err == nil:
				if got := numbersOf(t, stored.Entries); !slices.Equal(got, []int{1}) {
					t.Errorf("%s has the actions %v, want 1", engine, got)
				}
				if address == "c" {
					taken++
				}
			case !errors.As(err, &moved):
				t.Fatal(err)
			case moved.Owner.Address == "c":
				t.Errorf("%s is still said to be with the dead member", engine)
			}
		}
	}
	dead := 0
	for _, address := range owners {
		if address == "c" {
			dead++
		}
	}
	if taken != dead || dead == 0 {
		t.Errorf("%d of %d engines were taken over", taken, dead)
	}
	b.Drain()
	a.until(t, "b drains", func() bool {
		return slices.ContainsFunc(a.Living(), func(m Member) bool { return m.Address == "b" && m.Draining })
	})
	if err := b.store.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	<-b.Ended()
	newest, err := a.conn.Load().lastAtLeader(t.Context(), a.store.layout.memberStream(),
		a.store.layout.memberSubject(nodeToken(b.id)), time.Minute)
	if err != nil || newest == nil {
		t.Fatal(newest, err)
	}
	if r, err := a.parse(*newest); err != nil || !r.IsDead {
		t.Errorf("b has left, and its record is %+v, %v", r, err)
	}
	a.until(t, "alone", a.sees("a"))
	for engine := range owners {
		if _, err := a.load(t, engine); err != nil {
			t.Errorf("%s: %v", engine, err)
		}
	}
}

// hasRecord reports whether the log has a record of a node.
func (n *node) hasRecord(t *testing.T, other *node) bool {
	t.Helper()
	subject := n.store.layout.memberSubject(nodeToken(other.id))
	newest, err := n.conn.Load().lastAtLeader(t.Context(), n.store.layout.memberStream(), subject, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return newest != nil
}

// The verdict on a dead member stays as long as an owner record names it, and then it is removed. Members
// forget it, also if they are more than a replica sends at once.
func TestVerdictsAreRemoved(t *testing.T) {
	c := shared(t)
	name := newName()
	quick := func(m *Members) { m.config.RemoveAfter = 100 * time.Millisecond }
	a := joinNodeWith(t, c, name, "a", quick)
	b := joinNodeWith(t, c, name, "b", quick)
	a.until(t, "two", a.sees("a", "b"))
	b.until(t, "two", b.sees("a", "b"))
	engine := ""
	for _, e := range namesIn(40, false) {
		if _, err := b.load(t, e); err == nil {
			engine = e
			cl := client{t, b.store}
			cl.must(cl.install(engine, ownerOf(1, 1), setup()))
			break
		}
	}
	cl := client{t, a.store}
	cl.waitFor("b has renewed its record", func() bool {
		newest, err := a.conn.Load().lastAtLeader(t.Context(), a.store.layout.memberStream(),
			a.store.layout.memberSubject(nodeToken(b.id)), time.Minute)
		cl.must(err)
		r, err := a.parse(*newest)
		cl.must(err)
		return r.IsConfirmed
	})
	b.Close()
	a.until(t, "alone", a.sees("a"))
	// Others died before: in the deep form more than can be read at once.
	many := deep(20, 1100)
	var writers sync.WaitGroup
	window := make(chan struct{}, 100)
	for k := range many {
		window <- struct{}{}
		writers.Go(func() {
			text := `{"address":"x","renewal":2,"dead":true,"confirmed":true,"format":1}`
			m := nats.NewMsg(a.store.layout.memberSubject(nodeToken(cluster.NodeID(1<<62 + k))))
			m.Data = []byte(text)
			if _, err := a.store.conn.write(t.Context(), m, time.Minute); err != nil {
				t.Error(err)
			}
			<-window
		})
	}
	writers.Wait()
	cl.waitFor("the others are removed", func() bool {
		found, err := a.store.subjects(t.Context(), a.store.layout.memberStream(), a.store.layout.memberSubject("*"))
		cl.must(err)
		return len(found) == 2
	})
	if !a.hasRecord(t, b) {
		t.Fatal("the verdict is removed, and an owner record names b")
	}
	if _, err := a.load(t, engine); err != nil {
		t.Fatal(err)
	}
	cl.waitFor("the verdict on b is removed", func() bool { return !a.hasRecord(t, b) })
	cl.waitFor("b is forgotten", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.machine.Dead()) == 0
	})
}

// An owner record names a node of which there is no record: the verdict on it was removed, or the stream of
// members is a new one. It is declared dead, and its slot is claimed.
func TestASlotOfANodeWithoutARecord(t *testing.T) {
	c := shared(t)
	name := newName()
	a := joinNode(t, c, name, "a")
	st := a.store.streams[0]
	cl := client{t, a.store}
	engine := namesIn(1, false)[0]
	slot := SlotOf(engine)
	_, err := st.writeOwner(t.Context(), slot, 0, OwnerRecord{Node: "gone", Address: "nowhere", Epoch: 1})
	cl.must(err)
	_, err = a.load(t, engine)
	var moved *MovedError
	if !errors.As(err, &moved) {
		t.Fatalf("a load before the verdict: %v", err)
	}
	cl.waitFor("the slot is claimed", func() bool {
		_, err := a.load(t, engine)
		if err != nil && !errors.As(err, &moved) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// A node that stood still for longer than its lease has lost it, and learns that it is dead.
func TestAMemberThatStoodStillIsDead(t *testing.T) {
	c := shared(t)
	name := newName()
	a, b := joinNode(t, c, name, "a"), joinNode(t, c, name, "b")
	a.until(t, "two", a.sees("a", "b"))
	b.mu.Lock() // as if the process was paused: no machine takes a step
	a.until(t, "alone", a.sees("a"))
	if b.HoldsLease() {
		t.Error("it is dead, and has a lease")
	}
	b.mu.Unlock()
	<-b.Ended()
	if err := b.MayClaim(0, OwnerRecord{}); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("a dead member claims: %v", err)
	}
}

// The death of a NATS server kills no member, and leases hold again afterwards.
func TestMembersOutliveAServer(t *testing.T) {
	c := startServers(t, 3, nil)
	name := newName()
	var all []*node
	for _, address := range []string{"a", "b", "c"} {
		all = append(all, joinNode(t, c, name, address))
	}
	for _, n := range all {
		n.until(t, "all three", n.sees("a", "b", "c"))
	}
	var renewed sync.WaitGroup
	c.kill(c.list[0])
	for _, n := range all {
		renewed.Go(func() {
			// The lease was renewed after the death.
			for at := n.clock(); time.Duration(n.leaseEnds.Load()) < at+n.config.Lease; {
				select {
				case <-n.Ended():
					t.Error(n.o.Address, "was declared dead")
					return
				case <-t.Context().Done():
					return
				case <-time.After(memberTick):
				}
			}
		})
	}
	renewed.Wait()
	for _, n := range all {
		if !n.sees("a", "b", "c")() {
			t.Errorf("%s sees %+v", n.o.Address, n.Living())
		}
	}
}
