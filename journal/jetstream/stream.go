package jetstream

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"hypertoken/journal"
)

// stream runs all calls for the slots of one stream. One goroutine, its loop, has all of its state, so
// that state has no lock. Other goroutines wait for servers, and post to the loop what they have found.
type stream struct {
	store *Store
	// number is the stream's number in the layout, name its name.
	number int
	name   string

	mu       sync.Mutex // guards mail and isClosed
	mail     []func()
	isClosed bool          // no call is taken any more
	arrived  chan struct{} // has room for one: mail is not empty

	// What follows belongs to the loop.
	slots     map[int]*slot
	ready     []*slot // slots with writes that wait for a batch
	givings   []*giving
	flights   map[*flight]bool
	isClosing bool
	isProbing bool
	// isSweeping says that a goroutine looks for what former owners left in a slot.
	isSweeping bool
	trims      trims
	scratch    []byte
	// batchMessages is how many messages a batch has at most at the moment.
	batchMessages int
}

func newStream(s *Store, number int) *stream {
	return &stream{store: s, number: number, name: s.layout.journalStream(number), arrived: make(chan struct{}, 1),
		slots: map[int]*slot{}, flights: map[*flight]bool{}, batchMessages: mostMessages,
		trims: trims{waiting: map[trimTarget]bool{}}}
}

// post has the loop run f. It never waits.
func (s *stream) post(f func()) {
	s.mu.Lock()
	s.mail = append(s.mail, f)
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// submit hands a call to the loop, or ends it if the store is closed.
func (s *stream) submit(c *call) {
	if !s.begin(func() { s.take(c) }) {
		c.report(nil, errClosed)
	}
}

// begin has the loop run f, which begins a call. It returns false if the store is closed.
func (s *stream) begin(f func()) bool {
	s.mu.Lock()
	isClosed := s.isClosed
	if !isClosed {
		s.store.calls.Add(1)
		s.mail = append(s.mail, f)
	}
	s.mu.Unlock()
	if isClosed {
		return false
	}
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	return true
}

// run is the loop. It ends once stop is closed.
func (s *stream) run(stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-s.arrived:
			// Callers who were told of the end of a call may make the next one. What all of them want to
			// write goes together.
			for n := 0; s.readMail() && n < mostMailRounds; n++ {
				runtime.Gosched()
			}
			s.giveQuietSlots()
			s.fly()
		case <-ticker.C:
			s.endImpatientCalls()
			for _, sl := range s.slots {
				sl.checkAge(time.Now())
			}
			s.probe()
			s.sweepNext(time.Now())
			s.walkNext(time.Now())
			s.fly()
		case <-stop:
			return
		}
	}
}

// mostMailRounds is how often mail is read before a batch is sent, so that one is sent in any case.
const mostMailRounds = 8

// readMail runs what was posted. It returns false if that was nothing.
func (s *stream) readMail() bool {
	s.mu.Lock()
	mail := s.mail
	s.mail = nil
	s.mu.Unlock()
	for _, f := range mail {
		f()
	}
	return len(mail) > 0
}

// probe writes a mark if nothing could be stored and nothing is on its way, so that the store's health
// is known again also if no call is made.
func (s *stream) probe() {
	if s.store.trouble.Load() == nil || len(s.flights) > 0 || s.isProbing || s.isClosing {
		return
	}
	s.isProbing = true
	s.store.work.Go(func() {
		m := newMark(s.store.layout.readSubject(s.number))
		_, err := s.store.conn.write(s.store.ctx, m, s.store.o.AnswerTimeout)
		s.store.setTrouble(outcomeOf(err), err)
		s.post(func() { s.isProbing = false })
	})
}

// tick is how often calls are looked for that have waited too long.
const tick = 250 * time.Millisecond

// take begins a call.
func (s *stream) take(c *call) {
	if s.isClosing {
		s.end(c, nil, errClosed)
		return
	}
	id := SlotOf(c.name)
	sl := s.slots[id]
	if (sl == nil || sl.isClaimed || sl.giving != nil) && !c.kind.acquires() {
		s.end(c, nil, journal.ErrNotOwner)
		return
	}
	if sl == nil {
		sl = s.claim(id)
		c.isFresh = true
	}
	if sl.isClaimed || sl.giving != nil {
		sl.waiting = append(sl.waiting, c)
		return
	}
	sl.enqueue(c)
}

// takeAgain begins a call again which had no effect, because its slot was lost.
func (s *stream) takeAgain(c *call) {
	switch {
	case !c.kind.acquires():
		s.end(c, nil, journal.ErrNotOwner)
	case s.isImpatient(c):
		s.end(c, nil, unavailable("the slot %d is taken over again and again", SlotOf(c.name)))
	default:
		c.forget()
		s.take(c)
	}
}

// end reports the end of a call.
func (s *stream) end(c *call, stored *journal.Stored, err error) {
	c.report(stored, err)
	s.store.calls.Done()
}

func (s *stream) isImpatient(c *call) bool { return time.Since(c.made) > s.store.o.Patience }

// endImpatientCalls ends calls that had no effect and have waited for too long.
func (s *stream) endImpatientCalls() {
	for _, sl := range s.slots {
		sl.waiting = s.endOldCalls(sl.waiting)
		for _, e := range sl.engines {
			e.calls = s.endOldCalls(e.calls)
		}
		var kept, old []*write
		for _, w := range sl.pending {
			if w.call != nil && s.isImpatient(w.call) {
				old = append(old, w)
			} else {
				kept = append(kept, w)
			}
		}
		sl.pending = kept
		for _, w := range old {
			w.ended(0, unavailable("the servers of the stream %s do not answer", s.name))
		}
	}
}

func (s *stream) endOldCalls(calls []*call) (kept []*call) {
	for _, c := range calls {
		if s.isImpatient(c) {
			s.end(c, nil, unavailable("the servers of the stream %s do not answer", s.name))
		} else {
			kept = append(kept, c)
		}
	}
	return kept
}

// shut ends all calls that have not begun.
func (s *stream) shut() {
	s.isClosing = true
	for _, g := range slices.Clone(s.givings) {
		if !g.isWriting {
			g.slot.endGiving(given{err: errClosed})
		}
	}
	for _, sl := range s.slots {
		calls := sl.waiting
		sl.waiting = nil
		for _, e := range sl.engines {
			calls = append(calls, e.calls...)
			e.calls = nil
		}
		for _, c := range calls {
			s.end(c, nil, errClosed)
		}
		pending := sl.pending
		sl.pending = nil
		for _, w := range pending {
			w.ended(0, errClosed)
		}
	}
}

// abandon ends what is in flight, because nobody waits any more.
func (s *stream) abandon() {
	s.shut()
	for f := range s.flights {
		if !f.isInDoubt {
			s.endFlight(f, errAbandoned)
		}
	}
}

// errAbandoned says that the store was closed before the servers have said what became of a call.
var errAbandoned = errors.New("jetstream: the store was closed before the servers said what became of the call")

// unavailable returns a [journal.ErrUnavailable] that says why.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("jetstream: "+format+": %w", append(args, journal.ErrUnavailable)...)
}
