package host_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"hypertoken/host"
)

// The places a benchmark compares.
func benchmarkEverywhere(b *testing.B, f func(b *testing.B, e *host.Engine)) {
	for name, o := range map[string]host.Options{"worker": {Workers: 1}, "in_process": {InProcess: true}} {
		b.Run(name, func(b *testing.B) {
			o.Logger = slog.New(slog.DiscardHandler)
			h, err := host.New(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			b.ReportAllocs()
			f(b, open(b, h, "e", deck(52)))
		})
	}
}

// A draw of one and a reset each 52, one at a time.
func BenchmarkDispatch(b *testing.B) {
	benchmarkEverywhere(b, func(b *testing.B, e *host.Engine) {
		n := 0
		var took []time.Duration
		for b.Loop() {
			action := "stack:draw"
			if n++; n%52 == 0 {
				action = "stack:reset"
			}
			began := time.Now()
			dispatch(b, e, action, nil)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
		b.ReportMetric(float64(took[len(took)*95/100]), "p95-ns")
	})
}

// What measuring costs an action: a draw of one and a reset each 52, without and with.
func BenchmarkMeasuring(b *testing.B) {
	for _, with := range []string{"off", "on"} {
		b.Run(with, func(b *testing.B) {
			benchmarkEverywhere(b, func(b *testing.B, e *host.Engine) {
				if with == "on" {
					e.Host().Measure()
				}
				for n := 0; b.Loop(); n++ {
					action := "stack:draw"
					if n%52 == 0 {
						action = "stack:reset"
					}
					dispatch(b, e, action, nil)
				}
			})
		})
	}
}

// The same, as many under way as the queue holds.
func BenchmarkPipelined(b *testing.B) {
	benchmarkEverywhere(b, func(b *testing.B, e *host.Engine) {
		const window = 1024
		var futures [window]*host.Future
		n := 0
		for b.Loop() {
			action := "stack:draw"
			if n++; n%52 == 0 {
				action = "stack:reset"
			}
			at := n % window
			if f := futures[at]; f != nil {
				if _, err := f.Wait(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			futures[at] = e.DispatchAsync(context.Background(), action, nil)
		}
		for _, f := range futures {
			if f != nil {
				_, _ = f.Wait(b.Context())
			}
		}
	})
}

// A question that changes nothing.
func BenchmarkDigest(b *testing.B) {
	benchmarkEverywhere(b, func(b *testing.B, e *host.Engine) {
		for b.Loop() {
			digest(b, e)
		}
	})
}
