package host

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"hypertoken/ipc"
)

// Store keeps the journals of engines: for each name a base, which is a setup or a snapshot, and the
// records of the actions that were committed since. The default keeps them in memory.
//
// A call returns at once; done may be called before it returns, later, by any goroutine, or never: the
// host does not wait for it longer than Options.StoreTimeout. What is handed over belongs to the
// caller again once done is called.
type Store interface {
	// Load hands over what is stored under a name, nil where nothing is, and makes owner its owner:
	// from then on Append and Install of any other owner fail with [ErrNotOwner].
	Load(name string, owner Owner, done func(*Stored, error))
	// Append stores a group of records behind the entry of the sequence after, whole or not at all.
	// Each record with an Action takes the next sequence.
	Append(name string, owner Owner, after uint64, group []Record, done Done)
	// Install replaces the base by that of a later sequence. How many of the records up to it are kept
	// is the store's policy. It keeps the keys that were appended and are newer than the base: those
	// with a KeyRecord.Number above base.KeyNumber. A name is known from its first Install on.
	Install(name string, owner Owner, base Base, done Done)
	// Delete forgets a name. One that is not known is no error.
	Delete(name string, done func(error))
}

// Owner names one life of one engine in one host. The zero Owner is nobody.
type Owner struct {
	Host   [16]byte
	Number uint64
}

// ErrNotOwner is returned by a store to who is not the owner of a journal any more.
var ErrNotOwner = errors.New("host: another owner has taken the journal over")

// Done is told how a call of a store ended, once.
type Done struct {
	to interface{ stored(id uint64, err error) }
	id uint64
}

// Done reports the end of the call: nil where it is durable.
func (d Done) Done(err error) { d.to.stored(d.id, err) }

// Record is a committed action, or the note of a batch that had a key.
type Record struct {
	// Action is the action as the protocol has it: a MessagePack array of now, entropy, type and
	// payload. It is nil in a note, which takes no sequence and is no entry: only what is Keyed is
	// stored, together with its group. A group may be a note alone.
	Action []byte
	// Checksum is the XXH64 of the result that was acknowledged.
	Checksum uint64
	// Keyed is what is to be remembered; nil if there was no key. The store may keep it and its
	// Result: nobody changes them any more.
	Keyed *KeyRecord
}

// Base is what a journal starts from.
type Base struct {
	// Sequence is that of the state.
	Sequence uint64
	// Snapshot says what Data is: a snapshot, or a setup.
	Snapshot bool
	Data     []byte
	// Core is the hash of the core that the journal runs on.
	Core string
	// Keys are those that are remembered, oldest first.
	Keys []KeyRecord
	// KeyNumber is the number of the newest key that the base takes in, whether it is remembered or
	// forgotten; 0 if there was none.
	KeyNumber uint64
}

// KeyRecord is what is remembered of an action, or of a batch, that had a key.
type KeyRecord struct {
	Key string
	// Sum is the SHA-256 of what was asked for: by it a repetition is told from another action or
	// batch with the same key.
	Sum [32]byte
	// Result is that of the action, or the outcomes of the batch's members as the protocol has them.
	// Sequence and Changed are those of the state after it.
	Result   []byte
	Sequence uint64
	Changed  bool
	// Number counts the engine's records from 1, in the order in which they are appended. Several may
	// have one sequence, since a batch that changes nothing takes none.
	Number uint64
}

// Stored is what a store has of an engine.
type Stored struct {
	Base
	// Owner is who owned it up to now.
	Owner Owner
	// Entries are the records since the base, oldest first, as the protocol has them: ipc.AppendEntry's, one after the
	// other. The host does not change them.
	Entries []byte
	// Count is how many there are.
	Count uint64
	// Recent are the keys of the groups since the base, oldest first.
	Recent []KeyRecord
}

// lastKey returns the number of the newest key that was ever appended; 0 if there was none.
func (s *Stored) lastKey() uint64 {
	if n := len(s.Recent); n > 0 {
		return max(s.KeyNumber, s.Recent[n-1].Number)
	}
	return s.KeyNumber
}

// counted fails where there are other entries than Count says: replayed, they would lead to another sequence.
func (s *Stored) counted() error {
	n := uint64(0)
	for rest := s.Entries; len(rest) > 0; n++ {
		_, after, err := ipc.ReadEntry(rest)
		if err != nil {
			return fmt.Errorf("the store's entry %d can't be read: %w", n, err)
		}
		rest = after
	}
	if n != s.Count {
		return fmt.Errorf("the store has %d entries, and says that they are %d", n, s.Count)
	}
	return nil
}

// memory is the store in memory.
type memory struct {
	mu       sync.Mutex // guards what follows
	journals map[string]*kept
}

// kept is a journal in memory. Its entries lie in one buffer, which is only ever appended to or
// replaced once somebody has seen it: whoever holds an older slice of it may go on reading.
type kept struct {
	Stored
	seen bool
	// marks are where each marked entry begins, so that a new base finds the entries behind it.
	marks []int
}

const (
	// marked is how many entries lie between two marks.
	marked = 64
	// keptEntries is how large a buffer may be that is used again, in bytes.
	keptEntries = 256 << 10
)

// NewMemory returns a store in memory. It never fails.
func NewMemory() Store { return &memory{journals: map[string]*kept{}} }

func (m *memory) Load(name string, owner Owner, done func(*Stored, error)) {
	m.mu.Lock()
	j := m.journals[name]
	if j == nil {
		m.mu.Unlock()
		done(nil, nil)
		return
	}
	stored := j.Stored
	j.Owner, j.seen = owner, true
	m.mu.Unlock()
	stored.Recent = slices.Clip(stored.Recent)
	done(&stored, nil)
}

func (m *memory) Append(name string, owner Owner, after uint64, group []Record, done Done) {
	done.Done(m.append(name, owner, after, group))
}

func (m *memory) append(name string, owner Owner, after uint64, group []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	if j == nil || j.Owner != owner {
		return ErrNotOwner
	}
	if j.Sequence+j.Count != after {
		return errors.New("host: an append behind another sequence than the last")
	}
	for k := range group {
		r := &group[k]
		if r.Keyed != nil {
			j.Recent = append(j.Recent, *r.Keyed)
		}
		if r.Action == nil {
			continue
		}
		if j.Count%marked == 0 {
			j.marks = append(j.marks, len(j.Entries))
		}
		j.Entries = ipc.AppendEntry(j.Entries, r.Action, r.Checksum)
		j.Count++
	}
	return nil
}

func (m *memory) Install(name string, owner Owner, base Base, done Done) {
	done.Done(m.install(name, owner, base))
}

func (m *memory) install(name string, owner Owner, base Base) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	if j == nil {
		m.journals[name] = &kept{Stored: Stored{Base: base, Owner: owner}}
		return nil
	}
	if j.Owner != owner {
		return ErrNotOwner
	}
	if base.Sequence < j.Sequence || base.Sequence > j.Sequence+j.Count {
		return errors.New("host: a base of a sequence that the journal does not have")
	}
	rest, err := j.behind(base.Sequence - j.Sequence)
	if err != nil {
		return err
	}
	n := kept{Stored: Stored{Base: base, Owner: owner}}
	for _, k := range j.Recent {
		if k.Number > base.KeyNumber {
			n.Recent = append(n.Recent, k)
		}
	}
	// An engine that goes on while its snapshot is taken will fill the buffer again. One that does not gives it up.
	if len(rest) > 0 && !j.seen && cap(j.Entries) <= keptEntries {
		n.Entries, n.marks = j.Entries[:0], j.marks[:0]
	}
	for len(rest) > 0 {
		_, after, err := ipc.ReadEntry(rest)
		if err != nil {
			return err
		}
		if n.Count%marked == 0 {
			n.marks = append(n.marks, len(n.Entries))
		}
		n.Entries = append(n.Entries, rest[:len(rest)-len(after)]...)
		n.Count++
		rest = after
	}
	*j = n
	return nil
}

// behind returns the entries that follow the first n.
func (j *kept) behind(n uint64) ([]byte, error) {
	if n == j.Count {
		return nil, nil
	}
	rest := j.Entries[j.marks[n/marked]:]
	for range n % marked {
		_, after, err := ipc.ReadEntry(rest)
		if err != nil {
			return nil, err
		}
		rest = after
	}
	return rest, nil
}

func (m *memory) Delete(name string, done func(error)) {
	m.mu.Lock()
	delete(m.journals, name)
	m.mu.Unlock()
	done(nil)
}

// Ignore is a Done that nobody waits for: for stores that wrap others.
var Ignore = Done{to: ignored{}}

type ignored struct{}

func (ignored) stored(uint64, error) {}
