package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
)

// watchedStore is a store in memory that counts the calls which change something, or take the
// journal over.
type watchedStore struct {
	journal.Store
	calls atomic.Int64
	// loadAt, if it is set, takes the place of LoadAt.
	loadAt func(name string, at uint64, done func(*journal.Stored, error))
}

func newWatchedStore() *watchedStore { return &watchedStore{Store: journal.NewMemory()} }

func (s *watchedStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.calls.Add(1)
	s.Store.Load(name, owner, done)
}

func (s *watchedStore) Append(name string, owner journal.Owner, newest uint64, group []journal.Record,
	done journal.Done) {
	s.calls.Add(1)
	s.Store.Append(name, owner, newest, group, done)
}

func (s *watchedStore) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.calls.Add(1)
	s.Store.Install(name, owner, base, done)
}

func (s *watchedStore) Release(name string, owner journal.Owner, done journal.Done) {
	s.calls.Add(1)
	s.Store.(journal.Releaser).Release(name, owner, done)
}

func (s *watchedStore) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	if s.loadAt != nil {
		s.loadAt(name, at, done)
		return
	}
	s.Store.(journal.Historian).LoadAt(name, at, done)
}

func (s *watchedStore) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	s.Store.(journal.Historian).Range(name, from, limit, done)
}

// moments are the states of an engine by their sequences, as they were when they were the newest.
type moments struct {
	states  [][]byte
	digests []host.Digest
}

func (m *moments) take(t *testing.T, e *host.Engine) {
	t.Helper()
	state, err := e.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.Sequence != uint64(len(m.states)) {
		t.Fatalf("the state has the sequence %d, want %d", state.Sequence, len(m.states))
	}
	m.states, m.digests = append(m.states, state.Raw), append(m.digests, digest(t, e))
}

// play has an engine run actions, and returns the states between them.
func play(t *testing.T, e *host.Engine, actions int) (m moments) {
	t.Helper()
	m.take(t, e)
	for k := range actions {
		action := []string{"stack:shuffle", "stack:draw", "stack:reverse", "stack:reset"}[k%4]
		dispatch(t, e, action, nil, host.Now(time.UnixMilli(int64(k))), host.Entropy([16]byte{byte(k)}))
		m.take(t, e)
	}
	return m
}

// check compares what StateAt and DigestAt say of a sequence.
func (m *moments) check(t *testing.T, e *host.Engine, sequence uint64) {
	t.Helper()
	state, err := e.StateAt(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.DigestAt(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	want := m.digests[sequence]
	if state.Sequence != sequence || !state.HasDigest || state.Digest != want || d != want {
		t.Errorf("at %d: the state has the sequence %d and the digest %v, DigestAt says %v, want %v", sequence,
			state.Sequence, state.Digest, d, want)
	}
	if !bytes.Equal(state.Raw, m.states[sequence]) {
		t.Errorf("at %d: %x, want %x", sequence, state.Raw, m.states[sequence])
	}
}

// Every state of the past is the one that the engine had, and nothing of the store changes for it.
func TestStateAt(t *testing.T) { everywhere(t, testStateAt) }

func testStateAt(t *testing.T) {
	store := newWatchedStore()
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	m := play(t, e, 20)
	calls := store.calls.Load()
	for sequence := range uint64(21) {
		m.check(t, e, sequence)
	}
	if n := store.calls.Load() - calls; n != 0 {
		t.Errorf("%d calls of the store that change something, or take the journal over", n)
	}
	if digest(t, e) != m.digests[20] {
		t.Error("the engine itself has changed")
	}
	if n := h.Stats().Engines[host.PlaceWorker] + h.Stats().Engines[host.PlaceInProcess]; n != 1 {
		t.Errorf("%d engines are placed", n)
	}
}

// A journal that is long enough for snapshots and for several frames is read in the same way.
func TestStateAtOfALongJournal(t *testing.T) { everywhere(t, testStateAtOfALongJournal) }

func testStateAtOfALongJournal(t *testing.T) {
	h := newHost(t, host.Options{SnapshotBytes: 20_000})
	e := open(t, h, "e", deck(5))
	digests := []host.Digest{digest(t, e)}
	for range 1500 {
		r := dispatch(t, e, "stack:shuffle", nil, host.WithDigest())
		digests = append(digests, r.Digest)
	}
	if _, err := e.StateAt(t.Context(), 0); !errors.Is(err, host.ErrHistoryTrimmed) ||
		!errors.Is(err, journal.ErrTrimmed) || host.CodeOf(err) != "history_trimmed" {
		t.Errorf("what is behind the snapshot: %v", err)
	}
	read := 0
	for sequence := uint64(len(digests)) - 1; ; sequence -= 97 {
		d, err := e.DigestAt(t.Context(), sequence)
		if errors.Is(err, host.ErrHistoryTrimmed) {
			break
		}
		if err != nil || d != digests[sequence] {
			t.Fatalf("at %d: %v, want %v, %v", sequence, d, digests[sequence], err)
		}
		read++
	}
	if read == 0 {
		t.Error("nothing was read")
	}
}

func TestStateAtRefuses(t *testing.T) { everywhere(t, testStateAtRefuses) }

func testStateAtRefuses(t *testing.T) {
	store := newWatchedStore()
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	play(t, e, 2)
	fails := func(name string, ctx context.Context, e *host.Engine, at uint64, want error, says ...string) {
		t.Helper()
		_, err := e.StateAt(ctx, at)
		_, again := e.DigestAt(ctx, at)
		for _, err := range []error{err, again} {
			if err == nil || (want != nil && !errors.Is(err, want)) {
				t.Errorf("%s: %v, want %v", name, err, want)
				continue
			}
			for _, part := range says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v, want %q in it", name, err, part)
				}
			}
		}
	}
	fails("beyond the newest", t.Context(), e, 3, host.ErrBadInput, "At(3): ",
		"the sequence 3 is beyond the newest one, 2")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	fails("a context that has ended", ended, e, 1, host.ErrCanceled, "At(1): ")
	store.loadAt = func(_ string, _ uint64, done func(*journal.Stored, error)) { done(nil, nil) }
	fails("a name that is gone", t.Context(), e, 1, host.ErrEngineNotFound)
	store.loadAt = func(_ string, _ uint64, done func(*journal.Stored, error)) { done(nil, journal.ErrDamaged) }
	fails("damage", t.Context(), e, 1, journal.ErrDamaged)
	store.loadAt = func(name string, at uint64, done func(*journal.Stored, error)) {
		store.Store.(journal.Historian).LoadAt(name, at-1, done)
	}
	fails("a store that reads less", t.Context(), e, 1, nil, "up to the sequence 0")
	store.loadAt = func(name string, at uint64, done func(*journal.Stored, error)) {
		store.Store.(journal.Historian).LoadAt(name, at, func(s *journal.Stored, err error) {
			if err == nil {
				differs := *s
				differs.Entries = nil
				for entry := range journal.Entries(s.Entries) {
					action := journal.AppendAction(nil, &entry.Action, string(entry.Type), entry.Payload)
					differs.Entries = journal.AppendEntry(differs.Entries, action, entry.Checksum+1)
				}
				s = &differs
			}
			done(s, err)
		})
	}
	fails("results that differ", t.Context(), e, 2, host.ErrDiverged, "sequence 1")
	store.loadAt = nil
	if e.Place() == host.PlaceOut {
		t.Error("the engine has lost its place")
	}
	blind := open(t, newHost(t, host.Options{Store: struct{ journal.Store }{journal.NewMemory()}}), "e", nil)
	fails("a store without history", t.Context(), blind, 0, host.ErrBadInput, "journal.Historian")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails("a closed engine", t.Context(), e, 0, host.ErrShutdown)
}

// A question about the past ends with its context, with OpenTimeout and with the host, also while
// the store does not answer.
func TestStateAtEnds(t *testing.T) { everywhere(t, testStateAtEnds) }

func testStateAtEnds(t *testing.T) {
	asked := make(chan struct{}, 1)
	store := newWatchedStore()
	store.loadAt = func(string, uint64, func(*journal.Stored, error)) { asked <- struct{}{} }
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	ask := func(ctx context.Context) {
		_, err := e.StateAt(ctx, 0)
		failed <- err
	}
	go ask(ctx)
	<-asked
	cancel()
	if err := <-failed; !errors.Is(err, host.ErrCanceled) {
		t.Errorf("its context has ended: %v", err)
	}
	go ask(t.Context())
	<-asked
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("the host has ended, and StateAt has not failed")
	}
	hurried := newHost(t, host.Options{Store: store, OpenTimeout: 300 * time.Millisecond, InProcess: true})
	e = nil
	for e == nil { // opening has the same bound
		var err error
		e, err = hurried.Open(t.Context(), "f", host.EngineOptions{})
		if err != nil && !errors.Is(err, host.ErrTimeout) {
			t.Fatal(err)
		}
	}
	go ask(t.Context())
	<-asked
	if err := <-failed; !errors.Is(err, host.ErrTimeout) || !strings.Contains(err.Error(), "OpenTimeout") {
		t.Errorf("the store does not answer: %v", err)
	}
}

// The past of a broken engine can be read, and that of an engine that runs actions meanwhile.
func TestStateAtOfABusyEngine(t *testing.T) { everywhere(t, testStateAtOfABusyEngine) }

func testStateAtOfABusyEngine(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	m := play(t, e, 8)
	ended := make(chan error, 1)
	go func() {
		for k := range 300 {
			r, err := e.Dispatch(context.Background(), "stack:reverse", nil)
			if err != nil || r.Sequence != uint64(9+k) {
				ended <- fmt.Errorf("action %d: the sequence %d, %w", k, r.Sequence, err)
				return
			}
		}
		ended <- nil
	}()
	for k := range uint64(36) {
		m.check(t, e, k%9)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A state that another core has led to is computed by that core.
func TestStateAtOfAnotherCore(t *testing.T) {
	store := newWatchedStore()
	e := open(t, newHost(t, host.Options{Store: store}), "e", deck(5))
	m := play(t, e, 3)
	dispatch(t, e, "test:differ", nil) // an action that only this core has
	m.take(t, e)
	var old *journal.Stored
	store.LoadAt("e", 4, func(s *journal.Stored, _ error) { old = s })
	// The store in memory forgets the old base with the migration; a store that keeps its history
	// does not.
	store.loadAt = func(_ string, _ uint64, done func(*journal.Stored, error)) { done(old, nil) }
	e = open(t, newHost(t, host.Options{Store: store, Core: cores.Example, Cores: [][]byte{cores.Test}}), "e", nil)
	m.check(t, e, 4)
	broken := *old
	broken.Core = strings.Repeat("0", 64)
	store.loadAt = func(_ string, _ uint64, done func(*journal.Stored, error)) { done(&broken, nil) }
	if _, err := e.StateAt(t.Context(), 4); !errors.Is(err, host.ErrCoreMismatch) {
		t.Errorf("a core that nobody has: %v", err)
	}
}

// The digest that comes with a state is that of the same state, whatever runs meanwhile.
func TestStateWithDigest(t *testing.T) { everywhere(t, testStateWithDigest) }

func testStateWithDigest(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", deck(5))
	m := play(t, e, 4)
	for k := range 20 {
		f := e.DispatchAsync(t.Context(), "stack:reverse", nil)
		r, err := e.State(t.Context(), host.WithDigest())
		if err != nil || !r.HasDigest || r.Sequence != uint64(5+k) {
			t.Fatalf("the state has the sequence %d and a digest, %v, %v", r.Sequence, r.HasDigest, err)
		}
		if at, err := e.DigestAt(t.Context(), r.Sequence); err != nil || at != r.Digest {
			t.Errorf("at %d: %v, want %v, %v", r.Sequence, r.Digest, at, err)
		}
		if _, err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if r, err := e.State(t.Context()); err != nil || r.HasDigest {
		t.Errorf("without the option: %v, %v", r.HasDigest, err)
	}
	if _, err := e.State(t.Context(), host.WithDigest(), host.Key("k")); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("an option for actions: %v", err)
	}
	m.check(t, e, 3)
}

// A core that goes on from a snapshot of another one runs the actions behind it. The journal says
// so: it is opened again, and its past is read.
func TestANewCoreGoesOnFromASnapshot(t *testing.T) {
	store := journal.NewMemory()
	e := open(t, newHost(t, host.Options{Store: store}), "e", deck(5))
	for range 600 {
		dispatch(t, e, "stack:shuffle", nil)
	}
	if err := e.Close(t.Context()); err != nil { // with a snapshot
		t.Fatal(err)
	}
	options := host.Options{Store: store, Core: cores.Example}
	e = open(t, newHost(t, options), "e", nil)
	base, _, err := e.JournalAt(t.Context(), 601)
	if err != nil || base.Sequence != 601 {
		t.Fatalf("the newest base has the sequence %d, %v", base.Sequence, err)
	}
	m := moments{states: make([][]byte, 601), digests: make([]host.Digest, 601)}
	m.take(t, e)
	dispatch(t, e, "process:item", dict{"item": 1}) // an action that only this core has
	m.take(t, e)
	m.check(t, e, 601)
	m.check(t, e, 602)
	e = open(t, newHost(t, options), "e", nil) // the former host was killed
	if digest(t, e) != m.digests[602] {
		t.Error("opened again, it differs")
	}
}
