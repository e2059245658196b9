package disk

import (
	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// Rename implements [journal.Renamer].
func (s *Store) Rename(from, to string, owner journal.Owner, done journal.Done) {
	s.put(op{kind: opRename, name: to, owner: owner, more: &request{from: from}, done: done})
}

// rename gives an engine another name. All its rows lie under its ID, so only the names' rows are
// written. taken is the head of the new name; nil if that is not known.
func (s *Store) rename(b *pebble.Batch, o *op, taken *head) error {
	from := o.more.from
	h := s.heads[from] // an engine that has an owner has a head
	switch {
	case h == nil || h.isPlaceholder || !h.owns(o.owner):
		return journal.ErrNotOwner
	case taken != nil:
		return journal.ErrExists
	}
	_ = b.Delete(appendName(nil, from), nil)
	key := appendName(nil, o.name)
	_ = b.Set(key, nameRow{h.id, h.created}.append(nil, key), nil)
	delete(s.heads, from)
	s.heads[o.name] = h
	if !s.keepsAll() {
		s.grown = append(s.grown, o.name)
	}
	return nil
}
