package jetstream

import (
	"context"
	"slices"

	"hypertoken/journal"
)

// LoadAt implements [journal.Historian].
func (s *Store) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	s.readFreely(name, func(ctx context.Context, r *journalReader) {
		var stored *journal.Stored
		err := r.again(func() (err error) {
			stored, err = r.loadAt(ctx, at)
			return err
		})
		if err != nil {
			stored = nil
		}
		done(stored, err)
	}, func(err error) { done(nil, err) })
}

// Range implements [journal.Historian].
func (s *Store) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	s.readFreely(name, func(ctx context.Context, r *journalReader) {
		var part journal.Part
		err := r.again(func() (err error) {
			part, err = r.history(ctx, from, limit)
			return err
		})
		if err != nil {
			part = journal.Part{}
		}
		done(part, err)
	}, func(err error) { done(journal.Part{}, err) })
}

// readFreely calls read with a reader of a journal that needs no owner: it sees all that was stored
// before the call, by any store. If that is not possible, it calls failed.
func (s *Store) readFreely(name string, read func(context.Context, *journalReader), failed func(error)) {
	s.background(func(ctx context.Context) {
		token, err := token(name)
		if err != nil {
			failed(err)
			return
		}
		slot := SlotOf(name)
		st := s.streams[s.layout.streamOf(slot)]
		witness := s.layout.readSubject(st.number)
		mark, err := s.mark(ctx, witness)
		if err != nil {
			failed(err)
			return
		}
		// The tail is read first: what is settled meanwhile is on the engine's subject then.
		tail, seen, err := st.readTail(ctx, slot, witness, mark)
		if err != nil {
			failed(err)
			return
		}
		r := st.reader(slot, name, token, witness, seen)
		r.tail = tail.recordsOf(token)
		read(ctx, r)
	}, failed)
}

// mark writes a message to a subject. A replica that has it has all that was stored before.
func (s *Store) mark(ctx context.Context, subject string) (at uint64, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		m := newMark(subject)
		at, err = s.conn.write(ctx, m, s.o.AnswerTimeout)
		return err
	})
	return at, err
}

// loadAt returns the state at a sequence.
func (r *journalReader) loadAt(ctx context.Context, at uint64) (*journal.Stored, error) {
	last, err := r.last(ctx)
	if err != nil || last.isAbsent() {
		return nil, err
	}
	if at > last.newest() {
		return nil, journal.Refused("the sequence %d is beyond the newest one, %d", at, last.newest())
	}
	end, err := r.endOf(ctx, last, at)
	if err != nil {
		return nil, err
	}
	if end == nil {
		return nil, journal.ErrTrimmed
	}
	base, records, err := r.fromBase(ctx, end)
	if err != nil {
		return nil, err
	}
	stored, _, err := r.assemble(ctx, base, records, at)
	return stored, err
}

// endOf returns the last record whose newest base is at or before a sequence; nil if that base was
// trimmed. The record names the base that the state at the sequence begins with, and comes behind all that
// the state needs.
func (r *journalReader) endOf(ctx context.Context, last *record, sequence uint64) (*record, error) {
	end, err := r.search(ctx, last, func(rec *record) bool { return rec.baseSequence <= sequence })
	if err != nil || end == nil || end == last {
		return end, err
	}
	oldest, err := r.oldestBase(ctx, last)
	if err != nil || sequence < oldest.baseSequence {
		return nil, err
	}
	return end, nil
}

// oldestBase returns the oldest base whose state can be read. What was trimmed ends with a message, so
// there may be groups before that base which nobody needs, and bases that need groups which are gone.
func (r *journalReader) oldestBase(ctx context.Context, last *record) (*record, error) {
	part, err := r.beginning(ctx, last)
	if err != nil {
		return nil, err
	}
	for begin := part[0].at; ; {
		for k := range part {
			if b := &part[k]; b.isBase() && (b.start == 0 || b.start >= begin) {
				return b, nil
			}
		}
		end := part[len(part)-1].at
		if end >= last.at {
			return nil, r.missing("the journal has no base")
		}
		if part, err = r.part(ctx, end+1, last); err != nil {
			return nil, err
		}
	}
}

// trimmedBytes returns how much of what a record counts as the journal's bytes was trimmed. base is the
// newest base.
func (r *journalReader) trimmedBytes(ctx context.Context, base, last *record) (uint64, error) {
	if base.ordinal == 1 {
		return 0, nil // nothing came before it
	}
	first, err := r.next(ctx, 1, last)
	if err != nil || first.ordinal == 1 {
		return 0, err
	}
	return first.bytesBefore(), nil
}

// baseAt returns the record of the base that the state at a sequence begins with; nil if there is none.
// If the base was replaced by others of its sequence, it is the last one of them.
func (r *journalReader) baseAt(ctx context.Context, last *record, sequence uint64) (*record, error) {
	end, err := r.endOf(ctx, last, sequence)
	if err != nil || end == nil || end.isBase() {
		return end, err
	}
	base, err := r.next(ctx, end.base, last)
	if err == nil && !base.isBaseOf(end) {
		err = r.missing("the base %d that the record %d names is not there", end.base, end.at)
	}
	return base, err
}

// A search reads at each place so many records, and about so many bytes.
const (
	searchRecords = 16
	searchBytes   = 64 << 10
)

// search returns the last record for which isBefore is true; nil if there is none. If it is true for a
// record, it has to be true for all records before that.
func (r *journalReader) search(ctx context.Context, last *record, isBefore func(*record) bool) (*record, error) {
	if isBefore(last) {
		return last, nil
	}
	part, err := r.beginning(ctx, last)
	if err != nil || !isBefore(&part[0]) {
		return nil, err
	}
	found := &part[0]
	middle, end := uint64(1), last.at // isBefore is false from the stream sequence end on
	for {
		n := 0
		for n < len(part) && isBefore(&part[n]) {
			n++
		}
		if n > 0 {
			found = &part[n-1]
		} else {
			end = middle
		}
		if n > 0 && n < len(part) || found.at+1 >= end {
			return found, nil
		}
		middle = found.at + 1 + (end-found.at-1)/2
		if part, err = r.partOf(ctx, middle, last, searchRecords, searchBytes); err != nil {
			return nil, err
		}
	}
}

// beginning returns the first records of the journal, at least one. A call reads them once.
func (r *journalReader) beginning(ctx context.Context, last *record) (_ []record, err error) {
	if r.first == nil {
		r.first, err = r.partOf(ctx, 1, last, searchRecords, searchBytes)
	}
	return r.first, err
}

// next returns the first record from a stream sequence on.
func (r *journalReader) next(ctx context.Context, from uint64, last *record) (*record, error) {
	part, err := r.partOf(ctx, from, last, 1, queryBytes)
	if err != nil {
		return nil, err
	}
	return &part[0], nil
}

// history returns the part of the history that begins with a sequence.
func (r *journalReader) history(ctx context.Context, from uint64, limit int) (none journal.Part, err error) {
	last, err := r.last(ctx)
	switch {
	case err != nil:
		return none, err
	case last.isAbsent():
		return none, journal.Refused("no journal has the name %q", r.name)
	case from > last.newest()+1:
		return none, journal.Refused("the sequence %d is not one of the journal's, 0 to %d", from, last.newest())
	case from == last.newest()+1:
		return journal.Part{First: from}, nil
	}
	first, err := r.beginning(ctx, last)
	if err != nil {
		return none, err
	}
	begin, err := r.oldestBase(ctx, last)
	if err != nil {
		return none, err
	}
	isTrimmed := begin.ordinal > 1
	switch {
	case from == 0 && isTrimmed:
		return none, journal.ErrTrimmed
	case from == 0 && begin.kind != kindMarker:
		return none, nil
	case from == 0:
		from = begin.baseSequence
	case from < begin.baseSequence || from == begin.baseSequence && begin.kind != kindMarker:
		return none, journal.ErrTrimmed
	}
	p := &partFiller{r: r, last: last, part: journal.Part{First: from}, limit: limit}
	// The first entry's part has the key records from before it. If the journal begins with a marker,
	// the marker's part has them.
	p.isAtStart = from == begin.baseSequence+1 && begin.kind != kindMarker && !isTrimmed
	// If the journal was trimmed, its first group may have what is asked for.
	next, done := first[0].at, first[0].ordinal-1
	switch {
	case from == begin.baseSequence:
		err = p.addMarker(ctx)
	case !p.isAtStart:
		var before *record
		before, err = r.search(ctx, last, func(rec *record) bool { return rec.newest() < from })
		if before != nil {
			next, done = before.at, before.ordinal
		}
	}
	if err != nil {
		return none, err
	}
	if err := p.fill(ctx, next, done); err != nil {
		return none, err
	}
	p.finish()
	return p.part, nil
}

// partFiller makes a part of a history of records.
type partFiller struct {
	r     *journalReader
	last  *record // the journal's newest record
	part  journal.Part
	limit int
	// isAtStart says that the part has the key records from before its first entry, too.
	isAtStart bool
}

// addMarker makes the part that of the marker of its first sequence. If the marker was replaced, it is
// the one that took its place last. Key records from behind the marker may still follow.
func (f *partFiller) addMarker(ctx context.Context) error {
	marker, err := f.r.baseAt(ctx, f.last, f.part.First)
	if err != nil {
		return err
	}
	if marker == nil || marker.kind != kindMarker || marker.baseSequence != f.part.First {
		return f.r.damaged("the marker of the sequence %d is not there", f.part.First)
	}
	body, err := f.r.body(ctx, marker)
	if err != nil {
		return err
	}
	base, err := readBaseBody(body)
	if err != nil {
		return f.r.damaged("the marker %d: %v", marker.at, err)
	}
	base.Sequence, base.IsMarker = marker.baseSequence, true
	f.part.Marker, f.part.Count = &base, 1
	return nil
}

// fill adds records until the part is complete: those behind the ordinal done, from the message at next on.
func (f *partFiller) fill(ctx context.Context, next, done uint64) error {
	for next <= f.last.at {
		// What a limit leaves no room for is not read, but for a few records more.
		size := min(max(f.limit, 0), queryBytes) + 4096
		records, err := f.r.partOf(ctx, next, f.last, queryBatch, size)
		if err != nil {
			return err
		}
		for k := range records {
			rec := &records[k]
			if next = rec.at + 1; rec.ordinal <= done {
				continue // it is not asked for, or came to the servers twice
			}
			if rec.ordinal != done+1 {
				return f.r.missing("the record %d at %d follows the record %d", rec.ordinal, rec.at, done)
			}
			done = rec.ordinal
			isNewMarker := rec.kind == kindMarker && rec.actions > 0
			switch {
			case isNewMarker && rec.newest() == f.part.First:
				if err := f.addMarker(ctx); err != nil {
					return err
				}
			case isNewMarker && rec.newest() > f.part.First:
				return nil // no part goes across a marker
			}
			if rec.kind != kindGroup {
				continue
			}
			body, err := f.r.body(ctx, rec)
			if err != nil {
				return err
			}
			isComplete, err := f.add(rec, body)
			if err != nil {
				return f.r.damaged("the group %d: %v", rec.at, err)
			}
			if isComplete {
				return nil
			}
		}
	}
	return nil
}

// add adds a group. It returns true if a sequence of the group is behind the part: the part is complete.
func (f *partFiller) add(g *record, body []byte) (isComplete bool, err error) {
	p := &f.part
	group, err := readGroupBody(body)
	if err != nil {
		return false, err
	}
	for k := range group.keyed {
		if group.keyed[k].Sequence >= p.First || f.isAtStart {
			p.Keyed = append(p.Keyed, group.keyed[k])
		}
	}
	for _, batch := range group.batches {
		p.Batches = append(p.Batches, journal.Batch{First: g.sequence + batch.First, Last: g.sequence + batch.Last})
	}
	entries := group.entries
	for sequence := g.sequence + 1; sequence <= g.newest(); sequence++ {
		_, rest, err := journal.ReadEntry(entries)
		if err != nil {
			return false, err
		}
		size := len(entries) - len(rest)
		if sequence >= p.First {
			if p.Marker != nil || p.Count > 0 && len(p.Entries)+size > f.limit {
				return true, nil
			}
			p.Entries = append(p.Entries, entries[:size]...)
			p.Count++
		}
		entries = rest
	}
	return false, nil
}

// finish removes the key records and the batches that are not of the part.
func (f *partFiller) finish() {
	p := &f.part
	end := p.First + p.Count
	isBehind := func(k journal.KeyRecord) bool { return k.Sequence >= end }
	isElsewhere := func(b journal.Batch) bool { return b.Last < p.First || b.First >= end }
	p.Keyed = slices.DeleteFunc(p.Keyed, isBehind)
	p.Batches = slices.DeleteFunc(p.Batches, isElsewhere)
}
