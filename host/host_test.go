package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/workerproc"
)

type dict = map[string]any

type token struct {
	ID string `msgpack:"id"`
}

func deck(n int) dict {
	tokens := make([]dict, n)
	for i := range tokens {
		tokens[i] = dict{"id": fmt.Sprint("t", i), "index": i}
	}
	return dict{"stack": tokens}
}

func TestMain(m *testing.M) {
	workerproc.Main()
	// Workers are started from one thread, which stays.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("hypertoken/internal/process.init.func1.1"))
}

const onWorkers = "on_workers"

// everywhere runs a test in process and on workers.
func everywhere(t *testing.T, f func(*testing.T)) {
	t.Run("in_process", f)
	t.Run(onWorkers, f)
}

// newHost returns a host on the core for tests. It is quiet, and shut down with the test.
func newHost(t testing.TB, o host.Options) *host.Host {
	t.Helper()
	if o.Core == nil && o.CorePath == "" {
		o.Core = cores.Test
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if !strings.Contains(t.Name(), onWorkers) {
		o.InProcess = true
	} else if o.Workers == 0 {
		o.Workers = 2
	}
	h, err := host.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func open(t testing.TB, h *host.Host, name string, setup any) *host.Engine {
	t.Helper()
	e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: setup})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func dispatch(t testing.TB, e *host.Engine, action string, payload any, opts ...host.DispatchOption) host.Result {
	t.Helper()
	r, err := e.Dispatch(t.Context(), action, payload, opts...)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return r
}

func digest(t testing.TB, e *host.Engine) host.Digest {
	t.Helper()
	d, err := e.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func size(t testing.TB, e *host.Engine) int {
	t.Helper()
	var s struct {
		Stack struct {
			Stack []token `msgpack:"stack"`
		} `msgpack:"stack"`
	}
	r, err := e.State(t.Context())
	if err == nil {
		err = r.Decode(&s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(s.Stack.Stack)
}

func TestDispatchReturnsResultAndSequence(t *testing.T) {
	everywhere(t, testDispatchReturnsResultAndSequence)
}

func testDispatchReturnsResultAndSequence(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", deck(5))
	r := dispatch(t, e, "stack:draw", dict{"count": 2})
	var drawn []token
	if err := r.Decode(&drawn); err != nil || len(drawn) != 2 || drawn[0].ID != "t4" {
		t.Errorf("drew %v, %v", drawn, err)
	}
	if !r.Changed || r.Sequence != 1 {
		t.Errorf("got %+v, want the first change", r)
	}
	if r = dispatch(t, e, "stack:peek", nil); r.Changed || r.Sequence != 1 {
		t.Errorf("a read is not one of the state it saw: %+v", r)
	}
	n, err := host.As[int](e.Dispatch(t.Context(), "tokens:count", struct {
		Tokens []dict `msgpack:"tokens"`
	}{[]dict{{"id": "x", "rev": true}}}))
	if n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := host.As[int](e.Dispatch(t.Context(), "stack:peek", nil)); err == nil {
		t.Error("an array decodes into an int")
	}
}

// Whatever the error, the action had no effect, and the next one is answered.
func TestAnErrorMeansNoEffect(t *testing.T) { everywhere(t, testAnErrorMeansNoEffect) }

func testAnErrorMeansNoEffect(t *testing.T) {
	h := newHost(t, host.Options{MaxEngineMemory: 64 << 20, MaxPayload: 1 << 10, MaxResult: 1 << 12})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	deadline, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	ending, end := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, end)
	for _, c := range []struct {
		name    string
		ctx     context.Context
		action  string
		payload any
		is      error
		code    string
		says    string
	}{
		{"unknown action", nil, "no:such", nil, host.ErrUnknownAction, "unknown_action", `"no:such"`},
		{"wrong field", nil, "stack:draw", dict{"count": "x"}, nil, "bad_payload", `field count: want a number, got the string "x"`},
		{"no map", nil, "stack:draw", []int{1}, nil, "bad_payload", "must be a map"},
		{"not encodable", nil, "stack:draw", dict{"f": func() {}}, host.ErrBadInput, "bad_input", "map[string]interface"},
		{"broken MessagePack", nil, "stack:draw", host.Raw{0xc1}, nil, "bad_payload", "0xc1"},
		{"large payload", nil, "debug:log", dict{"s": strings.Repeat("x", 1<<10)}, host.ErrPayloadTooLarge, "payload_too_large", "1024 (MaxPayload)"},
		{"large result", nil, "test:huge", dict{"bytes": 1 << 12}, nil, "too_large", "4096 bytes (MaxResult)"},
		{"trap", nil, "test:trap", nil, nil, "trap", "unreachable"},
		{"exhausted memory", nil, "test:grow", nil, nil, "out_of_memory", "MaxEngineMemory"},
		{"a lie", nil, "test:lie", nil, nil, "trap", "breaks its ABI"},
		{"deadline", deadline, "test:spin", nil, context.DeadlineExceeded, "timeout", "test:spin"},
		{"deadline, by its name", deadline, "test:spin", nil, host.ErrTimeout, "timeout", "test:spin"},
		{"canceled while it runs", ending, "test:spin", nil, context.Canceled, "canceled", "test:spin"},
		{"canceled before", canceled, "stack:draw", nil, host.ErrCanceled, "canceled", "stack:draw"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := open(t, h, c.name, deck(5))
			dispatch(t, e, "stack:draw", nil)
			before := digest(t, e)
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			_, err := e.Dispatch(ctx, c.action, c.payload)
			if err == nil || host.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.code, c.says)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
			if after := digest(t, e); after != before {
				t.Errorf("digest %v before, %v after", before, after)
			}
			if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 2 {
				t.Errorf("the next action has sequence %d", r.Sequence)
			}
		})
	}
}

// Whatever the caller's context ended with is not the action's own answer.
func TestAContextsCauseIsNobodysAnswer(t *testing.T) {
	everywhere(t, testAContextsCauseIsNobodysAnswer)
}

func testAContextsCauseIsNobodysAnswer(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", nil)
	foreign := &host.BatchError{Index: 7, Err: &host.ActionError{Code: "out_of_range", Index: 7}}
	ended := func() context.Context {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(foreign) })
		return ctx
	}
	if _, err := e.Dispatch(ended(), "test:spin", nil); !errors.Is(err, host.ErrCanceled) ||
		host.CodeOf(err) != "canceled" {
		t.Errorf("got %v", err)
	}
	if _, err := e.DispatchBatch(ended(), host.BatchAtomic, []host.Action{{Type: "test:spin"}}); !errors.Is(err,
		host.ErrCanceled) {
		t.Errorf("got %v", err)
	}
}

func TestTimeoutIsTheDefaultDeadline(t *testing.T) { everywhere(t, testTimeoutIsTheDefaultDeadline) }

func testTimeoutIsTheDefaultDeadline(t *testing.T) {
	e := open(t, newHost(t, host.Options{Timeout: 30 * time.Millisecond}), "e", nil)
	_, err := e.Dispatch(t.Context(), "test:spin", nil)
	if !errors.Is(err, host.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(),
		"30ms (Timeout)") {
		t.Errorf("got %v", err)
	}
}

func TestPayloadLimitOnBothSides(t *testing.T) { everywhere(t, testPayloadLimitOnBothSides) }

func testPayloadLimitOnBothSides(t *testing.T) {
	e := open(t, newHost(t, host.Options{MaxPayload: 100}), "e", nil)
	for n, ok := range map[int]bool{100: true, 101: false} {
		// {"s": string}: a byte for the map, two for the key, two for the string's header.
		_, err := e.Dispatch(t.Context(), "debug:log", dict{"s": strings.Repeat("x", n-5)})
		if (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestNowAndEntropyDecideTheResult(t *testing.T) { everywhere(t, testNowAndEntropyDecideTheResult) }

func testNowAndEntropyDecideTheResult(t *testing.T) {
	h := newHost(t, host.Options{})
	place := func(name string, opts ...host.DispatchOption) string {
		r := dispatch(t, open(t, h, name, nil), "space:place", dict{"zone": "z", "card": dict{"id": "c"}}, opts...)
		return string(r.Raw)
	}
	now, entropy := host.Now(time.UnixMilli(1700000000000)), host.Entropy([16]byte{1})
	a, b := place("a", now, entropy), place("b", now, entropy)
	if a != b {
		t.Errorf("the same inputs give\n%q\n%q", a, b)
	}
	if c := place("c", now, host.Entropy([16]byte{2})); c == a {
		t.Error("entropy changes nothing")
	}
	if d := place("d", entropy); d == a {
		t.Error("now changes nothing")
	}
	if e, f := place("e", now), place("f", now); e == f {
		t.Error("two engines drew the same entropy")
	}
}

func TestJournalHoldsWhatChanged(t *testing.T) { everywhere(t, testJournalHoldsWhatChanged) }

func testJournalHoldsWhatChanged(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", deck(5))
	dispatch(t, e, "stack:draw", dict{"count": 1}, host.Now(time.UnixMilli(7)), host.Entropy([16]byte{9}))
	dispatch(t, e, "stack:peek", nil)
	if _, err := e.Dispatch(t.Context(), "stack:cut", dict{"position": 99}); err == nil {
		t.Fatal("cut at 99 of 4")
	}
	dispatch(t, e, "stack:reverse", nil)
	entries, err := e.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dispatch(t, e, "stack:draw", nil) // what is iterated is the journal as it was
	var types []string
	for entry := range entries {
		types = append(types, entry.Type)
		if len(types) == 1 && (entry.Sequence != 1 || entry.Now != 7 || entry.Entropy != [16]byte{9} ||
			entry.Checksum == 0 || len(entry.Payload) == 0) {
			t.Errorf("got %+v", entry)
		}
	}
	if fmt.Sprint(types) != "[stack:draw stack:reverse]" {
		t.Errorf("got %v", types)
	}
	// It can be iterated again, and what is handed out is the caller's.
	for entry := range entries {
		if entry.Sequence == 1 {
			clear(entry.Payload)
		}
	}
	_, _ = e.Dispatch(t.Context(), "test:trap", nil)
	if r := dispatch(t, e, "stack:peek", nil); r.Sequence != 3 {
		t.Errorf("sequence %d", r.Sequence)
	}
}

// A journal's entries are replaced by a snapshot once they have outgrown it.
func TestSnapshotsBoundTheJournal(t *testing.T) { everywhere(t, testSnapshotsBoundTheJournal) }

func testSnapshotsBoundTheJournal(t *testing.T) {
	h := newHost(t, host.Options{SnapshotBytes: 2000})
	e := open(t, h, "e", deck(5))
	most, snapshots, last := 0, 0, 0
	for range 200 {
		dispatch(t, e, "stack:reverse", nil)
		entries, err := e.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range entries {
			n++
		}
		if n < last {
			snapshots++
		}
		most, last = max(most, n), n
	}
	if snapshots < 2 || most > 100 {
		t.Errorf("%d snapshots, at most %d entries", snapshots, most)
	}
	before := digest(t, e)
	if _, err := e.Dispatch(t.Context(), "test:trap", nil); err == nil {
		t.Fatal("test:trap passes")
	}
	if digest(t, e) != before {
		t.Error("placed from a snapshot and entries, the engine differs")
	}
}

// More engines than instances: those idle longest are taken out, and nobody notices.
func TestEnginesOutnumberInstances(t *testing.T) { everywhere(t, testEnginesOutnumberInstances) }

func testEnginesOutnumberInstances(t *testing.T) {
	h := newHost(t, host.Options{MaxInProcess: 2})
	engines := make([]*host.Engine, 7)
	for i := range engines {
		engines[i] = open(t, h, fmt.Sprint("e", i), deck(10))
	}
	var wg sync.WaitGroup
	for round := range 3 {
		for i, e := range engines {
			wg.Go(func() {
				if r, err := e.Dispatch(t.Context(), "stack:draw", nil); err != nil || r.Sequence != uint64(round+1) {
					t.Errorf("engine %d: %+v, %v", i, r, err)
				}
			})
		}
		wg.Wait()
	}
	for i, e := range engines {
		if n := size(t, e); n != 7 {
			t.Errorf("engine %d has %d tokens left", i, n)
		}
	}
}

func TestConcurrentActionsOfOneEngineApplyOneByOne(t *testing.T) {
	everywhere(t, testConcurrentActionsOfOneEngineApplyOneByOne)
}

func testConcurrentActionsOfOneEngineApplyOneByOne(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", deck(200))
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 200 {
		wg.Go(func() {
			drawn, err := host.As[[]token](e.Dispatch(t.Context(), "stack:draw", nil))
			if err != nil || len(drawn) != 1 {
				t.Error(drawn, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[drawn[0].ID] {
				t.Errorf("%s was drawn twice", drawn[0].ID)
			}
			seen[drawn[0].ID] = true
		})
	}
	wg.Wait()
	if len(seen) != 200 || size(t, e) != 0 {
		t.Errorf("%d drawn, %d left", len(seen), size(t, e))
	}
}

func TestACoreThatDiffersOnReplayIsFoundOut(t *testing.T) {
	everywhere(t, testACoreThatDiffersOnReplayIsFoundOut)
}

func testACoreThatDiffersOnReplayIsFoundOut(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:draw", nil)
	// The counter in the instance is at 1, in a fresh one at 0.
	dispatch(t, e, "test:differ", nil)
	dispatch(t, e, "test:differ", nil)
	_, _ = e.Dispatch(t.Context(), "test:trap", nil)
	dispatch(t, e, "stack:draw", nil) // replayed in the same order, the counts agree

	f := open(t, h, "f", nil)
	dispatch(t, f, "test:differ", nil)
	_, _ = f.Dispatch(t.Context(), "test:trap", nil)
	// The replay has counted once, so this one's count is journaled as 1 ...
	dispatch(t, f, "test:differ", nil)
	if _, err := f.Dispatch(t.Context(), "test:differ", dict{}); err != nil {
		t.Fatal(err)
	}
	// ... and a failed one in between makes the next count skip a number.
	if _, err := f.DispatchBatch(t.Context(), host.BatchAtomic,
		[]host.Action{{Type: "test:differ"}, {Type: "no:such"}}); err == nil {
		t.Fatal("no:such passes")
	}
	dispatch(t, f, "test:differ", nil)
	_, _ = f.Dispatch(t.Context(), "test:trap", nil)
	_, err := f.Dispatch(t.Context(), "stack:draw", nil)
	if !errors.Is(err, host.ErrBroken) || !errors.Is(err, host.ErrDiverged) || !strings.Contains(err.Error(),
		"sequence 4") {
		t.Fatalf("got %v", err)
	}
	if _, err := f.State(t.Context()); !errors.Is(err, host.ErrBroken) {
		t.Errorf("a broken engine shows a state: %v", err)
	}
	entries, err := f.Journal(t.Context())
	n := 0
	for range entries {
		n++
	}
	if n != 4 || err != nil {
		t.Errorf("a broken engine's journal has %d entries, %v", n, err)
	}
	if err := f.Reopen(t.Context()); !errors.Is(err, host.ErrDiverged) {
		t.Errorf("Reopen: %v", err)
	}
	dispatch(t, e, "stack:draw", nil) // a broken engine is alone
	for why, n := range h.Stats().Restarts {
		if n > 0 {
			t.Errorf("a broken engine has cost %d workers: %s", n, why)
		}
	}
}

func TestClosedEnginesAreLoadedByName(t *testing.T) { everywhere(t, testClosedEnginesAreLoadedByName) }

func testClosedEnginesAreLoadedByName(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:draw", nil)
	before := digest(t, e)
	if _, err := h.Open(t.Context(), "e", host.EngineOptions{}); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("the name is taken twice: %v", err)
	}
	if err := h.Delete(t.Context(), "e"); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("an open engine is deleted: %v", err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dispatch(t.Context(), "stack:draw", nil); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("a closed engine answers: %v", err)
	}
	e = open(t, h, "e", deck(3)) // known: the setup is not used
	if digest(t, e) != before {
		t.Error("the loaded engine differs")
	}
	if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 2 {
		t.Errorf("sequence %d goes on", r.Sequence)
	}
	_ = e.Close(t.Context())
	if err := h.Delete(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	if n := size(t, open(t, h, "e", deck(3))); n != 3 {
		t.Errorf("a deleted engine comes back with %d tokens", n)
	}
}

func TestOpenRefusesABadSetup(t *testing.T) { everywhere(t, testOpenRefusesABadSetup) }

func testOpenRefusesABadSetup(t *testing.T) {
	h := newHost(t, host.Options{})
	for name, setup := range map[string]any{"wrong type": dict{"stack": 5}, "no id": dict{"stack": []dict{{}}},
		"no map": 5} {
		_, err := h.Open(t.Context(), "e", host.EngineOptions{Setup: setup})
		if host.CodeOf(err) != "bad_payload" || !strings.Contains(err.Error(), "setup") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Open(t.Context(), "", host.EngineOptions{}); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("no name: %v", err)
	}
	open(t, h, "e", nil) // the name is free
}

func TestBatches(t *testing.T) { everywhere(t, testBatches) }

func testBatches(t *testing.T) {
	h := newHost(t, host.Options{MaxPayload: 1 << 10})
	members := []host.Action{
		{Type: "stack:draw"},
		{Type: "stack:draw", Payload: dict{"count": 0}},
		{Type: "stack:peek"},
	}
	t.Run("atomic", func(t *testing.T) {
		e := open(t, h, "atomic", deck(5))
		before := digest(t, e)
		r, err := e.DispatchBatch(t.Context(), host.BatchAtomic, members)
		outcomes := r.Outcomes
		var failed *host.BatchError
		if !errors.As(err, &failed) || failed.Index != 1 || host.CodeOf(failed.Err) != "out_of_range" {
			t.Fatalf("got %v", err)
		}
		if !errors.Is(outcomes[0].Err, host.ErrBatchAborted) || host.CodeOf(outcomes[1].Err) != "out_of_range" ||
			!errors.As(outcomes[2].Err, &failed) {
			t.Errorf("got %v", outcomes)
		}
		if digest(t, e) != before {
			t.Error("a failed batch had an effect")
		}
		r, err = e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{members[0], members[2], members[0]})
		outcomes = r.Outcomes
		if err != nil || r.Sequence != 2 || !r.Changed || outcomes[0].Result.Sequence != 1 ||
			outcomes[1].Result.Sequence != 1 || outcomes[2].Result.Sequence != 2 {
			t.Errorf("got %+v, %v", r, err)
		}
	})
	t.Run("independent", func(t *testing.T) {
		e := open(t, h, "independent", deck(5))
		large := host.Action{Type: "debug:log", Payload: dict{"s": strings.Repeat("x", 1<<10)}}
		r, err := e.DispatchBatch(t.Context(), host.BatchIndependent, append(members[:2:2], large, members[0]))
		if err != nil {
			t.Fatal(err)
		}
		outcomes := r.Outcomes
		if outcomes[0].Err != nil || outcomes[1].Err == nil || !errors.Is(outcomes[2].Err, host.ErrPayloadTooLarge) ||
			outcomes[3].Result.Sequence != 2 {
			t.Errorf("got %v", outcomes)
		}
	})
	t.Run("bounded together", func(t *testing.T) {
		e := open(t, h, "bounded", nil)
		half := host.Action{Type: "debug:log", Payload: dict{"s": strings.Repeat("x", 512)}}
		if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{half}); err != nil {
			t.Error(err)
		}
		if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{half, half}); !errors.Is(err,
			host.ErrPayloadTooLarge) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a trap", func(t *testing.T) {
		e := open(t, h, "trap", deck(5))
		before := digest(t, e)
		for _, mode := range []host.BatchMode{host.BatchAtomic, host.BatchIndependent} {
			if _, err := e.DispatchBatch(t.Context(), mode,
				[]host.Action{members[0], {Type: "test:trap"}}); host.CodeOf(err) != "trap" {
				t.Errorf("got %v", err)
			}
			if digest(t, e) != before {
				t.Error("a batch that trapped had an effect")
			}
		}
	})
	t.Run("empty", func(t *testing.T) {
		if r, err := open(t, h, "empty", nil).DispatchBatch(t.Context(), host.BatchAtomic,
			nil); len(r.Outcomes) != 0 || err != nil {
			t.Errorf("got %v, %v", r, err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for field, o := range map[string]host.Options{
		"OpenTimeout":     {OpenTimeout: -1},
		"MaxPayload":      {MaxPayload: 48<<20 + 1},
		"MaxResult":       {MaxResult: -1},
		"MaxDepth":        {MaxDepth: 129},
		"MaxStateBytes":   {MaxStateBytes: -1},
		"MaxEngineMemory": {MaxEngineMemory: 1 << 20},
		"MaxInProcess":    {MaxInProcess: -1},
		"MaxAttempts":     {MaxAttempts: 101},
		"SnapshotBytes":   {SnapshotBytes: -1},
		"ReplayBudget":    {ReplayBudget: -1},
		"Workers":         {Workers: 1025},
		"Spares":          {Spares: -1},
		"Spares: 1025":    {Spares: 1025},
		"MaxFrame":        {MaxFrame: 17<<20 - 1},
		"MaxWorkerMemory": {MaxWorkerMemory: 64<<20 - 1},
		"MaxQueue":        {MaxQueue: -1},
		"MaxQueueBytes":   {MaxQueueBytes: 1<<10 - 1},
		"WindowRequests":  {WindowRequests: -1},
		"WindowBytes":     {WindowBytes: -1},
		"BusyAfter":       {BusyAfter: -1},
		"KillGrace":       {KillGrace: -1},
		"StallAfter":      {StallAfter: 100*time.Millisecond - 1},
		"StartTimeout":    {StartTimeout: -1},
		"MaxRestarts":     {MaxRestarts: -1},
		"RestartWindow":   {RestartWindow: -1},
		"SuspectWait":     {SuspectWait: -1},
		"BatchWindow":     {BatchWindow: -1},
		"BatchMode":       {BatchMode: 2},
		"StoreTimeout":    {StoreTimeout: -1},
		"KeyWindow":       {KeyWindow: 1<<20 + 1},
		"WorkerSHA256":    {WorkerSHA256: strings.Repeat("0", 63)},
		"CoreSHA256":      {CoreSHA256: strings.Repeat("g", 64)},
		"CorePath":        {CorePath: "/nowhere/core.wasm"},
		"Core":            {Core: []byte("no core")},
	} {
		o.InProcess = true
		_, err := host.New(t.Context(), o)
		if !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	newHost(t, host.Options{Workers: 1024, Spares: 1024, MaxFrame: 49 << 20, MaxWorkerMemory: 64 << 20,
		MaxQueueBytes: 1 << 10, KeyWindow: 1 << 20,
		StallAfter: 100 * time.Millisecond, BatchMode: host.BatchIndependent, MaxPayload: 48 << 20, MaxDepth: 128,
		MaxEngineMemory: 2 << 20, MaxAttempts: 100})
}

func TestShutdown(t *testing.T) { everywhere(t, testShutdown) }

func testShutdown(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := h.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := e.Dispatch(t.Context(), "stack:draw", nil); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("got %v", err)
	}
	if _, err := h.Open(t.Context(), "f", host.EngineOptions{}); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("got %v", err)
	}
}

// A shutdown whose context has ended interrupts what runs, and what waits for its turn.
func TestShutdownThatCanNotWait(t *testing.T) { everywhere(t, testShutdownThatCanNotWait) }

func testShutdownThatCanNotWait(t *testing.T) {
	started := make(chan struct{})
	h := newHost(t, host.Options{Clock: func() time.Time {
		select {
		case started <- struct{}{}: // an action is about to run
		default:
		}
		return time.Now()
	}})
	e := open(t, h, "e", nil)
	errs := make(chan error)
	for range 3 {
		go func() {
			_, err := e.Dispatch(context.Background(), "test:spin", nil)
			errs <- err
		}()
	}
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Shutdown(ctx); !errors.Is(err, host.ErrCanceled) {
		t.Errorf("got %v", err)
	}
	for range 3 {
		if err := <-errs; !errors.Is(err, host.ErrShutdown) {
			t.Errorf("got %v", err)
		}
	}
}

func TestActionsAreListed(t *testing.T) { everywhere(t, testActionsAreListed) }

func testActionsAreListed(t *testing.T) {
	h := newHost(t, host.Options{})
	list, err := h.Actions(t.Context())
	if err != nil || len(list) < 80 {
		t.Fatal(len(list), err)
	}
	for _, a := range list {
		if a.Name == "space:move" {
			if len(a.Fields) != 5 || !a.Fields[0].Required || a.Fields[3].Required || a.About == "" {
				t.Errorf("got %+v", a)
			}
			return
		}
	}
	t.Error("space:move is missing")
}

func Example() {
	ctx := context.Background()
	h, err := host.New(ctx, host.Options{InProcess: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = h.Shutdown(ctx) }()

	type card struct {
		ID string `msgpack:"id"`
	}
	e, err := h.Open(ctx, "table-1", host.EngineOptions{
		Setup: map[string]any{"stack": []card{{"ace"}, {"king"}, {"queen"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	drawn, err := host.As[[]card](e.Dispatch(ctx, "stack:draw", map[string]any{"count": 2}))
	fmt.Println(drawn, err)
	_, err = e.Dispatch(ctx, "stack:draw", map[string]any{"count": 0})
	fmt.Println(err)
	// Output:
	// [{queen} {king}] <nil>
	// out_of_range: field count: 0 is below 1
}
