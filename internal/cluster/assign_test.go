package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func members(n int) []MemberRecord {
	list := make([]MemberRecord, n)
	for k := range list {
		list[k] = MemberRecord{Node: NodeID(mix(uint64(k + 1))), Cores: []string{"a"}, Format: 1}
	}
	return list
}

func TestAssign(t *testing.T) {
	target := Target{Generation: 1, Core: "a", Format: 1}
	const slots = 256
	for n := 1; n <= 20; n++ {
		list := members(n)
		owners := Assign(slots, list, target)
		load := map[NodeID]int{}
		for _, node := range owners {
			load[node]++
		}
		share := (slots + n - 1) / n
		for node, has := range load {
			if node == nobody || has > share+share/8 {
				t.Errorf("%d members: %d has %d of %d slots", n, node, has, slots)
			}
		}
		shuffled := slices.Concat(list, list[:1])
		rand.New(rand.NewPCG(1, uint64(n))).Shuffle(len(shuffled), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		if !slices.Equal(owners, Assign(slots, shuffled, target)) {
			t.Errorf("%d members: the order of the members matters", n)
		}
		if n == 1 {
			continue
		}
		// One member fewer: its slots move, and few others.
		moved, had := 0, 0
		for slot, node := range Assign(slots, list[1:], target) {
			if node == list[0].Node {
				t.Fatalf("slot %d is assigned to a member that is gone", slot)
			}
			if owners[slot] == list[0].Node {
				had++
			} else if owners[slot] != node {
				moved++
			}
		}
		if moved > slots/4 {
			t.Errorf("%d members: one that had %d slots goes, and %d others move", n, had, moved)
		}
	}
}

func TestAssignLeavesOut(t *testing.T) {
	target := Target{Generation: 2, Core: "b", Format: 2}
	able := MemberRecord{Node: 1, Cores: []string{"a", "b"}, Format: 2}
	for _, test := range []struct {
		name  string
		other MemberRecord
	}{
		{"a member that is dead", MemberRecord{Node: 2, Cores: []string{"b"}, Format: 2, IsDead: true}},
		{"a member that is draining", MemberRecord{Node: 2, Cores: []string{"b"}, Format: 2, IsDraining: true}},
		{"a member without the core", MemberRecord{Node: 2, Cores: []string{"a"}, Format: 2}},
		{"a member that does not read the format", MemberRecord{Node: 2, Cores: []string{"b"}, Format: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for slot, node := range Assign(64, []MemberRecord{test.other, able}, target) {
				if node != 1 {
					t.Fatalf("slot %d is for %d", slot, node)
				}
			}
			for slot, node := range Assign(64, []MemberRecord{test.other}, target) {
				if node != nobody {
					t.Fatalf("slot %d is for %d, and nobody may have it", slot, node)
				}
			}
		})
	}
}

func TestWritableFormat(t *testing.T) {
	list := []MemberRecord{{Node: 1, Format: 3}, {Node: 2, Format: 2}, {Node: 3, Format: 1, IsDead: true}}
	if got := WritableFormat(list); got != 2 {
		t.Errorf("the writable format is %d, want 2", got)
	}
	if got := WritableFormat(nil); got != 0 {
		t.Errorf("the writable format of no members is %d", got)
	}
}
