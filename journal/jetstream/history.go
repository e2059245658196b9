package jetstream

import (
	"context"

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
			part, err = r.entries(ctx, from, limit)
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
		read(ctx, st.reader(slot, name, token, witness, mark))
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
	if err != nil || last == nil || last.kind == kindTombstone {
		return nil, err
	}
	if at > last.newest() {
		return nil, journal.Refused("the sequence %d is beyond the newest one, %d", at, last.newest())
	}
	// The last record whose newest base is at or before the sequence names the base that is wanted, and
	// comes behind all that the state needs.
	end, err := r.search(ctx, last, func(rec *record) bool { return rec.baseSequence <= at })
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

// search returns the last record for which isBefore is true; nil if there is none. If it is true for a
// record, it has to be true for all records before that.
func (r *journalReader) search(ctx context.Context, last *record, isBefore func(*record) bool) (*record, error) {
	if isBefore(last) {
		return last, nil
	}
	found, err := r.next(ctx, 1, last)
	if err != nil {
		return nil, err
	}
	if !isBefore(found) {
		return nil, nil
	}
	for end := last.at; found.at+1 < end; { // isBefore is false from the stream sequence end on
		middle := found.at + 1 + (end-found.at-1)/2
		rec, err := r.next(ctx, middle, last)
		switch {
		case err != nil:
			return nil, err
		case rec.at < end && isBefore(rec):
			found = rec
		default:
			end = middle
		}
	}
	return found, nil
}

// next returns the first record from a stream sequence on.
func (r *journalReader) next(ctx context.Context, from uint64, last *record) (*record, error) {
	part, err := r.partOf(ctx, from, last, 1)
	if err != nil {
		return nil, err
	}
	return &part[0], nil
}

// entries returns entries from a sequence on.
func (r *journalReader) entries(ctx context.Context, from uint64, limit int) (p journal.Part, err error) {
	last, err := r.last(ctx)
	switch {
	case err != nil:
		return p, err
	case last == nil || last.kind == kindTombstone:
		return p, journal.Refused("no journal has the name %q", r.name)
	case from == 0 || from > last.newest()+1:
		return p, journal.Refused("the sequence %d is not one of the journal's, 1 to %d", from, last.newest())
	}
	p.First = from
	if from == last.newest()+1 {
		return p, nil
	}
	before, err := r.search(ctx, last, func(rec *record) bool { return rec.newest() < from })
	if err != nil {
		return journal.Part{}, err
	}
	if before == nil {
		return journal.Part{}, journal.ErrTrimmed
	}
	f := &partFiller{part: p, limit: limit}
	for next := before.at + 1; next <= last.at; {
		records, err := r.part(ctx, next, last)
		if err != nil {
			return journal.Part{}, err
		}
		for k := range records {
			next = records[k].at + 1
			if records[k].kind != kindGroup {
				continue
			}
			body, err := r.body(ctx, &records[k])
			if err != nil {
				return journal.Part{}, err
			}
			isFull, err := f.add(&records[k], body)
			if err != nil {
				return journal.Part{}, r.damaged("the group %d: %v", records[k].at, err)
			}
			if isFull {
				return f.part, nil
			}
		}
	}
	f.dropKeys()
	return f.part, nil
}

// partFiller makes a part of a history of groups.
type partFiller struct {
	part  journal.Part
	limit int
	// isFull says that no entry is added any more. Notes behind the last one may still follow.
	isFull bool
}

// add adds a group. It returns true once the part is complete.
func (f *partFiller) add(g *record, body []byte) (isComplete bool, err error) {
	p := &f.part
	if f.isFull && g.sequence >= p.First+p.Count {
		f.dropKeys()
		return true, nil
	}
	keyed, entries, err := readGroupBody(body)
	if err != nil {
		return false, err
	}
	for k := range keyed {
		if keyed[k].Sequence >= p.First || p.First == 1 {
			p.Keyed = append(p.Keyed, keyed[k])
		}
	}
	for sequence := g.sequence + 1; sequence <= g.newest() && !f.isFull; sequence++ {
		_, rest, err := journal.ReadEntry(entries)
		if err != nil {
			return false, err
		}
		size := len(entries) - len(rest)
		switch {
		case sequence < p.First:
		case p.Count > 0 && len(p.Entries)+size > f.limit:
			f.isFull = true
		default:
			p.Entries = append(p.Entries, entries[:size]...)
			p.Count++
		}
		entries = rest
	}
	if f.isFull && g.newest() >= p.First+p.Count {
		f.dropKeys()
		return true, nil
	}
	return false, nil
}

// dropKeys removes the key records that belong to entries behind the part.
func (f *partFiller) dropKeys() {
	p := &f.part
	var kept []journal.KeyRecord
	for _, k := range p.Keyed {
		if k.Sequence < p.First+p.Count {
			kept = append(kept, k)
		}
	}
	p.Keyed = kept
}
