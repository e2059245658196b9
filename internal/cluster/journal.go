package cluster

import (
	"bytes"
	"cmp"
	"slices"
)

// Journal is what the log has of an engine, put together from its subject and the slot's tail.
type Journal struct {
	// Base is the newest base. Base.IsBase is false if there is none.
	Base Entry
	// Groups are those after the base, in order and without gaps. Sequence is that of the last
	// record.
	Groups   []Entry
	Sequence uint64
	// Generation is that of the newest core that the journal names, Epoch that of the last tenure
	// that wrote it.
	Generation, Epoch uint64
}

// assemble puts a journal together from what an engine's subject has, and from the engine's groups
// in the slot's tail. A group may be in both, or twice in one: a message may have come to the log
// twice, and a settled group is removed from the tail later. It returns false if a group is
// missing, or if two do not fit together.
func assemble(subject []StoredEngine, tail []Entry) (j Journal, ok bool) {
	for k := range subject {
		for _, e := range subject[k].Entries {
			j.Epoch = max(j.Epoch, e.Epoch)
			if e.IsBase && (!j.Base.IsBase || e.After >= j.Base.After) {
				j.Base = e
			}
		}
	}
	j.Sequence, j.Generation = j.Base.After, j.Base.Generation
	for k := range subject {
		for _, e := range subject[k].Entries {
			if !e.IsBase && !j.add(e) {
				return j, false
			}
		}
	}
	for _, e := range tail {
		j.Epoch = max(j.Epoch, e.Epoch)
		if !j.add(e) {
			return j, false
		}
	}
	return j, true
}

// add takes in the next group. A group that is there already has to be the same.
func (j *Journal) add(e Entry) bool {
	if e.end() <= j.Base.After {
		return true
	}
	if e.end() <= j.Sequence {
		k, ok := slices.BinarySearchFunc(j.Groups, e.After, func(g Entry, after uint64) int {
			return cmp.Compare(g.After, after)
		})
		return ok && j.Groups[k].Count == e.Count && bytes.Equal(j.Groups[k].Data, e.Data)
	}
	if e.After != j.Sequence {
		return false
	}
	j.Groups = append(j.Groups, e)
	j.Sequence, j.Generation = e.end(), max(j.Generation, e.Generation)
	return true
}

// entriesOf returns the entries that a tail has of one engine.
func entriesOf(tail []StoredTail, engine string) (list []Entry) {
	for k := range tail {
		for _, e := range tail[k].Entries {
			if e.Engine == engine {
				list = append(list, e)
			}
		}
	}
	return list
}

// settledBy returns how far a tail is settled, as its messages say.
func settledBy(tail []StoredTail) (through uint64) {
	for k := range tail {
		through = max(through, tail[k].Settled)
	}
	return through
}

// Reading reads the journal of an engine on a node that does not own the slot. It reads the slot's
// tail, then the engine's subject: a group that was settled between the two is on the subject.
type Reading struct {
	engine string
	tail   []Entry
	// seen is how far the replica was that the tail came from. 0 until the tail was read.
	seen uint64
}

// NewReading returns a reading that has to begin with the slot's tail.
func NewReading(engine string) *Reading { return &Reading{engine: engine} }

// TailRead takes in the slot's tail, from a replica that was as far as seen. The subject is read
// next.
func (r *Reading) TailRead(tail []StoredTail, seen uint64) {
	r.tail, r.seen = slices.Clone(entriesOf(tail, r.engine)), seen
}

// EngineRead takes in the engine's subject, from a replica that was as far as seen. It returns
// false if that replica was behind the one of the tail: then the subject has to be read again.
func (r *Reading) EngineRead(subject []StoredEngine, seen uint64) (result Result, ok bool) {
	if seen < r.seen {
		return Result{}, false
	}
	j, ok := assemble(subject, r.tail)
	if !ok {
		return Result{Outcome: Damaged}, true
	}
	return Result{Journal: j}, true
}
