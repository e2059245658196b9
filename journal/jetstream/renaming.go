package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"sort"
	"time"

	"hypertoken/journal"
)

// A journal gets another name by a copy: the subject, the checksums of all records and the places that
// they name are others then. The copies are partial, so nobody sees a journal there, until the last of
// them is stored. That one is in one batch with the end of the former name.

// Rename implements [journal.Renamer]. The two names have to be in one slot. It takes as long as
// copying the whole history does.
func (s *Store) Rename(from, to string, owner journal.Owner, done journal.Done) {
	s.submit(&call{kind: callRename, name: from, to: to, owner: owner, done: done})
}

// KeepsTogether implements [journal.Divider]: it reports whether two names are in one slot.
func (s *Store) KeepsTogether(a, b string) bool { return SlotOf(a) == SlotOf(b) }

// rename gives the engine's journal to another name. The engine of that name has a call of its own, so
// that its other calls wait, and the one that gives waits for that call.
func (e *engine) rename(c *call) {
	if !e.isOwner(c) {
		e.end(c, nil, journal.ErrNotOwner)
		return
	}
	if SlotOf(c.to) != e.slot.id {
		e.end(c, nil, journal.Refused("the name %q is in the slot %d, and %q is in the slot %d: a journal stays in its slot",
			c.name, e.slot.id, c.to, SlotOf(c.to)))
		return
	}
	to, err := e.slot.engineOf(c.to)
	switch {
	case err != nil:
		e.end(c, nil, err)
		return
	case to.isOwned:
		e.end(c, nil, journal.ErrExists)
		return
	}
	s := e.slot.s
	s.store.calls.Add(1)
	done := journal.DoneFunc(func(err error) { s.post(func() { e.renamed(c, err) }) })
	to.calls = append(to.calls,
		&call{kind: callReceive, name: c.to, owner: c.owner, made: time.Now(), giver: e, done: done})
	to.run()
}

// renamed ends a rename.
func (e *engine) renamed(c *call, err error) {
	if err == nil || !errors.Is(err, journal.ErrRefused) && !errors.Is(err, journal.ErrUnavailable) {
		e.disown() // the journal has moved, or nobody knows
	}
	e.end(c, nil, err)
}

// receive copies the journal of another engine here, unless there is one.
func (e *engine) receive(c *call) {
	if e.isOwned {
		e.end(c, nil, journal.ErrExists)
		return
	}
	e.look(c, func(last *record) {
		switch from := c.giver; {
		case !last.isAbsent():
			e.confirm(c, func() { e.end(c, nil, journal.ErrExists) })
		case e.slot.tail.engines[from.token] == 0:
			e.copyGiven(c, last)
		default:
			// All records have to be on the subject of the engine that gives.
			e.slot.write(&write{kind: writeFlush, token: from.token, call: c, ended: func(_ uint64, err error) {
				if err != nil {
					e.notStored(c, err)
					return
				}
				e.copyGiven(c, last)
			}})
		}
	})
}

// copyGiven begins the copy. remains is the newest record on the engine's subject; nil if there is none.
func (e *engine) copyGiven(c *call, remains *record) {
	s := e.slot.s
	y := &copying{from: c.giver, to: e, call: c, reader: c.giver.reader(), head: *c.giver.head, remains: remains}
	if remains != nil {
		y.last = remains.at
	}
	_, _ = rand.Read(y.incarnation[:])
	s.store.work.Go(func() {
		err := y.run(s.store.ctx)
		s.post(func() { y.ended(err) })
	})
}

// copying is a journal on its way from one subject of a slot to another one. A goroutine reads and
// writes one message after the other; what it writes goes through the stream's loop.
type copying struct {
	from, to *engine
	call     *call
	reader   *journalReader
	// head is that of the engine that gives. It does not change meanwhile.
	head        head
	incarnation incarnation // of the copy
	// remains is the newest record that was on the new subject before; nil if there was none.
	remains *record
	// last and base are the stream sequences of the newest message and of the newest base on the new
	// subject.
	last, base uint64
	hasBegun   bool
	// isCommitting says that the message was handed to the loop which completes the journal.
	isCommitting bool
	// waiting are the records of the next message, bytes is about its size.
	waiting []record
	bytes   int
	// positions says where messages went, in order.
	positions []position
}

// position is the stream sequence of a message, and that of the message which has its records now.
type position struct{ from, to uint64 }

// run copies all records. It returns once the last one is stored.
func (y *copying) run(ctx context.Context) error {
	newest, err := y.reader.settledLast(ctx)
	switch {
	case err != nil:
		return err
	case newest.isAbsent() || newest.ordinal != y.head.ordinal:
		return y.reader.damaged("the newest record is not the one that was written last, the record %d", y.head.ordinal)
	}
	for next, done := uint64(1), uint64(0); done < newest.ordinal; {
		part, err := y.reader.part(ctx, next, newest)
		if err != nil {
			return err
		}
		for k := range part {
			r := &part[k]
			next = r.at + 1
			switch {
			case done > 0 && r.ordinal <= done:
				continue // it came to the servers twice
			case done > 0 && r.ordinal != done+1:
				return y.reader.damaged("the record %d at %d follows the record %d", r.ordinal, r.at, done)
			}
			done = r.ordinal
			if err := y.add(ctx, r, done == newest.ordinal); err != nil {
				return err
			}
		}
	}
	return nil
}

// add copies a record. A base is a message of its own, so that its place is known before a record names
// it; groups are packed.
func (y *copying) add(ctx context.Context, r *record, isNewest bool) error {
	size := len(r.body) + recordOverhead
	if len(y.waiting) > 0 && (r.isBase() || y.bytes+size > y.to.slot.s.store.groupSize) {
		if err := y.write(false); err != nil {
			return err
		}
	}
	out := *r
	if r.pieces.count > 0 {
		var err error
		if out.pieces, err = y.copyPieces(ctx, r); err != nil {
			return err
		}
	}
	y.waiting = append(y.waiting, out)
	if y.bytes += size; r.isBase() || isNewest {
		return y.write(isNewest)
	}
	return nil
}

// copyPieces stores what a record has in pieces for the new name.
func (y *copying) copyPieces(ctx context.Context, r *record) (p pieces, err error) {
	body, err := y.reader.body(ctx, r)
	if err != nil {
		return p, err
	}
	sl, s := y.to.slot, y.to.slot.s
	number := make(chan uint64, 1)
	s.post(func() {
		sl.pieceNumber++
		number <- sl.pieceNumber
	})
	acquisition, n := sl.acquisition, <-number
	subject := s.store.layout.pieceSubject(sl.id, y.to.token, y.incarnation, acquisition, n)
	p, err = s.store.putPieces(ctx, s.store.layout.pieceStream(s.number), subject, body)
	p.acquisition, p.number = acquisition, n
	return p, err
}

// write stores the records that wait as one message. isComplete says that it is the last one: then the
// former name ends with it.
func (y *copying) write(isComplete bool) error {
	s, e := y.to.slot.s, y.to
	message := copies{token: e.token}
	for k := range y.waiting {
		r := &y.waiting[k]
		r.id, r.incarnation, r.previous, r.start = s.store.newID(), y.incarnation, y.last, y.positionOf(r.start)
		if r.isPartial = !isComplete; !r.isBase() {
			r.base = y.base
		}
		data := r.appendTo(make([]byte, 0, len(r.body)+recordOverhead), e.subject)
		message.records = append(message.records, bundled{data: data, ordinal: r.ordinal})
	}
	first := &y.waiting[0]
	w := &write{kind: writeRecord, token: e.token, subject: e.subject, data: message.encode(e.subject, s.store.newID()),
		id: first.id, incarnation: y.incarnation, ordinal: first.ordinal, previous: y.last, isRollup: !y.hasBegun,
		call: &call{made: time.Now()}}
	type end struct {
		at  uint64
		err error
	}
	ended := make(chan end, 1)
	w.ended = func(at uint64, err error) { ended <- end{at, err} }
	y.isCommitting = isComplete
	s.post(func() { y.hand(w, isComplete) })
	got := <-ended
	if got.err != nil {
		return got.err
	}
	y.last, y.hasBegun = got.at, true
	if first.isBase() {
		y.base = got.at
	}
	for k := range y.waiting {
		if n := len(y.positions); n == 0 || y.positions[n-1].from != y.waiting[k].at {
			y.positions = append(y.positions, position{y.waiting[k].at, got.at})
		}
	}
	y.waiting, y.bytes = y.waiting[:0], 0
	return nil
}

// hand has the loop store a message.
func (y *copying) hand(w *write, isComplete bool) {
	sl := y.to.slot
	switch {
	case sl.isLost:
		w.ended(0, errLost)
		return
	case sl.s.isClosing:
		w.ended(0, errClosed)
		return
	}
	if isComplete {
		r := y.from.newRecord(kindTombstone)
		r.sequence = y.head.newest
		w.end = &tombstone{y.from.subject, r.appendTo(nil, y.from.subject)}
	}
	sl.write(w)
}

// positionOf returns where the message of a stream sequence went; 0 if it has none.
func (y *copying) positionOf(from uint64) uint64 {
	n := sort.Search(len(y.positions), func(k int) bool { return y.positions[k].from > from })
	if n == 0 {
		return 0
	}
	return y.positions[n-1].to
}

// ended ends the call that receives the journal.
func (y *copying) ended(err error) {
	e, s := y.to, y.to.slot.s
	journals, pieces, layout := s.name, s.store.layout.pieceStream(s.number), s.store.layout
	if err != nil {
		isNotStored := isNotStored(err)
		if !isNotStored && !y.isCommitting && !errors.Is(err, journal.ErrDamaged) {
			// Whether some copies are stored is not known, and does not matter.
			isNotStored, err = true, unavailable("renaming: %v", err)
		}
		if isNotStored {
			filter, before := layout.piecesOf(e.slot.id, e.token, y.incarnation), y.last+1
			s.store.clean(func(ctx context.Context) error {
				errPieces := s.store.conn.purge(ctx, pieces, filter, 0, s.store.o.AnswerTimeout)
				if !y.hasBegun {
					return errPieces
				}
				return errors.Join(errPieces,
					s.store.conn.purge(ctx, journals, e.subject, before, s.store.o.AnswerTimeout))
			})
		}
		e.notStored(y.call, err)
		return
	}
	h := y.head
	h.incarnation, h.last, h.base, h.marks = y.incarnation, y.last, y.base, nil
	for _, g := range y.head.marks {
		g.at = y.positionOf(g.at)
		h.marks = append(h.marks, g)
	}
	if !e.slot.isLost {
		e.own(y.call, &h)
	}
	e.dropRemains(y.remains)
	filter := layout.piecesOf(e.slot.id, y.from.token, y.head.incarnation)
	subject, before := y.from.subject, y.last+2 // the tombstone is behind the last copy
	s.store.clean(func(ctx context.Context) error {
		return errors.Join(
			s.store.conn.purge(ctx, journals, subject, before, s.store.o.AnswerTimeout),
			s.store.conn.purge(ctx, pieces, filter, 0, s.store.o.AnswerTimeout))
	})
	if !e.slot.isLost {
		e.slot.trimSoon(e.name)
	}
	e.end(y.call, nil, nil)
}

// dropRemains removes the pieces of a copy that was not completed, and whose newest record was remains.
// The records are gone: the first record of a journal removes what was there.
func (e *engine) dropRemains(remains *record) {
	if remains != nil && remains.isPartial {
		s := e.slot.s
		s.store.dropPieces(s.store.layout.pieceStream(s.number),
			s.store.layout.piecesOf(e.slot.id, e.token, remains.incarnation))
	}
}
