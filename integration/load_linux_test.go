package integration

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/require"
)

// stopped opens an engine on a host whose only worker is stopped then, so that nothing is answered until it goes on.
func stopped(t *testing.T, o host.Options) (h *host.Host, e *host.Engine, resume func()) {
	t.Helper()
	o.Workers, o.StallAfter, o.Timeout = 1, time.Hour, -1
	h = newHost(t, o)
	e = open(t, h, "e", deck(52))
	worker := workerOf(t, h)
	stop(t, worker)
	resume = sync.OnceFunc(func() { signal(t, worker, syscall.SIGCONT) })
	t.Cleanup(resume)
	return h, e, resume
}

// The queue takes MaxQueue requests and not one more: the next fails at once, or waits for room.
func TestTheQueueIsBoundedInNumber(t *testing.T) {
	const most = 1000
	h, e, resume := stopped(t, host.Options{MaxQueue: most})
	var futures []*host.Future
	for k := range most {
		f := e.DispatchAsync(t.Context(), "stack:reverse", nil)
		if _, err, done := f.Result(); done {
			t.Fatalf("request %d of %d: %v", k+1, most, err)
		}
		futures = append(futures, f)
	}
	refuse := func() {
		t.Helper()
		_, err, done := e.DispatchAsync(t.Context(), "stack:reverse", nil).Result()
		if !done || !errors.Is(err, host.ErrOverloaded) {
			t.Fatalf("request %d of %d: %v, %v", most+1, most, err, done)
		}
	}
	refuse()
	// However many are refused, nothing of them stays.
	before := heap()
	for range 100_000 {
		refuse()
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("100,000 refused requests leave %d bytes", grown)
	}
	// Dispatch waits for room, as long as its context lets it.
	ctx, cancel := context.WithCancel(t.Context())
	outcomes := make(chan error, 2)
	for _, ctx := range []context.Context{ctx, t.Context()} {
		go func() {
			_, err := e.Dispatch(ctx, "stack:reverse", nil)
			outcomes <- err
		}()
	}
	cancel()
	if err := <-outcomes; !errors.Is(err, host.ErrCanceled) {
		t.Errorf("the one whose context has ended: %v", err)
	}
	resume()
	if err := <-outcomes; err != nil {
		t.Errorf("the one that waits: %v", err)
	}
	if _, err := host.All(t.Context(), futures...); err != nil {
		t.Error(err)
	}
	if s := h.Stats(); s.InFlight != 0 || s.InFlightBytes != 0 || s.Actions["overloaded"] != 100_001 {
		t.Errorf("got %+v", s)
	}
}

// The queue takes MaxQueueBytes and not one byte more.
func TestTheQueueIsBoundedInBytes(t *testing.T) {
	const most = 64 << 10
	h, e, resume := stopped(t, host.Options{MaxQueueBytes: most})
	payload := func(n int) dict { return dict{"s": strings.Repeat("x", n)} }
	first := e.DispatchAsync(t.Context(), "debug:log", payload(1000))
	overhead := int(h.Stats().InFlightBytes) - 1000 // the headers are of the same size for all that follow
	half := e.DispatchAsync(t.Context(), "debug:log", payload(most/2))
	left := most - int(h.Stats().InFlightBytes)
	refused := func(n int) bool {
		t.Helper()
		f := e.DispatchAsync(t.Context(), "debug:log", payload(n))
		_, err, done := f.Result()
		if done && !errors.Is(err, host.ErrOverloaded) {
			t.Fatal(err)
		}
		return done
	}
	if !refused(left - overhead + 1) {
		t.Fatal("a byte above the limit is taken")
	}
	last := e.DispatchAsync(t.Context(), "debug:log", payload(left-overhead))
	if _, err, done := last.Result(); done {
		t.Fatalf("what fits exactly is refused: %v", err)
	}
	if s := h.Stats(); s.InFlightBytes != most {
		t.Fatalf("%d bytes are queued, want %d", s.InFlightBytes, most)
	}
	if !refused(0) {
		t.Error("a full queue takes an empty payload")
	}
	resume()
	if _, err := host.All(t.Context(), first, half, last); err != nil {
		t.Error(err)
	}
	// One that is larger than the whole queue is taken when there is no other.
	if _, err := e.Dispatch(t.Context(), "debug:log", payload(2*most)); err != nil {
		t.Error(err)
	}
}

// heap returns the bytes of what is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what pools held for one more round
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A listener that is stuck loses the oldest events and holds nobody up, not even the shutdown.
func TestAStuckListener(t *testing.T) {
	h := newHost(t, host.Options{Workers: 1})
	e, f := open(t, h, "e", deck(5)), open(t, h, "f", deck(5))
	called, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e.On("", func(host.Event) {
		once.Do(func() { close(called) })
		<-release
	})
	defer close(release)
	dispatch(t, e, "stack:reverse", nil)
	<-called
	const actions = 3000
	for n := range uint64(actions) {
		if r := dispatch(t, e, "stack:reverse", nil); r.Sequence != n+2 {
			t.Fatalf("got %+v", r)
		}
	}
	dispatch(t, f, "stack:reverse", nil)
	// Two events an action, of which 1,024 wait.
	if dropped := h.Stats().DroppedEvents; dropped < 2*actions-1024-2 || dropped > 2*actions {
		t.Errorf("%d were dropped", dropped)
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Ten thousand engines on two workers, of which one dies: all answer, all close.
func TestTenThousandEngines(t *testing.T) {
	many := require.Rounds(1_000, 10_000)
	if require.IsRaced() {
		many = 1_000
	}
	h := newHost(t, host.Options{Workers: 2, MaxQueue: 2 * many, Timeout: -1})
	engines := make([]*host.Engine, many)
	each := func(f func(k int)) {
		var running sync.WaitGroup
		for from := range 8 {
			running.Go(func() {
				for k := from; k < many; k += 8 {
					f(k)
				}
			})
		}
		running.Wait()
	}
	setup := deck(5)
	each(func(k int) {
		e, err := h.Open(t.Context(), fmt.Sprint(k), host.EngineOptions{Setup: setup})
		if err != nil {
			t.Error(err)
		}
		engines[k] = e
	})
	if t.Failed() {
		return
	}
	all := func(want uint64) {
		t.Helper()
		futures := make([]*host.Future, many)
		for k, e := range engines {
			futures[k] = e.DispatchAsync(t.Context(), "stack:reverse", nil)
		}
		if want == 2 {
			signal(t, h.Stats().Workers[0].PID, syscall.SIGKILL)
		}
		results, err := host.All(t.Context(), futures...)
		if err != nil {
			t.Fatal(err)
		}
		for k, r := range results {
			if r.Sequence != want {
				t.Fatalf("engine %d has the sequence %d, want %d", k, r.Sequence, want)
			}
		}
	}
	all(1)
	all(2)
	all(3)
	s := h.Stats()
	t.Logf("%d engines, %d placings, %d requests in flight when a worker died, %d and %d MiB resident", many, s.Placed,
		s.Recovered,
		s.Workers[0].Resident>>20, s.Workers[1].Resident>>20)
	if s.Restarts[host.RestartDied] != 1 {
		t.Errorf("got %v", s.Restarts)
	}
	each(func(k int) {
		if err := engines[k].Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if s := h.Stats(); s.InFlight != 0 ||
		s.Engines[host.PlaceWorker]+s.Engines[host.PlaceInProcess]+s.Engines[host.Placing]+
			s.Engines[host.PlaceOut] != 0 {
		t.Errorf("got %+v", s)
	}
}
