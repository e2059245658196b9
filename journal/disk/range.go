package disk

import (
	"bytes"
	"errors"
	"fmt"

	"hypertoken/journal"
)

// part reads entries from a sequence on, as many as take about limit bytes.
func (r *engineReader) part(from uint64, limit int) (p journal.Part, err error) {
	if err := r.start(); err != nil {
		return p, err
	}
	newest, err := r.newest()
	if err != nil {
		return p, err
	}
	p.First = from
	switch {
	case from == newest+1:
		return p, nil
	case from > newest || from == 0:
		return p, journal.Refused("the sequence %d is not one of the journal's, 1 to %d", from, newest)
	}
	// All entries behind the oldest base are kept.
	if oldest := r.oldestBase(); from <= oldest {
		return journal.Part{}, fmt.Errorf("the entry %d, the oldest one is %d: %w", from, oldest+1, journal.ErrTrimmed)
	}
	w := groupWalk{r: r, next: from, to: newest}
	var keyed []keyedPlace
	last, isFull := from-1, false // last is the newest entry of the part
	for w.read() && w.group.first <= last+1 {
		if !isFull {
			if isFull, err = r.take(&p, &w, limit); err != nil {
				return p, err
			}
			last = from + p.Count - 1
		}
		for _, k := range w.group.keyed {
			if k.sequence >= from && k.sequence <= last || k.sequence == 0 && from == 1 {
				keyed = append(keyed, k)
			}
		}
		if last < w.group.last() {
			break
		}
	}
	if w.err != nil {
		return journal.Part{}, w.err
	}
	p.Keyed, err = r.records(keyed)
	return p, err
}

// take adds entries of a group to a part, up to about limit bytes and at least one. It reports
// whether the part is full.
func (r *engineReader) take(p *journal.Part, w *groupWalk, limit int) (isFull bool, err error) {
	for rest := w.entries; len(rest) > 0; {
		_, after, err := journal.ReadEntry(rest)
		if err != nil {
			return false, damagedRow(r.it.Key(), err)
		}
		size := len(rest) - len(after)
		if p.Count > 0 && len(p.Entries)+size > limit {
			return true, nil
		}
		p.Entries = append(p.Entries, rest[:size]...)
		p.Count++
		rest = after
	}
	return p.Count > 0 && len(p.Entries) >= limit, nil
}

// records reads key records by their numbers.
func (r *engineReader) records(places []keyedPlace) (list []journal.KeyRecord, err error) {
	for _, k := range places {
		key := appendKeyedKey(nil, r.id, k.number)
		if !r.it.SeekGE(key) || !bytes.Equal(r.it.Key(), key) {
			return nil, errors.Join(r.it.Error(), damagedf(key, "a key record is missing"))
		}
		record, err := readKeyed(r.it.Value(), key)
		if err != nil {
			return nil, damagedRow(key, err)
		}
		list = append(list, record)
	}
	return list, nil
}
