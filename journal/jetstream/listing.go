package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// listed is a name that a page may have.
type listed struct {
	name string
	s    *stream
	mark uint64
}

func (s *Store) list(ctx context.Context, prefix, after string, limit int) (page []journal.Info, err error) {
	var all []listed
	for _, st := range s.streams {
		mark, err := s.mark(ctx, s.layout.readSubject(st.number))
		if err != nil {
			return nil, err
		}
		err = s.try(ctx, func(ctx context.Context) error {
			names, err := s.names(ctx, st, mark, prefix, after)
			for _, name := range names {
				all = append(all, listed{name, st, mark})
			}
			return err
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
	r := l.s.reader(SlotOf(l.name), l.name, t, s.layout.readSubject(l.s.number), l.mark)
	err = r.again(func() error {
		last, err := r.last(ctx)
		if err != nil || last == nil || last.kind == kindTombstone {
			return err
		}
		base := last
		if !last.isBase() {
			if base, err = r.next(ctx, last.base, last); err != nil {
				return err
			}
		}
		body, err := r.body(ctx, base)
		if err != nil {
			return err
		}
		b, err := readBaseBody(body)
		if err != nil {
			return r.damaged("the base %d: %v", base.at, err)
		}
		info = &journal.Info{Name: l.name, Sequence: last.newest(), Core: b.Core, Bytes: last.bytes,
			Created: time.UnixMilli(last.created), Updated: time.UnixMilli(last.time)}
		return nil
	})
	if errors.Is(err, journal.ErrDamaged) {
		// It is listed with its name alone, so that it can be deleted.
		return &journal.Info{Name: l.name}, nil
	}
	return info, err
}
