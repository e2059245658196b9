package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
)

// latencies are how long actions took.
type latencies []time.Duration

// report gives the median, the 99th percentile and the longest, in microseconds.
func (l latencies) report(b *testing.B) {
	b.Helper()
	if len(l) == 0 {
		return
	}
	slices.Sort(l)
	for _, q := range []struct {
		unit string
		at   float64
	}{{"p50-µs", 0.5}, {"p99-µs", 0.99}, {"max-µs", 1}} {
		b.ReportMetric(float64(l[min(len(l)-1, int(q.at*float64(len(l))))].Nanoseconds())/1e3, q.unit)
	}
}

func benchHost(b *testing.B, o host.Options) (*host.Host, []*host.Engine) {
	b.Helper()
	o.Core, o.Logger = cores.Test, slog.New(slog.DiscardHandler)
	h, err := host.New(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	var engines []*host.Engine
	for k := range 8 {
		e, err := h.Open(b.Context(), fmt.Sprint(k), host.EngineOptions{Setup: deck(52)})
		if err != nil {
			b.Fatal(err)
		}
		engines = append(engines, e)
	}
	return h, engines
}

// How long the actions of seven engines take on two workers, where an eighth has nothing to do, or runs actions of two
// seconds one after the other.
func BenchmarkBesideALongAction(b *testing.B) {
	for _, hog := range []bool{false, true} {
		b.Run(map[bool]string{false: "without", true: "with"}[hog], func(b *testing.B) {
			_, engines := benchHost(b, host.Options{Workers: 2})
			rounds := calibrate(b, engines[0], 2*time.Second)
			ctx, cancel := context.WithCancel(b.Context())
			hogged := make(chan int)
			go func() {
				n := 0
				for ; hog && ctx.Err() == nil; n++ {
					_, _ = engines[0].Dispatch(ctx, "test:work", dict{"rounds": rounds})
				}
				hogged <- n
			}()
			var all latencies
			for b.Loop() {
				for _, e := range engines[1:] {
					began := time.Now()
					if _, err := e.Dispatch(b.Context(), "stack:shuffle", nil); err != nil {
						b.Fatal(err)
					}
					all = append(all, time.Since(began))
				}
			}
			b.StopTimer()
			cancel()
			b.ReportMetric(float64(<-hogged), "long-actions")
			all.report(b)
		})
	}
}

// calibrate returns how many rounds of test:work take about that long here.
func calibrate(b *testing.B, e *host.Engine, takes time.Duration) int {
	b.Helper()
	const rounds = 20_000_000
	fastest := time.Duration(1 << 62)
	for range 3 {
		began := time.Now()
		if _, err := e.Dispatch(b.Context(), "test:work", dict{"rounds": rounds}); err != nil {
			b.Fatal(err)
		}
		fastest = min(fastest, time.Since(began))
	}
	return int(float64(rounds) * float64(takes) / float64(fastest))
}

// How long the actions take that a queue accepts, where more come in than can be served: as long as the queue is.
func BenchmarkOverload(b *testing.B) {
	for _, queue := range []int{64, 1024, 16384} {
		b.Run(fmt.Sprint("queue=", queue), func(b *testing.B) {
			_, engines := benchHost(b, host.Options{Workers: 2, MaxQueue: queue})
			type accepted struct {
				future *host.Future
				at     time.Time
			}
			var all latencies
			waiting := make(chan accepted, queue)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for a := range waiting {
					if _, err := a.future.Wait(b.Context()); err != nil {
						b.Error(err)
					}
					all = append(all, time.Since(a.at))
				}
			}()
			refused, n := 0, 0
			for b.Loop() {
				at := time.Now()
				f := engines[n%len(engines)].DispatchAsync(b.Context(), "stack:shuffle", nil)
				n++
				if _, err, ended := f.Result(); ended && errors.Is(err, host.ErrOverloaded) {
					refused++
					continue
				}
				waiting <- accepted{f, at}
			}
			b.StopTimer()
			close(waiting)
			<-done
			b.ReportMetric(100*float64(refused)/float64(b.N), "%refused")
			all.report(b)
		})
	}
}
