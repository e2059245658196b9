package jetstream

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// writeKind says what a write is.
type writeKind int

const (
	// writeMark needs no message of its own if the batch has others of its slot: they are stored only if
	// the slot is still ours, too.
	writeMark writeKind = iota
	// writeRecord is a record on its engine's subject.
	writeRecord
	// writeGroup is a record in the slot's tail. The groups of a slot are in one message.
	writeGroup
	// writeFlush settles all of one engine, writeSettling the oldest part of the tail.
	writeFlush
	writeSettling
)

// write is something on its way to the stream. Its slot's tenure goes with it.
type write struct {
	kind writeKind
	// token is that of the engine of a record, a group or a flush.
	token string
	// subject is the engine's, data the record, of a record or a group.
	subject string
	data    []byte
	// isRollup says that the message removes all earlier ones of its subject.
	isRollup bool
	// end is a tombstone that goes with a record; nil if there is none.
	end *tombstone
	// These find the record again: it comes behind the message previous of the engine's subject.
	id          recordID
	incarnation incarnation
	ordinal     uint64
	previous    uint64
	call        *call // nil if no call waits for it
	// ended is called by the loop, once. seq is the stream sequence of the message with the record, or of
	// the batch's last message. Nothing is stored if err is errLost or refuses; an error that is neither
	// says that nobody knows.
	ended func(seq uint64, err error)
}

// tombstone is the end of another engine of the slot, which is stored together with a record.
type tombstone struct {
	subject string
	data    []byte
}

// flight is a batch on its way: the writes of some slots, stored together or not at all.
type flight struct {
	slots  []*slot
	writes [][]*write // by slot
	msgs   []*nats.Msg
	parts  []part // by slot
	// attempt counts how often the batch was sent. An answer counts for its attempt only.
	attempt int
	sentAt  time.Time
	// isWaiting says that the batch is not stored and will be sent again.
	isWaiting bool
	// isInDoubt says that a goroutine finds out whether the batch is stored.
	isInDoubt bool
	answer    uint64 // in conn.waiting
	timer     *time.Timer
}

// part is what a batch has of one slot.
type part struct {
	// places has, for each write, the index of its message in the batch; -1 if it has none.
	places []int
	// tail is the message on the slot's own subject; nil if there is none.
	tail *bundle
	// mark is what the slot's mark says; nil if the slot has other messages in the batch.
	mark []byte
	// place is the index of the tail or of the mark.
	place int
	// copies are what the batch settles.
	copies []*copies
}

// The bounds of a batch. JetStream takes up to 1,000 messages.
const (
	mostMessages  = 400
	leastMessages = 16
	batchBytes    = 1 << 20
	// flightsPerStream is how many batches of a stream are on their way at once. Each slot is in one of
	// them at most.
	flightsPerStream = 2
)

// write has a write go with the next batch.
func (sl *slot) write(w *write) {
	sl.pending = append(sl.pending, w)
	sl.makeReady()
}

func (sl *slot) makeReady() {
	if !sl.isReady && sl.flight == nil && !sl.isLost && !sl.isClaimed &&
		(len(sl.pending) > 0 || sl.giving == nil && sl.isSettlingDue()) {
		sl.isReady = true
		sl.s.ready = append(sl.s.ready, sl)
	}
}

// fly sends batches as long as there is something to send. No timer gathers writes: what comes while
// batches are on their way goes with the next one.
func (s *stream) fly() {
	for len(s.flights) < flightsPerStream && len(s.ready) > 0 && s.isWorthABatch() {
		f := &flight{}
		var size batchSize
		for len(s.ready) > 0 && size.messages < s.batchMessages && size.bytes < batchBytes {
			sl := s.ready[0]
			if sl.isAlone && len(sl.pending) > 0 && size.messages > 0 {
				break
			}
			s.ready, sl.isReady = s.ready[1:], false
			if sl.isLost {
				continue
			}
			isAlone := sl.isAlone && len(sl.pending) > 0
			writes := sl.nextWrites(&size)
			if len(writes) == 0 {
				continue
			}
			f.slots, f.writes, sl.flight = append(f.slots, sl), append(f.writes, writes), f
			if isAlone {
				break
			}
		}
		if len(f.slots) == 0 {
			return
		}
		s.flights[f] = true
		s.send(f)
	}
}

// isWorthABatch returns whether the writes that wait are at least half as many as those on their way. If
// they are fewer, they wait for an answer: a batch costs the servers more than its writes do. A batch that
// takes long holds up nothing.
func (s *stream) isWorthABatch() bool {
	onTheirWay, waiting := 0, 0
	for f := range s.flights {
		if f.isWaiting || f.isInDoubt || time.Since(f.sentAt) > longFlight {
			continue
		}
		for _, writes := range f.writes {
			onTheirWay += len(writes)
		}
	}
	for _, sl := range s.ready {
		waiting += len(sl.pending)
	}
	return 2*waiting >= onTheirWay
}

// longFlight is how long a batch may hold up another one.
const longFlight = 100 * time.Millisecond

// batchSize counts what a batch has.
type batchSize struct{ messages, bytes int }

// nextWrites takes those of a slot's writes that have room in a batch.
func (sl *slot) nextWrites(size *batchSize) []*write {
	s := sl.s
	n, groups, bytes := 0, 0, 0
	for n < len(sl.pending) {
		w := sl.pending[n]
		more := len(w.data) + len(w.token) + bundledOverhead
		if w.kind == writeGroup {
			more += len(w.token) + bundledOverhead // in the copy of the bundle's head
		}
		isPacked := w.kind == writeGroup && groups > 0 // into a message that is there
		isFull := size.messages >= s.batchMessages || size.bytes >= batchBytes
		if isFull && size.messages > 0 && !isPacked {
			break
		}
		if isPacked && (groups == mostTailEngines || bytes+more > s.store.groupSize) {
			break
		}
		if w.kind == writeGroup {
			groups, bytes = groups+1, bytes+more
		}
		if size.bytes += more; !isPacked {
			size.messages++
		}
		if w.end != nil {
			size.messages++
		}
		if n++; sl.isAlone {
			break
		}
	}
	writes := sl.pending[:n:n]
	sl.pending = sl.pending[n:]
	if sl.isAlone && n > 0 {
		sl.isAlone = false
		return writes
	}
	if copies := min(len(sl.tail.engines), mostCopies); sl.giving == nil && sl.isSettlingDue() && (size.messages == 0 ||
		size.messages+copies <= mostMessages) {
		size.messages += copies
		size.bytes += min(sl.tail.bytes, mostCopiedBytes)
		writes = append(writes, sl.newSettling())
	}
	return writes
}

// send sends a batch, with the fences as they are now.
func (s *stream) send(f *flight) {
	s.build(f)
	f.attempt++
	f.isWaiting, f.sentAt = false, time.Now()
	attempt := f.attempt
	last := f.msgs[len(f.msgs)-1]
	f.answer, last.Reply = s.store.conn.expect(func(m *nats.Msg) bool {
		s.post(func() { s.answered(f, attempt, m) })
		return true
	})
	f.timer = time.AfterFunc(s.store.o.AnswerTimeout, func() {
		s.post(func() { s.answered(f, attempt, nil) })
	})
	s.store.stats.batches.Add(1)
	s.store.stats.messages.Add(uint64(len(f.msgs)))
	s.store.stats.writes.observe(&writesBounds, float64(f.countWrites()))
	for _, m := range f.msgs {
		if err := s.store.conn.publish(m); err != nil {
			// The last message was not sent, and without it nothing is stored.
			s.stopWaiting(f)
			s.sendLater(f, time.Now(), err)
			return
		}
	}
}

// build makes the messages of a batch. The first message of each slot has the fence.
func (s *stream) build(f *flight) {
	former := f.parts // of an earlier attempt
	f.msgs, f.parts = nil, nil
	for k, sl := range f.slots {
		first, id := len(f.msgs), s.store.newID()
		if former != nil && former[k].tail != nil {
			id = former[k].tail.id // if an earlier attempt is stored all the same, a doubt finds it
		}
		f.parts = append(f.parts, s.buildPart(f, sl, f.writes[k], id))
		f.msgs[first].Header.Set(headerExpected, strconv.FormatUint(sl.owner.Fence, 10))
		f.msgs[first].Header.Set(headerExpectedSubject, sl.ownerSubject())
	}
	if len(f.msgs) == 1 {
		return
	}
	id := randomHex(12)
	for k, m := range f.msgs {
		m.Header.Set(headerBatch, id)
		m.Header.Set(headerBatchSequence, strconv.Itoa(k+1))
	}
	f.msgs[len(f.msgs)-1].Header.Set(headerBatchCommit, "1")
}

// buildPart adds the messages of one slot to a batch. id is for the message of the slot's tail or the
// mark.
func (s *stream) buildPart(f *flight, sl *slot, writes []*write, id recordID) part {
	first := len(f.msgs)
	add := func(subject string, data []byte) int {
		m := nats.NewMsg(subject)
		m.Data = data
		f.msgs = append(f.msgs, m)
		return len(f.msgs) - 1
	}
	p := part{places: make([]int, len(writes))}
	u := &bundle{kind: kindTail}
	isSettling := false
	for k, w := range writes {
		p.places[k] = -1
		switch w.kind {
		case writeRecord:
			p.places[k] = add(w.subject, w.data)
			if w.isRollup {
				f.msgs[p.places[k]].Header.Set(headerRollup, rollupSubject)
			}
			if w.end != nil {
				f.msgs[add(w.end.subject, w.end.data)].Header.Set(headerRollup, rollupSubject)
			}
			if sl.tail.engines[w.token] > 0 {
				u.drops = append(u.drops, w.token) // the engine is deleted
			}
		case writeGroup:
			u.records = append(u.records, bundled{w.token, w.data, w.ordinal})
		case writeFlush:
			if list := sl.flushed(w.token); len(list) > 0 {
				p.copies = append(p.copies, list...)
				u.drops = append(u.drops, w.token)
			}
		case writeSettling:
			isSettling = true
		}
	}
	if isSettling {
		list, through := sl.settled(u.drops)
		p.copies, u.settled = append(p.copies, list...), through
	}
	for _, c := range p.copies {
		subject := s.store.layout.engineSubject(sl.id, c.token)
		c.place = add(subject, c.encode(subject, s.store.newID()))
	}
	switch {
	case len(u.records) > 0 || len(u.drops) > 0 || u.settled > 0:
		u.id, u.previous, u.settled = id, sl.tail.last, max(u.settled, sl.tail.emptyThrough())
		subject := s.store.layout.tailSubject(sl.id)
		p.tail, p.place = u, add(subject, u.appendTo(nil, subject))
		for k, w := range writes {
			if w.kind == writeGroup {
				p.places[k] = p.place
			}
		}
	case len(f.msgs) == first:
		m := newMark(s.store.layout.markSubject(sl.id))
		p.mark = binary.AppendUvarint(append([]byte(nil), id.life[:]...), id.number)
		m.Data, p.place = p.mark, first
		f.msgs = append(f.msgs, m)
	}
	return p
}

func (s *stream) stopWaiting(f *flight) {
	s.store.conn.forget(f.answer)
	f.timer.Stop()
}

// countWrites returns how many writes the batch has.
func (f *flight) countWrites() (n int) {
	for _, list := range f.writes {
		n += len(list)
	}
	return n
}

// answered takes in the answer to a batch; m is nil if there is none in time.
func (s *stream) answered(f *flight, attempt int, m *nats.Msg) {
	if f.attempt != attempt || f.isWaiting || f.isInDoubt || !s.flights[f] {
		return
	}
	s.stopWaiting(f)
	seq, err := readAck(m)
	what := outcomeOf(err)
	s.store.setTrouble(what, err)
	if what != isStored {
		s.store.o.Logger.Debug("a batch was not stored at once", "stream", s.name, "messages", len(f.msgs),
			"error", err)
	}
	switch what {
	case isStored:
		s.store.stats.latency.observe(&latencyBounds, time.Since(f.sentAt).Seconds())
		s.adapt(f)
		s.stored(f, seq)
	case isFenced:
		s.store.stats.refused.Add(1)
		if attempt > 1 {
			s.doubt(f) // the refusal tells only of the last attempt
			break
		}
		s.checkOwners(f)
	case isBusy:
		s.sendLater(f, time.Now().Add(2*time.Millisecond), err)
	case isNoLeader:
		s.sendLater(f, time.Now().Add(30*time.Millisecond), err)
	case isNoRoom, isRefused:
		s.store.stats.failed.Add(1)
		s.refuse(f, what, err)
	case isUnknown:
		s.adapt(f)
		s.doubt(f)
	}
}

// adapt bounds batches by how long they take: each message costs a write to the disk of each server,
// and a batch that takes longer than AnswerTimeout is in doubt.
func (s *stream) adapt(f *flight) {
	switch took := time.Since(f.sentAt); {
	case took > s.store.o.AnswerTimeout/4:
		s.batchMessages = max(leastMessages, min(s.batchMessages, len(f.msgs))/2)
	case took < s.store.o.AnswerTimeout/8 && len(f.msgs) >= s.batchMessages:
		s.batchMessages = min(mostMessages, 2*s.batchMessages)
	}
}

// sendLater sends a batch again that is not stored, unless its calls have waited too long.
func (s *stream) sendLater(f *flight, when time.Time, err error) {
	f.isWaiting = true
	s.store.stats.repeated.Add(1)
	attempt := f.attempt
	time.AfterFunc(time.Until(when), func() {
		s.post(func() {
			if f.attempt == attempt && f.isWaiting && s.flights[f] {
				s.sendAgain(f, err)
			}
		})
	})
}

func (s *stream) sendAgain(f *flight, err error) {
	// A slot whose tenure is over takes its writes back.
	for k := 0; k < len(f.slots); k++ {
		sl := f.slots[k]
		var kept, ended []*write
		for _, w := range f.writes[k] {
			if sl.isLost || w.call != nil && s.isImpatient(w.call) {
				ended = append(ended, w)
			} else {
				kept = append(kept, w)
			}
		}
		f.writes[k] = kept
		if len(kept) == 0 {
			f.slots, f.writes, f.parts = remove(f.slots, k), remove(f.writes, k), remove(f.parts, k)
			k--
			sl.flight = nil
		}
		for _, w := range ended {
			if sl.isLost {
				w.ended(0, errLost)
			} else {
				w.ended(0, unavailable("the stream %s stores nothing: %v", s.name, err))
			}
		}
		if len(kept) == 0 {
			sl.makeReady()
		}
	}
	if len(f.slots) == 0 {
		delete(s.flights, f)
		return
	}
	s.send(f)
}

func remove[T any](list []T, k int) []T { return append(append([]T(nil), list[:k]...), list[k+1:]...) }

// stored takes in that a batch is stored. seq is the stream sequence of its last message; 0 if all of
// its slots are another store's, which may have removed the messages.
func (s *stream) stored(f *flight, seq uint64) {
	delete(s.flights, f)
	first := seq - uint64(len(f.msgs)) + 1
	for _, sl := range f.slots {
		sl.flight = nil
		sl.seen = max(sl.seen, seq)
	}
	for k, sl := range f.slots {
		p := &f.parts[k]
		if p.tail != nil && seq > 0 {
			sl.takeTail(first+uint64(p.place), p.tail, p.copies, first)
		}
		for j, w := range f.writes[k] {
			at := seq
			if place := p.places[j]; place >= 0 && seq > 0 {
				at = first + uint64(place)
			}
			w.ended(at, nil)
		}
		sl.makeReady()
	}
}

// requeue takes the writes of a batch back that is not stored. Those of lost slots end.
func (s *stream) requeue(f *flight, alone bool) {
	delete(s.flights, f)
	for k, sl := range f.slots {
		sl.flight = nil
		if !sl.isLost {
			// What the tail has is settled when the slot has its next batch.
			writes := slices.DeleteFunc(f.writes[k], func(w *write) bool { return w.kind == writeSettling })
			sl.pending = append(writes, sl.pending...)
			sl.isAlone = alone
			sl.makeReady()
		}
	}
	for k, sl := range f.slots {
		if sl.isLost {
			for _, w := range f.writes[k] {
				w.ended(0, errLost)
			}
		}
	}
}

// refuse ends a batch that the servers do not take. If it has several writes, each is tried alone,
// since the answer does not say which of them is at fault.
func (s *stream) refuse(f *flight, what outcome, err error) {
	if len(f.slots) > 1 || len(f.writes[0]) > 1 {
		s.requeue(f, true)
		return
	}
	s.endFlight(f, refusedBy(what, err))
}

// endFlight ends all writes of a batch.
func (s *stream) endFlight(f *flight, err error) {
	delete(s.flights, f)
	s.stopWaiting(f)
	for k, sl := range f.slots {
		sl.flight = nil
		for _, w := range f.writes[k] {
			w.ended(0, err)
		}
		sl.makeReady()
	}
}

// doubtBefore ends the wait for the answers to batches that were sent before a moment.
func (s *stream) doubtBefore(moment time.Time) {
	for f := range s.flights {
		if f.sentAt.Before(moment) {
			s.answered(f, f.attempt, nil)
		}
	}
}

// isNotStored returns whether the error of a write says that nothing was stored.
func isNotStored(err error) bool {
	return errors.Is(err, errLost) || errors.Is(err, errRefused) || errors.Is(err, errUnavailable)
}
