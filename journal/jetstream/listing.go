package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hypertoken/journal"
)

// List implements [journal.Lister]. It reads the names of all engines for each page.
func (s *Store) List(prefix, after string, limit int, done func([]journal.Info, error)) {
	s.background(func(ctx context.Context) {
		page, err := s.list(ctx, prefix, after, limit)
		if err != nil {
			page = nil
		}
		done(page, err)
	}, func(err error) { done(nil, err) })
}

// listed is a name that a page may have. tails are those of its stream.
type listed struct {
	name  string
	tails *listedTails
}

// listedTails are the tails of a stream's slots, each read when a page needs it.
type listedTails struct {
	s    *stream
	mark uint64 // what a replica has to have

	mu   sync.Mutex // guards read
	read map[int]*listedTail
}

// listedTail is the tail of a slot, once isRead is closed. seen is how far its replica was.
type listedTail struct {
	isRead chan struct{}
	tail   *tail
	seen   uint64
	err    error
}

// of returns the tail of a slot.
func (l *listedTails) of(ctx context.Context, slot int) *listedTail {
	l.mu.Lock()
	t := l.read[slot]
	isFirst := t == nil
	if isFirst {
		t = &listedTail{isRead: make(chan struct{})}
		l.read[slot] = t
	}
	l.mu.Unlock()
	if isFirst {
		t.tail, t.seen, t.err = l.s.readTail(ctx, slot, l.s.store.layout.readSubject(l.s.number), l.mark)
		close(t.isRead)
	}
	<-t.isRead
	return t
}

func (s *Store) list(ctx context.Context, prefix, after string, limit int) (page []journal.Info, err error) {
	var all []listed
	for _, st := range s.streams {
		mark, err := s.mark(ctx, s.layout.readSubject(st.number))
		if err != nil {
			return nil, err
		}
		tails := &listedTails{s: st, mark: mark, read: map[int]*listedTail{}}
		err = s.try(ctx, func(ctx context.Context) error {
			names, err := s.names(ctx, st, mark, prefix, after)
			if err != nil {
				return err
			}
			for _, name := range names {
				all = append(all, listed{name, tails})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	for len(all) > 0 && len(page) < limit {
		n := min(limit-len(page), len(all), listBatch)
		infos, err := s.infos(ctx, all[:n])
		if err != nil {
			return nil, err
		}
		page, all = append(page, infos...), all[n:]
	}
	return page, nil
}

// listBatch is how many engines are looked at together.
const listBatch = 16

// hiddenPrefix begins the names that are a host's own. They are listed only if they are asked for.
const hiddenPrefix = "\x00"

// names returns the names of a stream with a prefix that sort behind after.
func (s *Store) names(ctx context.Context, st *stream, mark uint64, prefix, after string) (names []string, err error) {
	take := func(filter string) (isWhole bool, err error) {
		var info struct {
			State struct {
				Last     uint64            `json:"last_seq"`
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
			Total int `json:"total"`
		}
		in := map[string]any{"subjects_filter": filter}
		err = s.conn.request(ctx, "$JS.API.STREAM.INFO."+st.name, in, &info, s.o.Patience)
		switch {
		case err != nil:
			return false, err
		case info.State.Last < mark:
			return false, errBehind
		case info.Total > len(info.State.Subjects):
			return false, nil
		}
		for subject := range info.State.Subjects {
			name, err := nameOf(subject[strings.LastIndexByte(subject, '.')+1:])
			if err != nil {
				return false, fmt.Errorf("%w: the subject %q of %s: %w", journal.ErrDamaged, subject, st.name, err)
			}
			isHidden := strings.HasPrefix(name, hiddenPrefix) && !strings.HasPrefix(prefix, hiddenPrefix)
			if strings.HasPrefix(name, prefix) && name > after && !isHidden {
				names = append(names, name)
			}
		}
		return true, nil
	}
	isWhole, err := take(s.layout.engineSubjects(st.number))
	if err != nil || isWhole {
		return names, err
	}
	// JetStream answers 100,000 subjects at once. It has pages of more, but they are no picture of one
	// moment: a deletion between two pages would hide another name.
	for slot := st.number; slot < Slots; slot += s.o.Streams {
		isWhole, err := take(s.layout.engineSubject(slot, "*"))
		if err == nil && !isWhole {
			err = journal.Refused("the slot %d has too many engines to be listed", slot)
		}
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// infos tells what is known of some engines, in their order. It leaves those out that were deleted.
func (s *Store) infos(ctx context.Context, list []listed) ([]journal.Info, error) {
	infos, errs := make([]*journal.Info, len(list)), make([]error, len(list))
	ended := make(chan struct{}, len(list))
	for k := range list {
		go func() {
			infos[k], errs[k] = s.info(ctx, list[k])
			ended <- struct{}{}
		}()
	}
	for range list {
		<-ended
	}
	var page []journal.Info
	for _, info := range infos {
		if info != nil {
			page = append(page, *info)
		}
	}
	return page, errors.Join(errs...)
}

// info tells what is known of an engine; nil if it was deleted.
func (s *Store) info(ctx context.Context, l listed) (info *journal.Info, err error) {
	t, err := token(l.name)
	if err != nil {
		return nil, err
	}
	slot := SlotOf(l.name)
	tail := l.tails.of(ctx, slot)
	switch {
	case errors.Is(tail.err, journal.ErrDamaged):
		return &journal.Info{Name: l.name}, nil
	case tail.err != nil:
		return nil, tail.err
	}
	st := l.tails.s
	r := st.reader(slot, l.name, t, s.layout.readSubject(st.number), tail.seen)
	r.tail = tail.tail.recordsOf(t)
	err = r.again(func() error {
		last, err := r.last(ctx)
		if err != nil || last.isAbsent() {
			return err
		}
		base := last
		if !last.isBase() {
			if base, err = r.next(ctx, last.base, last); err != nil {
				return err
			}
			if !base.isBaseOf(last) {
				return r.missing("the base %d that the record %d names is not there", last.base, last.at)
			}
		}
		trimmed, err := r.trimmedBytes(ctx, base, last)
		if err != nil {
			return err
		}
		body, err := r.body(ctx, base)
		if err != nil {
			return err
		}
		b, err := readBaseBody(body)
		if err != nil {
			return r.damaged("the base %d: %v", base.at, err)
		}
		info = &journal.Info{Name: l.name, Sequence: last.newest(), Core: b.Core,
			Bytes:   last.bytes - min(last.bytes, trimmed),
			Created: time.UnixMilli(last.created), Updated: time.UnixMilli(last.time)}
		return nil
	})
	if errors.Is(err, journal.ErrDamaged) {
		// It is listed with its name alone, so that it can be deleted.
		return &journal.Info{Name: l.name}, nil
	}
	return info, err
}
