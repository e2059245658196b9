package journal

import "fmt"

// Record is one item of a group that is appended. It is a committed action, with or without a key,
// or it is the note of a batch that had a key. A note takes no sequence and is no entry; only its
// Keyed is stored.
type Record struct {
	// Action is the action, encoded by [AppendAction]. It is nil in a note.
	//
	// The bytes belong to the host, which uses the memory again as soon as the call is done: a
	// store copies them.
	Action []byte
	// Checksum is the XXH64 of the result that was acknowledged. It has no meaning in a note.
	Checksum uint64
	// Batch is the sequence of the first action of the batch that the action belongs to, if all of
	// the batch is one step that is undone as a whole; 0 otherwise, and in a note. All records of a
	// batch are in one group.
	Batch uint64
	// Keyed is what has to be remembered of the key; nil if there was no key. The host never
	// changes it, nor its Result, once it is handed over: a store may keep both without a copy.
	Keyed *KeyRecord
}

// KeyRecord is what is remembered of an action or of a batch that had a key (host.Key): if the
// same key comes again, its caller gets this answer and nothing runs.
type KeyRecord struct {
	// Key is the caller's key, 1 to 256 bytes. No caller's key begins with a zero byte.
	Key string
	// Sum is a SHA-256 over what the caller asked for. It tells a repetition from another action
	// or batch that has the same key by mistake.
	Sum [32]byte
	// Result is the result of the action in MessagePack, or the outcomes of the batch's members in
	// the encoding that PROTOCOL.md gives the answer to a batch. A store treats it as bytes.
	Result []byte
	// Sequence is the sequence of the state after the action or batch.
	Sequence uint64
	// Changed says whether the action or batch changed the state.
	Changed bool
	// Number counts the engine's key records from 1, in the order in which they are appended.
	// Several records may have one Sequence, because a batch that changes nothing takes none; no
	// two have one Number.
	Number uint64
}

// Base is the state that a journal starts from.
type Base struct {
	// Sequence is the number of actions that are in the state: 0 for a setup.
	Sequence uint64
	// Snapshot says whether Data is a snapshot. If not, it is a setup: what a new engine starts
	// from.
	Snapshot bool
	// Data is the snapshot or the setup. A store treats it as bytes. It may be empty, and it may
	// have as many bytes as the host's options allow a state to have.
	Data []byte
	// Core is the SHA-256 of the core that runs the records after this base, in hexadecimal.
	Core string
	// Keys are the key records up to the base that are still remembered, oldest first. What a base
	// has forgotten, no later one remembers.
	Keys []KeyRecord
	// KeyNumber is the Number of the newest key record up to the base, whether it is in Keys or
	// has been forgotten; 0 if there was none. A store keeps the appended key records with a
	// greater Number.
	KeyNumber uint64
	// IsMarker says that the base takes the sequence Sequence itself. No action has that sequence:
	// the state is another one than the actions before it lead to, because the engine was
	// reverted, has another core, or begins as a copy of another engine.
	IsMarker bool
	// Details are what a host keeps with the base: where a marker comes from, and what there is to
	// undo and to redo; and what a host has to know to go on with the journal. A store treats them as
	// bytes. They may be empty, and have at most MaxDetails bytes.
	Details []byte
}

// CheckBehind tells whether the base may be installed in a journal whose present base and newest
// sequence are given. It returns an error that wraps [ErrRefused] if not. It looks at nothing but
// whether the two are markers, and at their sequences.
func (b *Base) CheckBehind(present *Base, newest uint64) error {
	switch {
	case b.Sequence == present.Sequence && b.IsMarker == present.IsMarker:
		return nil
	case b.IsMarker && b.Sequence != newest+1:
		return Refused("a marker of the sequence %d, the newest one is %d", b.Sequence, newest)
	case !b.IsMarker && (b.Sequence < present.Sequence || b.Sequence > newest):
		return Refused("a base of the sequence %d, the journal has %d to %d", b.Sequence, present.Sequence, newest)
	case !b.IsMarker && b.Sequence == present.Sequence:
		return Refused("a base in the place of the marker of the sequence %d, and it is none", b.Sequence)
	}
	return nil
}

// MaxDetails is how many bytes the Details of a [Base] may have.
const MaxDetails = 64 << 10

// Stored is what a store has of an engine: its newest base and all that was appended behind it.
type Stored struct {
	Base
	// Owner is who owned the journal until this load.
	Owner Owner
	// Entries are the entries behind the base, oldest first: each encoded by [AppendEntry], with
	// nothing between them. The first one has the sequence Base.Sequence + 1. [Entries] iterates
	// over them.
	Entries []byte
	// Count is the number of entries in Entries, so the newest one has the sequence Base.Sequence
	// + Count.
	Count uint64
	// Recent are the key records that were appended and are newer than Base.KeyNumber, oldest
	// first.
	Recent []KeyRecord
}

// NewestKeyNumber returns the Number of the newest key record that was ever appended; 0 if there
// was none.
func (s *Stored) NewestKeyNumber() uint64 {
	if n := len(s.Recent); n > 0 {
		return max(s.KeyNumber, s.Recent[n-1].Number)
	}
	return s.KeyNumber
}

// CheckEntries reads all entries. It fails if one cannot be read, or if there are more or fewer
// than Count says: a replay would lead to another sequence. A host calls it for each journal that
// it loads.
func (s *Stored) CheckEntries() error {
	n := uint64(0)
	for _, err := range Entries(s.Entries) {
		if err != nil {
			return fmt.Errorf("the store's entry %d can't be read: %w", n, err)
		}
		n++
	}
	if n != s.Count {
		return fmt.Errorf("the store has %d entries, and says that they are %d", n, s.Count)
	}
	return nil
}
