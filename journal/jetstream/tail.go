package jetstream

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hypertoken/journal"
)

// tail is what a slot's own subject has that is not on the subjects of its engines yet. The records
// that it has of an engine follow those on the engine's subject.
type tail struct {
	messages []tailMessage // oldest first
	// last is the stream sequence of the newest message of the subject, settled the one up to which all
	// is on the engines' subjects. Each is 0 if there is none.
	last, settled uint64
	// engines counts the records by the tokens of their engines, bytes their bytes.
	engines map[string]int
	bytes   int
	// since is when the oldest record was read or stored; it has no meaning if there is none.
	since time.Time
}

// tailMessage is a message of a tail, with the records that are still the tail's.
type tailMessage struct {
	at      uint64
	records []bundled
}

// add takes in the next message of the subject.
func (t *tail) add(at uint64, u *bundle) {
	if t.engines == nil {
		t.engines = map[string]int{}
	}
	for _, token := range u.drops {
		t.drop(token)
	}
	t.settle(u.settled)
	if len(t.engines) == 0 {
		t.since = time.Now()
	}
	for k := range u.records {
		t.engines[u.records[k].token]++
		t.bytes += len(u.records[k].data)
	}
	t.messages = append(t.messages, tailMessage{at, slices.Clone(u.records)})
	t.last = at
}

// repeat takes in that the newest message is there again.
func (t *tail) repeat(at uint64) {
	t.last = at
	if n := len(t.messages); n > 0 {
		t.messages[n-1].at = at
	}
}

// forget counts a record no more.
func (t *tail) forget(r *bundled) {
	if t.engines[r.token]--; t.engines[r.token] == 0 {
		delete(t.engines, r.token)
	}
	t.bytes -= len(r.data)
}

// drop removes the records of an engine.
func (t *tail) drop(token string) {
	for k := range t.messages {
		m := &t.messages[k]
		m.records = slices.DeleteFunc(m.records, func(r bundled) bool {
			if r.token != token {
				return false
			}
			t.forget(&r)
			return true
		})
	}
}

// settle removes the messages up to a stream sequence.
func (t *tail) settle(through uint64) {
	t.settled = max(t.settled, through)
	n := 0
	for ; n < len(t.messages) && t.messages[n].at <= through; n++ {
		for k := range t.messages[n].records {
			t.forget(&t.messages[n].records[k])
		}
	}
	if n > 0 {
		t.messages = slices.Delete(t.messages, 0, n)
		t.since = time.Now()
	}
}

// emptyThrough returns the stream sequence up to which the tail has no records.
func (t *tail) emptyThrough() uint64 {
	through := t.settled
	for k := range t.messages {
		if len(t.messages[k].records) > 0 {
			break
		}
		through = t.messages[k].at
	}
	return through
}

// recordsOf returns the records of an engine, oldest first.
func (t *tail) recordsOf(token string) (list []bundled) {
	if t.engines[token] == 0 {
		return nil
	}
	for k := range t.messages {
		for _, r := range t.messages[k].records {
			if r.token == token {
				list = append(list, r)
			}
		}
	}
	return list
}

// readTail reads the tail of a slot from any replica that has the stream sequence atLeast. seen is how
// far that replica was: a replica that is as far has all that was settled before.
func (s *stream) readTail(ctx context.Context, slot int, witness string, atLeast uint64) (t *tail, seen uint64,
	err error) {
	err = s.store.try(ctx, func(ctx context.Context) error {
		t, seen, err = s.tryReadTail(ctx, slot, witness, atLeast)
		return err
	})
	return t, seen, err
}

func (s *stream) tryReadTail(ctx context.Context, slot int, witness string, atLeast uint64) (*tail, uint64, error) {
	subject := s.store.layout.tailSubject(slot)
	last, seen, err := s.store.lastOf(ctx, s.name, subject, witness, atLeast)
	if err != nil || last == nil {
		return &tail{}, seen, err
	}
	damaged := func(m *message, err error) error {
		return fmt.Errorf("the tail of the slot %d in the stream %s: %w: message %d: %w", slot, s.name,
			journal.ErrDamaged, m.at, err)
	}
	newest, err := readBundle(last.data, kindTail, subject)
	if err != nil {
		return nil, 0, damaged(last, err)
	}
	// A message names the one before it, so none is missing. One that is settled may be gone. A message
	// that came to the servers twice is there twice.
	t := &tail{last: newest.settled, settled: newest.settled}
	first, id := newest.settled, recordID{} // of the message that was added last
	for next, isEnd := newest.settled+1, false; !isEnd; {
		list := []message{*last}
		if newest.previous > t.settled {
			q := query{Next: subject, Seq: next, Batch: queryBatch, MaxBytes: queryBytes}
			if list, _, err = s.store.conn.read(ctx, s.name, q, readSilence); err != nil {
				return nil, 0, err
			}
		}
		if len(list) == 0 || list[0].at > last.at {
			return nil, 0, errBehind
		}
		for k := range list {
			m := &list[k]
			if m.at > last.at {
				return nil, 0, errBehind // the newest message is settled meanwhile
			}
			u, err := readBundle(m.data, kindTail, subject)
			switch {
			case err != nil:
				return nil, 0, damaged(m, err)
			case u.id == id:
				t.repeat(m.at)
			case u.previous > t.last:
				return nil, 0, errBehind // a message is missing: it is settled meanwhile
			case u.previous >= first:
				first, id = m.at, u.id
				s.readOrdinals(&u, slot)
				t.add(m.at, &u)
			}
			if next, isEnd = m.at+1, m.at == last.at; isEnd {
				break
			}
		}
	}
	return t, seen, nil
}

// readOrdinals reads the ordinals of the records of a bundle.
func (s *stream) readOrdinals(u *bundle, slot int) {
	for k := range u.records {
		b := &u.records[k]
		if r, err := readRecord(b.data, s.store.layout.engineSubject(slot, b.token), 0); err == nil {
			b.ordinal = r.ordinal
		}
	}
}
