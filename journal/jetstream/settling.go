package jetstream

import (
	"context"
	"slices"
	"time"
)

// settling says when the tail of a slot is settled: once it has so many bytes or messages, or once its
// oldest group has been there for so long. Each group is written once more then, so a longer tail costs
// less; but it is read at each takeover.
type settling struct {
	bytes, messages int
	age             time.Duration
}

var defaultSettling = settling{256 << 10, 1024, 30 * time.Second}

// The bounds of what one settling writes. A message of the tail has groups of fewer engines.
const (
	mostTailEngines  = 300
	mostCopies       = mostTailEngines
	mostCopiedBytes  = 1 << 20
	bundledOverhead  = 8 // of a record in a bundle, beside its token
	refusedSettlings = time.Second
)

// isSettlingDue returns whether the tail is long enough, or old enough, to be settled.
func (sl *slot) isSettlingDue() bool {
	t, due := &sl.tail, &sl.s.store.o.settling
	isDue := len(t.engines) > 0 && (t.bytes >= due.bytes || len(t.messages) >= due.messages || sl.isAged)
	return isDue && (sl.settleAfter.IsZero() || time.Now().After(sl.settleAfter))
}

// checkAge looks whether the tail is old enough to be settled.
func (sl *slot) checkAge(now time.Time) {
	sl.isAged = len(sl.tail.engines) > 0 && now.Sub(sl.tail.since) >= sl.s.store.o.settling.age
	sl.makeReady()
}

// newSettling returns a write that settles the oldest part of the tail.
func (sl *slot) newSettling() *write {
	return &write{kind: writeSettling, ended: func(_ uint64, err error) {
		if err != nil {
			sl.settleAfter = time.Now().Add(refusedSettlings)
			return
		}
		sl.isAged, sl.settleAfter = false, time.Time{}
	}}
}

// copies is a message that has records of one engine that were in the slot's tail.
type copies struct {
	token   string
	records []bundled
	bytes   int
	// place is the index of the message in its batch.
	place int
}

// addCopy adds a record to the last message of its engine, or to a new one if that is full.
func addCopy(list []*copies, last map[string]*copies, r bundled, most int) []*copies {
	size := len(r.data) + bundledOverhead
	c := last[r.token]
	if c == nil || c.bytes+size > most {
		c = &copies{token: r.token}
		last[r.token], list = c, append(list, c)
	}
	c.records = append(c.records, r)
	c.bytes += size
	return list
}

// flushed returns the messages that settle all records of one engine.
func (sl *slot) flushed(token string) (list []*copies) {
	last := map[string]*copies{}
	for _, r := range sl.tail.recordsOf(token) {
		list = addCopy(list, last, r, sl.s.store.groupSize)
	}
	return list
}

// settled returns the messages that settle the oldest messages of the tail, and the stream sequence up
// to which they do. It takes the tail in its order, so that no idle engine keeps anything in it. Engines
// whose tokens are in except are settled already.
func (sl *slot) settled(except []string) (list []*copies, through uint64) {
	last, bytes := map[string]*copies{}, 0
	for _, m := range sl.tail.messages {
		n, more := 0, map[string]bool{}
		for _, r := range m.records {
			n += len(r.data)
			more[r.token] = true
		}
		if through > 0 && (bytes+n > mostCopiedBytes || len(list)+len(more) > mostCopies) {
			break
		}
		for _, r := range m.records {
			if !slices.Contains(except, r.token) {
				list = addCopy(list, last, r, sl.s.store.groupSize)
			}
		}
		bytes += n
		through = m.at
	}
	return list, through
}

// encode returns the content of the message. A single record is a message as it is.
func (c *copies) encode(subject string, id recordID) []byte {
	if len(c.records) == 1 {
		return c.records[0].data
	}
	u := bundle{kind: kindCopies, id: id}
	for _, r := range c.records {
		u.records = append(u.records, bundled{data: r.data})
	}
	return u.appendTo(nil, subject)
}

// takeTail takes in a message of the slot's subject that is stored at the stream sequence at, with the
// copies that were stored with it. The copies are in the batch that begins with the stream sequence
// first.
func (sl *slot) takeTail(at uint64, u *bundle, list []*copies, first uint64) {
	for _, c := range list {
		name, err := nameOf(c.token)
		if e := sl.engines[name]; err == nil && e != nil {
			e.moved(move{c.records[0].ordinal, c.records[len(c.records)-1].ordinal, first + uint64(c.place)})
		}
	}
	s := sl.s
	isSettled := u.settled > sl.tail.settled
	sl.tail.add(at, u)
	if len(list) > 0 {
		s.store.stats.settlings.Add(1)
		s.store.stats.copies.Add(uint64(len(list)))
	}
	if !isSettled {
		return
	}
	// It may come late or twice, since all up to there is settled for good.
	journals, subject := s.name, s.store.layout.tailSubject(sl.id)
	before := u.settled + 1
	s.store.clean(func(ctx context.Context) error {
		return s.store.conn.purge(ctx, journals, subject, before, s.store.o.AnswerTimeout)
	})
}
