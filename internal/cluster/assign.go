package cluster

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// nobody is what Assign gives for a slot that no member may have.
const nobody NodeID = 0

// SlotOf returns the slot of an engine.
func SlotOf(engine string, slots int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(engine))
	return int(mix(h.Sum64()) % uint64(slots))
}

// Assign says which member should have each slot: the one with the highest weight for the slot,
// among those that have room. Members that are dead or draining, lack the core of the target, or do
// not read the format get none. A member gets at most an eighth more than its share.
//
// The result depends on the members alone, not on their order, so that all nodes come to the same
// one. If a member comes or goes, few slots change their member beside those that it has. The
// element of a slot is 0 if no member may have it.
func Assign(slots int, members []MemberRecord, target Target) []NodeID {
	var able []NodeID
	for k := range members {
		if members[k].mayOwn(target) {
			able = append(able, members[k].Node)
		}
	}
	owners := make([]NodeID, slots)
	if len(able) == 0 {
		return owners
	}
	slices.Sort(able)
	able = slices.Compact(able)
	share := (slots + len(able) - 1) / len(able)
	most := share + share/8
	type choice struct {
		slot   int
		node   NodeID
		weight uint64
	}
	choices := make([]choice, 0, slots*len(able))
	for slot := range slots {
		for _, node := range able {
			choices = append(choices, choice{slot, node, weight(slot, node)})
		}
	}
	// The heaviest choices come first, over all slots. So a slot that loses its first choice for
	// want of room is one that had the least weight there.
	slices.SortFunc(choices, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.slot, b.slot), cmp.Compare(a.node, b.node))
	})
	load := map[NodeID]int{}
	for _, c := range choices {
		if owners[c.slot] == nobody && load[c.node] < most {
			owners[c.slot] = c.node
			load[c.node]++
		}
	}
	return owners
}

// mayOwn reports whether the member may have slots.
func (r *MemberRecord) mayOwn(target Target) bool {
	hasCore := target.Core == "" || slices.Contains(r.Cores, target.Core)
	return !r.IsDead && !r.IsDraining && hasCore && r.Format >= target.Format
}

// WritableFormat returns the newest format of journals that all living members read: nothing newer
// may be written. It returns 0 if there are no members.
func WritableFormat(members []MemberRecord) int {
	format := 0
	for k := range members {
		if !members[k].IsDead && (format == 0 || members[k].Format < format) {
			format = members[k].Format
		}
	}
	return format
}

// weight is the finalizer of MurmurHash3 over the slot and the node, in two rounds.
func weight(slot int, node NodeID) uint64 {
	return mix(mix(uint64(node)) ^ (uint64(slot)+1)*0x9e3779b97f4a7c15)
}

func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
