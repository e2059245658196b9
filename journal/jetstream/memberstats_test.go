package jetstream

import (
	"testing"
)

// A member that drains before it leaves has not died, one that says nothing has. Its slots are taken over.
func TestDeathsAreCounted(t *testing.T) {
	c := shared(t)
	name := newName()
	a, b, third := joinNode(t, c, name, "a"), joinNode(t, c, name, "b"), joinNode(t, c, name, "c")
	a.until(t, "all three", a.sees("a", "b", "c"))
	third.until(t, "all three", third.sees("a", "b", "c"))
	for _, m := range a.Living() {
		if m.Node == "" || m.Version != "1.2.3" || (m.Node == a.Node()) != (m.Address == "a") {
			t.Errorf("a member is %+v", m)
		}
	}
	if age, holds := a.Lease(); age < 0 || !holds && a.HoldsLease() {
		t.Errorf("the lease is %v old, it holds: %t", age, holds)
	}
	if age, holds := NewMembers(MemberOptions{}).Lease(); age >= 0 || holds {
		t.Errorf("before it has joined, the lease is %v old, it holds: %t", age, holds)
	}

	b.Drain()
	if err := b.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	a.until(t, "two", a.sees("a", "c"))
	if n := a.Deaths(); n != 0 {
		t.Errorf("%d deaths, and one member has left", n)
	}

	engine := ""
	for _, e := range namesIn(Slots, false) {
		if _, err := third.load(t, e); err == nil {
			engine = e
			break
		}
	}
	if engine == "" {
		t.Fatal("c may have no engine")
	}
	third.Close()
	a.until(t, "alone", a.sees("a"))
	if n := a.Deaths(); n != 1 {
		t.Errorf("%d deaths, want 1", n)
	}
	if _, err := a.load(t, engine); err != nil {
		t.Fatal(err)
	}
	if st := a.store.Stats(); st.SlotsTakenOver != 1 || st.Slots != 1 {
		t.Errorf("%d slots are taken over, it has %d, want 1 and 1", st.SlotsTakenOver, st.Slots)
	}
}
