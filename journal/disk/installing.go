package disk

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// largeBase is a base whose data is written in pieces, over several batches. Other engines' calls
// go between the pieces. The base's row is written last. Until then nothing refers to the pieces;
// a row says that they are pending, and Open removes them if the process has died meanwhile.
type largeBase struct {
	id, set uint64
	written uint32
	// head is that of a known name; nil if the base creates a name.
	head *head
}

// piecesPerBatch bounds what large bases add to one batch.
const piecesPerBatch = 2

// checkInstall fails if a base may not be installed.
func (s *Store) checkInstall(o *op, h *head) error {
	base := &o.more.base
	switch {
	case h != nil && !h.owns(o.owner):
		return journal.ErrNotOwner
	case len(base.Details) > journal.MaxDetails:
		return journal.Refused("a base with %d bytes of details, the most are %d", len(base.Details),
			journal.MaxDetails)
	case len(base.Keys) > maxRemembered:
		return fmt.Errorf("a base with %d keys, the most are %d: %w", len(base.Keys), maxRemembered, journal.ErrRefused)
	}
	for k := range base.Keys {
		if k > 0 && base.Keys[k].Number <= base.Keys[k-1].Number {
			return fmt.Errorf("a base whose key %d is not newer than the one before it: %w", k, journal.ErrRefused)
		}
	}
	if h != nil {
		present := journal.Base{Sequence: h.base, IsMarker: h.isMarker}
		if err := base.CheckBehind(&present, h.newest); err != nil {
			return err
		}
	}
	return s.space.err()
}

// install adds a base to the batch, or begins to write its pieces.
func (s *Store) install(f *flight, o *op, h *head, now int64) error {
	if large := o.more.large; large != nil && large.head != h {
		// Since its first piece was written, the name was deleted, created, or given up.
		s.dropPieces(f.batch, large)
		return journal.ErrNotOwner
	}
	if err := s.checkInstall(o, h); err != nil {
		s.dropPieces(f.batch, o.more.large)
		return err
	}
	if large := o.more.large; large != nil {
		s.putBase(f.batch, o, h, large.set, now)
		_ = f.batch.Delete(appendPendingKey(nil, large.id, large.set), nil)
		return nil
	}
	if len(o.more.base.Data) <= pieceSize {
		s.putBase(f.batch, o, h, 0, now)
		return nil
	}
	large := &largeBase{head: h}
	if h != nil {
		h.set++
		large.id, large.set = h.id, h.set
	} else {
		s.nextID++
		large.id, large.set = s.nextID, 1
	}
	_ = f.batch.Set(appendPendingKey(nil, large.id, large.set), nil, nil)
	waiting := *o
	waiting.more.large = large
	s.mu.Lock()
	s.large = append(s.large, &waiting)
	*o = op{}
	s.mu.Unlock()
	return nil
}

// dropPieces removes the pieces of a base that is not installed.
func (s *Store) dropPieces(b *pebble.Batch, large *largeBase) {
	if large == nil {
		return
	}
	_ = b.DeleteRange(appendSet(nil, large.id, large.set), appendSet(nil, large.id, large.set+1), nil)
	_ = b.Delete(appendPendingKey(nil, large.id, large.set), nil)
}

// putBase adds a base's row to the batch. Without a head, it creates the name.
func (s *Store) putBase(b *pebble.Batch, o *op, h *head, set uint64, now int64) {
	base := &o.more.base
	if h == nil {
		h = &head{owner: o.owner, isOwned: true, newest: base.Sequence, set: set, created: now}
		h.place.isFirst = true
		if large := o.more.large; large != nil {
			h.id = large.id
		} else {
			s.nextID++
			h.id = s.nextID
		}
		s.heads[o.name] = h
		key := appendName(nil, o.name)
		_ = b.Set(key, nameRow{h.id, now}.append(nil, key), nil)
		s.stats.engines.Add(1)
	} else if h.base != base.Sequence {
		h.place = basePlace{}
	} else if h.baseSet != 0 && h.baseSet != set {
		// The base takes the place of the former one.
		_ = b.DeleteRange(appendSet(nil, h.id, h.baseSet), appendSet(nil, h.id, h.baseSet+1), nil)
	}
	if base.Sequence > h.newest { // a marker
		h.place.notes = h.notes
		h.newest, h.notes = base.Sequence, 0
	}
	for k := range base.Keys {
		if !h.hasKeyed(base.Keys[k].Number) {
			s.putKeyed(b, h, &base.Keys[k])
		}
	}
	key := appendBaseKey(nil, h.id, base.Sequence)
	h.bytes += uint64(len(base.Data) + len(base.Details) + len(key))
	row := appendBase(nil, key, base, h.place, set, now, h.bytes)
	_ = b.Set(key, row, nil)
	h.base, h.baseSet, h.baseBytes, h.isMarker = base.Sequence, set, h.bytes, base.IsMarker
	if !h.place.isFirst && !s.keepsAll() {
		s.grown = append(s.grown, o.name)
	}
	s.stats.bases.Add(1)
	s.stats.baseBytes.Add(uint64(len(row)))
	s.stats.baseBytes.Add(uint64(len(base.Data)))
}

// writePieces adds the next pieces of large bases to the batch, the oldest base first. A base
// whose pieces are all written is installed.
func (s *Store) writePieces(f *flight, now int64) {
	for range piecesPerBatch {
		o := s.nextLarge()
		if o == nil {
			return
		}
		large, data := o.more.large, o.more.base.Data
		if start := int(large.written) * pieceSize; start < len(data) {
			key := appendPieceKey(nil, large.id, large.set, large.written)
			_ = f.batch.Set(key, data[start:min(start+pieceSize, len(data))], nil)
			large.written++
			s.stats.pieces.Add(1)
			continue
		}
		k, ok := s.endLarge(f, o)
		if !ok {
			return
		}
		s.resolve(f, k, now)
	}
}

// nextLarge returns the oldest large base, or nil.
func (s *Store) nextLarge() *op {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.large) == 0 {
		return nil
	}
	return s.large[0]
}

// endLarge moves the oldest large base to the calls of the flight. It returns the call's place
// there, and false if the call was reported since because the store has failed.
func (s *Store) endLarge(f *flight, o *op) (place int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.large) == 0 || s.large[0] != o {
		return 0, false
	}
	f.ops = append(f.ops, *o)
	s.large[0] = nil
	s.large = s.large[1:]
	return len(f.ops) - 1, true
}
