package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// flakyStore is a store in memory whose appends fail as it is told.
type flakyStore struct {
	journal.Store
	mu   sync.Mutex
	next func(call func(journal.Done), done journal.Done) // what becomes of the next append
}

func (s *flakyStore) Append(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done) {
	s.mu.Lock()
	next := s.next
	s.next = nil
	s.mu.Unlock()
	call := func(d journal.Done) { s.Store.Append(name, owner, after, group, d) }
	if next == nil {
		call(done)
		return
	}
	next(call, done)
}

func (s *flakyStore) fail(next func(call func(journal.Done), done journal.Done)) {
	s.mu.Lock()
	s.next = next
	s.mu.Unlock()
}

// Whatever an append says, the caller gets the truth: stored or not, once.
func TestAFailingStore(t *testing.T) { everywhere(t, testAFailingStore) }

func testAFailingStore(t *testing.T) {
	store := &flakyStore{Store: journal.NewMemory()}
	h := newHost(t, host.Options{Store: store, StoreTimeout: 50 * time.Millisecond})
	e := open(t, h, "e", deck(50))
	broken := errors.New("the disk is full")
	for k, next := range []func(func(journal.Done), journal.Done){
		func(_ func(journal.Done), done journal.Done) { done.Report(broken) },
		func(call func(journal.Done), done journal.Done) { call(journal.Done{}); done.Report(broken) },
		func(call func(journal.Done), _ journal.Done) { call(journal.Done{}) },
		func(func(journal.Done), journal.Done) {},
		func(call func(journal.Done), done journal.Done) { go call(done) },
	} {
		store.fail(next)
		if r := dispatch(t, e, "stack:draw", nil); r.Sequence != uint64(k+1) {
			t.Errorf("append %d: %+v", k, r)
		}
	}
	if n := size(t, e); n != 45 {
		t.Errorf("%d are left", n)
	}
}

// A batch that changes nothing is stored as a note alone. What became of a doubtful append of it is
// known: it runs again if the note was not stored, and only then.
func TestAFailingStoreOfNotes(t *testing.T) {
	store := &flakyStore{Store: journal.NewMemory()}
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	broken := errors.New("the disk is full")
	batch := func(key string) string {
		return outcomesOf(e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{{Type: "stack:peek"}},
			host.Key(key)))
	}
	for key, c := range map[string]struct {
		next   func(func(journal.Done), journal.Done)
		placed uint64
	}{
		"stored": {func(call func(journal.Done), done journal.Done) { call(journal.Done{}); done.Report(broken) }, 0},
		"lost":   {func(_ func(journal.Done), done journal.Done) { done.Report(broken) }, 1},
	} {
		dispatch(t, e, "debug:log", nil) // it is placed
		before := h.Stats().Placed
		store.fail(c.next)
		first := batch(key)
		if again := batch(key); !strings.HasPrefix(first, "0 false <nil>;") || again != first {
			t.Errorf("%s: %s, then %s", key, first, again)
		}
		if placed := h.Stats().Placed - before; placed != c.placed {
			t.Errorf("%s: placed %d times to run it again, want %d", key, placed, c.placed)
		}
	}
}

// A journal belongs to one host. A host that has lost it fails what it has not stored, which has no
// effect, and closes the engine. It may open the engine again.
func TestAJournalHasOneOwner(t *testing.T) {
	store := journal.NewMemory()
	h, other := newHost(t, host.Options{Store: store}), newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(50))
	dispatch(t, e, "stack:draw", nil)
	f := open(t, other, "e", nil)
	if r := dispatch(t, f, "stack:draw", nil); r.Sequence != 2 {
		t.Errorf("got %+v", r)
	}
	events, stop := e.Events("")
	defer stop()
	for range 2 { // when it is told, and when it has been told
		wantMoved(t, errorOf(e.Dispatch(t.Context(), "stack:draw", nil)))
	}
	var names []string
	for ev := range events {
		names = append(names, ev.Name)
	}
	if want := []string{"engine:error", "engine:error", "engine:shutdown"}; !slices.Equal(names, want) {
		t.Errorf("the events are %q, want %q", names, want)
	}
	_, err := e.Journal(t.Context())
	wantMoved(t, err)
	wantMoved(t, errorOf(e.StateAt(t.Context(), 0)))
	if h.Get("e") != nil {
		t.Error("the engine is open")
	}
	e = open(t, h, "e", nil)
	if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 3 {
		t.Errorf("got %+v", r)
	}
}

func errorOf[T any](_ T, err error) error { return err }

func wantMoved(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, host.ErrMoved) || !errors.Is(err, journal.ErrNotOwner) {
		t.Fatalf("got %v, want ErrMoved", err)
	}
}

// leavingStore is a store in memory whose owners lose what they own, as in a cluster, and that does not
// let them own it again before it is told so.
type leavingStore struct {
	journal.Store
	isAway atomic.Bool
}

var errElsewhere = fmt.Errorf("the slot 7 belongs to another node: %w", journal.ErrNotOwner)

func (s *leavingStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	if s.isAway.Load() {
		done(nil, errElsewhere)
		return
	}
	s.Store.Load(name, owner, done)
}

func (s *leavingStore) Append(name string, o journal.Owner, after uint64, g []journal.Record, done journal.Done) {
	if s.isAway.Load() {
		done.Report(errElsewhere)
		return
	}
	s.Store.Append(name, o, after, g, done)
}

func (s *leavingStore) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	if s.isAway.Load() {
		done(nil, errElsewhere)
		return
	}
	s.Store.(journal.Historian).LoadAt(name, at, done)
}

func (s *leavingStore) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	s.Store.(journal.Historian).Range(name, from, limit, done)
}

// Whichever call a store answers so, an engine that another node has is closed, and is opened again
// once it is back, with all that was acknowledged.
func TestAnEngineMovesAway(t *testing.T) {
	store := &leavingStore{Store: journal.NewMemoryWith(journal.MemoryOptions{})}
	h := newHost(t, host.Options{Store: store, IdleAfter: time.Millisecond})
	for name, call := range map[string]func(e *host.Engine) error{
		"an append": func(e *host.Engine) error { return errorOf(e.Dispatch(t.Context(), "stack:draw", nil)) },
		"a load of an engine that was taken out": func(e *host.Engine) error {
			store.isAway.Store(false)
			for e.Place() != host.PlaceOut {
				runtime.Gosched()
			}
			store.isAway.Store(true)
			return errorOf(e.State(t.Context()))
		},
		"a state of the past": func(e *host.Engine) error { return errorOf(e.StateAt(t.Context(), 1)) },
		"an undo":             func(e *host.Engine) error { return errorOf(e.Undo(t.Context())) },
		"the journal":         func(e *host.Engine) error { return errorOf(e.Journal(t.Context())) },
		"an export": func(e *host.Engine) error {
			_, _, err := e.JournalAt(t.Context(), 1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, h, name, deck(50))
			dispatch(t, e, "stack:draw", nil)
			store.isAway.Store(true)
			defer store.isAway.Store(false)
			wantMoved(t, call(e))
			if h.Get(name) != nil {
				t.Error("the engine is open")
			}
			wantMoved(t, errorOf(h.Open(t.Context(), name, host.EngineOptions{})))
			store.isAway.Store(false)
			e = open(t, h, name, nil)
			if p, err := e.Position(t.Context()); err != nil || p.Sequence != 1 {
				t.Errorf("the engine is at %d, %v", p.Sequence, err)
			}
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// damagedStore is a store in memory that finds what it reads damaged, while it is told so. It counts the
// pieces of histories that are read.
type damagedStore struct {
	journal.Store
	isDamaged atomic.Bool
	ranges    atomic.Int64
}

func (s *damagedStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	if s.isDamaged.Load() {
		done(nil, fmt.Errorf("the table 7: %w", journal.ErrDamaged))
		return
	}
	s.Store.Load(name, owner, done)
}

func (s *damagedStore) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	if s.isDamaged.Load() {
		done(nil, fmt.Errorf("the table 7: %w", journal.ErrDamaged))
		return
	}
	s.Store.(journal.Historian).LoadAt(name, at, done)
}

func (s *damagedStore) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	s.ranges.Add(1)
	s.Store.(journal.Historian).Range(name, from, limit, done)
}

// What is damaged has the code broken, whether it is found when the engine is opened or later.
func TestADamagedJournalHasACode(t *testing.T) {
	store := &damagedStore{Store: keepAll()}
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:draw", nil)
	store.isDamaged.Store(true)
	err := errorOf(e.StateAt(t.Context(), 0))
	if !errors.Is(err, host.ErrBroken) || !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("a state of the past: %v", err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = errorOf(h.Open(t.Context(), "e", host.EngineOptions{}))
	if !errors.Is(err, host.ErrBroken) || !errors.Is(err, journal.ErrDamaged) ||
		!strings.Contains(err.Error(), "the table 7") {
		t.Errorf("opened: %v", err)
	}
}

// An undo reads the record of the current step once, and that before it.
func TestAnUndoReadsEachRecordOnce(t *testing.T) {
	store := &damagedStore{Store: keepAll()}
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:draw", nil)
	dispatch(t, e, "stack:draw", nil)
	for k, want := range []int64{2, 2} { // of the action 2; then of the marker and of the action 1
		store.ranges.Store(0)
		if _, err := e.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := store.ranges.Load(); n != want {
			t.Errorf("undo %d reads %d pieces, want %d", k, n, want)
		}
	}
}

// A journal that only a newer version can go on with is not opened, and stays as it is.
func TestAJournalOfANewerVersion(t *testing.T) {
	store := journal.NewMemory()
	h := newHost(t, host.Options{Store: store})
	details, err := msgpack.Marshal(map[string]any{"needs": []string{"schedules"}})
	if err != nil {
		t.Fatal(err)
	}
	base := journal.Base{Core: h.CoreHash(), Details: details}
	store.Install("e", journal.Owner{Number: 1}, base, journal.Done{})
	if _, err := h.Open(t.Context(), "e", host.EngineOptions{}); !errors.Is(err, host.ErrBroken) ||
		!strings.Contains(err.Error(), `a newer version, which knows ["schedules"]`) {
		t.Errorf("got %v", err)
	}
	if _, err := h.Open(t.Context(), "f", host.EngineOptions{Snapshot: &base}); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("got %v", err)
	}
	store.Load("e", journal.Owner{Number: 2}, func(s *journal.Stored, err error) {
		if err != nil || s == nil || !bytes.Equal(s.Details, details) {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

// A journal is replayed by the core that wrote it, or not at all. The store here keeps no cores.
func TestACoreMismatchIsFoundOut(t *testing.T) {
	store := struct{ journal.Store }{journal.NewMemory()}
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	if err := e.Close(t.Context()); err != nil { // without an action, there is no snapshot
		t.Fatal(err)
	}
	other, err := host.New(t.Context(), host.Options{InProcess: true, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Shutdown(t.Context()) }()
	_, err = other.Open(t.Context(), "e", host.EngineOptions{})
	if !errors.Is(err, host.ErrCoreMismatch) || !strings.Contains(err.Error(), h.CoreHash()) ||
		!strings.Contains(err.Error(), other.CoreHash()) {
		t.Errorf("got %v", err)
	}
	e = open(t, h, "e", nil)
	dispatch(t, e, "stack:draw", nil, host.Key("k"))
	dispatch(t, e, "game:setProperty", dict{"key": "k", "value": strings.Repeat("long", 5_000)}) // worth a snapshot
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := size(t, open(t, other, "e", nil)); n != 4 { // a snapshot opens by its format
		t.Errorf("%d are left", n)
	}
}

// A host that is handed the core which wrote a journal goes on with it.
func TestAJournalMovesToAnotherCore(t *testing.T) {
	store := &lossyStore{Store: journal.NewMemory()}
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	drawn := dispatch(t, e, "stack:draw", nil, host.Key("k"))
	dispatch(t, e, "stack:draw", nil)
	dispatch(t, e, "test:differ", nil) // an action that only this core has
	before := digest(t, e)
	// Without a snapshot: as a host leaves it that was killed.
	other := newHost(t, host.Options{Store: store, Core: cores.Example, Cores: [][]byte{cores.Test}})
	store.loses.Store(true)
	if _, err := other.Open(t.Context(),
		"e", host.EngineOptions{}); !errors.Is(err, host.ErrDiverged) || !strings.Contains(err.Error(), "sequence 1") {
		t.Errorf("a journal that has lost an entry: got %v", err)
	}
	store.loses.Store(false)
	f := open(t, other, "e", nil)
	if digest(t, f) != before {
		t.Error("it differs")
	}
	if r := dispatch(t, f, "stack:draw", nil, host.Key("k")); r.Sequence != drawn.Sequence {
		t.Errorf("the key is forgotten: %+v", r)
	}
	if r := dispatch(t, f, "process:item", dict{"item": 1}); r.Sequence != 5 {
		t.Errorf("got %+v", r) // the marker of the upgrade has the sequence 4
	}
	bad := newHost(t, host.Options{Store: store, Core: cores.Test, Cores: [][]byte{[]byte("no core")}})
	if _, err := bad.Open(t.Context(),
		"e", host.EngineOptions{}); !errors.Is(err, host.ErrCoreMismatch) || !strings.Contains(err.Error(),
		"Options.Cores") {
		t.Errorf("got %v", err)
	}
}

// lossyStore is a store in memory that hands journals over without their first entry, once it is
// told to. miscounts says that it counts that entry all the same.
type lossyStore struct {
	journal.Store
	loses, miscounts atomic.Bool
}

func (s *lossyStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.Store.Load(name, owner, func(stored *journal.Stored, err error) {
		if stored != nil && stored.Count > 0 && s.loses.Load() {
			if _, rest, err := ipc.ReadEntry(stored.Entries); err == nil {
				stored.Entries = rest
				if !s.miscounts.Load() {
					stored.Count--
				}
			}
		}
		done(stored, err)
	})
}

// A journal that is not what was acknowledged never makes another game, whether a later action has
// another result or fails.
func TestAJournalThatHasLostAnEntryIsFoundOut(t *testing.T) {
	everywhere(t, testAJournalThatHasLostAnEntryIsFoundOut)
}

func testAJournalThatHasLostAnEntryIsFoundOut(t *testing.T) {
	draw := host.Action{Type: "stack:draw"}
	insert := host.Action{Type: "stack:insertAt", Payload: dict{"card": dict{"id": "new"}}}
	swap := host.Action{Type: "stack:swap", Payload: dict{"i": 0, "j": 5}} // the first and the last of six
	for name, actions := range map[string][2]host.Action{"another result": {draw, draw}, "a failure": {insert, swap}} {
		t.Run(name, func(t *testing.T) {
			store := &lossyStore{Store: journal.NewMemory()}
			h := newHost(t, host.Options{Store: store})
			e := open(t, h, "e", deck(5))
			for _, a := range actions {
				dispatch(t, e, a.Type, a.Payload)
			}
			store.loses.Store(true)
			_, _ = e.Dispatch(t.Context(), "test:trap", nil)
			_, err := e.Dispatch(t.Context(), "stack:peek", nil)
			if !errors.Is(err, host.ErrBroken) || !errors.Is(err, host.ErrDiverged) || !strings.Contains(err.Error(),
				"sequence 1, "+actions[1].Type) {
				t.Errorf("got %v", err)
			}
			store.loses.Store(false)
			if err := e.Reopen(t.Context()); err != nil {
				t.Error(err)
			}
			if r := dispatch(t, e, "stack:peek", nil); r.Sequence != 2 {
				t.Errorf("with its journal whole again: %+v", r)
			}
		})
	}
}

// A journal of another length than its store says breaks the engine, and does not have it placed for ever.
func TestAJournalThatIsMiscounted(t *testing.T) { everywhere(t, testAJournalThatIsMiscounted) }

func testAJournalThatIsMiscounted(t *testing.T) {
	store := &lossyStore{Store: journal.NewMemory()}
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:reverse", nil)
	dispatch(t, e, "stack:reverse", nil)
	store.miscounts.Store(true)
	store.loses.Store(true)
	_, _ = e.Dispatch(t.Context(), "test:trap", nil)
	if _, err := e.Dispatch(t.Context(), "stack:peek", nil); !errors.Is(err, host.ErrBroken) {
		t.Errorf("got %v", err)
	}
	if ends := h.Stats().Restarts; ends[host.RestartDied] > 0 {
		t.Errorf("workers ended for it: %v", ends)
	}
	store.loses.Store(false)
	if err := e.Reopen(t.Context()); err != nil {
		t.Error(err)
	}
}

// silentStore is a store in memory that says nothing while it is told so.
type silentStore struct {
	journal.Store
	mu       sync.Mutex // guards what follows
	isSilent bool
	unsaid   []func()

	got chan struct{} // has one token for each append that nothing is said of
}

func (s *silentStore) say(call func()) {
	s.mu.Lock()
	if s.isSilent {
		s.unsaid = append(s.unsaid, call)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	call()
}

func (s *silentStore) Append(name string, owner journal.Owner, after uint64, group []journal.Record,
	done journal.Done) {
	s.Store.Append(name, owner, after, group, journal.DoneFunc(func(err error) {
		if s.say(func() { done.Report(err) }); s.silent() {
			select {
			case s.got <- struct{}{}:
			default:
			}
		}
	}))
}

func (s *silentStore) silent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isSilent
}

func (s *silentStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.Store.Load(name, owner, func(stored *journal.Stored, err error) { s.say(func() { done(stored, err) }) })
}

func (s *silentStore) be(silent bool) {
	s.mu.Lock()
	s.isSilent = silent
	unsaid := s.unsaid
	s.unsaid = nil
	s.mu.Unlock()
	for _, call := range unsaid {
		call()
	}
}

// A caller whose time is up does not wait for a store that says nothing. Its future does.
func TestAStoreThatSaysNothing(t *testing.T) { everywhere(t, testAStoreThatSaysNothing) }

func testAStoreThatSaysNothing(t *testing.T) {
	store := &silentStore{Store: journal.NewMemory(), got: make(chan struct{}, 1)}
	h := newHost(t, host.Options{Store: store, StoreTimeout: 50 * time.Millisecond})
	for name, c := range map[string]struct {
		timeout time.Duration // of the engine; 0 for one that does not end here
		wait    func(ctx context.Context, e *host.Engine) error
	}{
		"the engine's timeout": {2 * time.Second, func(_ context.Context, e *host.Engine) error {
			_, err := e.Dispatch(context.Background(), "stack:draw", nil)
			return err
		}},
		"a context": {0, func(ctx context.Context, e *host.Engine) error {
			_, err := e.Dispatch(ctx, "stack:draw", nil)
			return err
		}},
		"a batch": {0, func(ctx context.Context, e *host.Engine) error {
			_, err := e.DispatchBatch(ctx, host.BatchAtomic, []host.Action{{Type: "stack:draw"}})
			return err
		}},
	} {
		e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: deck(5), Timeout: c.timeout})
		if err != nil {
			t.Fatal(err)
		}
		dispatch(t, e, "stack:peek", nil) // it is placed
		store.be(true)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.wait(ctx, e) }()
		<-store.got
		cancel()
		if err := <-ended; !errors.Is(err, host.ErrOutcomeUnknown) {
			t.Errorf("%s: got %v", name, err)
		}
		store.be(false)
		if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 2 {
			t.Errorf("%s: then %+v", name, r)
		}
		store.be(true)
		f := e.DispatchAsync(context.Background(), "stack:draw", nil)
		<-store.got
		asks, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		if _, err := e.State(asks); !errors.Is(err, host.ErrTimeout) {
			t.Errorf("%s: a question: got %v", name, err)
		}
		cancel()
		if _, err, ok := f.Result(); ok {
			t.Errorf("%s: a future is resolved (%v), and the store has said nothing", name, err)
		}
		store.be(false)
		if r, err := f.Wait(t.Context()); err != nil || r.Sequence != 3 {
			t.Errorf("%s: the future is %+v, %v", name, r, err)
		}
	}
}

// stuckStore is a store in memory that reports no load, or no install, and says when it got one.
type stuckStore struct {
	journal.Store
	loads, installs bool // those that are not reported
	got             chan struct{}
}

func (s *stuckStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	if s.loads {
		close(s.got)
		return
	}
	s.Store.Load(name, owner, done)
}

func (s *stuckStore) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	if s.installs {
		close(s.got)
		return
	}
	s.Store.Install(name, owner, base, done)
}

// A caller that opens an engine while the host shuts down is told of the shutdown: the context was not
// canceled.
func TestShutdownWhileAnEngineIsOpened(t *testing.T) {
	everywhere(t, testShutdownWhileAnEngineIsOpened)
}

func testShutdownWhileAnEngineIsOpened(t *testing.T) {
	for name, store := range map[string]*stuckStore{"load": {loads: true}, "install": {installs: true}} {
		t.Run(name, func(t *testing.T) {
			store.Store, store.got = journal.NewMemory(), make(chan struct{})
			h := newHost(t, host.Options{Store: store})
			failed := make(chan error)
			go func() {
				_, err := h.Open(context.Background(), "e", host.EngineOptions{})
				failed <- err
			}()
			<-store.got
			if err := h.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-failed; !errors.Is(err, host.ErrShutdown) || errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}
