package journal

import (
	"slices"
	"sync"
	"time"
)

// memory is the store in memory.
type memory struct {
	mu       sync.Mutex // guards what follows, and all that is in it
	journals map[string]*memoryJournal
	cores    map[string][]byte // by their hashes
}

// memoryJournal is a journal in memory. All its entries lie in one buffer. Once a load has handed
// a part of the buffer out, the buffer is only appended to, or replaced by another one: what was
// handed out stays as it is.
type memoryJournal struct {
	Stored
	// isShared says that a load has handed the buffer out.
	isShared bool
	// marks are the places in the buffer where every markEvery-th entry begins. With them a new
	// base finds the entries behind it without reading all those before it.
	marks []int
	// created and updated are when the name was created and when something was stored last, in
	// milliseconds since 1970.
	created, updated int64
}

const (
	// markEvery is the number of entries from one mark to the next.
	markEvery = 64
	// maxReusedBuffer is the size in bytes up to which a buffer is used again after a new base.
	maxReusedBuffer = 256 << 10
)

// NewMemory returns a store in memory. It keeps the newest base of each journal and what follows
// it, reports every call before the method returns, and fails only if it is called against the
// rules of [Store]. What it has is gone when the process ends. It is the default of
// host.Options.Store.
func NewMemory() Store {
	return &memory{journals: map[string]*memoryJournal{}, cores: map[string][]byte{}}
}

func (m *memory) Load(name string, owner Owner, done func(*Stored, error)) {
	m.mu.Lock()
	j := m.journals[name]
	if j == nil {
		m.mu.Unlock()
		done(nil, nil)
		return
	}
	stored := j.Stored
	j.Owner, j.isShared = owner, true
	m.mu.Unlock()
	stored.Entries, stored.Recent = slices.Clip(stored.Entries), slices.Clip(stored.Recent)
	done(&stored, nil)
}

func (m *memory) Append(name string, owner Owner, after uint64, group []Record, done Done) {
	done.Report(m.append(name, owner, after, group))
}

func (m *memory) append(name string, owner Owner, after uint64, group []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	if j == nil || j.Owner != owner {
		return ErrNotOwner
	}
	if j.Sequence+j.Count != after {
		return Refused("an append behind the sequence %d, the newest one is %d", after, j.Sequence+j.Count)
	}
	j.updated = time.Now().UnixMilli()
	for k := range group {
		r := &group[k]
		if r.Keyed != nil {
			j.Recent = append(j.Recent, *r.Keyed)
		}
		if r.Action == nil {
			continue
		}
		if j.Count%markEvery == 0 {
			j.marks = append(j.marks, len(j.Entries))
		}
		j.Entries = AppendEntry(j.Entries, r.Action, r.Checksum)
		j.Count++
	}
	return nil
}

func (m *memory) Install(name string, owner Owner, base Base, done Done) {
	done.Report(m.install(name, owner, base))
}

func (m *memory) install(name string, owner Owner, base Base) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	if j == nil {
		now := time.Now().UnixMilli()
		m.journals[name] = &memoryJournal{Stored: Stored{Base: base, Owner: owner}, created: now, updated: now}
		return nil
	}
	if j.Owner != owner {
		return ErrNotOwner
	}
	if base.Sequence < j.Sequence || base.Sequence > j.Sequence+j.Count {
		return Refused("a base of the sequence %d, the journal has %d to %d",
			base.Sequence, j.Sequence, j.Sequence+j.Count)
	}
	rest, err := j.behind(base.Sequence - j.Sequence)
	if err != nil {
		return err
	}
	n := memoryJournal{Stored: Stored{Base: base, Owner: owner}, created: j.created, updated: time.Now().UnixMilli()}
	for _, k := range j.Recent {
		if k.Number > base.KeyNumber {
			n.Recent = append(n.Recent, k)
		}
	}
	// If there are entries behind the base, the engine is busy and will fill the buffer again.
	// Otherwise it is given up.
	if len(rest) > 0 && !j.isShared && cap(j.Entries) <= maxReusedBuffer {
		n.Entries, n.marks = j.Entries[:0], j.marks[:0]
	}
	for len(rest) > 0 {
		_, after, err := ReadEntry(rest)
		if err != nil {
			return err
		}
		if n.Count%markEvery == 0 {
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
func (j *memoryJournal) behind(n uint64) ([]byte, error) {
	if n == j.Count {
		return nil, nil
	}
	rest := j.Entries[j.marks[n/markEvery]:]
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
