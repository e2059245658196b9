package journal

import (
	"slices"
	"sort"
	"strings"
	"time"
)

// The store in memory can do what this file has: it lists and changes names, keeps cores, and reads
// what it keeps of the past.
var (
	_ Lister    = (*memory)(nil)
	_ Historian = (*memory)(nil)
	_ Releaser  = (*memory)(nil)
	_ Renamer   = (*memory)(nil)

	_ CoreKeeper = (*memory)(nil)
)

// entryOverhead is about what the store takes for an engine beside its bytes.
const entryOverhead = 256

func (m *memory) List(prefix, after string, limit int, done func([]Info, error)) {
	m.mu.Lock()
	var names []string
	for name := range m.journals {
		isHidden := strings.HasPrefix(name, "\x00") && !strings.HasPrefix(prefix, "\x00")
		if strings.HasPrefix(name, prefix) && name > after && !isHidden {
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
	return Info{
		Name: name, Sequence: j.newest(), Core: j.Core, Bytes: j.bytes(),
		Created: time.UnixMilli(j.created), Updated: time.UnixMilli(j.updated),
	}
}

// bytes returns about how much the journal takes.
func (j *memoryJournal) bytes() uint64 {
	n := j.memorySpan.bytes() + keyBytes(j.keys)
	for k := range j.past {
		n += j.past[k].bytes()
	}
	return n
}

func (s *memorySpan) bytes() uint64 {
	return uint64(len(s.Data)+len(s.Details)+len(s.entries)+entryOverhead) + keyBytes(s.Keys)
}

func keyBytes(list []KeyRecord) (n uint64) {
	for k := range list {
		n += uint64(len(list[k].Key) + len(list[k].Result) + entryOverhead)
	}
	return n
}

// oldest returns the oldest base that is kept, and what follows it.
func (j *memoryJournal) oldest() *memorySpan {
	if len(j.past) > 0 {
		return &j.past[0]
	}
	return &j.memorySpan
}

// at returns the newest base whose sequence is at most sequence, and what follows it; nil if no
// such base is kept.
func (j *memoryJournal) at(sequence uint64) *memorySpan {
	if sequence >= j.Sequence {
		return &j.memorySpan
	}
	n := sort.Search(len(j.past), func(k int) bool { return j.past[k].Sequence > sequence })
	if n == 0 {
		return nil
	}
	return &j.past[n-1]
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
	case at > j.newest():
		return nil, Refused("the sequence %d is beyond the newest one, %d", at, j.newest())
	}
	span := j.at(at)
	if span == nil {
		return nil, ErrTrimmed
	}
	rest, err := span.behind(at - span.Sequence)
	if err != nil {
		return nil, err
	}
	j.isShared = true
	last := j.keysUpTo(at)
	return &Stored{
		Base: span.Base, Owner: j.owner,
		Entries: slices.Clip(span.entries[:len(span.entries)-len(rest)]), Count: at - span.Sequence,
		Recent: slices.Clip(j.keys[min(last, j.keysUpToNumber(span.KeyNumber)):last]),
	}, nil
}

// keysUpTo returns how many of the key records are up to a sequence.
func (j *memoryJournal) keysUpTo(at uint64) int {
	return sort.Search(len(j.keys), func(k int) bool { return j.keys[k].Sequence > at })
}

func (m *memory) Range(name string, from uint64, limit int, done func(Part, error)) {
	part, err := m.part(name, from, limit)
	done(part, err)
}

func (m *memory) part(name string, from uint64, limit int) (p Part, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[name]
	if j == nil {
		return p, Refused("no journal has the name %q", name)
	}
	if from > j.newest()+1 {
		return p, Refused("the sequence %d is not one of the journal's, 0 to %d", from, j.newest())
	}
	if from == 0 {
		return j.firstPart()
	}
	span := j.at(from)
	if span != nil && span.IsMarker && span.Sequence == from {
		return j.markerPart(span), nil
	}
	if span = j.at(from - 1); span == nil {
		return p, ErrTrimmed
	}
	p.First = from
	start, err := span.behind(from - 1 - span.Sequence)
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
	isAtStart := !j.isTrimmed && span == j.oldest() && from == span.Sequence+1 && !span.IsMarker
	j.addKeyed(&p, isAtStart)
	return p, nil
}

// firstPart returns the part that begins with the sequence 0.
func (j *memoryJournal) firstPart() (Part, error) {
	switch oldest := j.oldest(); {
	case j.isTrimmed:
		return Part{}, ErrTrimmed
	case oldest.IsMarker:
		return j.markerPart(oldest), nil
	}
	return Part{}, nil
}

func (j *memoryJournal) markerPart(span *memorySpan) Part {
	marker := span.Base
	p := Part{First: marker.Sequence, Count: 1, Marker: &marker}
	j.addKeyed(&p, false)
	return p
}

// addKeyed adds the key records and the batches to a part. Key records that were appended before
// the first entry are in the part with that entry.
func (j *memoryJournal) addKeyed(p *Part, isAtStart bool) {
	first, last := 0, p.First+p.Count-1
	if !isAtStart && p.First > 0 {
		first = j.keysUpTo(p.First - 1)
	}
	p.Keyed = slices.Clip(j.keys[first:j.keysUpTo(last)])
	k := sort.Search(len(j.batches), func(k int) bool { return j.batches[k].Last >= p.First })
	for ; k < len(j.batches) && j.batches[k].First <= last; k++ {
		p.Batches = append(p.Batches, j.batches[k])
	}
}

// Rename gives a journal another name.
func (m *memory) Rename(from, to string, owner Owner, done Done) {
	done.Report(m.rename(from, to, owner))
}

func (m *memory) rename(from, to string, owner Owner) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.journals[from]
	switch {
	case j == nil || j.owner != owner:
		return ErrNotOwner
	case m.journals[to] != nil:
		return ErrExists
	}
	delete(m.journals, from)
	m.journals[to] = j
	return nil
}

func (m *memory) Release(name string, owner Owner, done Done) {
	m.mu.Lock()
	j := m.journals[name]
	isOwner := j != nil && j.owner == owner
	if isOwner {
		j.owner = Owner{}
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
