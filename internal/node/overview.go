package node

import (
	"cmp"
	"context"
	"math"
	"slices"

	"hypertoken/internal/peers"
	"hypertoken/journal/jetstream"
)

// overview returns the cluster as this node sees it. What members and the lease are, the node knows; the
// store asks the servers for the rest, if it has not done so a moment ago.
func (n *Node) overview(ctx context.Context, hasOwners bool) peers.Overview {
	view := n.store.View(ctx)
	age, holds := n.members.Lease()
	o := peers.Overview{Self: n.address, Node: n.members.Node(), Lease: holds, Slots: len(n.members.Owned()),
		Members: []peers.Member{}, AskedAt: view.At, Streams: []peers.Stream{}}
	if age >= 0 {
		seconds := math.Round(age.Seconds()*1000) / 1000
		o.LeaseAge = &seconds
	}
	if t := n.members.Target(); t.Generation > 0 {
		o.Target = &peers.Target{Generation: t.Generation, Core: t.Core, InForce: t.InForce, Former: t.Former}
	}
	slots := map[string]int{} // by node
	for slot, owner := range view.Owners {
		if owner.Epoch == 0 {
			continue
		}
		node := jetstream.NodeOf(owner)
		slots[node]++
		if hasOwners {
			o.Owners = append(o.Owners,
				peers.SlotOwner{Slot: slot, Address: owner.Address, Node: node, Epoch: owner.Epoch})
		}
	}
	for _, m := range n.members.Living() {
		o.Members = append(o.Members, peers.Member{Address: m.Address, Node: m.Node, Draining: m.Draining,
			Slots: slots[m.Node], Version: m.Version, Cores: m.Cores, ABI: m.ABI, Client: m.Client})
	}
	slices.SortFunc(o.Members, func(a, b peers.Member) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Node, b.Node))
	})
	for k := range view.Streams {
		o.Streams = append(o.Streams, streamOf(&view.Streams[k]))
	}
	return o
}

func streamOf(s *jetstream.StreamState) peers.Stream {
	stream := peers.Stream{Name: s.Name, Leader: s.Leader, Messages: s.Messages, Bytes: s.Bytes,
		Replicas: []peers.Replica{}}
	if s.Err != nil {
		stream.Error = s.Err.Error()
	}
	for _, r := range s.Replicas {
		stream.Replicas = append(stream.Replicas, peers.Replica{Server: r.Server, Current: r.IsCurrent,
			Offline: r.IsOffline, Lag: r.Lag})
	}
	return stream
}
