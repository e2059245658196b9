package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// The store in memory has what a list of entries has, wherever a new base cuts it, and what it has
// handed out stays as it was.
func TestTheStoreInMemoryIsAList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := NewMemory().(*memory)
	owner := Owner{Number: 1}
	if err := m.install("e", owner, Base{}); err != nil {
		t.Fatal(err)
	}
	var entries [][]byte // those since base
	base := uint64(0)
	type seen struct{ now, then []byte }
	var handedOut []seen
	for range 3000 {
		switch k := r.IntN(20); {
		case k < 16:
			var group []Record
			for range 1 + r.IntN(40) {
				payload := make([]byte, r.IntN(200))
				a := AppendAction(nil, &Action{Now: r.Int64N(1 << 40)}, fmt.Sprint("type", r.IntN(1000)), payload)
				group = append(group, Record{Action: a, Checksum: r.Uint64()})
			}
			if err := m.append("e", owner, base+uint64(len(entries)), group); err != nil {
				t.Fatal(err)
			}
			for _, g := range group {
				entries = append(entries, AppendEntry(nil, g.Action, g.Checksum))
			}
		case k < 18:
			n := r.IntN(len(entries) + 1)
			base += uint64(n)
			entries = entries[n:]
			if err := m.install("e", owner, Base{Sequence: base}); err != nil {
				t.Fatal(err)
			}
		case k < 19:
			m.Load("e", owner, func(s *Stored, err error) {
				if err != nil || s.Sequence != base || s.Count != uint64(len(entries)) ||
					!bytes.Equal(s.Entries, bytes.Join(entries, nil)) {
					t.Fatalf("%d entries after %d, want %d after %d; %v", s.Count, s.Sequence, len(entries), base, err)
				}
				handedOut = append(handedOut, seen{s.Entries, bytes.Clone(s.Entries)})
			})
		default:
			if err := m.install("e", owner, Base{Sequence: base + uint64(len(entries)) + 1}); err == nil {
				t.Fatal("a base that the journal does not have is installed")
			}
		}
	}
	for _, s := range handedOut {
		if !bytes.Equal(s.now, s.then) {
			t.Fatal("entries that were handed out have changed")
		}
	}
	if len(handedOut) < 50 || base == 0 {
		t.Errorf("%d loads, the last base has %d", len(handedOut), base)
	}
}

func BenchmarkMemoryAppend(b *testing.B) {
	m := NewMemory().(*memory)
	owner := Owner{Number: 1}
	if err := m.install("e", owner, Base{}); err != nil {
		b.Fatal(err)
	}
	group := []Record{{Action: AppendAction(nil, &Action{Now: 1}, "stack:draw", make([]byte, 20))}}
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		m.Append("e", owner, n, group, Done{})
		if n%1000 == 999 {
			m.Install("e", owner, Base{Sequence: n + 1, Snapshot: true}, Done{})
		}
	}
}
