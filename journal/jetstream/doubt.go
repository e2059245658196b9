package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"hypertoken/journal"
)

// verdict is what a doubt has found about a batch.
type verdict struct {
	// slot is the index of the slot that was fenced anew, owner its owner record now, isOurs whether that
	// is this store's.
	slot   int
	owner  OwnerRecord
	isOurs bool
	// last is the stream sequence of the batch's last message; 0 if it is not stored.
	last uint64
	// err says that it can't be found out.
	err error
}

// doubt finds out whether a batch is stored whose answer has not come. The batch is atomic, and stored
// only if no fence of it has moved. So a new owner record for one of its slots makes sure that nothing
// of it is stored later, and one of its messages decides whether it is stored.
func (s *stream) doubt(f *flight) {
	f.isInDoubt = true
	s.store.stats.doubts.Add(1)
	s.store.o.Logger.Warn("the servers have not said whether a batch is stored", "stream", s.name,
		"slots", len(f.slots), "messages", len(f.msgs), "waited", time.Since(f.sentAt).Round(time.Millisecond))
	slot := f.decidingSlot()
	sl := f.slots[slot]
	former := sl.owner
	s.store.work.Go(func() {
		v := verdict{slot: slot}
		if v.owner, v.isOurs, v.err = s.fenceAnew(s.store.ctx, sl.id, former); v.err == nil {
			v.last, v.err = s.findBatch(s.store.ctx, f, slot, v.owner.Fence)
		}
		s.post(func() { s.resolved(f, v) })
	})
}

// decidingSlot returns the index of a slot with a record in the batch, or 0 if there are marks only.
func (f *flight) decidingSlot() int {
	for k := range f.slots {
		for _, w := range f.writes[k] {
			if w.subject != "" {
				return k
			}
		}
	}
	return 0
}

// findBatch returns the stream sequence of a batch's last message; 0 if the batch is not stored. Its
// slot with the index k has been fenced anew. The batch's fields do not change meanwhile.
func (s *stream) findBatch(ctx context.Context, f *flight, k int, fence uint64) (uint64, error) {
	sl := f.slots[k]
	at, place, err := uint64(0), 0, error(nil)
	for j, w := range f.writes[k] {
		if w.subject != "" {
			place = f.places[k][j]
			at, err = s.find(ctx, w, sl.ownerSubject(), fence)
			break
		}
	}
	if f.marks[k] != nil {
		place = f.markPlaces[k]
		at, err = s.findMark(ctx, sl, f.marks[k], fence)
	}
	if err != nil || at == 0 {
		return 0, err
	}
	return at + uint64(len(f.msgs)-1-place), nil
}

// findMark returns the stream sequence of a mark; 0 if it is not stored.
func (s *stream) findMark(ctx context.Context, sl *slot, mark []byte, fence uint64) (uint64, error) {
	for try := 0; ; try++ {
		last, err := s.lastOf(ctx, s.store.layout.markSubject(sl.id), sl.ownerSubject(), fence)
		switch {
		case err == nil && last != nil && bytes.Equal(last.data, mark):
			return last.at, nil
		case err == nil:
			return 0, nil
		}
		if !s.store.pause(ctx, try) {
			return 0, errors.Join(err, ctx.Err())
		}
	}
}

// find returns the stream sequence of a write's record; 0 if it is not stored and never will be. fence
// is the slot's owner record: the write was sent with an earlier one.
func (s *stream) find(ctx context.Context, w *write, ownerSubject string, fence uint64) (uint64, error) {
	for try := 0; ; try++ {
		at, err := s.tryFind(ctx, w, ownerSubject, fence)
		if err == nil || errors.Is(err, errGone) {
			return at, err
		}
		if !s.store.pause(ctx, try) {
			return 0, errors.Join(err, ctx.Err())
		}
	}
}

// errGone says that it can't be found out whether a record was stored, because another store has
// removed what lay there.
var errGone = errors.New("jetstream: another store has deleted the engine before it was known whether the write " +
	"was stored")

func (s *stream) tryFind(ctx context.Context, w *write, ownerSubject string, fence uint64) (uint64, error) {
	last, err := s.lastOf(ctx, w.subject, ownerSubject, fence)
	if err != nil {
		return 0, err
	}
	if last == nil || last.at <= w.previous {
		return 0, nil
	}
	// The record behind the previous one is this write's, or it is not stored.
	list, _, err := s.store.conn.read(ctx, s.name, query{Next: w.subject, Seq: w.previous + 1, Batch: 1}, readSilence)
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		return 0, errBehind
	}
	r, err := readRecord(list[0].data, w.subject, list[0].at)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", errGone, err)
	case r.id == w.id:
		return r.at, nil
	case r.previous != w.previous:
		return 0, errGone
	}
	return 0, nil
}

// resolved takes in what was found about a batch.
func (s *stream) resolved(f *flight, v verdict) {
	f.isInDoubt = false
	sl := f.slots[v.slot]
	switch {
	case v.err != nil && !errors.Is(v.err, errGone):
		s.endFlight(f, errAbandoned) // the store is being closed
		return
	case v.isOurs && !sl.isLost:
		sl.owner, sl.seen = v.owner, max(sl.seen, v.owner.Fence)
	}
	switch {
	case v.err != nil:
		s.endFlight(f, v.err)
	case v.last > 0:
		s.store.stats.doubtsStored.Add(1)
		s.stored(f, v.last)
	}
	if !v.isOurs {
		sl.lose()
	}
	if v.err == nil && v.last == 0 {
		s.requeue(f, false)
	}
}

// checkOwners finds the slots of a refused batch that are not ours any more. The answer does not say
// which they are.
func (s *stream) checkOwners(f *flight) {
	f.isInDoubt = true
	slots := f.slots
	s.store.work.Go(func() {
		owners, errs := make([]OwnerRecord, len(slots)), make([]error, len(slots))
		for k, sl := range slots {
			owners[k], errs[k] = s.readOwner(s.store.ctx, sl.id)
		}
		s.post(func() {
			f.isInDoubt = false
			for k, sl := range slots {
				// No record at all: somebody has removed it.
				if f := owners[k].Fence; errs[k] == nil && (f > sl.owner.Fence || f == 0) {
					sl.lose()
				}
			}
			s.requeue(f, true)
		})
	})
}

// The errors of a write that say that nothing was stored.
var (
	errRefused     = journal.ErrRefused
	errUnavailable = journal.ErrUnavailable
)

// refusedBy returns the error of a write that the servers have refused.
func refusedBy(what outcome, err error) error {
	if what == isNoRoom {
		return fmt.Errorf("%w: %w", journal.ErrFull, err)
	}
	return fmt.Errorf("%w: %w", journal.ErrRefused, err)
}
