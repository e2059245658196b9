package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hypertoken/journal"
)

// verdict is what a doubt has found about a batch.
type verdict struct {
	// fenced are the slots that were fenced anew.
	fenced   []fenced
	isStored bool
	// last is the stream sequence of the batch's last message. It is 0 if the batch is not stored, or if
	// all of its slots are another store's by now.
	last uint64
	// err says that it can't be found out.
	err error
}

// fenced is a slot of a batch that was fenced anew: its index, its owner record now, and whether that
// is this store's.
type fenced struct {
	slot   int
	owner  OwnerRecord
	isOurs bool
}

// doubt finds out whether a batch is stored whose answer has not come. The batch is atomic, and stored
// only if no fence of it has moved. So a new owner record for one of its slots makes sure that nothing
// of it is stored later, and one of its messages decides whether it is stored. If another store has the
// slot by now, it may have settled or removed that message, so another slot decides.
func (s *stream) doubt(f *flight) {
	f.isInDoubt = true
	s.store.stats.doubts.Add(1)
	s.store.o.Logger.Warn("the servers have not said whether a batch is stored", "stream", s.name,
		"slots", len(f.slots), "messages", len(f.msgs), "waited", time.Since(f.sentAt).Round(time.Millisecond))
	order := f.decidingSlots()
	former := make([]OwnerRecord, len(f.slots))
	for k, sl := range f.slots {
		former[k] = sl.owner
	}
	s.store.work.Go(func() {
		v := s.judge(s.store.ctx, f, order, former)
		s.post(func() { s.resolved(f, v) })
	})
}

// judge finds out whether a batch is stored. The batch's fields do not change meanwhile.
func (s *stream) judge(ctx context.Context, f *flight, order []int, former []OwnerRecord) (v verdict) {
	for _, k := range order {
		owner, isOurs, err := s.fenceAnew(ctx, f.slots[k].id, former[k])
		if err != nil {
			v.err = err
			return v
		}
		v.fenced = append(v.fenced, fenced{k, owner, isOurs})
		if isOurs {
			v.last, v.err = s.findBatch(ctx, f, k, owner.Fence)
			v.isStored = v.last > 0
			return v
		}
	}
	// A record tells, wherever it lies by now. If there is none, nobody is told anything.
	for _, found := range v.fenced {
		sl := f.slots[found.slot]
		for _, w := range f.writes[found.slot] {
			if w.kind == writeRecord || w.kind == writeGroup {
				v.isStored, v.err = s.isRecordStored(ctx, w, sl, found.owner.Fence)
				return v
			}
		}
	}
	return v
}

// decidingSlots returns the indexes of the slots of a batch, those with a record first.
func (f *flight) decidingSlots() (order []int) {
	var others []int
	for k := range f.slots {
		hasRecord := slices.ContainsFunc(f.writes[k], func(w *write) bool {
			return w.kind == writeRecord || w.kind == writeGroup
		})
		if hasRecord {
			order = append(order, k)
		} else {
			others = append(others, k)
		}
	}
	return append(order, others...)
}

// findBatch returns the stream sequence of a batch's last message; 0 if the batch is not stored. Its
// slot with the index k has been fenced anew, and is this store's: nobody else has written to it.
func (s *stream) findBatch(ctx context.Context, f *flight, k int, fence uint64) (uint64, error) {
	sl, p := f.slots[k], &f.parts[k]
	at, place, err := uint64(0), p.place, error(nil)
	switch {
	case p.tail != nil:
		at, err = s.findTail(ctx, sl, p.tail, fence)
	case p.mark != nil:
		at, err = s.findMark(ctx, sl, p.mark, fence)
	default:
		for j, w := range f.writes[k] {
			if w.kind == writeRecord {
				place = p.places[j]
				at, err = s.find(ctx, w, sl.ownerSubject(), fence)
				break
			}
		}
	}
	if err != nil || at == 0 {
		return 0, err
	}
	return at + uint64(len(f.msgs)-1-place), nil
}

// findTail returns the stream sequence of a message of the slot's tail; 0 if it is not stored. If it is
// there twice, the first one counts.
func (s *stream) findTail(ctx context.Context, sl *slot, u *bundle, fence uint64) (uint64, error) {
	subject := s.store.layout.tailSubject(sl.id)
	return s.findFirst(ctx, subject, sl.ownerSubject(), fence, u.previous, func(m *message) (bool, error) {
		got, err := readBundle(m.data, kindTail, subject)
		return got.id == u.id, err
	})
}

// findMark returns the stream sequence of a mark; 0 if it is not stored.
func (s *stream) findMark(ctx context.Context, sl *slot, mark []byte, fence uint64) (uint64, error) {
	for try := 0; ; try++ {
		last, _, err := s.lastOf(ctx, s.store.layout.markSubject(sl.id), sl.ownerSubject(), fence)
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

// find returns the stream sequence of a write's record on its engine's subject; 0 if it is not stored
// and never will be. fence is the slot's owner record: the write was sent with an earlier one.
func (s *stream) find(ctx context.Context, w *write, ownerSubject string, fence uint64) (uint64, error) {
	return s.findFirst(ctx, w.subject, ownerSubject, fence, w.previous, func(m *message) (bool, error) {
		list, err := readMessage(m)
		return list[0].id == w.id, err
	})
}

// findFirst returns the stream sequence of the first message of a subject behind another one, if that
// is the one looked for; 0 if not.
func (s *stream) findFirst(ctx context.Context, subject, witness string, fence, behind uint64,
	isIt func(*message) (bool, error)) (at uint64, err error) {
	err = s.forever(ctx, func() error {
		at = 0
		last, _, err := s.lastOf(ctx, subject, witness, fence)
		if err != nil || last == nil || last.at <= behind {
			return err
		}
		q := query{Next: subject, Seq: behind + 1, Batch: 1}
		list, _, err := s.store.conn.read(ctx, s.name, q, readSilence)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return errBehind
		}
		found, err := isIt(&list[0])
		if found {
			at = list[0].at
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
		return nil
	})
	return at, err
}

// forever calls f until it succeeds, fails with errGone, or ctx ends.
func (s *stream) forever(ctx context.Context, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if err == nil || errors.Is(err, errGone) {
			return err
		}
		if !s.store.pause(ctx, try) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// errGone says that it can't be found out whether a record was stored, because another store has
// removed what lay there.
var errGone = errors.New("jetstream: another store has deleted the engine, or trimmed its history, before it was " +
	"known whether the write was stored")

// isRecordStored returns whether a write's record is stored. Another store has the slot by now, with
// the owner record fence. It may have settled the record, or stored another one in its place.
func (s *stream) isRecordStored(ctx context.Context, w *write, sl *slot, fence uint64) (isStored bool, err error) {
	err = s.forever(ctx, func() error {
		isStored, err = s.tryRecordStored(ctx, w, sl, fence)
		return err
	})
	return isStored, err
}

func (s *stream) tryRecordStored(ctx context.Context, w *write, sl *slot, fence uint64) (bool, error) {
	t, seen, err := s.tryReadTail(ctx, sl.id, sl.ownerSubject(), fence)
	if errors.Is(err, journal.ErrDamaged) {
		return false, fmt.Errorf("%w: %w", errGone, err)
	}
	if err != nil {
		return false, err
	}
	last, _, err := s.lastOf(ctx, w.subject, sl.ownerSubject(), seen)
	if err != nil {
		return false, err
	}
	// What is behind the newest message that the engine's subject had when the record was sent.
	var list []record
	for next := w.previous + 1; last != nil && next <= last.at; {
		q := query{Next: w.subject, Seq: next, Batch: queryBatch, MaxBytes: queryBytes}
		found, _, err := s.store.conn.read(ctx, s.name, q, readSilence)
		if err != nil {
			return false, err
		}
		if len(found) == 0 {
			return false, errBehind
		}
		for k := range found {
			part, err := readMessage(&found[k])
			if list = append(list, part...); err != nil {
				return false, fmt.Errorf("%w: %w", errGone, err)
			}
			next = found[k].at + 1
		}
	}
	for _, b := range t.recordsOf(w.token) {
		r, err := readRecord(b.data, w.subject, 0)
		if err != nil {
			return false, fmt.Errorf("%w: %w", errGone, err)
		}
		list = append(list, r)
	}
	newest := uint64(0)
	for k := range list {
		r := &list[k]
		isInPlace := r.incarnation == w.incarnation && r.ordinal == w.ordinal
		switch {
		case r.id == w.id:
			return true, nil
		case isInPlace || k == 0 && r.incarnation != w.incarnation && r.previous == w.previous:
			return false, nil // another record was stored in its place
		case r.incarnation != w.incarnation || r.ordinal > w.ordinal:
			return false, errGone
		}
		newest = r.ordinal
	}
	// Without a record behind, the engine is as it was, or it was deleted, and all of it was removed.
	if newest == 0 && (last == nil || last.at < w.previous) && w.previous > 0 {
		return false, errGone
	}
	return false, nil
}

// resolved takes in what was found about a batch.
func (s *stream) resolved(f *flight, v verdict) {
	f.isInDoubt = false
	isGone := errors.Is(v.err, errGone)
	if v.err != nil && !isGone {
		s.endFlight(f, errAbandoned) // the store is being closed
		return
	}
	for _, found := range v.fenced {
		if sl := f.slots[found.slot]; found.isOurs && !sl.isLost {
			sl.owner, sl.seen = found.owner, max(sl.seen, found.owner.Fence)
		}
	}
	switch {
	case isGone:
		s.endFlight(f, v.err)
	case v.isStored:
		s.store.stats.doubtsStored.Add(1)
		s.stored(f, v.last)
	}
	for _, found := range v.fenced {
		if !found.isOurs {
			f.slots[found.slot].lose()
		}
	}
	if !isGone && !v.isStored {
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
