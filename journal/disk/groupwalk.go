package disk

import (
	"bytes"
	"errors"
	"slices"

	"hypertoken/journal"
)

// groupWalk reads the groups of an engine in order, and sees that none is missing. A loop over
// read goes through them.
type groupWalk struct {
	r *engineReader
	// next is the sequence of the first entry that is wanted, to that of the last one.
	next, to uint64

	// What read has found in one group: the entries that are wanted, their number, and the key
	// records that were stored with the group.
	entries []byte
	count   uint64
	group   groupRow
	err     error

	isStarted bool
}

// read goes on to the next group. It returns false at the end, and after an error.
func (w *groupWalk) read() bool {
	if w.err != nil {
		return false
	}
	before, isFirst := w.group, !w.isStarted
	if !w.move() {
		if w.err = errors.Join(w.err, w.r.it.Error()); w.err == nil && !isFirst && before.last() < w.to && w.to+1 != 0 {
			w.err = w.checkMarker()
		}
		return false
	}
	key := w.r.it.Key()
	g, err := readGroup(w.r.it.Value(), key)
	if err != nil {
		w.err = damagedRow(key, err)
		return false
	}
	if g.first-1 > w.to {
		return false
	}
	if err := w.checkPlace(key, &g, &before, isFirst); err != nil {
		if w.err = err; !isFirst {
			w.err = w.checkMarker()
		}
		return false
	}
	w.group = g
	w.err = damagedRow(key, w.cut())
	return w.err == nil
}

// move goes to the next row of a group.
func (w *groupWalk) move() bool {
	it, id := w.r.it, w.r.id
	ok := false
	switch {
	case w.isStarted:
		ok = it.Next()
	default:
		w.isStarted = true
		// The group that the first entry lies in may begin before it.
		start := appendGroupKey(nil, id, w.next, 0)
		if key := w.r.last(appendPart(nil, id, partGroup), start); key != nil {
			g, err := readGroup(it.Value(), key)
			if err != nil {
				w.err = damagedRow(key, err)
				return false
			}
			if g.last() >= w.next {
				return true
			}
		}
		ok = it.SeekGE(start)
	}
	return ok && bytes.HasPrefix(it.Key(), appendPart(nil, id, partGroup))
}

// checkMarker fails if no marker follows the group that was read last. If one does, the walk ends
// before it.
func (w *groupWalk) checkMarker() error {
	next, notes := w.group.behind()
	b, isMarker, err := w.r.marker(next)
	if err == nil && !isMarker || err == nil && b.notes != notes {
		err = damagedf(appendGroupKey(nil, w.r.id, next, notes), "the group is missing")
	}
	return err
}

// checkPlace fails if a group is not the one that follows the group before it.
func (w *groupWalk) checkPlace(key []byte, g, before *groupRow, isFirst bool) error {
	if isFirst {
		if g.first > w.next || g.first == w.next && g.notes != 0 {
			return damagedf(key, "the entries from %d on are missing before this group", w.next)
		}
		return nil
	}
	first, notes := before.behind()
	if g.first != first || g.notes != notes {
		return damagedf(key, "the group %d.%d is missing before this one", first, notes)
	}
	return nil
}

// cut sets entries and count to what is wanted of the group.
func (w *groupWalk) cut() error {
	g := &w.group
	w.entries, w.count = g.entries, g.actions
	if g.actions == 0 {
		return nil
	}
	skipped := uint64(0)
	if g.first < w.next {
		skipped = w.next - g.first
	}
	for range skipped {
		_, rest, err := journal.ReadEntry(w.entries)
		if err != nil {
			return err
		}
		w.entries = rest
	}
	w.count -= min(skipped, w.count)
	if last := g.last(); last > w.to {
		return w.keep(w.count - min(w.count, last-w.to))
	}
	return nil
}

// keep cuts the entries behind the first n off.
func (w *groupWalk) keep(n uint64) error {
	rest := w.entries
	for range n {
		_, after, err := journal.ReadEntry(rest)
		if err != nil {
			return err
		}
		rest = after
	}
	w.entries, w.count = w.entries[:len(w.entries)-len(rest)], n
	return nil
}

// checkKeyed fails if a key record of the group is not among those that were read. number is that
// of the newest one that is not expected there.
func (w *groupWalk) checkKeyed(recent []journal.KeyRecord, number uint64) error {
	for _, k := range w.group.keyed {
		if k.number <= number || k.sequence > w.to {
			continue
		}
		if _, isThere := slices.BinarySearchFunc(recent, k.number, compareNumber); !isThere {
			key := appendKeyedKey(nil, w.r.id, k.number)
			return damagedf(key, "a key record of the group %d is missing", w.group.first)
		}
	}
	return nil
}

func compareNumber(k journal.KeyRecord, number uint64) int {
	switch {
	case k.Number < number:
		return -1
	case k.Number > number:
		return 1
	}
	return 0
}
