package disk

import (
	"bytes"
	"errors"
	"fmt"

	"hypertoken/journal"
)

// part reads entries from a sequence on, as many as take about limit bytes, or a marker.
func (r *engineReader) part(from uint64, limit int) (p journal.Part, err error) {
	if err := r.start(); err != nil {
		return p, err
	}
	newest, err := r.newest()
	if err != nil {
		return p, err
	}
	oldest, err := r.oldestBase()
	if err != nil {
		return p, err
	}
	switch {
	case from == newest+1:
		return journal.Part{First: from}, nil
	case from > newest:
		return p, journal.Refused("the sequence %d is not one of the journal's, 0 to %d", from, newest)
	case from == 0:
		return r.firstPart(&oldest)
	}
	if b, isMarker, err := r.marker(from); err != nil || isMarker {
		if err != nil {
			return p, err
		}
		return r.markerPart(&b)
	}
	// All entries behind the oldest base are kept.
	if from <= oldest.Sequence {
		return p, fmt.Errorf("the entry %d, the oldest one is %d: %w", from, oldest.Sequence+1, journal.ErrTrimmed)
	}
	// Key records that were appended before the first entry are in the part with that entry.
	isAtStart := oldest.isFirst && !oldest.IsMarker && oldest.Sequence == from-1
	return r.entries(from, newest, limit, isAtStart)
}

// firstPart reads the part that begins with the sequence 0.
func (r *engineReader) firstPart(oldest *baseRow) (p journal.Part, err error) {
	switch {
	case !oldest.isFirst:
		return p, fmt.Errorf("the base that the journal began with: %w", journal.ErrTrimmed)
	case oldest.IsMarker:
		return r.markerPart(oldest)
	}
	return p, nil
}

// markerPart reads the part that is a marker. It has the key records that were appended behind the
// marker, and before the next entry.
func (r *engineReader) markerPart(b *baseRow) (p journal.Part, err error) {
	base, err := r.whole(b)
	if err != nil {
		return p, err
	}
	p = journal.Part{First: base.Sequence, Count: 1, Marker: &base}
	var keyed []keyedPlace
	w := groupWalk{r: r, next: base.Sequence + 1, to: base.Sequence}
	for w.read() {
		for _, k := range w.group.keyed {
			if k.sequence == base.Sequence {
				keyed = append(keyed, k)
			}
		}
		if w.group.actions > 0 {
			break
		}
	}
	if w.err == nil {
		p.Keyed, w.err = r.records(keyed)
	}
	if w.err != nil {
		return journal.Part{}, w.err
	}
	return p, nil
}

// entries reads a part that is no marker.
func (r *engineReader) entries(from, newest uint64, limit int, isAtStart bool) (p journal.Part, err error) {
	p.First = from
	w := groupWalk{r: r, next: from, to: newest}
	var keyed []keyedPlace
	last, isFull := from-1, false // last is the newest entry of the part
	for w.read() && w.group.first <= last+1 {
		if !isFull {
			if isFull, err = r.take(&p, &w, limit); err != nil {
				return journal.Part{}, err
			}
			last = from + p.Count - 1
		}
		for _, k := range w.group.keyed {
			if k.sequence >= from && k.sequence <= last || k.sequence == from-1 && isAtStart {
				keyed = append(keyed, k)
			}
		}
		for _, b := range w.group.batches {
			if b.First <= last && b.Last >= from {
				p.Batches = append(p.Batches, b)
			}
		}
		if last < w.group.last() {
			break
		}
	}
	if w.err == nil && p.Count == 0 {
		w.err = damagedf(appendGroupKey(nil, r.id, from, 0), "the entries from %d on are missing", from)
	}
	if w.err == nil {
		p.Keyed, w.err = r.records(keyed)
	}
	if w.err != nil {
		return journal.Part{}, w.err
	}
	return p, nil
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
