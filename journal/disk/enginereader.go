package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// engineReader reads the rows of one engine. All that it sees is of one moment.
type engineReader struct {
	it *pebble.Iterator
	id uint64
}

// start finds the engine's ID. It fails if there is no row.
func (r *engineReader) start() error {
	if !r.it.First() {
		return errors.Join(r.it.Error(), damagedf(nil, "the engine has no row"))
	}
	if key := r.it.Key(); len(key) >= engineKeySize {
		r.id = binary.BigEndian.Uint64(key[1:])
	}
	return nil
}

// last goes to the last row from one key on and before another. It returns the row's key, or nil
// if there is no row.
func (r *engineReader) last(from, before []byte) []byte {
	if !r.it.SeekLT(before) || bytes.Compare(r.it.Key(), from) < 0 || len(r.it.Key()) < engineKeySize+8 {
		return nil
	}
	return r.it.Key()
}

// base reads the newest base whose sequence is at most at. isKept is false if there is none.
func (r *engineReader) base(at uint64) (b baseRow, isKept bool, err error) {
	limit := appendPart(nil, r.id, partBase+1)
	if at+1 != 0 {
		limit = appendBaseKey(nil, r.id, at+1)
	}
	key := r.last(appendPart(nil, r.id, partBase), limit)
	if key == nil {
		return b, false, r.it.Error()
	}
	b, err = readBase(r.it.Value(), key)
	return b, err == nil, damagedRow(key, err)
}

// newestBase reads the newest base. It fails if there is none.
func (r *engineReader) newestBase() (b baseRow, err error) {
	b, isKept, err := r.base(1<<64 - 1)
	if err == nil && !isKept {
		err = damagedf(appendPart(nil, r.id, partBase), "the engine has no base")
	}
	return b, err
}

// oldestBase reads the oldest base. It fails if there is none.
func (r *engineReader) oldestBase() (b baseRow, err error) {
	prefix := appendPart(nil, r.id, partBase)
	if !r.it.SeekGE(prefix) || !bytes.HasPrefix(r.it.Key(), prefix) {
		return b, errors.Join(r.it.Error(), damagedf(prefix, "the engine has no base"))
	}
	b, err = readBase(r.it.Value(), r.it.Key())
	return b, damagedRow(r.it.Key(), err)
}

// marker reads the marker of a sequence. isThere is false if the sequence is not a marker's.
func (r *engineReader) marker(sequence uint64) (b baseRow, isThere bool, err error) {
	key := appendBaseKey(nil, r.id, sequence)
	if !r.it.SeekGE(key) || !bytes.Equal(r.it.Key(), key) {
		return b, false, r.it.Error()
	}
	b, err = readBase(r.it.Value(), key)
	return b, err == nil && b.IsMarker, damagedRow(key, err)
}

// whole reads what a base has in other rows: its data, and the key records that it remembers.
func (r *engineReader) whole(b *baseRow) (journal.Base, error) {
	base := b.Base
	if err := r.data(b, &base); err != nil {
		return base, err
	}
	return base, r.remembered(b, &base)
}

// newestGroup reads the newest group. isKept is false if there is none.
func (r *engineReader) newestGroup() (g groupRow, isKept bool, err error) {
	key := r.last(appendPart(nil, r.id, partGroup), appendPart(nil, r.id, partGroup+1))
	if key == nil {
		return g, false, r.it.Error()
	}
	g, err = readGroup(r.it.Value(), key)
	return g, err == nil, damagedRow(key, err)
}

// newest returns the sequence of the newest action.
func (r *engineReader) newest() (uint64, error) {
	b, err := r.newestBase()
	if err != nil {
		return 0, err
	}
	g, isKept, err := r.newestGroup()
	if err != nil || !isKept {
		return b.Sequence, err
	}
	return max(b.Sequence, g.last()), nil
}

// head reads what the committing goroutine has to know.
func (r *engineReader) head(id uint64) (*head, error) {
	r.id = id
	b, err := r.newestBase()
	if err != nil {
		return nil, err
	}
	h := &head{id: id, base: b.Sequence, baseSet: b.set, baseBytes: b.bytes, isMarker: b.IsMarker,
		place: b.basePlace, newest: b.Sequence, set: b.set, bytes: b.bytes}
	g, isKept, err := r.newestGroup()
	if err != nil {
		return nil, err
	}
	if isKept {
		if g.last() > h.newest {
			h.newest = g.last()
		}
		if g.actions == 0 && g.first == h.newest+1 {
			h.notes = g.notes + 1
		}
		h.bytes = max(h.bytes, g.bytes)
	}
	if key := r.last(appendPart(nil, id, partPiece), appendPart(nil, id, partPiece+1)); key != nil {
		h.set = max(h.set, binary.BigEndian.Uint64(key[engineKeySize:]))
	}
	// The key records that the base remembers are stored, and so are those that are newer.
	if key := r.last(appendPart(nil, id, partKeyed), appendPart(nil, id, partKeyed+1)); key != nil {
		h.keyedFrom, h.keyedTo = b.KeyNumber+1, binary.BigEndian.Uint64(key[engineKeySize:])
		if len(b.remembered) > 0 {
			h.keyedFrom = min(h.keyedFrom, b.remembered[0])
		}
	}
	return h, r.it.Error()
}

// load reads the newest base and what follows it.
func (r *engineReader) load() (*journal.Stored, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	b, err := r.newestBase()
	if err != nil {
		return nil, err
	}
	return r.stored(&b, 1<<64-1)
}

// loadAt reads the state at a sequence.
func (r *engineReader) loadAt(at uint64) (*journal.Stored, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	newest, err := r.newest()
	if err != nil {
		return nil, err
	}
	if at > newest {
		return nil, journal.Refused("the sequence %d is beyond the newest one, %d", at, newest)
	}
	b, isKept, err := r.base(at)
	if err != nil {
		return nil, err
	}
	if !isKept {
		return nil, fmt.Errorf("no base is kept up to the sequence %d: %w", at, journal.ErrTrimmed)
	}
	s, err := r.stored(&b, at)
	if err == nil && s.Count != at-b.Sequence {
		err = damagedf(appendGroupKey(nil, r.id, b.Sequence+s.Count+1, 0), "the entries from %d to %d are missing",
			b.Sequence+s.Count+1, at)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// stored reads what belongs to a base, and the entries behind it up to a sequence.
func (r *engineReader) stored(b *baseRow, to uint64) (*journal.Stored, error) {
	base, err := r.whole(b)
	if err != nil {
		return nil, err
	}
	s := &journal.Stored{Base: base}
	recent, err := r.keyed(b.KeyNumber, to)
	if err != nil {
		return nil, err
	}
	s.Recent = recent
	w := groupWalk{r: r, next: b.Sequence + 1, to: to}
	for w.read() {
		s.Entries = append(s.Entries, w.entries...)
		s.Count += w.count
		if err := w.checkKeyed(recent, b.KeyNumber); err != nil {
			return nil, err
		}
	}
	return s, w.err
}

// data reads the data of a base that lies in pieces.
func (r *engineReader) data(b *baseRow, base *journal.Base) error {
	if b.set != 0 {
		prefix := appendSet(nil, r.id, b.set)
		for ok := r.it.SeekGE(prefix); ok && len(r.it.Key()) == len(prefix)+4 &&
			string(r.it.Key()[:len(prefix)]) == string(prefix); ok = r.it.Next() {
			piece := binary.BigEndian.Uint32(r.it.Key()[len(prefix):])
			if uint64(piece)*pieceSize != uint64(len(b.Data)) {
				return damagedf(r.it.Key(), "a piece of the base's data before this one is missing")
			}
			if uint64(len(b.Data)+len(r.it.Value())) > b.size {
				return damagedf(r.it.Key(), "the base's data has more than %d bytes", b.size)
			}
			b.Data = append(b.Data, r.it.Value()...)
		}
		if err := r.it.Error(); err != nil {
			return err
		}
	}
	base.Data = b.Data
	return damagedRow(appendBaseKey(nil, r.id, b.Sequence), b.checkData())
}

// remembered reads the key records that a base remembers.
func (r *engineReader) remembered(b *baseRow, base *journal.Base) error {
	for k, number := range b.remembered {
		key := appendKeyedKey(nil, r.id, number)
		// Numbers that follow each other are neighbours.
		var ok bool
		if k > 0 && b.remembered[k-1]+1 == number {
			ok = r.it.Next()
		} else {
			ok = r.it.SeekGE(key)
		}
		if err := r.it.Error(); err != nil {
			return err
		}
		if !ok || string(r.it.Key()) != string(key) {
			return damagedf(key, "a key record that the base of the sequence %d remembers is missing", b.Sequence)
		}
		record, err := readKeyed(r.it.Value(), key)
		if err != nil {
			return damagedRow(key, err)
		}
		base.Keys = append(base.Keys, record)
	}
	return nil
}

// keyed reads the key records behind a number, up to a sequence.
func (r *engineReader) keyed(number, to uint64) (list []journal.KeyRecord, err error) {
	end := string(appendPart(nil, r.id, partGroup))
	ok := r.it.SeekGE(appendKeyedKey(nil, r.id, number+1))
	for ; ok && string(r.it.Key()) < end; ok = r.it.Next() {
		record, err := readKeyed(r.it.Value(), r.it.Key())
		if err != nil {
			return nil, damagedRow(r.it.Key(), err)
		}
		if record.Sequence > to {
			break
		}
		list = append(list, record)
	}
	return list, r.it.Error()
}
