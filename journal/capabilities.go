package journal

import "time"

// Lister is a [Store] that can list the names which it knows.
type Lister interface {
	// List reports the journals whose names start with prefix and sort behind after, in the order
	// of the names' bytes, limit of them at most. limit is at least 1. A page that has fewer is
	// the last one. A list may miss what is created or deleted while it is made, and nothing else.
	//
	// Names that begin with a zero byte are a host's own, for journals that are not complete. They
	// are listed only if prefix begins with a zero byte, too.
	List(prefix, after string, limit int, done func(page []Info, err error))
}

// Info is what a store tells of a journal without reading all of it.
type Info struct {
	// Name is the engine's name.
	Name string
	// Sequence is that of the newest record that takes one.
	Sequence uint64
	// Core is the SHA-256 of the core that runs the records after the newest base, in hexadecimal.
	Core string
	// Bytes is about how much the journal takes in the store, history included.
	Bytes uint64
	// Created is when the name was created, Updated when something was stored last, both by the
	// store's clock. Each is zero if the store does not keep it.
	Created, Updated time.Time
}

// Historian is a [Store] that keeps what came before the newest base. Its methods need no owner,
// and change none.
type Historian interface {
	// LoadAt reports the state at a sequence: the newest base whose sequence is at most at, and
	// the entries behind it up to at. Recent has the key records up to at that the base does not
	// have. It reports nil without an error if the name is not known. It fails with [ErrTrimmed]
	// if no such base is kept, and with an error that wraps [ErrRefused] if at is beyond the
	// newest sequence.
	LoadAt(name string, at uint64, done func(stored *Stored, err error))
	// Range reports entries from the sequence from on: about as many as take limit bytes, or fewer,
	// at least one, and none beyond the newest. It reports none if from is the newest sequence plus
	// one. It fails with [ErrTrimmed] if the entry from is not kept any more.
	//
	// A marker is a part of its own: no part goes across one. If the sequence from is a marker's,
	// the part has Marker, the Count 1, and no entries. Sequence 0 may be asked for: the part has
	// the base that the journal began with as its Marker if that base is a marker, and is empty
	// otherwise.
	Range(name string, from uint64, limit int, done func(part Part, err error))
}

// Part is a piece of a journal's history.
type Part struct {
	// First is the sequence of the first entry, Count the number of entries.
	First, Count uint64
	// Entries are encoded as in [Stored].
	Entries []byte
	// Keyed are the key records whose Sequence is in the part, oldest first. A record that was
	// appended before the journal's first entry is in the part with that entry.
	Keyed []KeyRecord
	// Batches are the batches that have entries in the part, oldest first. A part may end in the
	// middle of a batch: it has the whole Batch all the same, and so has the next part.
	Batches []Batch
	// Marker is the base that takes the sequence First, if it is a marker; nil otherwise.
	Marker *Base
}

// Batch is where the actions of a batch lie in a journal.
type Batch struct {
	// First and Last are the sequences of its first and of its last action.
	First, Last uint64
}

// Renamer is a [Store] that can give a journal another name. A host imports a journal under a name
// of its own and renames it once all of it is there, so that nobody sees a part of it.
type Renamer interface {
	// Rename gives the journal of the name from the name to, with all that is stored of it, and
	// owner stays its owner. It fails and changes nothing if owner does not own from
	// ([ErrNotOwner]), and if to is known: with an error that wraps [ErrExists]. The check and the
	// change are one atomic step.
	//
	// A [Divider] may refuse names that it does not keep together.
	Rename(from, to string, owner Owner, done Done)
}

// ImportPrefix begins the names under which a host stores imports that are not complete. Nobody but
// their owner needs such journals: a store whose journals go from one owner to another may delete them
// once their owner is superseded.
const ImportPrefix = "\x00import/"

// Divider is a [Renamer] that divides journals by their names, as into the slots of a cluster. A host
// stores an import under a name that the store keeps together with the name which the import gets.
type Divider interface {
	// KeepsTogether reports whether Rename can give the journal of the name a the name b. It depends on
	// the names alone and is the same for the life of the store. At least one of 10,000 random names has
	// to be kept together with any name.
	KeepsTogether(a, b string) bool
}

// History says how much a store keeps of what came before an engine's newest base. The zero value
// keeps everything.
//
// A store trims at bases: the oldest thing that it keeps of an engine is always a base. The newest
// base and what follows it is never trimmed.
type History struct {
	// SinceBase keeps nothing that came before the newest base. Bytes and Age have no meaning then.
	SinceBase bool
	// Bytes is about how much may be kept of an engine, in bytes as in [Info]; 0 is no bound.
	Bytes uint64
	// Age is how long something is kept after it was stored; 0 is for ever.
	Age time.Duration
}

// HealthChecker is a [Store] that knows how it is.
type HealthChecker interface {
	// Health returns nil if the store takes appends, and otherwise why it does not: an error that
	// wraps [ErrFull], [ErrUnavailable] or [ErrFailed]. It returns at once.
	Health() error
}

// CoreKeeper is a [Store] that keeps cores, so that a host with another core can replay a journal
// by the one that wrote it.
type CoreKeeper interface {
	// KeepCore stores the code of a core under its SHA-256 in hexadecimal, unless the store has
	// it. A host calls it before it stores the first base that names the core.
	KeepCore(hash string, code []byte, done Done)
	// Core reports the code of a core, or nil without an error if the store does not have it. The
	// store does not change the code, nor does the host.
	Core(hash string, done func(code []byte, err error))
}

// CoreChooser is a [Store] of several hosts that says which core their journals are to be with. Without
// it, each host takes the journals that it opens over to its own core, and hosts with different cores
// would take them back and forth.
type CoreChooser interface {
	// MayUpgrade reports nil if the core with a hash, a SHA-256 in hexadecimal, is the one that journals
	// go over to, as of some time after the call. It fails with an error that wraps [ErrNotTarget] if
	// that is another core. A host calls it after it has loaded a journal that another core wrote, and
	// before it stores the base that its own core goes on from.
	MayUpgrade(hash string, done Done)
}

// OwnerVerifier is a [Store] whose journals another owner may take over at any time, from another
// process or another machine. A host that is superseded learns that when it stores something. What it
// answers without storing anything, such as a read, could be of a state that is not the newest any
// more. So with such a store every answer that changed nothing waits for a barrier. A store that does
// not have the method, as one whose only user is this process, costs no answer anything.
type OwnerVerifier interface {
	// Barrier reports nil once it is sure that owner was the owner of the journal at some time after
	// the call. It fails with [ErrNotOwner] if owner is not the owner, or if the name is not known. It
	// changes nothing, so an error leaves no doubt; what is answered runs again then.
	Barrier(name string, owner Owner, done Done)
}

// Releaser is a [Store] that can be told that an owner has no more use for a journal.
type Releaser interface {
	// Release gives ownership up: nobody owns the journal then, and the store may forget what it
	// knows of it. Appends and installs that the owner makes afterwards fail with [ErrNotOwner].
	// It fails with [ErrNotOwner], and changes nothing, if owner is not the owner.
	//
	// A host calls it when an engine is closed. A store that is never told keeps what it knows of
	// an engine that was once loaded.
	Release(name string, owner Owner, done Done)
}
