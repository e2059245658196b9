package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"hypertoken/journal"
)

// history is all that was ever stored of a journal.
type history struct {
	*model
	name string
	// all are the entries of all sequences from 1 on: nil for those before the first base, and for
	// markers.
	all     [][]byte
	keys    []journal.KeyRecord // that were appended
	numbers uint64              // of key records that were used
	bases   []journal.Base
	batches []journal.Batch
}

// begin returns the base that the journal began with.
func (p *history) begin() *journal.Base { return &p.bases[0] }

// isMarker tells whether a sequence is a marker's.
func (p *history) isMarker(sequence uint64) bool {
	return slices.ContainsFunc(p.bases, func(b journal.Base) bool { return b.IsMarker && b.Sequence == sequence })
}

// pastStates reads states and entries of the past.
func pastStates(c *client) {
	if h, ok := c.store.(journal.Historian); ok {
		c.checkHistory(h, c.randomHistory(name, setup("a"), false))
	}
}

// pastMarkers reads a past that has markers and batches, of journals that begin in different ways.
func pastMarkers(c *client) {
	h, ok := c.store.(journal.Historian)
	if !ok {
		return
	}
	fork, imported := snapshot(0), snapshot(7)
	fork.IsMarker, imported.IsMarker = true, true
	for k, begin := range []journal.Base{setup("a"), fork, snapshot(7), imported} {
		c.checkHistory(h, c.randomHistory(fmt.Sprint(name, k), begin, true))
	}
}

// randomHistory makes a journal at random.
func (c *client) randomHistory(name string, begin journal.Base, hasMarkers bool) *history {
	r := rand.New(rand.NewPCG(5, uint64(name[len(name)-1])))
	past := &history{model: c.create(name, first, begin), name: name, bases: []journal.Base{begin}}
	past.all = make([][]byte, begin.Sequence)
	for range 60 {
		if r.IntN(5) > 0 {
			group := past.randomGroup(r, hasMarkers)
			c.must("Append", c.append(name, first, past.newest(), group...))
			past.append(group...)
			continue
		}
		base := past.randomBase(r, hasMarkers)
		c.must("Install", c.install(name, first, base))
		if base.Sequence > past.newest() {
			past.all = append(past.all, nil)
		}
		past.install(base)
		isReplaced := func(b journal.Base) bool { return b.Sequence == base.Sequence }
		past.bases = append(slices.DeleteFunc(past.bases, isReplaced), base)
	}
	return past
}

// randomGroup returns a group and adds it to the history.
func (p *history) randomGroup(r *rand.Rand, hasBatches bool) (group []journal.Record) {
	sequence, inBatch, batch := p.newest(), 0, uint64(0)
	for range 1 + r.IntN(6) {
		a := journal.Record{}
		if inBatch == 0 {
			if batch = 0; hasBatches && r.IntN(4) == 0 {
				inBatch, batch = 1+r.IntN(4), sequence+1
			}
		}
		if batch != 0 || r.IntN(4) > 0 {
			a = action(r.IntN(1 << 16))
			sequence++
			p.all = append(p.all, journal.AppendEntry(nil, a.Action, a.Checksum))
		}
		if batch != 0 {
			a.Batch = batch
			inBatch--
			if batch == sequence {
				p.batches = append(p.batches, journal.Batch{First: batch})
			}
			p.batches[len(p.batches)-1].Last = sequence
		}
		if a.Action == nil || r.IntN(4) == 0 {
			p.numbers++
			a = keyed(a, p.numbers, sequence)
			p.keys = append(p.keys, *a.Keyed)
		}
		group = append(group, a)
	}
	return group
}

// randomBase returns a base that may be installed.
func (p *history) randomBase(r *rand.Rand, hasMarkers bool) journal.Base {
	base := snapshot(p.base.Sequence + r.Uint64N(uint64(len(p.entries))+1))
	isNew := hasMarkers && r.IntN(2) == 0
	if isNew {
		base.Sequence = p.newest() + 1
		base.Details = fmt.Append(nil, "marker", base.Sequence)
	}
	base.IsMarker = isNew || base.Sequence == p.base.Sequence && p.base.IsMarker
	base.Data = fmt.Append(nil, "state", base.Sequence, len(p.bases))
	base.KeyNumber, base.Keys = p.base.KeyNumber, slices.Clone(p.base.Keys)
	for _, k := range p.recent {
		if k.Sequence <= base.Sequence && base.Sequence != p.base.Sequence {
			base.KeyNumber = k.Number
			base.Keys = append(base.Keys, k)
		}
	}
	base.Keys = base.Keys[max(0, len(base.Keys)-3+r.IntN(3)):]
	if isNew && r.IntN(2) == 0 { // a marker that had a key
		p.numbers++
		base.KeyNumber = p.numbers
		base.Keys = append(base.Keys, *keyRecord(p.numbers, base.Sequence))
	}
	return base
}

// checkHistory compares what the store has of a journal's past.
func (c *client) checkHistory(h journal.Historian, past *history) {
	c.t.Helper()
	for at := past.begin().Sequence; at <= past.newest(); at++ {
		c.checkPast(h, past, at)
	}
	for _, limit := range []int{0, 1, 300, 1 << 20} {
		c.checkRange(h, past, limit)
	}
	c.checkOutside(h, past)
	// Reading the history makes nobody an owner.
	c.must("Append after reading the history", c.append(past.name, first, past.newest(), action(1)))
	past.append(action(1))
	c.expect("after reading the history", past.name, first, past.model)
}

// checkPast checks the state at a sequence.
func (c *client) checkPast(h journal.Historian, past *history, at uint64) {
	c.t.Helper()
	s, err := c.loadAt(h, past.name, at)
	if errors.Is(err, journal.ErrTrimmed) && at < past.base.Sequence {
		return
	}
	c.must(fmt.Sprintf("LoadAt(%d), the newest base is %d", at, past.base.Sequence), err)
	if s == nil {
		c.t.Fatalf("LoadAt(%d) has nothing", at)
	}
	want := *past.begin()
	for _, b := range past.bases {
		if b.Sequence <= at && b.Sequence >= want.Sequence {
			want = b
		}
	}
	if !sameBase(s.Base, want) {
		c.t.Fatalf("LoadAt(%d): the base is %s; want %s", at, describe(&s.Base), describe(&want))
	}
	entries := past.all[want.Sequence:at]
	if s.Count != uint64(len(entries)) || !bytes.Equal(s.Entries, bytes.Join(entries, nil)) {
		c.t.Fatalf("LoadAt(%d): %d entries behind %d, or other ones", at, s.Count, s.Sequence)
	}
	isOutside := func(k journal.KeyRecord) bool { return k.Number <= want.KeyNumber || k.Sequence > at }
	if keys := slices.DeleteFunc(slices.Clone(past.keys), isOutside); !sameKeys(s.Recent, keys) {
		c.t.Fatalf("LoadAt(%d): the recent keys are %s, want %s", at, keyNames(s.Recent), keyNames(keys))
	}
}

func (c *client) loadAt(h journal.Historian, name string, at uint64) (result *journal.Stored, err error) {
	a := c.begin("LoadAt(%q, %d)", name, at)
	h.LoadAt(name, at, func(s *journal.Stored, err error) {
		c.mu.Lock()
		if a.reports == 0 {
			result = s
		}
		c.mu.Unlock()
		c.report(a, err)
	})
	err = a.wait()
	return result, err
}

// checkRange reads all entries and markers in parts.
func (c *client) checkRange(h journal.Historian, past *history, limit int) {
	c.t.Helper()
	start, isWhole := past.firstOf(past.begin()), true
	if _, err := c.part(h, past.name, start, limit); errors.Is(err, journal.ErrTrimmed) &&
		past.base.Sequence > past.begin().Sequence {
		start, isWhole = past.firstOf(&past.base), false
	}
	var entries []byte
	var keys []journal.KeyRecord
	for from := start; from <= past.newest(); {
		p, err := c.part(h, past.name, from, limit)
		c.must(fmt.Sprintf("Range(%d, %d)", from, limit), err)
		if p.First != from || p.Count == 0 || p.First+p.Count-1 > past.newest() {
			c.t.Fatalf("Range(%d, %d): %d entries from %d on, the newest is %d", from, limit, p.Count, p.First,
				past.newest())
		}
		c.checkPart(past, &p)
		entries, keys = append(entries, p.Entries...), append(keys, p.Keyed...)
		from += p.Count
	}
	if !bytes.Equal(entries, bytes.Join(past.all[max(start, 1)-1:], nil)) {
		c.t.Fatalf("Range from %d on, about %d bytes a part, has other entries than were appended", start, limit)
	}
	isBefore := func(k journal.KeyRecord) bool { return k.Sequence < start && !isWhole }
	if want := slices.DeleteFunc(slices.Clone(past.keys), isBefore); !sameKeys(keys, want) {
		c.t.Fatalf("Range from %d on, about %d bytes a part: the keys are %s, want %s", start, limit, keyNames(keys),
			keyNames(want))
	}
}

// firstOf returns the first sequence that can be read if a base is the oldest.
func (p *history) firstOf(base *journal.Base) uint64 {
	if base.IsMarker {
		return base.Sequence
	}
	return base.Sequence + 1
}

// checkPart checks the markers and the batches of a part.
func (c *client) checkPart(past *history, p *journal.Part) {
	c.t.Helper()
	last := p.First + p.Count - 1
	for sequence := p.First; sequence <= last; sequence++ {
		if past.isMarker(sequence) && (p.Count != 1 || p.Marker == nil || len(p.Entries) != 0) {
			c.t.Fatalf("Range has a part from %d to %d, and %d is a marker's", p.First, last, sequence)
		}
	}
	if p.Marker != nil {
		isIt := func(b journal.Base) bool { return b.IsMarker && b.Sequence == p.First && sameBase(b, *p.Marker) }
		if !slices.ContainsFunc(past.bases, isIt) {
			c.t.Fatalf("Range(%d) has a marker that was not installed: %s", p.First, describe(p.Marker))
		}
	}
	isElsewhere := func(b journal.Batch) bool { return b.Last < p.First || b.First > last }
	if want := slices.DeleteFunc(slices.Clone(past.batches), isElsewhere); !slices.Equal(p.Batches, want) {
		c.t.Fatalf("Range has a part from %d to %d with the batches %v, want %v", p.First, last, p.Batches, want)
	}
}

func (c *client) part(h journal.Historian, name string, from uint64, limit int) (part journal.Part, err error) {
	a := c.begin("Range(%q, %d, %d)", name, from, limit)
	h.Range(name, from, limit, func(p journal.Part, err error) {
		c.mu.Lock()
		if a.reports == 0 {
			part = p
		}
		c.mu.Unlock()
		c.report(a, err)
	})
	err = a.wait()
	return part, err
}

// checkOutside asks for what is not there, and for the sequence 0.
func (c *client) checkOutside(h journal.Historian, past *history) {
	c.t.Helper()
	newest, begin := past.newest(), past.begin()
	if _, err := c.loadAt(h, past.name, newest+1); !errors.Is(err, journal.ErrRefused) {
		c.problem("LoadAt beyond the newest sequence: %v, want journal.ErrRefused", err)
	}
	if p, err := c.part(h, past.name, newest+1, 100); err != nil || p.Count != 0 || len(p.Entries) != 0 {
		c.problem("Range from the newest sequence plus 1: %d entries, %v", p.Count, err)
	}
	if _, err := c.part(h, past.name, newest+2, 100); !errors.Is(err, journal.ErrRefused) {
		c.problem("Range from the newest sequence plus 2: %v, want journal.ErrRefused", err)
	}
	if s, err := c.loadAt(h, name+"nobody", 0); s != nil || err != nil {
		c.problem("LoadAt of an unknown name: %v, %v; want nothing and no error", s, err)
	}
	if begin.Sequence > 0 {
		_, err := c.loadAt(h, past.name, begin.Sequence-1)
		_, err2 := c.part(h, past.name, begin.Sequence-1, 100)
		if !errors.Is(err, journal.ErrTrimmed) || !errors.Is(err2, journal.ErrTrimmed) {
			c.problem("before the first base: LoadAt %v, Range %v; want journal.ErrTrimmed", err, err2)
		}
	}
	p, err := c.part(h, past.name, 0, 100)
	switch {
	case errors.Is(err, journal.ErrTrimmed) && past.base.Sequence > begin.Sequence:
	case err != nil || p.Count != 0 && !begin.IsMarker || len(p.Entries) != 0:
		c.problem("Range(0): %d entries, %v; the journal begins with %s", p.Count, err, describe(begin))
	case begin.IsMarker &&
		(p.First != begin.Sequence || p.Count != 1 || p.Marker == nil || !sameBase(*p.Marker, *begin)):
		c.problem("Range(0): %+v; the journal begins with %s", p, describe(begin))
	}
}
