package metrics_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"

	"hypertoken/host"
	"hypertoken/metrics"
)

func newHost(t testing.TB, o host.Options) (*host.Host, *prometheus.Registry) {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	h, err := host.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	r := prometheus.NewPedanticRegistry()
	if err := metrics.Register(r, h); err != nil {
		t.Fatal(err)
	}
	return h, r
}

func openEngine(t testing.TB, h *host.Host, name string, o host.EngineOptions) *host.Engine {
	t.Helper()
	o.Setup = map[string]any{"stack": []map[string]any{{"id": "a"}, {"id": "b"}, {"id": "c"}}}
	e, err := h.Open(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func gather(t testing.TB, r *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sum returns the sum of all gathered values of a metric.
func sum(got map[string]float64, name string) (n float64) {
	for key, v := range got {
		if strings.HasPrefix(key, name+" ") {
			n += v
		}
	}
	return n
}

// monotonic returns all values that may only grow.
func monotonic(families []*dto.MetricFamily) map[string]float64 {
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := fmt.Sprint(f.GetName(), m.Label)
			switch {
			case m.Counter != nil:
				got[key] = m.Counter.GetValue()
			case m.Histogram != nil:
				got[key+" count"] = float64(m.Histogram.GetSampleCount())
				got[key+" sum"] = m.Histogram.GetSampleSum()
				got[key+" zero"] = float64(m.Histogram.GetZeroCount())
				for _, b := range m.Histogram.Bucket {
					got[fmt.Sprint(key, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return got
}

// No counter ever goes back. Once the host is quiet, every dispatched action has an outcome, and
// the counters equal the counts of the callers.
func TestCountsAgreeWithTheCallers(t *testing.T) {
	h, r := newHost(t, host.Options{Workers: 2, MaxQueue: 16, MaxAttempts: 20, MaxRestarts: 1000,
		BusyAfter: time.Second})
	engines := []*host.Engine{openEngine(t, h, "a", host.EngineOptions{}), openEngine(t, h, "b", host.EngineOptions{}),
		openEngine(t, h, "c", host.EngineOptions{EnableBatching: true, BatchWindow: time.Millisecond,
			BatchMode: host.BatchIndependent})}
	var mu sync.Mutex
	told, batches := map[string]float64{}, 0.0
	count := func(action string, err error) {
		outcome := "ok"
		if err != nil {
			outcome = host.CodeOf(err)
		}
		mu.Lock()
		told["hypertoken_actions_total "+action+","+outcome]++
		mu.Unlock()
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	var callers sync.WaitGroup
	var hasKilled atomic.Bool
	for k, e := range engines {
		for caller := range 4 {
			callers.Go(func() {
				// They go on until a worker was killed, however fast they are.
				for n := 0; n < 300 || !hasKilled.Load(); n++ {
					ctx := context.Background()
					switch n % 6 {
					case 0:
						_, err := e.Dispatch(ctx, "stack:shuffle", nil)
						count("stack:shuffle", err)
					case 1:
						_, err := e.Dispatch(ctx, "stack:draw", map[string]any{"count": 0})
						count("stack:draw", err)
					case 2:
						_, err := e.Dispatch(ctx, fmt.Sprint("no:such-", n), nil)
						count("other", err)
					case 3:
						f := e.DispatchAsync(ctx, "stack:reset", nil)
						_, err := f.Wait(ctx)
						count("stack:reset", err)
					case 4:
						_, err := e.Dispatch(canceled, "stack:peek", nil)
						count("stack:peek", err)
						_, err = e.Dispatch(ctx, "debug:log", nil, host.Key(fmt.Sprint(k, caller/2, n)))
						count("debug:log", err)
					case 5:
						r, err := e.DispatchBatch(ctx, host.BatchMode(n%2),
							[]host.Action{{Type: "stack:peek"}, {Type: "no:such"}})
						if r.Outcomes == nil {
							t.Errorf("a batch failed as a whole: %v", err)
							continue
						}
						count("stack:peek", r.Outcomes[0].Err)
						count("other", r.Outcomes[1].Err)
						mu.Lock()
						batches++
						mu.Unlock()
					}
				}
			})
		}
	}
	quiet := make(chan struct{})
	go func() {
		callers.Wait()
		close(quiet)
	}()
	before, killed := monotonic(gather(t, r)), map[int]bool{}
	for done := false; !done; {
		select {
		case <-quiet:
			// The last answers may be read before the end of the process that gave them is
			// noticed.
			done = sum(values(gather(t, r)), "hypertoken_worker_restarts_total") == float64(len(killed))
		default:
			for _, w := range h.Stats().Workers { // all engines may be on one of them
				if w.Pending == 0 || w.PID == 0 || len(killed) == 10 || killed[w.PID] {
					continue
				}
				if p, err := os.FindProcess(w.PID); err == nil && p.Kill() == nil {
					killed[w.PID] = true
					hasKilled.Store(true)
				}
			}
		}
		now := monotonic(gather(t, r))
		for key, v := range before {
			if w, there := now[key]; !there || w < v {
				t.Errorf("%s went from %v to %v (%v)", key, v, w, there)
			}
		}
		maps.Copy(before, now)
	}
	got := values(gather(t, r))
	total := 0.0
	for key, n := range told {
		if total += n; got[key] != n {
			t.Errorf("%s is %v, callers were told %v", key, got[key], n)
		}
	}
	if sum(got, "hypertoken_actions_total") != total || got["hypertoken_actions_dispatched_total "] != total ||
		got["hypertoken_actions_in_flight "] != 0 ||
		sum(got, "hypertoken_action_duration_seconds") != total ||
		sum(got, "hypertoken_action_outcomes_total") != total {
		t.Errorf("callers were told %v outcomes; %v were dispatched, %v ended, %v have a duration, %v are in flight, %v by outcome", total,
			got["hypertoken_actions_dispatched_total "], sum(got, "hypertoken_actions_total"),
			sum(got, "hypertoken_action_duration_seconds"),
			got["hypertoken_actions_in_flight "], sum(got, "hypertoken_action_outcomes_total"))
	}
	if n := got["hypertoken_batches_total atomic,unknown_action"] +
		got["hypertoken_batches_total independent,ok"]; n < batches {
		t.Errorf("%v batches, callers made %v", n, batches)
	}
	if n := float64(len(killed)); n == 0 || got["hypertoken_worker_exits_total died"] != n ||
		got["hypertoken_recovery_seconds "] == 0 ||
		got["hypertoken_in_flight_requests "] != 0 || got["hypertoken_queued_requests "] != 0 {
		t.Errorf("%v workers were killed; %v", n, got)
	}
}

// An action that belongs to a sampled trace leaves the trace's ID at the bucket of its duration.
func TestExemplars(t *testing.T) {
	h, r := newHost(t, host.Options{InProcess: true})
	e := openEngine(t, h, "e", host.EngineOptions{})
	c := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab, 1}, SpanID: trace.SpanID{0xcd, 2},
		TraceFlags: trace.FlagsSampled})
	if _, err := e.Dispatch(trace.ContextWithSpanContext(t.Context(), c), "stack:draw", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dispatch(trace.ContextWithSpanContext(t.Context(), c.WithTraceFlags(0)), "stack:peek",
		nil); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	q := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	q.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, q)
	text := w.Body.Bytes()
	with := regexp.MustCompile(`(?m)^hypertoken_action_duration_seconds_bucket{action="stack:draw",le="[^"]*"} 1 # {.*trace_id="ab01000000000000.*span_id="cd02.*$`)
	if !with.Match(text) {
		t.Errorf("no exemplar in %s", text)
	}
	if n := bytes.Count(text, []byte("trace_id")); n != 1 {
		t.Errorf("%d exemplars, want that of the trace that is sampled", n)
	}
}

// BenchmarkScrape measures a scrape with ten actions and two workers.
func BenchmarkScrape(b *testing.B) {
	h, r := newHost(b, host.Options{Workers: 2})
	e := openEngine(b, h, "e", host.EngineOptions{})
	for _, action := range []string{"stack:draw", "stack:peek", "stack:reset", "stack:shuffle", "debug:log",
		"game:start", "game:end", "stack:cut", "stack:reverse", "token:create"} {
		_, _ = e.Dispatch(b.Context(), action, nil)
	}
	handler := promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		size = w.Body.Len()
	}
	b.ReportMetric(float64(size), "bytes")
}
