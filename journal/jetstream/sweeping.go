package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hypertoken/journal"
)

// What stores that died have left in a slot: imports that nobody goes on with, and pieces whose record was
// never stored. Once another store has acquired the slot, nothing can refer to them any more.

// defaultSweepAfter keeps the search out of the time in which a node takes many slots over.
const defaultSweepAfter = 10 * time.Second

// sweepNext begins the search in the next slot that was acquired long enough ago. Each slot is searched
// once in a tenure, until that succeeds, and one of a stream at a time.
func (s *stream) sweepNext(now time.Time) {
	for _, sl := range s.slots {
		switch {
		case sl.isClaimed || sl.isSwept:
		case sl.sweepAt.IsZero():
			sl.sweepAt = now.Add(s.store.o.sweepAfter)
		case !s.isSweeping && !s.isClosing && now.After(sl.sweepAt):
			s.isSweeping, sl.isSwept = true, true
			s.store.work.Go(func() {
				err := errors.Join(sl.sweepImports(s.store.ctx), sl.sweepPieces(s.store.ctx))
				if err != nil {
					log := s.store.o.Logger
					log.Debug("what former owners left in a slot was not removed", "slot", sl.id, "error", err)
				}
				s.post(func() {
					s.isSweeping = false
					if err != nil {
						sl.isSwept, sl.sweepAt = false, time.Now().Add(s.store.o.sweepAfter)
					}
				})
			})
		}
	}
}

// onLoop has the loop run f, and waits for that. It returns false if the slot is not this store's any
// more, or the store is being closed: then f did not run.
func (sl *slot) onLoop(f func()) bool {
	ran := make(chan bool, 1)
	sl.s.post(func() {
		isOurs := !sl.isLost && !sl.s.isClosing
		if isOurs {
			f()
		}
		ran <- isOurs
	})
	return <-ran
}

// sweepImports deletes the imports that were begun before the slot was acquired.
func (sl *slot) sweepImports(ctx context.Context) error {
	s := sl.s
	subjects, err := s.store.subjects(ctx, s.name, s.store.layout.engineSubject(sl.id, "*"))
	if err != nil {
		return err
	}
	for subject := range subjects {
		name, err := nameOf(subject[strings.LastIndexByte(subject, '.')+1:])
		if err != nil || !strings.HasPrefix(name, journal.ImportPrefix) {
			continue
		}
		q := query{Next: subject, Seq: 1, Batch: 1}
		first, _, err := s.store.conn.read(ctx, s.name, q, readSilence)
		if err != nil {
			return err
		}
		if len(first) == 0 || first[0].at > sl.acquisition {
			continue // it was begun since, or it is gone
		}
		deleted := make(chan error, 1)
		isOurs := sl.onLoop(func() {
			if sl.engines[name] != nil {
				deleted <- nil // somebody here goes on with it
				return
			}
			s.store.calls.Add(1)
			done := journal.DoneFunc(func(err error) { deleted <- err })
			s.take(&call{kind: callDelete, name: name, made: time.Now(), done: done})
		})
		if !isOurs {
			return nil
		}
		if err := <-deleted; err != nil {
			return err
		}
	}
	return nil
}

// pieceSet is the place of a large base or group: the last parts of its subject.
type pieceSet struct{ acquisition, number uint64 }

func (p pieceSet) compare(q pieceSet) int {
	return cmp.Or(cmp.Compare(p.acquisition, q.acquisition), cmp.Compare(p.number, q.number))
}

// pieceOwner is whose pieces they are: an engine's token, and its incarnation.
type pieceOwner struct{ token, incarnation string }

// sweepPieces removes pieces that no record names. Calls of an engine run one after the other, so only the
// last pieces of an engine in the last tenure can be those of a record that was never stored. Pieces of
// records that were trimmed are older than all that are named.
func (sl *slot) sweepPieces(ctx context.Context) error {
	s := sl.s
	pieces := s.store.layout.pieceStream(s.number)
	prefix := s.store.layout.piecesOfSlot(sl.id)
	subjects, err := s.store.subjects(ctx, pieces, prefix+">")
	if err != nil {
		return err
	}
	sets, newest := map[pieceOwner][]pieceSet{}, uint64(0)
	for subject := range subjects {
		parts := strings.Split(strings.TrimPrefix(subject, prefix), ".")
		if len(parts) != 4 {
			continue
		}
		acquisition, err1 := strconv.ParseUint(parts[2], 10, 64)
		number, err2 := strconv.ParseUint(parts[3], 10, 64)
		if err1 != nil || err2 != nil || acquisition >= sl.acquisition {
			continue
		}
		newest = max(newest, acquisition)
		owner := pieceOwner{parts[0], parts[1]}
		sets[owner] = append(sets[owner], pieceSet{acquisition, number})
	}
	for owner, list := range sets {
		last := slices.MaxFunc(list, pieceSet.compare)
		if last.acquisition != newest && s.store.keepsAll() {
			continue // it was looked at when the slot was acquired before
		}
		use, err := sl.useOf(ctx, owner)
		switch {
		case errors.Is(err, journal.ErrDamaged) || errors.Is(err, errChanged):
			continue // nothing of a damaged journal is removed
		case err != nil:
			return err
		}
		var filters []string
		for _, set := range list {
			if use.isNamed(set, set == last) {
				continue
			}
			filters = append(filters, fmt.Sprintf("%s%s.%s.%d.%d", prefix, owner.token, owner.incarnation,
				set.acquisition, set.number))
		}
		if use.isGone {
			filters = []string{prefix + owner.token + "." + owner.incarnation + ".>"}
		}
		for _, filter := range filters {
			if err := s.store.conn.purge(ctx, pieces, filter, 0, s.store.o.AnswerTimeout); err != nil {
				return err
			}
		}
	}
	return nil
}

// pieceUse is which pieces the records of an engine name.
type pieceUse struct {
	// isKept says that nothing may be removed. isGone says that there is no such engine.
	isKept, isGone bool
	// isTrimmed says that the journal does not begin with its first record any more.
	isTrimmed bool
	named     map[pieceSet]bool
}

// isNamed returns whether pieces of a former tenure have to stay. isLast says that no newer ones are there.
func (u *pieceUse) isNamed(set pieceSet, isLast bool) bool {
	return u.isKept || u.named[set] || !isLast && !u.isTrimmed
}

// useOf returns which pieces the records of an engine name.
func (sl *slot) useOf(ctx context.Context, owner pieceOwner) (*pieceUse, error) {
	use := &pieceUse{named: map[pieceSet]bool{}}
	name, err := nameOf(owner.token)
	if err != nil {
		use.isKept = true // no store writes such a subject: whatever it is, it stays
		return use, nil   //nolint:nilerr // see above
	}
	var r *journalReader
	isOurs := sl.onLoop(func() {
		r = sl.s.reader(sl.id, name, owner.token, sl.ownerSubject(), sl.seen)
		r.tail = sl.tail.recordsOf(owner.token)
	})
	if !isOurs {
		use.isKept = true
		return use, nil
	}
	newest, err := r.last(ctx)
	switch {
	case err != nil:
		return nil, err
	case newest.isAbsent() || newest.incarnation.String() != owner.incarnation:
		use.isGone = true
		return use, nil
	}
	// All records, from the first one on. No one may be missing in what replicas answer.
	for next, done := uint64(1), uint64(0); done < newest.ordinal; {
		part, err := r.part(ctx, next, newest)
		if err != nil {
			return nil, err
		}
		for k := range part {
			rec := &part[k]
			if done > 0 && rec.ordinal > done+1 {
				return nil, r.missing("the record %d follows the record %d", rec.ordinal, done)
			}
			use.isTrimmed = use.isTrimmed || done == 0 && rec.ordinal > 1
			if rec.pieces.count > 0 {
				use.named[pieceSet{rec.pieces.acquisition, rec.pieces.number}] = true
			}
			next, done = rec.at+1, max(done, rec.ordinal)
		}
	}
	return use, nil
}

// subjects returns the subjects of a stream that a filter takes, with the number of their messages. It
// returns none if there are more than the server answers at once.
func (s *Store) subjects(ctx context.Context, stream, filter string) (map[string]uint64, error) {
	var info struct {
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
		Total int `json:"total"`
	}
	in := map[string]any{"subjects_filter": filter}
	err := s.conn.request(ctx, "$JS.API.STREAM.INFO."+stream, in, &info, s.o.Patience)
	if err != nil || info.Total > len(info.State.Subjects) {
		return nil, err
	}
	return info.State.Subjects, nil
}
