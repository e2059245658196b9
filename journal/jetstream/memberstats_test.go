package jetstream

import (
	"testing"
	"time"

	"hypertoken/internal/cluster"
)

// A member that drains before it leaves has not died, one that says nothing has.
func TestDeathsAreCounted(t *testing.T) {
	m := NewMembers(MemberOptions{})
	m.id = 1
	m.machine = cluster.NewMember(&m.config, cluster.MemberRecord{Node: m.id, Address: "a"})
	see := func(node cluster.NodeID, sequence uint64, isDraining, isDead bool) {
		r := cluster.MemberRecord{Node: node, IsDraining: isDraining, IsDead: isDead, Version: "1.2.3",
			Client: "http://a:1"}
		m.step(t.Context(), func() { m.machine.Seen(r, sequence, m.clock()) })
	}
	expect := func(living int, deaths uint64) {
		t.Helper()
		if len(m.Living()) != living || m.Deaths() != deaths {
			t.Errorf("%d live and %d have died, want %d and %d", len(m.Living()), m.Deaths(), living, deaths)
		}
	}
	see(2, 1, false, false)
	see(3, 2, false, false)
	see(4, 3, false, true) // dead before this node watched
	expect(2, 0)
	if got := m.Living()[0]; got.Node != nodeToken(2) || got.Version != "1.2.3" || got.Client != "http://a:1" {
		t.Errorf("a member is %+v", got)
	}
	see(2, 5, true, true) // nobody has seen it drain
	expect(1, 0)
	see(3, 6, false, true)
	see(3, 6, false, true)
	expect(0, 1)
}

func TestLease(t *testing.T) {
	m := NewMembers(MemberOptions{})
	now := time.Hour
	m.clock = func() time.Duration { return now }
	for _, row := range []struct {
		ends, age time.Duration
		holds     bool
	}{
		{0, -1, false},
		{now + m.config.Lease, 0, true},
		{now + 1, m.config.Lease - 1, true},
		{now, m.config.Lease, false},
		{now - time.Second, m.config.Lease + time.Second, false},
	} {
		m.leaseEnds.Store(int64(row.ends))
		if age, holds := m.Lease(); age != row.age || holds != row.holds {
			t.Errorf("a lease that ends at %v: %v old, it holds: %t", row.ends, age, holds)
		}
	}
}

// A slot that another store had before is taken over, a new one is not.
func TestTakeoversAreCounted(t *testing.T) {
	name := newName()
	first, second := openStore(t, shared(t).options(name)), openStore(t, shared(t).options(name))
	c := client{t, first}
	c.must(c.install("a", ownerOf(1, 1), setup()))
	if _, err := (client{t, second}).load("a", ownerOf(1, 2)); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*Store]uint64{first: 0, second: 1} {
		if st := s.Stats(); st.SlotsTakenOver != want || st.SlotsAcquired != 1 {
			t.Errorf("%d of %d slots are taken over, want %d of 1", st.SlotsTakenOver, st.SlotsAcquired, want)
		}
	}
}
