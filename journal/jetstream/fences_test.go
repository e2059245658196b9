package jetstream

import (
	"errors"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/internal/cluster"
	"hypertoken/journal"
)

// testLease is a [Leaser] that allows all slots.
type testLease struct {
	claimAll
	holds atomic.Bool
}

func (l *testLease) HoldsLease() bool { return l.holds.Load() }

// A store answers a barrier from its lease as long as the lease holds. Without a lease, and with
// ReadsLog, the log is asked. Here another store has the slot by then, and the log says so.
func TestBarriersAndTheLease(t *testing.T) {
	for _, row := range []struct {
		name                 string
		holdsLease, readsLog bool
		want                 error
	}{
		{"the lease holds", true, false, nil},
		{"the lease is over", false, false, journal.ErrNotOwner},
		{"ReadsLog", true, true, journal.ErrNotOwner},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := shared(t).options(newName())
			lease := &testLease{}
			lease.holds.Store(true)
			o.Claims, o.ReadsLog = lease, row.readsLog
			a := client{t, openStore(t, o)}
			o.Claims, o.ReadsLog = nil, false
			b := client{t, openStore(t, o)}
			owner := ownerOf(1, 1)
			a.must(a.install("a", owner, setup()))
			a.must(a.barrier("a", owner))
			b.expect("a", ownerOf(2, 1))
			b.must(b.append("a", ownerOf(2, 1), 0, action(1)))
			lease.holds.Store(row.holdsLease)
			before := a.s.Stats().Batches
			if err := a.barrier("a", owner); !errors.Is(err, row.want) {
				t.Errorf("the barrier: %v, want %v", err, row.want)
			}
			if asked := a.s.Stats().Batches > before; asked != (row.want != nil) {
				t.Errorf("the log was asked: %t", asked)
			}
		})
	}
}

// A store does not know yet that another one has the slot. What it has in memory of the slot is old, and
// so is its tail. A load finds that out.
func TestALoadOfAFormerOwner(t *testing.T) {
	a, b := twoStores(t)
	names := namesIn(2, true)
	for _, name := range names {
		a.must(a.install(name, ownerOf(1, 1), setup()))
		a.must(a.append(name, ownerOf(1, 1), 0, action(1)))
		b.expect(name, ownerOf(2, 1), 1)
		b.must(b.append(name, ownerOf(2, 1), 1, action(2)))
		a.expect(name, ownerOf(1, 2), 1, 2)
		wantError(t, "an append of the former owner", b.append(name, ownerOf(2, 1), 2, action(3)), journal.ErrNotOwner)
	}
}

// A batch whose answer has not come may be stored. It is not sent again: a read decides. If it was sent
// again, and the servers refused that for too long, the append would fail and be stored all the same.
func TestWhatMayBeStoredIsNotSentAgain(t *testing.T) {
	o := shared(t).options(newName())
	o.AnswerTimeout, o.Patience = 150*time.Millisecond, 30*time.Second
	c, owner := client{t, openStore(t, o)}, ownerOf(1, 1)
	f := inject(c.s)
	// The store may send again what the servers say they have not stored.
	batches := func() int { return f.count() - int(c.s.Stats().Repeated) }
	c.must(c.install("a", owner, setup()))
	for n, call := range []func() error{
		func() error { return c.append("a", owner, 0, action(1)) },
		func() error {
			return c.install("a", owner, journal.Base{Sequence: 1, Snapshot: true, Data: []byte("1"), Core: "core"})
		},
		func() error { return c.install("a", owner, marker(2)) },
		func() error { return c.append("a", owner, 2, action(3)) },
		func() error { return c.delete("a") },
	} {
		f.add(answerIsLost)
		before := batches()
		c.must(call())
		// The first base takes two batches: one of them settles the group in the tail.
		want := 1
		if n == 1 {
			want = 2
		}
		if sent := batches() - before; sent != want {
			t.Errorf("call %d was sent in %d batches, want %d", n, sent, want)
		}
	}
}

// count returns how many batches the store has sent.
func (f *faults) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// A load waits for the append before it, whose batch is lost at first. It reports the append's action.
func TestALoadWaitsForTheAppendBeforeIt(t *testing.T) {
	s, f := quickStore(t)
	c, owner := client{t, s}, ownerOf(1, 1)
	c.must(c.install("a", owner, setup()))
	f.add(lostOnTheWay)
	before, ended := f.count(), make(chan error, 1)
	s.Append("a", owner, 0, []journal.Record{action(1)}, journal.DoneFunc(func(err error) { ended <- err }))
	f.waitFor(before + 1)
	c.expect("a", ownerOf(1, 2), 1)
	c.must(<-ended)
}

// What a member may claim. Only the member that should have a slot claims it, and only if its owner
// record names nobody, this member itself, or a member that is dead.
func TestMayClaim(t *testing.T) {
	const node, slot = "node-a", 7
	living, dead, stranger := OwnerRecord{Node: "node-b", Address: "b", Epoch: 3},
		OwnerRecord{Node: "node-c", Address: "c", Epoch: 3}, OwnerRecord{Node: "node-d", Address: "d", Epoch: 3}
	for _, row := range []struct {
		name       string
		present    OwnerRecord
		desired    string
		isLeaseOff bool
		want       error
		address    string // of the node that a MovedError names
	}{
		{"nobody's", OwnerRecord{}, node, false, nil, ""},
		{"its own", OwnerRecord{Node: node, Epoch: 3}, node, false, nil, ""},
		{"a dead member's", dead, node, false, nil, ""},
		{"a living member's", living, node, false, journal.ErrNotOwner, "b"},
		{"a member's of whom nothing is known", stranger, node, false, journal.ErrNotOwner, "d"},
		{"nobody's, for another one", OwnerRecord{}, "node-b", false, journal.ErrNotOwner, "b"},
		{"a dead member's, for another one", dead, "node-b", false, journal.ErrNotOwner, "b"},
		{"nobody's, for a dead member", OwnerRecord{}, "node-c", false, journal.ErrUnavailable, ""},
		{"nobody's, without a lease", OwnerRecord{}, node, true, journal.ErrUnavailable, ""},
		{"a dead member's, without a lease", dead, node, true, journal.ErrUnavailable, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := NewMembers(MemberOptions{})
			m.id = idOf(node)
			m.clock = func() time.Duration { return time.Minute }
			m.living = []cluster.MemberRecord{{Node: idOf(node), Address: "a"}, {Node: idOf("node-b"), Address: "b"}}
			m.dead = map[cluster.NodeID]bool{idOf("node-c"): true}
			m.desired[slot] = idOf(row.desired)
			m.leaseEnds.Store(int64(time.Minute + 1))
			if row.isLeaseOff {
				m.leaseEnds.Store(int64(time.Minute))
			}
			err := m.MayClaim(slot, row.present)
			if !errors.Is(err, row.want) {
				t.Fatalf("%v, want %v", err, row.want)
			}
			var moved *MovedError
			if errors.As(err, &moved) != (row.address != "") || moved != nil && moved.Owner.Address != row.address {
				t.Errorf("%v, want the address %q", err, row.address)
			}
		})
	}
}

// A write of a member record that arrives late is refused: the record is another one by then. So a
// verdict does not hit a member that has renewed its lease, and a dead member can't renew it.
func TestALateMemberRecordIsRefused(t *testing.T) {
	n := joinNode(t, shared(t), newName(), "a")
	c, subject := n.conn.Load(), n.store.layout.memberSubject(nodeToken(n.id))
	sent := make(chan *nats.Msg, 100)
	seam := func(m *nats.Msg) error {
		if m.Subject == subject {
			select {
			case sent <- &nats.Msg{Subject: m.Subject, Data: m.Data, Header: maps.Clone(m.Header)}:
			default: // nobody waits for it any more
			}
		}
		return c.nc.PublishMsg(m)
	}
	c.seam.Store(&seam)
	late := <-sent
	// Once a renewal names another record, the one that it replaces is stored.
	for condition := late.Header.Get(headerExpected); condition != ""; {
		if m := <-sent; m.Header.Get(headerExpected) != condition {
			break
		}
	}
	_, err := c.write(t.Context(), late, time.Minute)
	for outcomeOf(err) == isBusy { // the next renewal is being stored
		_, err = c.write(t.Context(), late, time.Minute)
	}
	if outcomeOf(err) != isFenced {
		t.Errorf("a renewal that arrives late: %v", err)
	}
}
