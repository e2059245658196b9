package journal

import (
	"bytes"
	"slices"
	"sort"
	"sync"
	"time"
)

// memory is the store in memory.
type memory struct {
	history History

	mu       sync.Mutex // guards what follows, and all that is in it
	journals map[string]*memoryJournal
	cores    map[string][]byte // by their hashes
}

// memoryJournal is a journal in memory.
type memoryJournal struct {
	// memorySpan is the newest base and the entries behind it.
	memorySpan
	// past are the older bases that are kept, oldest first.
	past  []memorySpan
	owner Owner
	// keys are the key records that were appended, batches the batches, as far as they are kept,
	// oldest first. The list of keys is only appended to, or replaced: a load hands it out.
	keys    []KeyRecord
	batches []Batch
	// isShared says that a load has handed the buffer of the newest span out.
	isShared bool
	// isTrimmed says that the base which the journal began with is not kept any more.
	isTrimmed bool
	// created and updated are when the name was created and when something was stored last, in
	// milliseconds since 1970.
	created, updated int64
}

// memorySpan is a base and the entries from there to the next base. All its entries lie in one
// buffer. Once a load has handed a part of the buffer out, the buffer is only appended to, or
// replaced by another one: what was handed out stays as it is.
type memorySpan struct {
	Base
	entries []byte
	count   uint64
	// marks are the places in the buffer where every markEvery-th entry begins. With them a new
	// base finds the entries behind it without reading all those before it.
	marks []int
	// stored is when the base was stored, in milliseconds since 1970.
	stored int64
}

const (
	// markEvery is the number of entries from one mark to the next.
	markEvery = 64
	// maxReusedBuffer is the size in bytes up to which a buffer is used again after a new base.
	maxReusedBuffer = 256 << 10
)

// MemoryOptions are what a store in memory can be told.
type MemoryOptions struct {
	// History says what is kept of what came before an engine's newest base. The zero value keeps
	// everything, so the store grows with every action. The store trims when a base is installed.
	History History
}

// NewMemory returns a store in memory. It keeps the newest base of each journal and what follows
// it, reports every call before the method returns, and fails only if it is called against the
// rules of [Store]. What it has is gone when the process ends. It is the default of
// host.Options.Store.
func NewMemory() Store { return NewMemoryWith(MemoryOptions{History: History{SinceBase: true}}) }

// NewMemoryWith returns a store in memory that keeps more than [NewMemory] does. With it, an engine
// can go back to a state from before its newest base.
func NewMemoryWith(o MemoryOptions) Store {
	return &memory{history: o.History, journals: map[string]*memoryJournal{}, cores: map[string][]byte{}}
}

func (m *memory) Load(name string, owner Owner, done func(*Stored, error)) {
	m.mu.Lock()
	j := m.journals[name]
	if j == nil {
		m.mu.Unlock()
		done(nil, nil)
		return
	}
	stored := &Stored{
		Base: j.Base, Owner: j.owner, Entries: slices.Clip(j.entries), Count: j.count,
		Recent: slices.Clip(j.keys[j.keysUpToNumber(j.KeyNumber):]),
	}
	j.owner, j.isShared = owner, true
	m.mu.Unlock()
	done(stored, nil)
}

// newest returns the sequence of the newest record.
func (j *memoryJournal) newest() uint64 { return j.Sequence + j.count }

// keysUpToNumber returns how many of the key records have a Number of at most number.
func (j *memoryJournal) keysUpToNumber(number uint64) int {
	return sort.Search(len(j.keys), func(k int) bool { return j.keys[k].Number > number })
}

func (m *memory) Append(name string, owner Owner, after uint64, group []Record, done Done) {
	done.Report(m.append(name, owner, after, group))
}

func (m *memory) append(name string, owner Owner, after uint64, group []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	if j == nil || j.owner != owner {
		return ErrNotOwner
	}
	if j.newest() != after {
		return Refused("an append behind the sequence %d, the newest one is %d", after, j.newest())
	}
	j.updated = time.Now().UnixMilli()
	for k := range group {
		r := &group[k]
		if r.Keyed != nil {
			j.keys = append(j.keys, *r.Keyed)
		}
		if r.Action == nil {
			continue
		}
		if j.count%markEvery == 0 {
			j.marks = append(j.marks, len(j.entries))
		}
		j.entries = AppendEntry(j.entries, r.Action, r.Checksum)
		j.count++
		if r.Batch != 0 {
			j.addToBatch(r.Batch)
		}
	}
	return nil
}

// addToBatch notes that the newest record belongs to the batch that began at the sequence first.
func (j *memoryJournal) addToBatch(first uint64) {
	if n := len(j.batches); n > 0 && j.batches[n-1].First == first {
		j.batches[n-1].Last = j.newest()
		return
	}
	j.batches = append(j.batches, Batch{first, j.newest()})
}

func (m *memory) Install(name string, owner Owner, base Base, done Done) {
	done.Report(m.install(name, owner, base))
}

func (m *memory) install(name string, owner Owner, base Base) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	now := time.Now().UnixMilli()
	if j == nil {
		first := memorySpan{Base: base, stored: now}
		m.journals[name] = &memoryJournal{memorySpan: first, owner: owner, created: now, updated: now}
		return nil
	}
	if j.owner != owner {
		return ErrNotOwner
	}
	if err := base.CheckBehind(&j.Base, j.newest()); err != nil {
		return err
	}
	j.updated = now
	if base.Sequence == j.Sequence {
		j.Base = base
		m.trim(j)
		return nil
	}
	next := memorySpan{Base: base, stored: now}
	if !base.IsMarker {
		if err := m.split(j, &next); err != nil {
			return err
		}
	}
	j.past = append(j.past, j.memorySpan)
	j.memorySpan, j.isShared = next, false
	m.trim(j)
	return nil
}

// split moves the entries behind the base of next from the newest span to next.
func (m *memory) split(j *memoryJournal, next *memorySpan) error {
	rest, err := j.behind(next.Sequence - j.Sequence)
	if err != nil {
		return err
	}
	kept := len(j.entries) - len(rest)
	// If there are entries behind the base, the engine is busy and will fill the buffer again.
	// Otherwise the buffer is given up, with the span.
	if len(rest) > 0 && !j.isShared && m.history.SinceBase && cap(j.entries) <= maxReusedBuffer {
		next.entries, next.marks = j.entries[:0], j.marks[:0]
	}
	for len(rest) > 0 {
		_, after, err := ReadEntry(rest)
		if err != nil {
			return err
		}
		if next.count%markEvery == 0 {
			next.marks = append(next.marks, len(next.entries))
		}
		next.entries = append(next.entries, rest[:len(rest)-len(after)]...)
		next.count++
		rest = after
	}
	if m.history.SinceBase {
		return nil // the span is trimmed at once
	}
	j.count -= next.count
	j.marks = slices.Clone(j.marks[:(j.count+markEvery-1)/markEvery])
	j.entries = j.entries[:kept:kept]
	if !j.isShared {
		j.entries = bytes.Clone(j.entries) // the span keeps no more memory than it needs
	}
	return nil
}

// behind returns the entries that follow the first n.
func (s *memorySpan) behind(n uint64) ([]byte, error) {
	if n == s.count {
		return nil, nil
	}
	rest := s.entries[s.marks[n/markEvery]:]
	for range n % markEvery {
		_, after, err := ReadEntry(rest)
		if err != nil {
			return nil, err
		}
		rest = after
	}
	return rest, nil
}

func (m *memory) Delete(name string, done Done) {
	m.mu.Lock()
	delete(m.journals, name)
	m.mu.Unlock()
	done.Report(nil)
}
