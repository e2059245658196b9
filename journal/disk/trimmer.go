package disk

import (
	"errors"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// trimmer has the names of engines whose history is to be trimmed: because a base was installed, or
// because the walk has found something that is too old.
// A goroutine reads what is to be deleted, so no call of another engine waits for it.
type trimmer struct {
	mu      sync.Mutex // guards what follows
	arrived sync.Cond  // of mu: a name, or the end
	ended   sync.Cond  // of mu: nothing is left to do
	names   []string
	waiting map[string]bool // the names again
	// isBusy says that the history of an engine is being trimmed.
	isBusy, isClosed bool
}

func (t *trimmer) start() {
	t.arrived.L, t.ended.L, t.waiting = &t.mu, &t.mu, map[string]bool{}
}

func (t *trimmer) push(name string) {
	t.mu.Lock()
	if !t.waiting[name] {
		t.waiting[name] = true
		t.names = append(t.names, name)
		t.arrived.Signal()
	}
	t.mu.Unlock()
}

// pop waits for a name. It returns false once the trimmer is closed.
func (t *trimmer) pop() (name string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isBusy = false; len(t.names) == 0 {
		t.ended.Broadcast()
	}
	for len(t.names) == 0 && !t.isClosed {
		t.arrived.Wait()
	}
	if t.isClosed {
		return "", false
	}
	name = t.names[0]
	if t.names = t.names[1:]; len(t.names) == 0 {
		t.names = nil
	}
	delete(t.waiting, name)
	t.isBusy = true
	return name, true
}

func (t *trimmer) close() {
	t.mu.Lock()
	t.isClosed = true
	t.arrived.Broadcast()
	t.ended.Broadcast()
	t.mu.Unlock()
}

// wait waits until nothing is left to do.
func (t *trimmer) wait() {
	t.mu.Lock()
	for (t.isBusy || len(t.names) > 0) && !t.isClosed {
		t.ended.Wait()
	}
	t.mu.Unlock()
}

// keepsAll reports whether nothing is ever trimmed.
func (s *Store) keepsAll() bool { return s.o.History == journal.History{} }

// trimHistories is the goroutine that trims.
func (s *Store) trimHistories() {
	for {
		name, ok := s.trims.pop()
		if !ok {
			return
		}
		if err := s.trimHistory(name); err != nil {
			s.o.Logger.Warn("the history of an engine could not be trimmed", "dir", s.dir, "engine", name, "err", err)
		}
	}
}

// trimHistory deletes what is not to be kept of an engine's history.
func (s *Store) trimHistory(name string) error {
	t, err := s.readTrimming(name)
	if err != nil || t == nil {
		return err
	}
	err = s.wait(func(done journal.Done) {
		s.put(op{kind: opTrim, name: name, more: &request{trim: t}, done: done})
	})
	if errors.Is(err, errClosed) || s.Err() != nil {
		return nil // all calls are told so
	}
	return err
}

// readTrimming reads what is to be deleted. It returns nil if that is nothing.
func (s *Store) readTrimming(name string) (t *trimming, err error) {
	if s.Err() != nil || s.useDB() != nil {
		return nil, nil
	}
	defer s.inUse.Done()
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
		if s.Err() != nil {
			t, err = nil, nil
		}
	}()
	n, isKnown, err := s.nameRow(name)
	if err != nil || !isKnown {
		return nil, err
	}
	lower, upper := engineBounds(n.id)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	r := engineReader{it: it}
	t, err = r.trimming(s.o.History, s.now())
	return t, errors.Join(err, it.Close())
}

const (
	// walkPage is how many engines the walk looks at before it pauses for walkPause: a million takes
	// it half an hour, and hardly any of the disk's time.
	walkPage  = 64
	walkPause = 100 * time.Millisecond
	// maxWalkWait is the longest time between two walks.
	maxWalkWait = time.Hour
)

// walk looks at all engines now and then, for history that has become too old. It does so once at
// the start, too, because the directory may have been open with another History.
func (s *Store) walk() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	next := func(wait time.Duration) bool {
		pause.Reset(wait)
		select {
		case <-pause.C:
			return true
		case <-s.closing:
		case <-s.failed:
		}
		return false
	}
	for after := ""; next(walkPause); {
		var isLast bool
		if after, isLast = s.walkOn(after); !isLast {
			continue
		}
		age := s.o.History.Age
		if age == 0 || s.o.History.SinceBase || !next(min(max(age/16, time.Second), maxWalkWait)) {
			return
		}
	}
}

// walkOn trims the engines of a page of names, those behind one name. It returns the last name, and
// whether no engine is behind it; then the next page is the first one.
func (s *Store) walkOn(after string) (last string, isEnd bool) {
	due, last, isEnd := s.dueNames(after)
	for _, name := range due {
		s.trims.push(name)
	}
	s.trims.wait()
	return last, isEnd
}

// dueNames reads a page of names, and returns those whose history may have to be trimmed.
func (s *Store) dueNames(after string) (due []string, last string, isEnd bool) {
	if s.Err() != nil || s.useDB() != nil {
		return nil, "", true
	}
	defer s.inUse.Done()
	defer func() {
		if r := recover(); r != nil {
			due, last, isEnd = nil, "", true
		}
	}()
	it, err := s.db.NewIter(nil)
	if err != nil {
		return nil, "", true
	}
	defer func() { _ = it.Close() }()
	var names []string
	var ids []uint64
	ok := it.SeekGE(append(appendName(nil, after), 0))
	for ; ok && it.Key()[0] == kindName && len(names) < walkPage; ok = it.Next() {
		n, err := readName(it.Value(), it.Key())
		if err != nil {
			n.id = 0
		}
		names, ids = append(names, parseName(it.Key())), append(ids, n.id)
	}
	now := s.now()
	for k, name := range names {
		r := engineReader{it: it}
		if ids[k] != 0 && r.isDue(ids[k], s.o.History, now) {
			due = append(due, name)
		}
	}
	if len(names) < walkPage {
		return due, "", true
	}
	return due, names[len(names)-1], false
}
