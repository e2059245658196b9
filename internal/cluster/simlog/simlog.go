// Package simlog is a model of the log that a cluster stands on, for simulations: a stream with one
// sequence, writes on conditions, batches that are stored whole or not at all, removals without a
// condition, and replicas that lag.
//
// The model stores what it is told, at once and in one order. What gets lost, doubled or late on
// the way to it and back is up to the simulation.
package simlog

import "hypertoken/internal/cluster"

// Stored is a record with its sequence in the log.
type Stored[R any] struct {
	Sequence uint64
	Record   R
}

// State is what one replica has.
type State struct {
	// Last is the sequence of the last message.
	Last    uint64
	Owners  map[int]Stored[cluster.OwnerRecord]
	Members map[cluster.NodeID]Stored[cluster.MemberRecord]
	Target  Stored[cluster.Target]
	tails   map[int][]cluster.StoredTail
	engines map[string][]cluster.StoredEngine
}

func newState() *State {
	return &State{Owners: map[int]Stored[cluster.OwnerRecord]{},
		Members: map[cluster.NodeID]Stored[cluster.MemberRecord]{}, tails: map[int][]cluster.StoredTail{},
		engines: map[string][]cluster.StoredEngine{}}
}

// Tail returns the messages on a slot's subject, and the sequence of the replica's last message.
func (s *State) Tail(slot int) ([]cluster.StoredTail, uint64) {
	return append([]cluster.StoredTail(nil), s.tails[slot]...), s.Last
}

// Engine returns the messages on an engine's subject from where the newest base says, and the
// sequence of the replica's last message.
func (s *State) Engine(engine string) (list []cluster.StoredEngine, last uint64) {
	var base *cluster.StoredEngine
	from := uint64(0)
	for k := range s.engines[engine] {
		m := &s.engines[engine][k]
		if m.Entries[0].IsBase && (base == nil || m.Entries[0].After > base.Entries[0].After) {
			base, from = m, m.Sequence
			if m.From != 0 {
				from = m.From
			}
		}
	}
	for _, m := range s.engines[engine] {
		if m.Sequence >= from {
			list = append(list, m)
		}
	}
	return list, s.Last
}

// Log is the log: what its leader has stored, and replicas that have a part of that.
type Log struct {
	*State
	operations []func(*State)
	replicas   []*replica
}

type replica struct {
	*State
	applied int
}

// New returns an empty log with some replicas beside the leader.
func New(replicas int) *Log {
	l := &Log{State: newState()}
	for range replicas {
		l.replicas = append(l.replicas, &replica{State: newState()})
	}
	return l
}

// Replica returns what a replica has; 0 is the leader.
func (l *Log) Replica(k int) *State {
	if k == 0 {
		return l.State
	}
	return l.replicas[k-1].State
}

// CatchUp lets a replica apply up to n operations that it lacks.
func (l *Log) CatchUp(k, n int) {
	r := l.replicas[k-1]
	for ; n > 0 && r.applied < len(l.operations); n-- {
		l.operations[r.applied](r.State)
		r.applied++
	}
}

func (l *Log) apply(f func(*State)) {
	f(l.State)
	l.operations = append(l.operations, f)
}

// WriteOwner stores the owner record of a slot if the newest one has the sequence expected.
func (l *Log) WriteOwner(slot int, expected uint64, r cluster.OwnerRecord) (cluster.Answer, uint64) {
	if l.Owners[slot].Sequence != expected {
		return cluster.Refused, 0
	}
	l.apply(func(s *State) {
		s.Last++
		s.Owners[slot] = Stored[cluster.OwnerRecord]{s.Last, r}
	})
	return cluster.Stored, l.Last
}

// WriteMember stores a member record if the newest one of that node has the sequence expected.
func (l *Log) WriteMember(expected uint64, r cluster.MemberRecord) (cluster.Answer, uint64) {
	if l.Members[r.Node].Sequence != expected {
		return cluster.Refused, 0
	}
	l.apply(func(s *State) {
		s.Last++
		s.Members[r.Node] = Stored[cluster.MemberRecord]{s.Last, r}
	})
	return cluster.Stored, l.Last
}

// RemoveMember removes the record of a node if it is not newer than a sequence.
func (l *Log) RemoveMember(node cluster.NodeID, sequence uint64) {
	l.apply(func(s *State) {
		if s.Members[node].Sequence <= sequence {
			delete(s.Members, node)
		}
	})
}

// WriteTarget stores the target.
func (l *Log) WriteTarget(t cluster.Target) {
	l.apply(func(s *State) {
		s.Last++
		s.Target = Stored[cluster.Target]{s.Last, t}
	})
}

// StoreBatch stores a batch if all its conditions hold. It returns the sequence of the last
// message.
func (l *Log) StoreBatch(b *cluster.Batch) (cluster.Answer, uint64) {
	for k := range b.Parts {
		if p := &b.Parts[k]; p.Fence != 0 && l.Owners[p.Slot].Sequence != p.Fence {
			return cluster.Refused, 0
		}
	}
	l.apply(func(s *State) {
		for k := range b.Parts {
			p := &b.Parts[k]
			for _, m := range p.Engines {
				s.Last++
				stored := cluster.StoredEngine{Sequence: s.Last, EngineMessage: m}
				s.engines[m.Engine] = append(s.engines[m.Engine], stored)
			}
			s.Last++
			s.tails[p.Slot] = append(s.tails[p.Slot], cluster.StoredTail{Sequence: s.Last, TailMessage: p.Tail})
		}
	})
	return cluster.Stored, l.Last
}

// RemoveTail removes the messages of a slot's subject up to a sequence.
func (l *Log) RemoveTail(slot int, through uint64) {
	l.apply(func(s *State) {
		list := s.tails[slot]
		for len(list) > 0 && list[0].Sequence <= through {
			list = list[1:]
		}
		s.tails[slot] = list
	})
}

// TrimEngine removes the messages of an engine's subject before one.
func (l *Log) TrimEngine(engine string, before uint64) {
	l.apply(func(s *State) {
		list := s.engines[engine]
		for len(list) > 0 && list[0].Sequence < before {
			list = list[1:]
		}
		s.engines[engine] = list
	})
}
