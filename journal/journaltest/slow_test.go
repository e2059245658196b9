package journaltest_test

import (
	"runtime"
	"sync"
	"testing"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// slow is a store that carries calls out late, one after the other for each name, and reports them
// later still, from goroutines of its own. The suite must not mistake it for a faulty one.
type slow struct {
	journal.Store

	mu       sync.Mutex // guards what follows
	last     map[string]chan struct{}
	calls    int
	isClosed bool
	running  sync.WaitGroup
}

// late carries a call out behind the calls before it for the name.
func (s *slow) late(name string, refused func(error), call func()) {
	s.mu.Lock()
	if s.isClosed {
		s.mu.Unlock()
		refused(errIsClosed)
		return
	}
	s.calls++
	before, ended, turns := s.last[name], make(chan struct{}), s.calls%7*10
	s.last[name] = ended
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		if before != nil {
			<-before
		}
		for range turns {
			runtime.Gosched()
		}
		call()
		close(ended)
	}()
}

// tell reports the end of a call later.
func (s *slow) tell(report func()) {
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		runtime.Gosched()
		report()
	}()
}

func (s *slow) done(done journal.Done) journal.Done {
	return journal.DoneFunc(func(err error) { s.tell(func() { done.Report(err) }) })
}

func (s *slow) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.late(name, func(err error) { done(nil, err) }, func() {
		s.Store.Load(name, owner, func(stored *journal.Stored, err error) { s.tell(func() { done(stored, err) }) })
	})
}

func (s *slow) Append(name string, owner journal.Owner, newest uint64, group []journal.Record, done journal.Done) {
	s.late(name, done.Report, func() { s.Store.Append(name, owner, newest, group, s.done(done)) })
}

func (s *slow) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.late(name, done.Report, func() { s.Store.Install(name, owner, base, s.done(done)) })
}

func (s *slow) Delete(name string, done journal.Done) {
	s.late(name, done.Report, func() { s.Store.Delete(name, s.done(done)) })
}

// Close waits for what is under way.
func (s *slow) Close() error {
	s.mu.Lock()
	s.isClosed = true
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

func TestASlowStore(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Store {
		s := &slow{Store: journal.NewMemory(), last: map[string]chan struct{}{}}
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}
