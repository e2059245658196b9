package disk

import "hypertoken/journal"

// head is what the committing goroutine knows of an engine that somebody owns. It has none of
// other engines, except while it reads what is stored of them: then the head is a placeholder, and
// calls for the name wait in it.
//
// Only the committing goroutine uses a head, with the exception of waiting.
type head struct {
	id      uint64
	owner   journal.Owner
	isOwned bool
	// created is when the name was created, in milliseconds since 1970.
	created int64
	// base is the sequence of the newest base, baseSet the number of its pieces, baseBytes how much
	// the engine had with it.
	base, baseSet, baseBytes uint64
	// isMarker says that the newest base is a marker, place where it is.
	isMarker bool
	place    basePlace
	// newest is the newest sequence, notes the number of groups behind it.
	newest uint64
	notes  uint32
	// set is the newest number of pieces that was used.
	set uint64
	// The key records with the numbers keyedFrom to keyedTo are stored. Both are 0 if it is not
	// known of any.
	keyedFrom, keyedTo uint64
	// bytes is about how much the engine has in the store.
	bytes uint64
	// damage is why the engine cannot be loaded. It can be deleted all the same.
	damage error

	// isPlaceholder says that the engine's rows are being read.
	isPlaceholder bool
	// waiting are the calls that came meanwhile. Store.mu guards it.
	waiting []op
}

// owns reports whether an owner may write the journal.
func (h *head) owns(owner journal.Owner) bool { return h.isOwned && h.owner == owner }

// noteKeyed notes that a key record is stored.
func (h *head) noteKeyed(number uint64) {
	switch {
	case h.keyedFrom == 0 || number > h.keyedTo+1 || number+1 < h.keyedFrom:
		h.keyedFrom, h.keyedTo = number, number
	case number == h.keyedTo+1:
		h.keyedTo = number
	case number+1 == h.keyedFrom:
		h.keyedFrom = number
	}
}

// hasKeyed reports whether a key record is known to be stored.
func (h *head) hasKeyed(number uint64) bool {
	return h.keyedFrom > 0 && h.keyedFrom <= number && number <= h.keyedTo
}
