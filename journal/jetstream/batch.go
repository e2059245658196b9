package jetstream

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// write is one record, or one mark, on its way to the stream. Its slot's tenure goes with it.
type write struct {
	// subject is empty for a mark. A mark needs no message of its own if the batch has others of its
	// slot: they are stored only if the slot is still ours, too.
	subject string
	data    []byte
	// isRollup says that the message removes all earlier ones of its subject.
	isRollup bool
	// id and previous find the record again: it is the first one of its subject behind previous.
	id       recordID
	previous uint64
	call     *call // nil if no call waits for it
	// ended is called by the loop, once. seq is the stream sequence of the record, or of the batch's
	// last message for a mark. Nothing is stored if err is errLost or refuses; an error that is neither
	// says that nobody knows.
	ended func(seq uint64, err error)
}

// flight is a batch on its way: the writes of some slots, stored together or not at all.
type flight struct {
	slots  []*slot
	writes [][]*write // by slot
	// msgs are the messages, places the index in msgs of each write, by slot; -1 for a mark that needs
	// none.
	msgs   []*nats.Msg
	places [][]int
	// marks has, for each slot that has no record in the batch, what its mark says, markPlaces the mark's
	// place.
	marks      [][]byte
	markPlaces []int
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
	if !sl.isReady && sl.flight == nil && len(sl.pending) > 0 && !sl.isLost {
		sl.isReady = true
		sl.s.ready = append(sl.s.ready, sl)
	}
}

// fly sends batches as long as there is something to send. No timer gathers writes: what comes while
// batches are on their way goes with the next one.
func (s *stream) fly() {
	for len(s.flights) < flightsPerStream && len(s.ready) > 0 {
		f := &flight{}
		messages, bytes := 0, 0
		for len(s.ready) > 0 && messages < s.batchMessages && bytes < batchBytes {
			sl := s.ready[0]
			if sl.isLost || len(sl.pending) == 0 {
				s.ready, sl.isReady = s.ready[1:], false
				continue
			}
			if sl.isAlone && messages > 0 {
				break
			}
			n := 0
			for n < len(sl.pending) && (messages == 0 || messages < s.batchMessages && bytes < batchBytes) {
				bytes += len(sl.pending[n].data)
				messages++
				if n++; sl.isAlone {
					break
				}
			}
			f.slots = append(f.slots, sl)
			f.writes = append(f.writes, sl.pending[:n:n])
			sl.pending, sl.flight = sl.pending[n:], f
			s.ready, sl.isReady = s.ready[1:], false
			if sl.isAlone {
				sl.isAlone = false
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
	f.msgs, f.places, f.marks, f.markPlaces = nil, nil, nil, nil
	for k, sl := range f.slots {
		first, places := len(f.msgs), []int(nil)
		for _, w := range f.writes[k] {
			if w.subject == "" {
				places = append(places, -1)
				continue
			}
			m := nats.NewMsg(w.subject)
			m.Data = w.data
			if w.isRollup {
				m.Header.Set(headerRollup, rollupSubject)
			}
			places = append(places, len(f.msgs))
			f.msgs = append(f.msgs, m)
		}
		var mark []byte
		if len(f.msgs) == first {
			m := newMark(s.store.layout.markSubject(sl.id))
			mark = binary.AppendUvarint(append([]byte(nil), s.store.life[:]...), s.store.records.Add(1))
			m.Data = mark
			f.msgs = append(f.msgs, m)
		}
		f.marks, f.markPlaces = append(f.marks, mark), append(f.markPlaces, first)
		f.msgs[first].Header.Set(headerExpected, strconv.FormatUint(sl.owner.Fence, 10))
		f.msgs[first].Header.Set(headerExpectedSubject, sl.ownerSubject())
		f.places = append(f.places, places)
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

func (s *stream) stopWaiting(f *flight) {
	s.store.conn.forget(f.answer)
	f.timer.Stop()
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
		s.store.stats.latency.observe(time.Since(f.sentAt).Seconds())
		s.adapt(f)
		s.stored(f, seq)
	case isFenced:
		s.store.stats.refused.Add(1)
		s.checkOwners(f)
	case isBusy:
		s.sendLater(f, time.Now().Add(2*time.Millisecond), err)
	case isNoLeader:
		s.sendLater(f, time.Now().Add(30*time.Millisecond), err)
	case isNoRoom, isRefused:
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
			f.slots, f.writes = remove(f.slots, k), remove(f.writes, k)
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

// stored takes in that a batch is stored. seq is the stream sequence of its last message.
func (s *stream) stored(f *flight, seq uint64) {
	delete(s.flights, f)
	first := seq - uint64(len(f.msgs)) + 1
	for _, sl := range f.slots {
		sl.flight = nil
		sl.seen = max(sl.seen, seq)
	}
	for k, sl := range f.slots {
		for j, w := range f.writes[k] {
			at := seq
			if place := f.places[k][j]; place >= 0 {
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
			sl.pending = append(f.writes[k], sl.pending...)
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
