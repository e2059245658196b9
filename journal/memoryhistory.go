package journal

import (
	"slices"
	"strings"
	"time"
)

// The store in memory can do what this file has: it lists names, keeps cores, and reads what it
// keeps of the past, which is what follows the newest base.
var (
	_ Lister    = (*memory)(nil)
	_ Historian = (*memory)(nil)
	_ Releaser  = (*memory)(nil)

	_ CoreKeeper = (*memory)(nil)
)

// entryOverhead is about what the store takes for an engine beside its bytes.
const entryOverhead = 256

func (m *memory) List(prefix, after string, limit int, done func([]Info, error)) {
	m.mu.Lock()
	var names []string
	for name := range m.journals {
		if strings.HasPrefix(name, prefix) && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var page []Info
	for _, name := range names[:min(limit, len(names))] {
		page = append(page, m.journals[name].info(name))
	}
	m.mu.Unlock()
	done(page, nil)
}

func (j *memoryJournal) info(name string) Info {
	info := Info{
		Name: name, Sequence: j.Sequence + j.Count, Core: j.Core,
		Bytes:   uint64(len(j.Data) + len(j.Entries) + entryOverhead),
		Created: time.UnixMilli(j.created), Updated: time.UnixMilli(j.updated),
	}
	for _, list := range [][]KeyRecord{j.Keys, j.Recent} {
		for k := range list {
			info.Bytes += uint64(len(list[k].Key) + len(list[k].Result) + entryOverhead)
		}
	}
	return info
}

func (m *memory) LoadAt(name string, at uint64, done func(*Stored, error)) {
	stored, err := m.loadAt(name, at)
	done(stored, err)
}

func (m *memory) loadAt(name string, at uint64) (*Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	switch {
	case j == nil:
		return nil, nil
	case at > j.Sequence+j.Count:
		return nil, Refused("the sequence %d is beyond the newest one, %d", at, j.Sequence+j.Count)
	case at < j.Sequence:
		return nil, ErrTrimmed
	}
	rest, err := j.behind(at - j.Sequence)
	if err != nil {
		return nil, err
	}
	j.isShared = true
	stored := j.Stored
	stored.Count = at - j.Sequence
	stored.Entries = slices.Clip(j.Entries[:len(j.Entries)-len(rest)])
	stored.Recent = slices.Clip(j.Recent[:j.keysUpTo(at)])
	return &stored, nil
}

// keysUpTo returns how many of the recent key records are up to a sequence.
func (j *memoryJournal) keysUpTo(at uint64) int {
	n := slices.IndexFunc(j.Recent, func(k KeyRecord) bool { return k.Sequence > at })
	if n < 0 {
		return len(j.Recent)
	}
	return n
}

func (m *memory) Range(name string, from uint64, limit int, done func(Part, error)) {
	part, err := m.part(name, from, limit)
	done(part, err)
}

func (m *memory) part(name string, from uint64, limit int) (p Part, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	switch {
	case j == nil:
		return p, Refused("no journal has the name %q", name)
	case from == 0 || from > j.Sequence+j.Count+1:
		return p, Refused("the sequence %d is not one of the journal's, 1 to %d", from, j.Sequence+j.Count)
	case from <= j.Sequence:
		return p, ErrTrimmed
	}
	p.First = from
	start, err := j.behind(from - 1 - j.Sequence)
	if err != nil {
		return Part{}, err
	}
	rest := start
	for len(rest) > 0 {
		_, after, err := ReadEntry(rest)
		if err != nil {
			return Part{}, err
		}
		if p.Count > 0 && len(start)-len(after) > limit {
			break
		}
		rest = after
		p.Count++
	}
	if p.Count == 0 {
		return p, nil
	}
	j.isShared = true
	p.Entries = slices.Clip(start[:len(start)-len(rest)])
	first := j.keysUpTo(from - 1)
	if from == 1 {
		first = 0 // notes before the first action
	}
	p.Keyed = slices.Clip(j.Recent[first:j.keysUpTo(from+p.Count-1)])
	return p, nil
}

func (m *memory) Release(name string, owner Owner, done Done) {
	m.mu.Lock()
	j := m.journals[name]
	isOwner := j != nil && j.Owner == owner
	if isOwner {
		j.Owner = Owner{}
	}
	m.mu.Unlock()
	if !isOwner {
		done.Report(ErrNotOwner)
		return
	}
	done.Report(nil)
}

func (m *memory) KeepCore(hash string, code []byte, done Done) {
	m.mu.Lock()
	m.cores[hash] = code
	m.mu.Unlock()
	done.Report(nil)
}

func (m *memory) Core(hash string, done func(code []byte, err error)) {
	m.mu.Lock()
	code := m.cores[hash]
	m.mu.Unlock()
	done(code, nil)
}
