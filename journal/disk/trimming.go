package disk

import (
	"bytes"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// trimming is what is to be deleted of an engine's history. It was found by a reader, so the
// committing goroutine carries it out only if no base was installed since.
type trimming struct {
	id uint64
	// base and baseBytes are those of the newest base when the history was read.
	base, baseBytes uint64
	ranges          []keyRange
	// keyedFrom is the first number from which on no key record is deleted.
	keyedFrom uint64
}

// keyRange is a range of keys: from the first one, before the other.
type keyRange struct{ from, before []byte }

// trim adds what is to be deleted to the batch.
func (s *Store) trim(b *pebble.Batch, t *trimming, h *head) {
	if h == nil || h.damage != nil || h.id != t.id || h.base != t.base || h.baseBytes != t.baseBytes {
		return // the next base has the history trimmed again
	}
	for _, r := range t.ranges {
		_ = b.DeleteRange(r.from, r.before, nil)
	}
	// A base that remembers a deleted key record all the same has it written again.
	if h.keyedFrom = max(h.keyedFrom, t.keyedFrom); h.keyedFrom > h.keyedTo {
		h.keyedFrom, h.keyedTo = 0, 0
	}
}

// trimming finds what is not to be kept of an engine's history. It returns nil if that is nothing.
func (r *engineReader) trimming(history journal.History, now time.Time) (*trimming, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	newest, err := r.newestBase()
	if err != nil {
		return nil, err
	}
	total, err := r.total(&newest)
	if err != nil {
		return nil, err
	}
	oldest, err := r.oldestBase()
	if err != nil {
		return nil, err
	}
	t := &trimming{id: r.id, base: newest.Sequence, baseBytes: newest.bytes}
	kept, sets := oldest, [2]uint64{}
	for kept.Sequence < newest.Sequence {
		next, err := r.baseBehind(kept.Sequence)
		if err != nil {
			return nil, err
		}
		if !isTrimmed(history, total, &kept, &next, now) {
			break
		}
		if kept.set != 0 && sets[0] == 0 {
			sets[0] = kept.set
		}
		sets[1] = max(sets[1], kept.set)
		kept = next
	}
	if kept.Sequence == oldest.Sequence {
		return nil, nil
	}
	t.add(appendBaseKey(nil, r.id, oldest.Sequence), appendBaseKey(nil, r.id, kept.Sequence))
	if sets[0] != 0 {
		t.add(appendSet(nil, r.id, sets[0]), appendSet(nil, r.id, sets[1]+1)) // newer bases have greater sets
	}
	if err := r.trimGroups(t, kept.Sequence); err != nil {
		return nil, err
	}
	return t, r.trimKeyed(t, &kept)
}

func (t *trimming) add(from, before []byte) { t.ranges = append(t.ranges, keyRange{from, before}) }

// isTrimmed tells whether a base is not to be kept, with the entries up to the next base. total is
// how much was stored of the engine.
func isTrimmed(history journal.History, total uint64, b, next *baseRow, now time.Time) bool {
	// All that lies between the two bases was stored by the time that the next one was.
	age := now.Sub(time.UnixMilli(next.time))
	return history.SinceBase || history.Bytes > 0 && total-b.before() > history.Bytes ||
		history.Age > 0 && age >= history.Age
}

// before returns how much of an engine is gone if the base is the oldest one.
func (b *baseRow) before() uint64 {
	if b.isFirst {
		return 0
	}
	return b.bytes - min(b.bytes, baseKeySize+b.size+uint64(len(b.Details)))
}

// baseBehind reads the base that follows the one of a sequence.
func (r *engineReader) baseBehind(sequence uint64) (b baseRow, err error) {
	if !r.it.SeekGE(appendBaseKey(nil, r.id, sequence+1)) {
		return b, r.it.Error()
	}
	b, err = readBase(r.it.Value(), r.it.Key())
	return b, damagedRow(r.it.Key(), err)
}

// total returns how much was stored of the engine, trimmed rows included.
func (r *engineReader) total(newest *baseRow) (uint64, error) {
	g, _, err := r.newestGroup()
	return max(newest.bytes, g.bytes), err
}

// trimGroups deletes the groups that have no entry behind a sequence.
func (r *engineReader) trimGroups(t *trimming, sequence uint64) error {
	prefix := appendPart(nil, r.id, partGroup)
	before := appendGroupKey(nil, r.id, sequence+1, 0)
	if key := r.last(prefix, before); key != nil {
		g, err := readGroup(r.it.Value(), key)
		if err != nil {
			return damagedRow(key, err)
		}
		if g.last() > sequence {
			before = bytes.Clone(key) // a base in the middle of a group keeps all of it
		}
	}
	if r.it.SeekGE(prefix) && bytes.Compare(r.it.Key(), before) < 0 {
		t.add(bytes.Clone(r.it.Key()), before)
	}
	return r.it.Error()
}

// trimKeyed deletes the key records that belong to trimmed entries, and are not remembered by the
// oldest base that is kept. Newer bases remember no other ones of that age.
func (r *engineReader) trimKeyed(t *trimming, kept *baseRow) error {
	limit := kept.KeyNumber
	prefix := appendPart(nil, r.id, partKeyed)
	for {
		key := r.last(prefix, appendKeyedKey(nil, r.id, limit+1))
		if key == nil {
			break
		}
		record, err := readKeyed(r.it.Value(), key)
		if err != nil {
			return damagedRow(key, err)
		}
		// Parts of the history have the records of the entries behind the base, and of its marker.
		if record.Sequence < kept.Sequence || record.Sequence == kept.Sequence && !kept.IsMarker {
			break
		}
		limit = record.Number - 1
	}
	t.keyedFrom = limit + 1
	for k := len(kept.remembered) - 1; k >= 0; k-- {
		if number := kept.remembered[k]; number+1 == t.keyedFrom {
			t.keyedFrom = number
		}
	}
	from := uint64(0)
	for _, number := range append(kept.remembered, limit+1) {
		if number > from && from <= limit {
			before := appendKeyedKey(nil, r.id, min(number, limit+1))
			if r.it.SeekGE(appendKeyedKey(nil, r.id, from)) && bytes.Compare(r.it.Key(), before) < 0 {
				t.add(bytes.Clone(r.it.Key()), before)
			}
		}
		from = max(from, number+1)
	}
	return r.it.Error()
}

// isDue reads whether anything of an engine is older than it may be.
func (r *engineReader) isDue(id uint64, history journal.History, now time.Time) bool {
	r.id = id
	prefix := appendPart(nil, id, partBase)
	if !r.it.SeekGE(prefix) || !r.it.Next() || !bytes.HasPrefix(r.it.Key(), prefix) {
		return false // there is one base
	}
	if history.SinceBase || history.Bytes > 0 {
		return true
	}
	next, err := readBase(r.it.Value(), r.it.Key())
	return err == nil && now.Sub(time.UnixMilli(next.time)) >= history.Age
}
