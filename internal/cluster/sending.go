package cluster

import (
	"slices"
	"time"
)

// How the groups of a stream's slots get into the log: what waits is gathered without a timer, and
// what comes while batches are in flight goes with the next one.

// flight is a batch that is not answered.
type flight struct {
	batch   *Batch
	tenures []*Tenure // of the parts
	// resendAt is when the batch is sent again that the log could not store; 0 if it is not to be.
	// The outcome counts as unknown at unknownAt.
	resendAt, unknownAt time.Duration
	// isResent says that the batch was sent more than once.
	isResent bool
}

// markReady notes that the tenure may have something to send.
func (t *Tenure) markReady() {
	if !t.isReady {
		t.isReady = true
		t.slots.ready = append(t.slots.ready, t)
	}
}

// maySend reports whether a part may be sent now.
func (t *Tenure) maySend() bool {
	isOpen := t.phase == Open || t.phase == Giving
	return isOpen && t.sent == nil && !t.hasLostFence && t.slot.write.purpose == noWrite
}

// hasToSend reports whether there is anything to send.
func (t *Tenure) hasToSend() bool {
	return len(t.queue) > 0 || len(t.barriers) > 0 || t.isSettlingDue()
}

// gather sends what waits in the tenures, all of it with one batch, as long as batches may be sent.
func (s *Slots) gather() {
	for len(s.inFlight) < s.config.MaxBatches && len(s.ready) > 0 {
		f := &flight{batch: &Batch{}}
		room := s.config.MaxMessages
		kept := s.ready[:0]
		for _, t := range s.ready {
			switch {
			case !t.maySend() || !t.hasToSend():
				t.isReady = false // what makes it ready again says so
			case room < 2:
				kept = append(kept, t)
			default:
				part, ok := t.nextPart(room)
				if !ok {
					kept = append(kept, t)
					continue
				}
				room -= int(part.size())
				f.batch.Parts = append(f.batch.Parts, part)
				f.tenures = append(f.tenures, t)
				if len(t.queue) > 0 {
					kept = append(kept, t)
				} else {
					t.isReady = false
				}
			}
		}
		clear(s.ready[len(kept):])
		s.ready = kept
		if len(f.tenures) == 0 {
			return
		}
		s.send(f)
	}
}

// send sends a batch for the first time.
func (s *Slots) send(f *flight) {
	s.batch++
	f.batch.Number = s.batch
	f.unknownAt = s.now + s.config.AnswerWithin
	s.inFlight = append(s.inFlight, f)
	s.emit(effect{kind: sendBatch, batch: f.batch})
}

// nextPart takes what waits into a part of at most room messages, which is then with the log. It
// returns false if nothing that waits has room.
func (t *Tenure) nextPart(room int) (Part, bool) {
	s := t.slots
	s.part++
	part := Part{Slot: t.slot.number, Fence: t.fence}
	part.Tail.ID = PartID{s.node, s.part}
	room-- // for the message on the slot's subject
	sent := &sentPart{barriers: t.barriers}
	t.barriers = nil
	n := 0
	bytes := 0
	engines := map[string]bool{}
	for _, p := range t.queue {
		if p.entry.IsBase {
			if room == 0 {
				break
			}
			room--
			part.Engines = append(part.Engines, t.baseMessage(p.entry))
		} else {
			bytes += len(p.entry.Data)
			if len(part.Tail.Entries) > 0 && bytes > s.config.MaxBytes {
				break
			}
			// The copies of one message have to fit into one batch when they are settled.
			if len(engines) == s.config.MaxMessages-1 && !engines[p.entry.Engine] {
				break
			}
			engines[p.entry.Engine] = true
			part.Tail.Entries = append(part.Tail.Entries, p.entry)
		}
		n++
	}
	sent.pending = slices.Clone(t.queue[:n])
	t.queue = slices.Delete(t.queue, 0, n)
	if t.isSettlingDue() {
		t.settle(&part, room)
	}
	if n == 0 && len(sent.barriers) == 0 && len(part.Engines) == 0 {
		return Part{}, false
	}
	sent.part = part
	t.sent = sent
	return part, true
}

// BatchAnswered takes in the answer to a batch. last is the sequence of its last message if it is
// stored.
func (s *Slots) BatchAnswered(number uint64, a Answer, last uint64, now time.Duration) {
	s.now = now
	k := slices.IndexFunc(s.inFlight, func(f *flight) bool { return f.batch.Number == number })
	if k < 0 {
		return
	}
	f := s.inFlight[k]
	if a == Unavailable {
		// A copy of the batch may still be on its way. So this is no answer for the engines: the
		// same batch is sent again, and a reader skips what is stored twice.
		f.resendAt = now + s.config.RetryAfter
		return
	}
	s.inFlight = slices.Delete(s.inFlight, k, k+1)
	switch {
	case a == Stored:
		first := last + 1
		for k := range f.batch.Parts {
			first -= f.batch.Parts[k].size()
		}
		for k, t := range f.tenures {
			first += f.batch.Parts[k].size()
			t.partStored(first - 1)
		}
	case f.isResent:
		// A copy that came earlier may be stored: a refusal tells only of the copy that was refused.
		f.doubt()
	case len(f.tenures) > 1:
		// The fence of one slot has moved, and the answer does not say which. Nothing is stored,
		// and this batch can never be stored: each part goes out by itself.
		for k, t := range f.tenures {
			s.send(&flight{batch: &Batch{Parts: f.batch.Parts[k : k+1 : k+1]}, tenures: []*Tenure{t}})
		}
	default:
		f.tenures[0].partRefused()
	}
}

// tickFlights sends again what the log could not store, and has those wait no longer whose batch
// was not answered.
func (s *Slots) tickFlights() {
	var late []*flight
	s.inFlight = slices.DeleteFunc(s.inFlight, func(f *flight) bool {
		if s.now >= f.unknownAt {
			late = append(late, f)
			return true
		}
		if f.resendAt != 0 && s.now >= f.resendAt {
			f.resendAt, f.isResent = 0, true
			s.emit(effect{kind: sendBatch, batch: f.batch})
		}
		return false
	})
	for _, f := range late {
		f.doubt()
	}
}

// doubt begins to find out whether each part of the batch is stored.
func (f *flight) doubt() {
	for _, t := range f.tenures {
		t.doubt()
	}
}

// partStored notes that what was sent is stored; sequence is that of its message on the slot's
// subject.
func (t *Tenure) partStored(sequence uint64) {
	part := &t.sent.part
	t.known = max(t.known, sequence)
	if t.phase != Over {
		t.noteCopies(part, sequence)
		if !t.isInDoubt { // else the tail was just read
			t.extendTail(StoredTail{sequence, part.Tail})
		}
	}
	t.finishSent(OK)
}

// partRefused notes that what was sent is not stored, because another owner record is there. If
// this node has not seen that record yet, what was sent goes back to the queue, and ends when it is
// seen.
func (t *Tenure) partRefused() {
	if t.phase == Over {
		t.finishSent(Moved)
		return
	}
	t.requeueSent()
	t.hasLostFence = true
	t.readOwner()
}

// requeueSent puts what was sent, and is known not to be stored, in front of the queue again. An
// entry whose engine waits for a load meanwhile ends instead: the load must not miss it.
func (t *Tenure) requeueSent() {
	kept := t.sent.pending[:0]
	for _, p := range t.sent.pending {
		if slices.ContainsFunc(t.loads, func(l *load) bool { return l.engine == p.entry.Engine }) {
			t.slots.emitDone(p.call, Overtaken)
		} else {
			kept = append(kept, p)
		}
	}
	t.queue = slices.Concat(kept, t.queue)
	t.barriers = slices.Concat(t.sent.barriers, t.barriers)
	t.sent, t.isInDoubt = nil, false
}

// finishSent ends the calls that wait for what was sent.
func (t *Tenure) finishSent(o Outcome) {
	sent := t.sent
	t.sent, t.isInDoubt = nil, false
	for _, p := range sent.pending {
		t.slots.emitDone(p.call, o)
	}
	if o == Unknown {
		o = Moved
	}
	for _, call := range sent.barriers {
		t.slots.emitDone(call, o)
	}
	if t.phase != Over {
		t.beginLoads()
		t.markReady()
		t.giveIfQuiet()
	}
}

// doubt begins to find out whether what was sent is stored. The node moves its own fence: what was
// sent under the former one is in the log by then, or can never be stored.
func (t *Tenure) doubt() {
	if t.phase == Over {
		t.finishSent(Unknown)
		return
	}
	t.isInDoubt = true
	t.slots.writeOwner(t.slot, moveFence, OwnerRecord{Node: t.slots.node, Address: t.slots.address, Epoch: t.epoch})
}

// fenceMoved notes that the new fence is stored. A tail that has seen it decides the doubt.
func (t *Tenure) fenceMoved(sequence uint64) {
	t.fence, t.known = sequence, max(t.known, sequence)
	t.readTail()
}

// endDoubt decides whether what was sent is stored: the batch is atomic, so its message on the
// slot's subject tells.
func (t *Tenure) endDoubt(tail []StoredTail) {
	k := slices.IndexFunc(tail, func(m StoredTail) bool { return m.ID == t.sent.part.Tail.ID })
	if k < 0 {
		t.requeueSent()
		return
	}
	t.partStored(tail[k].Sequence)
}
