package jetstream

import (
	"context"
	"crypto/rand"
	"errors"

	"hypertoken/journal"
)

// engine is what a slot knows of one engine. It is kept while somebody owns the engine or calls are
// under way. Its calls run one after the other, so a load waits for the appends before it. The
// stream's loop has all of it.
type engine struct {
	slot *slot
	name string
	// token and subject are the name's.
	token, subject string
	// owner is who may write, if isOwned.
	owner   journal.Owner
	isOwned bool
	// head is what is stored; nil if that is not known.
	head *head

	calls   []*call // wait for the one that runs
	running *call
	// moves are what was settled of the engine since running began, for the head that it may read.
	moves []move
	// isInRun says that run is on the stack.
	isInRun bool
}

// head is the end of a journal: what the next record refers to.
type head struct {
	incarnation incarnation
	created     int64
	// ordinal is that of the newest record.
	ordinal uint64
	// last and base are the stream sequences of the newest message on the engine's subject, and of the
	// newest base.
	last, base uint64
	// baseSequence, keyNumber and isMarker are those of the newest base, newest the newest sequence.
	baseSequence, keyNumber, newest uint64
	isMarker                        bool
	bytes                           uint64
	// marks are the groups that the newest base does not contain whole, oldest first.
	marks []mark
}

// mark is a group: its stream sequence and its ordinal, and the newest sequence and key number after it.
// If the group is in the slot's tail, the stream sequence is any one above that of the base.
type mark struct{ at, ordinal, newest, key uint64 }

// move says that the records of an engine with the ordinals first to last were settled: they are in
// the message at of the engine's subject.
type move struct{ first, last, at uint64 }

// follow takes in where records were settled. It may be called again for the same move.
func (h *head) follow(m move) {
	h.last = max(h.last, m.at)
	for k := range h.marks {
		if g := &h.marks[k]; m.first <= g.ordinal && g.ordinal <= m.last {
			g.at = m.at
		}
	}
}

// newestKey returns the newest key number.
func (h *head) newestKey() uint64 {
	if n := len(h.marks); n > 0 {
		return max(h.keyNumber, h.marks[n-1].key)
	}
	return h.keyNumber
}

// start returns the stream sequence of the first record that a load needs, if that comes before the
// base; 0 if not.
func (h *head) start() uint64 {
	if len(h.marks) > 0 && h.marks[0].at < h.base {
		return h.marks[0].at
	}
	return 0
}

// enqueue adds a call to those of its engine.
func (sl *slot) enqueue(c *call) {
	e := sl.engines[c.name]
	if e == nil {
		if !c.kind.acquires() {
			sl.s.end(c, nil, journal.ErrNotOwner)
			return
		}
		var err error
		if e, err = sl.engineOf(c.name); err != nil {
			sl.s.end(c, nil, err)
			return
		}
	}
	e.calls = append(e.calls, c)
	e.run()
}

// engineOf returns what the slot knows of an engine. Its run has to be called.
func (sl *slot) engineOf(name string) (*engine, error) {
	if e := sl.engines[name]; e != nil {
		return e, nil
	}
	token, err := token(name)
	if err != nil {
		return nil, err
	}
	e := &engine{slot: sl, name: name, token: token, subject: sl.s.store.layout.engineSubject(sl.id, token)}
	sl.engines[name] = e
	return e, nil
}

// run begins the next call if none is under way.
func (e *engine) run() {
	if e.isInRun {
		return
	}
	e.isInRun = true
	for e.running == nil && len(e.calls) > 0 {
		c := e.calls[0]
		if c.kind == callRename && e.isOwned && e.slot.trimming[e.name] > 0 && !e.slot.isLost {
			break // a copy has to see the whole journal; the end of the trimming calls run
		}
		e.calls[0] = nil
		e.calls = e.calls[1:]
		if e.slot.isLost {
			e.slot.s.takeAgain(c)
			continue
		}
		if !e.isOwned {
			e.disown()
		}
		e.running, e.moves = c, nil
		switch c.kind {
		case callLoad:
			e.load(c)
		case callAppend:
			e.append(c)
		case callInstall:
			e.install(c)
		case callDelete:
			e.delete(c)
		case callRelease:
			e.release(c)
		case callBarrier:
			e.barrier(c)
		case callRename:
			e.rename(c)
		case callReceive:
			e.receive(c)
		}
	}
	e.isInRun = false
	if e.running == nil && !e.isOwned && e.slot.engines[e.name] == e {
		delete(e.slot.engines, e.name)
	}
}

// end reports the end of the running call, and begins the next one.
func (e *engine) end(c *call, stored *journal.Stored, err error) {
	e.running = nil
	e.slot.s.end(c, stored, err)
	e.run()
}

// again has the running call begin again in a new tenure, because its slot was lost before it had an
// effect.
func (e *engine) again(c *call) {
	e.running = nil
	e.slot.s.takeAgain(c)
	e.run()
}

// isOwner returns whether a call is made for the engine's owner.
func (e *engine) isOwner(c *call) bool { return e.isOwned && e.owner == c.owner }

// own makes the call's owner the owner.
func (e *engine) own(c *call, h *head) {
	e.owner, e.isOwned = c.owner, true
	e.setHead(h)
}

// setHead takes in what was read. What was settled meanwhile may not be in it.
func (e *engine) setHead(h *head) {
	e.head = h
	for _, m := range e.moves {
		h.follow(m)
	}
}

// moved takes in that records of the engine were settled.
func (e *engine) moved(m move) {
	e.moves = append(e.moves, m)
	if e.head != nil {
		e.head.follow(m)
	}
}

// disown forgets what is known.
func (e *engine) disown() { e.owner, e.isOwned, e.head = journal.Owner{}, false, nil }

// reader returns a reader that counts replicas only if they have all that is known to be stored for
// the slot, its owner record included.
func (e *engine) reader() *journalReader {
	return e.slot.s.reader(e.slot.id, e.name, e.token, e.slot.ownerSubject(), e.slot.seen)
}

// confirm writes a mark, so that it is known whether the slot was still ours after the call. then is
// called if it was.
func (e *engine) confirm(c *call, then func()) {
	if c.isFresh || c.isConfirmed {
		then()
		return
	}
	e.slot.write(&write{kind: writeMark, call: c, ended: func(_ uint64, err error) {
		switch {
		case errors.Is(err, errLost):
			e.again(c)
		case err != nil:
			e.end(c, nil, err)
		default:
			c.isConfirmed = true
			then()
		}
	}})
}

// load reads the journal, and confirms meanwhile that the slot is ours. If it is, nobody else has
// written since the slot was acquired, so what was read is all that is stored.
func (e *engine) load(c *call) {
	s, r := e.slot.s, e.reader()
	r.tail = e.slot.tail.recordsOf(e.token)
	c.result = nil
	var failed error // of the mark
	isMarked := c.isFresh
	finish := func() {
		switch {
		case c.result == nil || !isMarked:
		case errors.Is(failed, errLost):
			e.again(c)
		case failed != nil:
			e.end(c, nil, failed)
		default:
			e.loaded(c)
		}
	}
	s.store.work.Go(func() {
		result := r.load(s.store.ctx)
		s.post(func() { c.result = &result; finish() })
	})
	if !isMarked {
		e.slot.write(&write{kind: writeMark, call: c, ended: func(_ uint64, err error) {
			isMarked, failed = true, err
			finish()
		}})
	}
}

// loaded ends a load.
func (e *engine) loaded(c *call) {
	switch result := c.result; {
	case result.err != nil:
		e.end(c, nil, result.err)
	case result.epoch > e.slot.owner.Epoch:
		// Another store has acquired the slot and written meanwhile. What it has written is not this
		// store's, and the next mark finds that the slot is lost.
		e.again(c)
	case result.stored == nil:
		e.disown()
		e.end(c, nil, nil)
	default:
		e.slot.s.store.stats.loads.Add(1)
		result.stored.Owner = e.owner
		if !e.slot.isLost {
			e.own(c, result.head)
		}
		e.end(c, result.stored, nil)
	}
}

// append appends a group.
func (e *engine) append(c *call) {
	s, h := e.slot.s, e.head
	switch {
	case !e.isOwner(c):
		e.end(c, nil, journal.ErrNotOwner)
		return
	case c.newest != h.newest:
		e.end(c, nil, journal.Refused("an append behind the sequence %d, the newest one is %d", c.newest, h.newest))
		return
	case len(c.group) == 0:
		e.end(c, nil, journal.Refused("an append of no records"))
		return
	}
	body, actions := appendGroupBody(s.scratch[:0], c.group)
	s.scratch = body
	if cap(s.scratch) > maxScratch {
		s.scratch = nil
	}
	key := h.newestKey()
	for k := range c.group {
		if c.group[k].Keyed != nil {
			key = max(key, c.group[k].Keyed.Number)
		}
	}
	records := uint64(len(c.group))
	r := e.newRecord(kindGroup)
	r.base, r.baseSequence, r.start, r.sequence, r.actions = h.base, h.baseSequence, h.start(), h.newest, actions
	size := uint64(len(body))
	r.bytes += size
	e.put(c, r, body, s.store.groupSize, func(seq uint64) {
		h.newest, h.bytes = h.newest+actions, r.bytes
		h.marks = append(h.marks, mark{seq, r.ordinal, h.newest, key})
		s.store.stats.groups.Add(1)
		s.store.stats.records.Add(records)
		s.store.stats.groupBytes.Add(size)
		e.end(c, nil, nil)
	})
}

// maxScratch is the size up to which a buffer is used again.
const maxScratch = 1 << 20

// newRecord returns a record that follows the newest one.
func (e *engine) newRecord(kind recordKind) *record {
	s := e.slot.s.store
	r := &record{kind: kind, id: s.newID(), time: s.o.now().UnixMilli(), ordinal: 1,
		epoch: e.slot.owner.Epoch}
	if h := e.head; h != nil {
		r.incarnation, r.created, r.previous, r.bytes = h.incarnation, h.created, h.last, h.bytes
		r.ordinal = h.ordinal + 1
	}
	return r
}

// put writes a record with a body, in pieces first if the body is larger than limit. stored is called
// once the record is stored. If it is not, the call is ended.
func (e *engine) put(c *call, r *record, body []byte, limit int, stored func(seq uint64)) {
	sl := e.slot
	if len(body) <= limit {
		r.body = body
		e.putRecord(c, r, stored)
		r.body = r.body[:0:0] // the loop uses the memory again
		return
	}
	s := sl.s
	body = append([]byte(nil), body...)
	sl.pieceNumber++
	r.pieces = pieces{acquisition: sl.acquisition, number: sl.pieceNumber}
	subject := s.store.layout.pieceSubject(sl.id, e.token, r.incarnation, r.pieces.acquisition, r.pieces.number)
	stream := s.store.layout.pieceStream(s.number)
	s.store.work.Go(func() {
		p, err := s.store.putPieces(s.store.ctx, stream, subject, body)
		s.post(func() {
			p.acquisition, p.number = r.pieces.acquisition, r.pieces.number
			r.pieces = p
			switch {
			case err != nil:
				e.end(c, nil, err)
			case sl.isLost:
				s.store.dropPieces(stream, subject)
				e.notStored(c, errLost)
			default:
				e.putRecord(c, r, stored)
			}
		})
	})
}

// putRecord writes a record. A group goes to the slot's tail, unless it is large: then it would be
// written twice.
func (e *engine) putRecord(c *call, r *record, stored func(seq uint64)) {
	sl := e.slot
	s := sl.s.store
	data := r.appendTo(make([]byte, 0, len(r.body)+recordOverhead), e.subject)
	w := &write{kind: writeRecord, token: e.token, subject: e.subject, data: data, id: r.id,
		incarnation: r.incarnation, ordinal: r.ordinal, previous: r.previous, call: c}
	if r.kind == kindGroup && (len(w.data) <= s.packedSize || sl.tail.engines[e.token] > 0) {
		w.kind = writeGroup
	}
	// The first record of an engine and its end remove what was there.
	w.isRollup = r.kind == kindTombstone || c.isCreation
	w.ended = func(seq uint64, err error) {
		if err == nil {
			r.at = seq
			if h := e.head; h != nil {
				h.ordinal = r.ordinal
				if w.kind == writeRecord {
					h.last = seq
				}
			}
			stored(seq)
			return
		}
		if r.pieces.count > 0 && isNotStored(err) {
			s.dropPieces(s.layout.pieceStream(sl.s.number),
				s.layout.pieceSubject(sl.id, e.token, r.incarnation, r.pieces.acquisition, r.pieces.number))
		}
		e.notStored(c, err)
	}
	sl.write(w)
}

// notStored ends a call whose record is not stored, or of which nobody knows.
func (e *engine) notStored(c *call, err error) {
	switch {
	case errors.Is(err, errLost) && (c.kind == callDelete || c.isCreation):
		e.again(c)
	case isNotStored(err):
		e.end(c, nil, lostError(err))
	default:
		// Nobody may build on what is not known. The next load reads it.
		e.disown()
		e.end(c, nil, err)
	}
}

// install creates a journal, or installs a base.
func (e *engine) install(c *call) {
	switch {
	case len(c.base.Details) > journal.MaxDetails:
		e.end(c, nil, journal.Refused("a base with %d bytes of details, the most are %d", len(c.base.Details),
			journal.MaxDetails))
	case e.isOwned && !e.isOwner(c):
		e.end(c, nil, journal.ErrNotOwner)
	case e.isOwned:
		e.flush(c, func() { e.putBase(c) })
	default:
		e.look(c, func(last *record) {
			if last.isAbsent() {
				e.create(c, last)
				return
			}
			e.confirm(c, func() { e.end(c, nil, journal.ErrNotOwner) })
		})
	}
}

// look reads the newest record of an engine that nobody owns, and hands it on; nil if there is none.
func (e *engine) look(c *call, then func(last *record)) {
	s, r := e.slot.s, e.reader()
	s.store.work.Go(func() {
		last, err := r.settledLast(s.store.ctx)
		s.post(func() {
			switch {
			case e.slot.isLost:
				e.again(c)
			case err != nil && (c.kind != callDelete || last == nil):
				e.end(c, nil, err)
			default:
				then(last) // what is damaged can be deleted
			}
		})
	})
}

// create stores the first base of an engine, behind what is left of a former one if that is still
// there. The fence makes sure that nobody else creates it.
func (e *engine) create(c *call, remains *record) {
	c.isCreation = true
	r := e.newRecord(kindOf(&c.base))
	if remains != nil {
		r.previous = remains.at
	}
	_, _ = rand.Read(r.incarnation[:])
	r.created = r.time
	r.baseSequence, r.sequence = c.base.Sequence, c.base.Sequence
	body := appendBaseBody(nil, &c.base)
	r.bytes = uint64(len(body))
	e.put(c, r, body, e.slot.s.store.baseSize, func(seq uint64) {
		e.slot.s.store.stats.bases.Add(1)
		e.slot.s.store.stats.baseBytes.Add(r.bytes)
		e.dropRemains(remains)
		e.own(c, &head{incarnation: r.incarnation, created: r.created, ordinal: r.ordinal, last: seq, base: seq,
			bytes: r.bytes, baseSequence: r.baseSequence, isMarker: c.base.IsMarker,
			newest: r.sequence, keyNumber: c.base.KeyNumber})
		if e.slot.isLost {
			e.isOwned = false
		}
		e.end(c, nil, nil)
	})
}

// flush settles all groups of the engine, so that the next record on its subject follows them. A base
// can name the first group that it needs then.
func (e *engine) flush(c *call, then func()) {
	if e.slot.tail.engines[e.token] == 0 {
		then()
		return
	}
	e.slot.write(&write{kind: writeFlush, token: e.token, call: c, ended: func(_ uint64, err error) {
		if err != nil {
			e.notStored(c, err)
			return
		}
		then()
	}})
}

// kindOf returns the kind of the record that has a base.
func kindOf(base *journal.Base) recordKind {
	if base.IsMarker {
		return kindMarker
	}
	return kindBase
}

// putBase stores a base of an engine that the caller owns. A marker is a record like any other: it is
// stored under the fence, and names the sequence that it follows.
func (e *engine) putBase(c *call) {
	h, base := e.head, &c.base
	present := journal.Base{Sequence: h.baseSequence, IsMarker: h.isMarker}
	if err := base.CheckBehind(&present, h.newest); err != nil {
		e.end(c, nil, err)
		return
	}
	kept := h.marks
	for len(kept) > 0 && kept[0].newest <= base.Sequence && kept[0].key <= base.KeyNumber {
		kept = kept[1:]
	}
	r := e.newRecord(kindOf(base))
	r.baseSequence, r.sequence = base.Sequence, h.newest
	if base.Sequence > h.newest {
		r.actions = 1
	}
	if len(kept) > 0 {
		r.start = kept[0].at
	}
	body := appendBaseBody(nil, base)
	r.bytes += uint64(len(body))
	e.put(c, r, body, e.slot.s.store.baseSize, func(seq uint64) {
		e.slot.s.store.stats.bases.Add(1)
		e.slot.s.store.stats.baseBytes.Add(uint64(len(body)))
		h.base, h.baseSequence, h.keyNumber, h.bytes = seq, base.Sequence, base.KeyNumber, r.bytes
		h.isMarker, h.newest = base.IsMarker, r.newest()
		h.marks = append([]mark(nil), kept...)
		e.slot.trimSoon(e.name)
		e.end(c, nil, nil)
	})
}

// delete writes the end of an engine.
func (e *engine) delete(c *call) {
	if e.isOwned {
		e.putTombstone(c)
		return
	}
	e.look(c, func(last *record) {
		if last.isAbsent() {
			e.confirm(c, func() { e.end(c, nil, nil) })
			return
		}
		// The groups in the slot's tail have further ordinals.
		e.setHead(&head{incarnation: last.incarnation, created: last.created, last: last.at, newest: last.newest(),
			ordinal: last.ordinal + uint64(e.slot.tail.engines[e.token])})
		e.putTombstone(c)
	})
}

// putTombstone stores a record that removes all others of the engine. What it leaves is removed
// afterwards; nothing depends on that.
func (e *engine) putTombstone(c *call) {
	r := e.newRecord(kindTombstone)
	r.sequence = e.head.newest
	e.put(c, r, nil, 0, func(seq uint64) {
		s, sl := e.slot.s, e.slot
		e.disown()
		journals, pieces := s.name, s.store.layout.pieceStream(s.number)
		subject := e.subject
		// If the newest record is damaged, the incarnation is not known, and the pieces stay.
		filter := s.store.layout.piecesOf(sl.id, e.token, r.incarnation)
		s.store.clean(func(ctx context.Context) error {
			// Only what is not behind the tombstone: the name may be in use again.
			return errors.Join(
				s.store.conn.purge(ctx, journals, subject, seq+1, s.store.o.AnswerTimeout),
				s.store.conn.purge(ctx, pieces, filter, 0, s.store.o.AnswerTimeout))
		})
		e.end(c, nil, nil)
	})
}

// release gives the ownership of an engine up. The slot stays this store's.
func (e *engine) release(c *call) {
	if !e.isOwner(c) {
		e.end(c, nil, journal.ErrNotOwner)
		return
	}
	e.disown()
	e.end(c, nil, nil)
}

// barrier confirms that the caller is the owner.
func (e *engine) barrier(c *call) {
	if !e.isOwner(c) {
		e.end(c, nil, journal.ErrNotOwner)
		return
	}
	if s := e.slot.s.store; s.leaser != nil && s.leaser.HoldsLease() {
		e.end(c, nil, nil)
		return
	}
	e.slot.write(&write{kind: writeMark, call: c, ended: func(_ uint64, err error) { e.end(c, nil, lostError(err)) }})
}
