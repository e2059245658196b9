package host_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
)

// sharedStore is a store in memory for several hosts, which says who owns a journal.
type sharedStore struct {
	journal.Store
	mu     sync.Mutex // guards what follows
	owners map[string]journal.Owner
	// hold, if it is not nil, is handed what ends a barrier, instead of that being ended.
	hold func(end func())
}

func newSharedStore() *sharedStore {
	return &sharedStore{Store: journal.NewMemory(), owners: map[string]journal.Owner{}}
}

func (s *sharedStore) own(name string, owner journal.Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[name] = owner
}

func (s *sharedStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.Store.Load(name, owner, func(stored *journal.Stored, err error) {
		if stored != nil {
			s.own(name, owner)
		}
		done(stored, err)
	})
}

func (s *sharedStore) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.Store.Install(name, owner, base, journal.DoneFunc(func(err error) {
		if err == nil {
			s.own(name, owner)
		}
		done.Report(err)
	}))
}

// Barrier implements journal.OwnerVerifier.
func (s *sharedStore) Barrier(name string, owner journal.Owner, done journal.Done) {
	end := func() {
		s.mu.Lock()
		isOwner := s.owners[name] == owner
		s.mu.Unlock()
		if isOwner {
			done.Report(nil)
		} else {
			done.Report(journal.ErrNotOwner)
		}
	}
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		hold(end)
		return
	}
	end()
}

func (s *sharedStore) setHold(hold func(end func())) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
}

// A host whose engine another one has taken over answers nothing of the former state.
func TestNoStaleAnswer(t *testing.T) { everywhere(t, testNoStaleAnswer) }

func testNoStaleAnswer(t *testing.T) {
	store := newSharedStore()
	h, other := newHost(t, host.Options{Store: store}), newHost(t, host.Options{Store: store})
	for name, ask := range map[string]func(e *host.Engine) error{
		"a state":   func(e *host.Engine) error { return errorOf(e.State(t.Context())) },
		"a digest":  func(e *host.Engine) error { return errorOf(e.Digest(t.Context())) },
		"a read":    func(e *host.Engine) error { return errorOf(e.Dispatch(t.Context(), "stack:peek", nil)) },
		"a refusal": func(e *host.Engine) error { return errorOf(e.Dispatch(t.Context(), "no:such", nil)) },
		"a conflict": func(e *host.Engine) error {
			return errorOf(e.Dispatch(t.Context(), "stack:draw", nil, host.IfSequence(7)))
		},
		"a batch": func(e *host.Engine) error {
			return errorOf(e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{{Type: "stack:peek"}}))
		},
		"an empty batch": func(e *host.Engine) error {
			return errorOf(e.DispatchBatch(t.Context(), host.BatchAtomic, nil))
		},
		"a conflict of an undo": func(e *host.Engine) error { return errorOf(e.Undo(t.Context(), host.IfSequence(7))) },
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, h, name, deck(50))
			dispatch(t, e, "stack:draw", nil)
			if err := ask(e); errors.Is(err, host.ErrMoved) {
				t.Fatalf("the owner is told %v", err)
			}
			f := open(t, other, name, nil)
			dispatch(t, f, "stack:draw", nil)
			wantMoved(t, ask(e))
			if h.Get(name) != nil {
				t.Error("the engine is open")
			}
			if err := ask(open(t, h, name, nil)); errors.Is(err, host.ErrMoved) {
				t.Errorf("the owner is told %v", err)
			}
		})
	}
}

// An answer is there once the store has said who owns the journal, and not before. A caller whose time
// ends first is told so, and nothing of the engine is in doubt.
func TestAnAnswerWaitsForTheBarrier(t *testing.T) {
	store := newSharedStore()
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(50))
	dispatch(t, e, "stack:draw", nil)
	ends := make(chan func(), 10)
	store.setHold(func(end func()) { ends <- end })
	f := e.DispatchAsync(t.Context(), "stack:peek", nil)
	end := <-ends
	if _, err, ok := f.Result(); ok {
		t.Fatalf("it is answered, with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- errorOf(e.State(ctx)) }()
	cancel()
	if err := <-asked; !errors.Is(err, host.ErrCanceled) {
		t.Errorf("got %v", err)
	}
	store.setHold(nil)
	end()
	if _, err := f.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	store.setHold(func(func()) {}) // a barrier that is never answered
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := e.State(short); !errors.Is(err, host.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 2 { // an append says as much as a barrier
		t.Errorf("got %+v", r)
	}
}
