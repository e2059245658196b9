package jetstream

import (
	"context"
	"errors"
	"strings"
	"time"

	"hypertoken/journal"
)

// Trimming removes what is not to be kept of an engine's history: the messages of its subject up to what the
// oldest base needs that is kept. It takes no part in any call. It needs no fence either: it removes what
// comes before a base that is stored for good, so a purge may come late or twice, also after the slot has
// another owner. A death in the middle leaves groups before the oldest base, which readers pass over.

// trims are the engines of a stream that have a new base, in order. The stream's loop has it.
type trims struct {
	list      []trimTarget
	waiting   map[trimTarget]bool // those of list
	isRunning bool                // a goroutine trims one of them
	isWalking bool                // a goroutine looks at all engines of a slot
}

// trimTarget is an engine whose history may have to be trimmed.
type trimTarget struct {
	slot *slot
	name string
}

// keepsAll returns whether nothing is ever trimmed.
func (s *Store) keepsAll() bool { return s.o.History == journal.History{} }

// isTrimmable returns whether the history of a name may be trimmed. An import is trimmed once it has its own
// name.
func isTrimmable(name string) bool { return !strings.HasPrefix(name, journal.ImportPrefix) }

// trimSoon has the history of an engine trimmed, which has a new base.
func (sl *slot) trimSoon(name string) {
	s, t := sl.s, trimTarget{sl, name}
	if s.store.keepsAll() || !isTrimmable(name) || s.trims.waiting[t] {
		return
	}
	s.trims.waiting[t] = true
	s.trims.list = append(s.trims.list, t)
	s.trimNext()
}

// trimNext begins to trim the next engine, unless one is being trimmed.
func (s *stream) trimNext() {
	if s.trims.isRunning || s.isClosing || len(s.trims.list) == 0 {
		return
	}
	t := s.trims.list[0]
	if s.trims.list = s.trims.list[1:]; len(s.trims.list) == 0 {
		s.trims.list = nil
	}
	delete(s.trims.waiting, t)
	s.trims.isRunning = true
	s.store.work.Go(func() {
		t.slot.trim(s.store.ctx, t.name)
		s.post(func() {
			s.trims.isRunning = false
			s.trimNext()
		})
	})
}

// The walk looks at walkPage engines, and then pauses for walkPause, so that it takes hardly any of the
// servers' time. maxWalkWait is the longest time between two walks over a slot.
const (
	walkPage    = 64
	walkPause   = 100 * time.Millisecond
	maxWalkWait = time.Hour
)

// walkNext begins to look at the histories of all engines of the next slot that is due: once in each tenure,
// because the former owner may have kept more or may have died, and again and again if there is an Age.
func (s *stream) walkNext(now time.Time) {
	if s.store.keepsAll() || s.isClosing {
		return
	}
	for _, sl := range s.slots {
		switch {
		case sl.isClaimed:
		case sl.walkAt.IsZero():
			sl.walkAt = now.Add(s.store.o.sweepAfter)
		case !s.trims.isWalking && now.After(sl.walkAt):
			s.trims.isWalking = true
			s.store.work.Go(func() {
				err := sl.walk(s.store.ctx)
				s.post(func() {
					s.trims.isWalking = false
					sl.walkAt = sl.nextWalk(time.Now(), err)
				})
			})
		}
	}
}

// nextWalk returns when the slot is walked over again.
func (sl *slot) nextWalk(now time.Time, err error) time.Time {
	o := &sl.s.store.o
	switch {
	case err != nil:
		return now.Add(o.sweepAfter)
	case o.History.Age == 0 || o.History.SinceBase:
		return now.Add(1 << 62) // a new base has its engine trimmed
	}
	return now.Add(min(max(o.History.Age/16, time.Second), maxWalkWait))
}

// walk trims all engines of the slot.
func (sl *slot) walk(ctx context.Context) error {
	s := sl.s
	subjects, err := s.store.subjects(ctx, s.name, s.store.layout.engineSubject(sl.id, "*"))
	if err != nil {
		return err
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	n := 0
	for subject, messages := range subjects {
		name, err := nameOf(subject[strings.LastIndexByte(subject, '.')+1:])
		if err != nil || !isTrimmable(name) || messages < 2 {
			continue
		}
		if !sl.trim(ctx, name) {
			return nil
		}
		if n++; n%walkPage == 0 {
			pause.Reset(walkPause)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// trim removes what is not to be kept of an engine's history. It returns false if the slot is not this
// store's any more, or the store is being closed.
func (sl *slot) trim(ctx context.Context, name string) (isOurs bool) {
	token, err := token(name)
	if err != nil {
		return true
	}
	var r *journalReader
	isOurs = sl.onLoop(func() {
		if e := sl.engines[name]; e != nil && e.running != nil && e.running.kind == callRename {
			return // the journal is being copied
		}
		r = sl.s.reader(sl.id, name, token, sl.ownerSubject(), sl.seen)
		r.tail = sl.tail.recordsOf(token)
		sl.trimming[name]++
	})
	if r == nil {
		return isOurs
	}
	if err := sl.trimHistory(ctx, r); err != nil && !errors.Is(err, errChanged) {
		log := sl.s.store.o.Logger
		log.Debug("what an engine has too much of its history was not removed", "engine", name, "error", err)
	}
	sl.s.post(func() {
		if sl.trimming[name]--; sl.trimming[name] == 0 {
			delete(sl.trimming, name)
		}
		if e := sl.engines[name]; e != nil {
			e.run()
		}
	})
	return true
}

// trimHistory removes one message after the other, the oldest first, and after each part of them its pieces.
// So whenever it ends, all that is left is whole.
func (sl *slot) trimHistory(ctx context.Context, r *journalReader) error {
	s := sl.s.store
	last, err := r.last(ctx)
	if err != nil || last.isAbsent() {
		return err
	}
	end, err := r.keptFrom(ctx, last, s.o.History, s.o.now())
	if err != nil {
		return err
	}
	pieces := s.layout.pieceStream(sl.s.number)
	for next := r.first[0].at; next < end; {
		part, err := r.partOf(ctx, next, last, s.trimmed, trimmedBytes)
		if err != nil {
			return err
		}
		next = min(end, part[len(part)-1].at+1)
		if !sl.onLoop(func() {}) {
			return nil
		}
		if err := s.conn.purge(ctx, sl.s.name, r.subject, next, s.o.AnswerTimeout); err != nil {
			return err
		}
		for k := range part {
			rec := &part[k]
			if rec.at >= next || rec.pieces.count == 0 {
				continue
			}
			filter := s.layout.pieceSubject(sl.id, r.token, rec.incarnation, rec.pieces.acquisition, rec.pieces.number)
			if err := s.conn.purge(ctx, pieces, filter, 0, s.o.AnswerTimeout); err != nil {
				return err
			}
		}
	}
	return nil
}

// keptFrom returns the stream sequence of the first message that is to be kept. It reads the journal's
// first records, too.
func (r *journalReader) keptFrom(ctx context.Context, last *record, history journal.History,
	now time.Time) (uint64, error) {
	kept, err := r.oldestBase(ctx, last)
	if err != nil {
		return 0, err
	}
	for kept.baseSequence < last.baseSequence {
		sequence := kept.baseSequence
		if history.SinceBase {
			sequence = last.baseSequence - 1
		}
		if history.Age == 0 && history.Bytes > 0 && last.bytes-kept.bytesBefore() <= history.Bytes {
			break
		}
		before, err := r.search(ctx, last, func(rec *record) bool { return rec.baseSequence <= sequence })
		if err != nil {
			return 0, err
		}
		if before == nil {
			return 0, r.missing("no record is before the sequence %d", sequence)
		}
		next, err := r.next(ctx, before.at+1, last)
		switch {
		case err != nil:
			return 0, err
		case !next.isBase():
			return 0, r.missing("the record %d at %d has another base, and is none", next.ordinal, next.at)
		}
		if !isTrimmed(history, last.bytes, kept, next, now) {
			break
		}
		kept = next
	}
	if kept.start > 0 {
		return min(kept.at, kept.start), nil
	}
	return kept.at, nil
}

// isTrimmed returns whether a base is not to be kept, with the entries up to the next base. total is how
// much was stored of the engine, with what was trimmed.
func isTrimmed(history journal.History, total uint64, b, next *record, now time.Time) bool {
	// All that lies between the two bases was stored by the time that the next one was.
	age := now.Sub(time.UnixMilli(next.time))
	return history.SinceBase || history.Bytes > 0 && total-b.bytesBefore() > history.Bytes ||
		history.Age > 0 && age >= history.Age
}
