package journal

import "slices"

// trim drops what the store does not keep of a journal. It is called when a base was installed.
func (m *memory) trim(j *memoryJournal) {
	if n := m.trimmed(j); n > 0 {
		j.past, j.isTrimmed = slices.Clone(j.past[n:]), true
	}
	oldest := j.oldest()
	j.keys = keptFrom(j.keys, func(k KeyRecord) bool { return k.Number > oldest.KeyNumber || j.canRead(k.Sequence) })
	j.batches = keptFrom(j.batches, func(b Batch) bool { return b.Last > oldest.Sequence })
}

// trimmed returns how many of the older bases are not to be kept, with the entries behind them.
func (m *memory) trimmed(j *memoryJournal) (n int) {
	if m.history.SinceBase {
		return len(j.past)
	}
	if bound := m.history.Bytes; bound > 0 {
		for kept := j.bytes(); n < len(j.past) && kept > bound; n++ {
			kept -= j.past[n].bytes()
		}
	}
	if age := m.history.Age.Milliseconds(); age > 0 {
		for n < len(j.past) && j.updated-j.storedBehind(n) >= age {
			n++
		}
	}
	return n
}

// storedBehind returns when the base behind the n-th of the past was stored. All that was appended
// before that base was stored by then.
func (j *memoryJournal) storedBehind(n int) int64 {
	if n+1 < len(j.past) {
		return j.past[n+1].stored
	}
	return j.stored
}

// canRead tells whether a part of the history can have the key records of a sequence: those that
// were appended with its entry or its marker, or before the first entry.
func (j *memoryJournal) canRead(sequence uint64) bool {
	oldest := j.oldest()
	return sequence > oldest.Sequence || sequence == oldest.Sequence && (oldest.IsMarker || !j.isTrimmed)
}

// keptFrom returns the list from the first item on that is to be kept. What it drops is not kept in
// memory.
func keptFrom[T any](list []T, isKept func(T) bool) []T {
	switch n := slices.IndexFunc(list, isKept); {
	case n < 0:
		return nil
	case n > 0:
		return slices.Clone(list[n:])
	}
	return list
}
