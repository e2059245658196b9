package host_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hypertoken/host"
)

func TestFutures(t *testing.T) { everywhere(t, testFutures) }

func testFutures(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", deck(5))
	var futures []*host.Future
	for range 5 {
		futures = append(futures, e.DispatchAsync(t.Context(), "stack:draw", nil))
	}
	results, err := host.All(t.Context(), futures...)
	if err != nil {
		t.Fatal(err)
	}
	for k, r := range results {
		var drawn []token
		if err := r.Decode(&drawn); err != nil || r.Sequence != uint64(k+1) || drawn[0].ID != fmt.Sprint("t", 4-k) {
			t.Errorf("future %d: %+v, %v, %v", k, r, drawn, err)
		}
	}
	bad, worse := e.DispatchAsync(t.Context(), "stack:draw", dict{"count": 0}),
		e.DispatchAsync(t.Context(), "no:such", nil)
	good := e.DispatchAsync(t.Context(), "stack:peek", nil)
	results, err = host.All(t.Context(), good, bad, worse)
	if host.CodeOf(err) != "out_of_range" || results[0].Raw == nil {
		t.Errorf("got %v, %v", results, err)
	}
	<-worse.Done()
	if _, err, done := worse.Result(); !done || !errors.Is(err, host.ErrUnknownAction) {
		t.Errorf("got %v, %v", err, done)
	}
}

// Wait gives up waiting; only the context of the dispatch withdraws.
func TestWaitOnlyWaits(t *testing.T) { everywhere(t, testWaitOnlyWaits) }

func testWaitOnlyWaits(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", deck(5))
	ctx, cancel := context.WithCancel(t.Context())
	spins := e.DispatchAsync(ctx, "test:spin", nil)
	behind := e.DispatchAsync(t.Context(), "stack:draw", nil)
	impatient, giveUp := context.WithCancel(t.Context())
	giveUp()
	if _, err := behind.Wait(impatient); !errors.Is(err, host.ErrCanceled) {
		t.Errorf("got %v", err)
	}
	cancel()
	if _, err := spins.Wait(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if r, err := behind.Wait(t.Context()); err != nil || r.Sequence != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestKeys(t *testing.T) { everywhere(t, testKeys) }

func testKeys(t *testing.T) {
	h := newHost(t, host.Options{KeyWindow: 3})
	e := open(t, h, "e", deck(20))
	first := dispatch(t, e, "stack:draw", nil, host.Key("a"))
	again := dispatch(t, e, "stack:draw", nil, host.Key("a"))
	if first.Sequence != 1 || !slices.Equal(first.Raw, again.Raw) || again.Sequence != 1 || !again.Changed ||
		size(t, e) != 19 {
		t.Errorf("first %+v, again %+v", first, again)
	}
	for name, payload := range map[string]any{"stack:draw": dict{"count": 2}, "stack:peek": nil} {
		if _, err := e.Dispatch(t.Context(), name, payload, host.Key("a")); !errors.Is(err, host.ErrKeyReused) || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A failure forgets the key.
	if _, err := e.Dispatch(t.Context(), "stack:draw", dict{"count": 0}, host.Key("b")); err == nil {
		t.Error("a draw of none")
	}
	dispatch(t, e, "stack:draw", nil, host.Key("b"))
	// In flight, all share the outcome of the first.
	var futures []*host.Future
	for range 10 {
		futures = append(futures, e.DispatchAsync(t.Context(), "stack:draw", nil, host.Key("c")))
	}
	results, err := host.All(t.Context(), futures...)
	for _, r := range results {
		if err != nil || r.Sequence != 3 {
			t.Errorf("got %+v, %v", r, err)
		}
	}
	// A read with a key is journaled, and keys are kept with the journal.
	if r := dispatch(t, e, "stack:peek", nil, host.Key("d")); r.Sequence != 4 || r.Changed {
		t.Errorf("got %+v", r)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open(t, h, "e", nil)
	if r := dispatch(t, e, "stack:draw", nil, host.Key("c")); r.Sequence != 3 || !slices.Equal(r.Raw, results[0].Raw) {
		t.Errorf("after loading: %+v", r)
	}
	// Three keys ago is new again.
	if r := dispatch(t, e, "stack:draw", nil, host.Key("a")); r.Sequence != 5 {
		t.Errorf("an old key: %+v", r)
	}
	for n, ok := range map[int]bool{256: true, 257: false} {
		if _, err := e.Dispatch(t.Context(), "stack:draw", nil, host.Key(strings.Repeat("k", n))); (err == nil) != ok {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
}

func TestIfSequence(t *testing.T) { everywhere(t, testIfSequence) }

func testIfSequence(t *testing.T) {
	e := open(t, newHost(t, host.Options{}), "e", deck(20))
	r := dispatch(t, e, "stack:draw", nil, host.IfSequence(0))
	if _, err := e.Dispatch(t.Context(),
		"stack:draw", nil, host.IfSequence(0)); !errors.Is(err, host.ErrConflict) || !strings.Contains(err.Error(),
		"sequence 1, not 0") {
		t.Errorf("got %v", err)
	}
	var wins int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := e.Dispatch(t.Context(), "stack:draw", nil, host.IfSequence(r.Sequence)); err == nil {
				mu.Lock()
				wins++
				mu.Unlock()
			} else if !errors.Is(err, host.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins != 1 || size(t, e) != 18 {
		t.Errorf("%d won, %d are left", wins, size(t, e))
	}
	draws := []host.Action{{Type: "stack:draw"}, {Type: "stack:draw"}}
	if _, err := e.DispatchBatch(t.Context(), host.BatchIndependent, draws, host.IfSequence(7)); !errors.Is(err,
		host.ErrConflict) {
		t.Errorf("a batch: %v", err)
	}
}

// What is dispatched within the window is one batch: the guide's promise that all succeed or fail together.
func TestGatheredBatches(t *testing.T) { everywhere(t, testGatheredBatches) }

func testGatheredBatches(t *testing.T) {
	h := newHost(t, host.Options{EnableBatching: true, BatchWindow: time.Hour})
	e := open(t, h, "e", deck(20))
	events, stop := e.Events(host.EventAction)
	defer stop()
	draw := func(ctx context.Context, payload any) *host.Future {
		return e.DispatchAsync(ctx, "stack:draw", payload)
	}
	a, b := draw(t.Context(), nil), draw(t.Context(), nil)
	if n := size(t, e); n != 18 { // State closes the window
		t.Errorf("%d are left", n)
	}
	for k, f := range []*host.Future{a, b} {
		if r, err := f.Wait(t.Context()); err != nil || r.Sequence != uint64(k+1) {
			t.Errorf("got %+v, %v", r, err)
		}
		if ev := <-events; ev.Result.Sequence != uint64(k+1) || ev.Action != "stack:draw" {
			t.Errorf("got %+v", ev)
		}
	}
	a, b = draw(t.Context(), nil), draw(t.Context(), dict{"count": 0})
	if digest(t, e); size(t, e) != 18 {
		t.Error("a failed batch had an effect")
	}
	_, err := a.Wait(t.Context())
	var failed *host.BatchError
	if !errors.Is(err, host.ErrBatchAborted) || !errors.As(err, &failed) || failed.Index != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := b.Wait(t.Context()); host.CodeOf(err) != "out_of_range" {
		t.Errorf("got %v", err)
	}
	// A member that is cancelled before the batch is sent leaves it.
	ctx, cancel := context.WithCancel(t.Context())
	a, b = draw(t.Context(), nil), draw(ctx, nil)
	cancel()
	if _, err := b.Wait(t.Context()); !errors.Is(err, host.ErrCanceled) {
		t.Errorf("got %v", err)
	}
	digest(t, e)
	if _, err := a.Wait(t.Context()); err != nil || size(t, e) != 17 {
		t.Errorf("got %v, %d left", err, size(t, e))
	}
	// The window closes by itself.
	f, err := h.Open(t.Context(), "f", host.EngineOptions{Setup: deck(5), BatchWindow: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	dispatch(t, f, "stack:draw", nil)
}

// A batch's deadline is its earliest member's, also where that is its context's: what one member
// never ends does not hold the others until theirs.
func TestAGatheredBatchEndsWithItsEarliestDeadline(t *testing.T) {
	everywhere(t, testAGatheredBatchEndsWithItsEarliestDeadline)
}

func testAGatheredBatchEndsWithItsEarliestDeadline(t *testing.T) {
	h := newHost(t, host.Options{EnableBatching: true, BatchWindow: time.Hour, Timeout: time.Hour,
		KillGrace: 10 * time.Millisecond})
	e := open(t, h, "e", deck(5))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	drawn := e.DispatchAsync(t.Context(), "stack:draw", nil)
	spins := e.DispatchAsync(ctx, "test:spin", nil)
	if n := size(t, e); n != 5 { // it closes the window
		t.Errorf("%d are left", n)
	}
	for _, f := range []*host.Future{drawn, spins} {
		if _, err := f.Wait(t.Context()); !errors.Is(err, host.ErrTimeout) || !strings.Contains(err.Error(),
			"the deadline of a member's context") {
			t.Errorf("got %v", err)
		}
	}
}

func TestEvents(t *testing.T) { everywhere(t, testEvents) }

func testEvents(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	type seen struct {
		name     string
		action   string
		sequence uint64
		code     string
	}
	var all []seen
	done := make(chan struct{})
	e.On("", func(ev host.Event) {
		if ev.Engine != "e" {
			t.Errorf("got %+v", ev)
		}
		all = append(all, seen{ev.Name, ev.Action, ev.Result.Sequence, host.CodeOf(ev.Err)})
		if ev.Name == host.EventAction && ev.Result.Sequence == 1 && ev.Action == "stack:draw" {
			// A listener may dispatch.
			dispatch(t, e, "stack:reverse", nil)
		}
		if ev.Name == host.EventShutdown {
			close(done)
		}
	})
	stop := e.On(host.EventAction, func(host.Event) { t.Error("a stopped listener is called") })
	stop()
	dispatch(t, e, "stack:draw", nil)
	for size := uint64(0); size < 2; {
		r, err := e.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		size = r.Sequence
	}
	dispatch(t, e, "stack:peek", nil)
	_, _ = e.Dispatch(t.Context(), "stack:draw", dict{"count": 0})
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	all = slices.DeleteFunc(all, func(s seen) bool { return s.name == "stack:drawn" })
	var own []seen
	for _, s := range all {
		if strings.HasPrefix(s.name, "engine:") || strings.HasPrefix(s.name, "state:") {
			own = append(own, s)
		}
	}
	want := []seen{
		{host.EventAction, "stack:draw", 1, ""}, {host.EventStateUpdated, "stack:draw", 1, ""},
		{host.EventAction, "stack:reverse", 2, ""}, {host.EventStateUpdated, "stack:reverse", 2, ""},
		{host.EventAction, "stack:peek", 2, ""},
		{host.EventError, "stack:draw", 0, "out_of_range"},
		{host.EventShutdown, "", 0, ""},
	}
	if !slices.Equal(own, want) {
		t.Errorf("got  %v\nwant %v", own, want)
	}
}

// A listener that does not come back loses the oldest events, and holds nobody up.
func TestASlowListener(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	events, stop := e.Events(host.EventStateUpdated)
	defer stop()
	for range 1500 {
		dispatch(t, e, "stack:reverse", nil)
	}
	if s := h.Stats(); s.DroppedEvents < 1500-1024-1 {
		t.Errorf("%d were dropped", s.DroppedEvents)
	}
	first := <-events
	if second := <-events; second.Result.Sequence <= first.Result.Sequence {
		t.Errorf("%d after %d", second.Result.Sequence, first.Result.Sequence)
	}
}

func TestOverload(t *testing.T) { everywhere(t, testOverload) }

func testOverload(t *testing.T) {
	h := newHost(t, host.Options{MaxQueue: 4})
	e, f := open(t, h, "e", deck(5)), open(t, h, "f", deck(50))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	futures := []*host.Future{e.DispatchAsync(ctx, "test:spin", nil)}
	for range 3 {
		futures = append(futures, e.DispatchAsync(t.Context(), "stack:draw", nil))
	}
	_, err, done := f.DispatchAsync(t.Context(), "stack:draw", nil).Result()
	if !done || !errors.Is(err, host.ErrOverloaded) || !strings.Contains(err.Error(),
		"4 requests are queued (MaxQueue)") {
		t.Errorf("got %v, %v", err, done)
	}
	if s := h.Stats(); s.InFlight != 4 {
		t.Errorf("%d in flight", s.InFlight)
	}
	// Dispatch waits for room.
	waits := make(chan error)
	go func() {
		_, err := f.Dispatch(t.Context(), "stack:draw", nil)
		waits <- err
	}()
	impatient, giveUp := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer giveUp()
	if _, err := f.Dispatch(impatient, "stack:draw", nil); !errors.Is(err, host.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-waits; err != nil {
		t.Error(err)
	}
	if _, err := host.All(t.Context(), futures[1:]...); err != nil {
		t.Error(err)
	}
	if s := h.Stats(); s.InFlight != 0 || s.InFlightBytes != 0 {
		t.Errorf("%d, %d bytes are left", s.InFlight, s.InFlightBytes)
	}
}

func TestQueuedBytesAreBounded(t *testing.T) {
	h := newHost(t, host.Options{MaxQueueBytes: 4 << 10})
	e := open(t, h, "e", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	spins := e.DispatchAsync(ctx, "test:spin", nil)
	large := dict{"s": strings.Repeat("x", 2<<10)}
	fits := e.DispatchAsync(t.Context(), "debug:log", large)
	_, err, _ := e.DispatchAsync(t.Context(), "debug:log", large).Result()
	if !errors.Is(err, host.ErrOverloaded) || !strings.Contains(err.Error(),
		"4.0 KiB that may be queued (MaxQueueBytes)") {
		t.Errorf("got %v", err)
	}
	cancel()
	_, _ = spins.Wait(t.Context())
	if _, err := fits.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// An engine that nobody asks for long gives its instance back, and nobody notices. It leaves a
// snapshot if its journal would be long to replay.
func TestIdleEnginesAreTakenOut(t *testing.T) { everywhere(t, testIdleEnginesAreTakenOut) }

func testIdleEnginesAreTakenOut(t *testing.T) {
	h := newHost(t, host.Options{IdleAfter: time.Millisecond})
	// takenOut returns how many entries the journal of an engine has behind its base once it was taken out.
	takenOut := func(value string) (entries int) {
		e := open(t, h, "e", deck(5))
		dispatch(t, e, "game:setProperty", dict{"key": "k", "value": value})
		before := digest(t, e)
		for h.Stats().Engines[host.PlaceOut] == 0 {
			runtime.Gosched() // until the host's next sweep
		}
		list, err := e.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range list {
			entries++
		}
		if digest(t, e) != before || dispatch(t, e, "stack:draw", nil).Sequence != 2 {
			t.Error("it differs")
		}
		if err := e.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		return entries
	}
	if n := takenOut(strings.Repeat("long", 5_000)); n != 0 {
		t.Errorf("the journal has %d entries behind its base: a snapshot is worth it", n)
	}
	for tries := 1; takenOut("short") != 1; tries++ {
		if tries == 100 { // on a busy machine an action takes longer than a replay that is cheap
			t.Fatal("a short journal is never left as it is")
		}
	}
}

func TestNewEngine(t *testing.T) {
	e, err := host.NewEngine(t.Context(), host.Options{}, host.EngineOptions{Setup: deck(5)})
	if err != nil {
		t.Fatal(err)
	}
	dispatch(t, e, "stack:draw", nil)
	if s := e.Host().Stats(); len(s.Workers) != 1 || s.Engines[host.PlaceWorker] != 1 || s.Actions["ok"] != 1 {
		t.Errorf("got %+v", s)
	}
	if err := e.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := e.Dispatch(t.Context(), "stack:draw", nil); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("got %v", err)
	}
	if !host.SupportsWorkers() || !strings.Contains(host.Environment(), "/") {
		t.Errorf("%v, %s", host.SupportsWorkers(), host.Environment())
	}
}
