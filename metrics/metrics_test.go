package metrics_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"hypertoken/host"
	"hypertoken/metrics"
	"hypertoken/workerproc"
)

func TestMain(m *testing.M) {
	workerproc.Main()
	os.Exit(m.Run())
}

// The gathered metrics are right, and follow Prometheus' conventions.
func TestGathered(t *testing.T) {
	h, err := host.New(t.Context(), host.Options{Workers: 2, Spares: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	r := prometheus.NewPedanticRegistry()
	if err := metrics.Register(r, h); err != nil {
		t.Fatal(err)
	}
	e, err := h.Open(t.Context(), "e", host.EngineOptions{Setup: map[string]any{"stack": []map[string]any{{"id": "a"},
		{"id": "b"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := e.Dispatch(t.Context(), "stack:draw", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Dispatch(t.Context(), "no:such", nil); err == nil {
		t.Fatal("no:such passes")
	}
	// A process that is killed while it owes nothing is replaced.
	workers := h.Stats().Workers
	for _, w := range workers {
		p, err := os.FindProcess(w.PID)
		if err == nil && w.Engines > 0 {
			_ = p.Kill()
		}
	}
	if _, err := e.Dispatch(t.Context(), "stack:draw", map[string]any{"count": 0}); err == nil {
		t.Fatal("a draw of none passes")
	}
	for h.Stats().Restarts[host.RestartDied] == 0 {
		if _, err := e.Digest(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := values(families)
	for name, want := range map[string]float64{
		"hypertoken_actions_dispatched_total ":             4,
		"hypertoken_actions_in_flight ":                    0,
		"hypertoken_actions_total stack:draw,ok":           2,
		"hypertoken_actions_total other,unknown_action":    1,
		"hypertoken_actions_total stack:draw,out_of_range": 1,
		"hypertoken_action_outcomes_total ok":              2,
		"hypertoken_action_outcomes_total poisoned":        0,
		"hypertoken_action_duration_seconds stack:draw":    3,
		"hypertoken_action_run_seconds stack:draw":         3,
		"hypertoken_action_queue_seconds ":                 4,
		"hypertoken_action_wire_seconds ":                  4,
		"hypertoken_journal_records_total ":                2,
		"hypertoken_fallback_active ":                      0,
		"hypertoken_fallback_switches_total in_process":    0,
		"hypertoken_worker_exits_total died":               1,
		"hypertoken_worker_exits_total deadline":           0,
		"hypertoken_in_flight_requests ":                   0,
		"hypertoken_workers given_up":                      0,
		"hypertoken_spares given_up":                       0,
		"hypertoken_engines worker":                        1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	if got["hypertoken_spares ready"]+got["hypertoken_spares starting"]+got["hypertoken_spares backoff"] != 1 ||
		got["hypertoken_takeovers_total "] > 1 {
		t.Errorf("got %v", got)
	}
	if got["hypertoken_workers ready"]+got["hypertoken_workers starting"] != 2 ||
		got["hypertoken_placings_total "] < 2 {
		t.Errorf("got %v", got)
	}
}

// values returns the gathered values by name and labels. For a histogram it is the count.
func values(families []*dto.MetricFamily) map[string]float64 {
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			value := m.GetGauge().GetValue()
			switch {
			case m.Counter != nil:
				value = m.Counter.GetValue()
			case m.Histogram != nil:
				value = float64(m.Histogram.GetSampleCount())
			}
			got[f.GetName()+" "+strings.Join(labels, ",")] = value
		}
	}
	return got
}
