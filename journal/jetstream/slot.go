package jetstream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// slot is one tenure of a slot: from the moment at which this store acquires it until another store
// does. A later tenure is another object, so nothing that was queued in an earlier one is ever sent.
// Its stream's loop has all of it.
type slot struct {
	s  *stream
	id int
	// isClaimed says that the slot is being acquired. isLost says that the tenure is over.
	isClaimed, isLost bool
	// waiting are calls that wait for the end of the claim, or of giving.
	waiting []*call
	// giving is not nil while the slot is being given to another store.
	giving *giving
	// owner is the newest owner record that this store has written. Its Fence goes with every write.
	owner OwnerRecord
	// acquisition is the fence with which the tenure began. It names pieces.
	acquisition, pieceNumber uint64
	// seen is the newest stream sequence that is known to be stored for the slot. What a replica says
	// counts only if it has it.
	seen    uint64
	engines map[string]*engine
	// tail has the groups that are not on the engines' subjects yet. isAged says that they have been there
	// for long. settleAfter is when they may be settled after the servers have refused that.
	tail        tail
	isAged      bool
	settleAfter time.Time

	// sweepAt is when what former owners left in the slot is looked for; zero if that is not known yet.
	sweepAt time.Time
	isSwept bool

	// walkAt is when the histories of all engines of the slot are looked at; zero if that is not known yet.
	walkAt time.Time
	// trimming counts, for each name, the goroutines that trim its history.
	trimming map[string]int

	pending []*write // wait for a batch
	flight  *flight  // the batch that has writes of the slot; nil if there is none
	isReady bool     // the slot is in stream.ready
	// isAlone says that the next write of the slot goes alone, because a batch of several was refused.
	isAlone bool
}

// claim begins to acquire a slot.
func (s *stream) claim(id int) *slot {
	sl := &slot{s: s, id: id, isClaimed: true, engines: map[string]*engine{}, trimming: map[string]int{}}
	s.slots[id] = sl
	s.store.work.Go(func() {
		owner, err := s.acquire(s.store.ctx, id)
		t := &tail{}
		if err == nil {
			t, _, err = s.readTail(s.store.ctx, id, s.store.layout.ownerSubject(id), owner.Fence)
		}
		s.post(func() { sl.claimEnded(owner, t, err) })
	})
	return sl
}

func (sl *slot) claimEnded(owner OwnerRecord, t *tail, err error) {
	s := sl.s
	sl.isClaimed = false
	calls := sl.waiting
	sl.waiting = nil
	if err != nil {
		sl.isLost = true
		delete(s.slots, sl.id)
		for _, c := range calls {
			s.end(c, nil, err)
		}
		return
	}
	sl.owner, sl.acquisition, sl.seen, sl.tail = owner, owner.Fence, owner.Fence, *t
	s.store.stats.acquired.Add(1)
	s.store.o.Logger.Debug("slot acquired", "slot", sl.id, "epoch", owner.Epoch, "fence", owner.Fence)
	s.store.o.Claims.Acquired(sl.id, owner)
	for _, c := range calls {
		sl.enqueue(c)
	}
}

// lose ends the tenure because another store has taken the slot over.
func (sl *slot) lose() {
	if sl.isLost {
		return
	}
	s := sl.s.store
	s.stats.lost.Add(1)
	s.o.Logger.Info("another store has taken a slot over", "slot", sl.id, "epoch", sl.owner.Epoch)
	if sl.giving != nil {
		sl.endGiving(given{err: journal.ErrNotOwner})
	}
	sl.endTenure()
}

// endTenure ends the tenure: another store has the slot, or may have it. What was not sent is not
// stored. The writes of a flight are not touched.
func (sl *slot) endTenure() {
	s := sl.s
	sl.isLost = true
	delete(s.slots, sl.id)
	s.store.o.Claims.Lost(sl.id)
	pending := sl.pending
	sl.pending = nil
	for _, w := range pending {
		w.ended(0, errLost)
	}
	for _, e := range sl.engines {
		e.isOwned = false
		calls := e.calls
		e.calls = nil
		for _, c := range calls {
			s.takeAgain(c)
		}
	}
	waiting := sl.waiting
	sl.waiting = nil
	for _, c := range waiting {
		s.takeAgain(c)
	}
}

// errLost is the error of a write that is not stored because its slot was lost.
var errLost = errors.New("the slot was lost")

// acquire makes this store the owner of a slot. It waits for servers as long as the store's patience
// lasts.
func (s *stream) acquire(ctx context.Context, id int) (OwnerRecord, error) {
	nonce := randomHex(8)
	var former OwnerRecord
	ctx, cancel := context.WithTimeout(ctx, s.store.o.Patience)
	defer cancel()
	for try := 0; ; try++ {
		present, err := s.readOwner(ctx, id)
		if err == nil {
			if present.Nonce == nonce {
				s.store.stats.countTakeover(former, present)
				return present, nil // an earlier try whose answer was lost
			}
			former = present
			if err := s.store.o.Claims.MayClaim(id, present); err != nil {
				return OwnerRecord{}, err
			}
			o := &s.store.o
			next := OwnerRecord{Node: o.Node, Address: o.Address, Epoch: present.Epoch + 1, Nonce: nonce}
			if next.Fence, err = s.writeOwner(ctx, id, present.Fence, next); err == nil {
				s.store.stats.countTakeover(former, next)
				return next, nil
			}
		}
		if !s.store.pause(ctx, try) {
			return OwnerRecord{}, unavailable("the slot %d can't be acquired: %v", id, err)
		}
	}
}

// fenceAnew writes a new owner record over the one that this store has written. From then on no write
// with the former fence can be stored. isOurs is false if another store has taken the slot over; owner
// is its record then. It tries until ctx ends.
func (s *stream) fenceAnew(ctx context.Context, id int, former OwnerRecord) (owner OwnerRecord, isOurs bool,
	err error) {
	next := former
	next.Epoch, next.Nonce = former.Epoch+1, randomHex(8)
	return s.replaceOwner(ctx, id, former, next)
}

// replaceOwner writes the owner record next over the record former, which names this store. isOurs is
// false if another record has replaced former; owner is the newest one in any case. It tries until ctx
// ends. Then it is not known which of them is stored.
func (s *stream) replaceOwner(ctx context.Context, id int, former, next OwnerRecord) (owner OwnerRecord, isOurs bool,
	err error) {
	for try := 0; ; try++ {
		next.Fence, err = s.writeOwner(ctx, id, former.Fence, next)
		if err == nil {
			return next, true, nil
		}
		if outcomeOf(err) == isFenced {
			present, err := s.readOwner(ctx, id)
			switch {
			case err != nil:
			case present.Nonce == next.Nonce:
				return present, true, nil
			case present.Fence > former.Fence:
				return present, false, nil
			}
		}
		if !s.store.pause(ctx, try) {
			return former, false, ctx.Err()
		}
	}
}

// readOwner returns the owner record of a slot as the stream's leader has it. That may be behind; a
// write tells.
func (s *stream) readOwner(ctx context.Context, id int) (OwnerRecord, error) {
	m, err := s.store.conn.lastAtLeader(ctx, s.name, s.store.layout.ownerSubject(id), s.store.o.AnswerTimeout)
	if err != nil || m == nil {
		return OwnerRecord{}, err
	}
	return parseOwner(m.data, m.at)
}

// writeOwner writes an owner record if the newest one has the stream sequence expected. It returns the
// stream sequence of the new one.
func (s *stream) writeOwner(ctx context.Context, id int, expected uint64, r OwnerRecord) (uint64, error) {
	m := nats.NewMsg(s.store.layout.ownerSubject(id))
	m.Data = r.encode()
	m.Header.Set(headerExpected, strconv.FormatUint(expected, 10))
	m.Header.Set(headerRollup, rollupSubject)
	return s.store.conn.write(ctx, m, s.store.o.AnswerTimeout)
}

// The headers of writes.
const (
	headerExpected        = "Nats-Expected-Last-Subject-Sequence"
	headerExpectedSubject = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerRollup          = "Nats-Rollup"
	rollupSubject         = "sub"
	headerBatch           = "Nats-Batch-Id"
	headerBatchSequence   = "Nats-Batch-Sequence"
	headerBatchCommit     = "Nats-Batch-Commit"
)

// pause waits before a server is asked again, for longer each time. It returns false if ctx has ended.
func (s *Store) pause(ctx context.Context, try int) bool {
	timer := time.NewTimer(min(2*time.Millisecond<<min(try, 5), 50*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// ownerSubject returns the subject of the slot's owner record.
func (sl *slot) ownerSubject() string { return sl.s.store.layout.ownerSubject(sl.id) }

// lostError is what a call fails with that had no effect because its slot was lost.
func lostError(err error) error {
	if errors.Is(err, errLost) {
		return journal.ErrNotOwner
	}
	return err
}
