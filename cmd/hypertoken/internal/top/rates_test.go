package top

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// parsed returns a sample of metrics, at a second.
func parsed(t *testing.T, second int, lines ...string) *sample {
	t.Helper()
	s, err := parseMetrics([]byte(strings.Join(lines, "\n") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	s.at = time.Unix(int64(second), 0)
	s.server = s.at
	return s
}

func same(a, b Figure) bool {
	return a == b || !a.known() && !b.known() || math.Abs(float64(a-b)) < 1e-9
}

func TestRates(t *testing.T) {
	const started = "process_start_time_seconds "
	counter := func(worker string, v int) string {
		return fmt.Sprintf("hypertoken_worker_answers_total{worker=%q} %d", worker, v)
	}
	for _, c := range []struct {
		name     string
		from, to []string
		want     figures
	}{
		{"grown", []string{counter("0", 10), counter("1", 5)}, []string{counter("0", 30), counter("1", 5)}, figures{"0": 10, "1": 0}},
		{"one that is new began at 0", []string{counter("0", 10)}, []string{counter("0", 10), counter("1", 8)}, figures{"0": 0, "1": 4}},
		{"one that is gone", []string{counter("0", 10), counter("1", 5)}, []string{counter("0", 12)}, figures{"0": 1}},
		{"one that went back began anew", []string{counter("0", 100), counter("1", 5)}, []string{counter("0", 6), counter("1", 9)}, figures{"0": 3, "1": 2}},
		{"a process that began anew, and is further than the old one", []string{started + "100", counter("0", 10)},
			[]string{started + "200", counter("0", 30)}, figures{"0": 15}},
		{"the same process", []string{started + "100", counter("0", 10)}, []string{started + "100", counter("0", 30)}, figures{"0": 10}},
		{"not exported", []string{"hypertoken_workers 1"}, []string{"hypertoken_workers 1"}, figures{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := newInterval(parsed(t, 10, c.from...),
				parsed(t, 12, c.to...)).rates("hypertoken_worker_answers_total", "worker")
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	first := newInterval(nil, parsed(t, 10, counter("0", 10)))
	if got := first.rates("hypertoken_worker_answers_total", "worker"); len(got) != 0 || got.get("0").known() ||
		got.sum().known() {
		t.Errorf("before the second sample: %v, want nothing known", got)
	}
}

func TestQuantiles(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		name           string
		bounds, counts []float64
		q              float64
		want           Figure
	}{
		{"in the middle of a bucket", []float64{1, 2, 4, inf}, []float64{0, 10, 20, 20}, 0.75, 3},
		{"at a bound", []float64{1, 2, 4, inf}, []float64{0, 10, 20, 20}, 0.5, 2},
		{"in the first bucket, from 0", []float64{1, 2, inf}, []float64{10, 10, 10}, 0.5, 0.5},
		{"in a first bucket below 0", []float64{-1, 2, inf}, []float64{10, 10, 10}, 0.5, -1},
		{"above the last finite bound", []float64{1, 2, inf}, []float64{0, 1, 10}, 0.99, 2},
		{"empty buckets are passed over", []float64{1, 2, 3, 4, inf}, []float64{5, 5, 5, 10, 10}, 0.9, 3.8},
		{"counts that were read while they grew", []float64{1, 2, inf}, []float64{10, 8, 10}, 0.5, 0.5},
		{"nothing counted", []float64{1, 2, inf}, []float64{0, 0, 0}, 0.5, unknown},
		{"no finite bound", []float64{inf}, []float64{7}, 0.5, unknown},
		{"no number", []float64{1, inf}, []float64{math.NaN(), math.NaN()}, 0.5, unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (&histogram{bounds: c.bounds, counts: c.counts}).quantile(c.q); !same(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	var none *histogram
	if got := none.quantile(0.5); got.known() {
		t.Errorf("of no histogram: %v, want nothing known", got)
	}
}

// The quantiles of an interval are those of the durations in it, without earlier ones.
func TestHistogramOfAnInterval(t *testing.T) {
	lines := func(action string, counts ...int) []string {
		const name = "hypertoken_action_duration_seconds"
		return []string{"# TYPE " + name + " histogram",
			fmt.Sprintf("%s_bucket{action=%q,le=\"1\"} %d", name, action, counts[0]),
			fmt.Sprintf("%s_bucket{action=%q,le=\"2\"} %d", name, action, counts[1]),
			fmt.Sprintf("%s_bucket{action=%q,le=\"+Inf\"} %d", name, action, counts[2]),
			fmt.Sprintf("%s_sum{action=%q} 1", name, action),
			fmt.Sprintf("%s_count{action=%q} %d", name, action, counts[2])}
	}
	for _, c := range []struct {
		name     string
		from, to []string
		count    float64
		p50      Figure
	}{
		{"what came", lines("a", 1000, 1000, 1000), lines("a", 1000, 1010, 1010), 10, 1.5},
		{"nothing came", lines("a", 5, 5, 5), lines("a", 5, 5, 5), 0, unknown},
		{"it went back", lines("a", 1000, 1000, 1000), lines("a", 0, 4, 4), 4, 1.5},
		{"a bucket went back", lines("a", 1000, 1000, 1000), lines("a", 0, 1001, 1001), 1001, 1.5},
		{"it is new", lines("b", 1, 1, 1), lines("a", 2, 2, 2), 2, 0.5},
		{"other buckets", []string{"# TYPE hypertoken_action_duration_seconds histogram",
			`hypertoken_action_duration_seconds_bucket{action="a",le="+Inf"} 1`}, lines("a", 2, 2, 2), 2, 0.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newInterval(parsed(t, 1, c.from...),
				parsed(t, 2, c.to...)).histograms("hypertoken_action_duration_seconds", "action")["a"]
			if h.count() != c.count || !same(h.quantile(0.5), c.p50) {
				t.Errorf("%v with a median of %v, want %v and %v", h.count(), h.quantile(0.5), c.count, c.p50)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct {
		of   string
		f    func(Figure) string
		want map[Figure]string
	}{
		{"count", count, map[Figure]string{0: "0", 9999: "9999", 10_000: "10k", 999_499: "999k", 999_501: "1.0M", 1e30: ">999P", -3: "-3"}},
		{"whole", whole, map[Figure]string{65536: "65536", 1e18: ">999P"}},
		{"rate", rate, map[Figure]string{0: "0", 0.01: "<0.1", 0.3: "0.3", 9.94: "9.9", 9.96: "10", 999.4: "999", 1234: "1.2k", -1: "0"}},
		{"bytes", bytesOf, map[Figure]string{0: "0B", 999: "999B", 1000: "1.0K", 1536: "1.5K", 210 << 20: "210M", 3 << 30: "3.0G", -1: "-"}},
		{"seconds", seconds, map[Figure]string{0: "0", 1e-9: "<1µs", 4.2e-6: "4.2µs", 420e-6: "420µs", 0.9996e-3: "1.0ms", 0.0123: "12ms",
			0.9996: "1.0s", 12: "12s", 99.6: "1m39s", -1: "-"}},
		{"span", span, map[Figure]string{0: "0s", 59.9: "59s", 60: "1m00s", 133: "2m13s", 780: "13m", 3600: "1h00m", 8000: "2h13m",
			86400: "1d0h", 100 * 86400: "100d", 1e300: ">999d"}},
		{"percent", percent, map[Figure]string{0: "0%", 0.0001: "<0.1%", 0.002: "0.2%", 0.0996: "10%", 1: "100%", 16: "1600%", 1e9: ">99k%"}},
	} {
		for f, want := range c.want {
			if got := c.f(f); got != want {
				t.Errorf("%s of %v is %q, want %q", c.of, float64(f), got, want)
			}
		}
		for _, f := range []Figure{unknown, Figure(math.Inf(1)), Figure(math.Inf(-1))} {
			if got := c.f(f); got != none {
				t.Errorf("%s of %v is %q, want %q", c.of, float64(f), got, none)
			}
		}
	}
}

// TestFiguresInJSON has whole numbers that scripts can compare.
func TestFiguresInJSON(t *testing.T) {
	for f, want := range map[Figure]string{0: "0", 256 << 20: "268435456", 1_234_567: "1234567", -3: "-3",
		1 << 53: "9007199254740992",
		1e300:   "1e+300", 0.25: "0.25", 0.123456789: "0.123457", 1234567.8: "1.23457e+06", Figure(math.Inf(1)): "null",
		Figure(math.Inf(-1)): "null"} {
		if got, err := json.Marshal(f); string(got) != want || err != nil {
			t.Errorf("%v is %s (%v), want %s", float64(f), got, err, want)
		}
	}
	if got, err := json.Marshal(unknown); string(got) != "null" || err != nil {
		t.Errorf("unknown is %s (%v), want null", got, err)
	}
}

// If no action of a server has an outcome yet, the rate is 0, provided that the server counts
// actions.
func TestNothingYet(t *testing.T) {
	const idle, started = "hypertoken_actions_dispatched_total 0", "hypertoken_actions_dispatched_total 5"
	none := func(f *Frame) bool { return f.Rate == 0 && f.ErrorRate == 0 && !f.ErrorPart.known() }
	for _, to := range []string{idle, started} {
		if f := newFrame(newInterval(parsed(t, 1, idle), parsed(t, 2, to)), "url"); !none(f) {
			t.Errorf("with %s: %v/s and %v errors/s, want 0", to, f.Rate, f.ErrorRate)
		}
	}
	if f := newFrame(newInterval(nil, parsed(t, 2, idle)), "url"); f.Rate.known() || f.ErrorRate.known() {
		t.Errorf("before the second sample: %v/s and %v errors/s, want nothing known", f.Rate, f.ErrorRate)
	}
	const other = "hypertoken_workers 1"
	if f := newFrame(newInterval(parsed(t, 1, other), parsed(t, 2, other)), "url"); f.Rate.known() {
		t.Errorf("where actions are not counted: %v/s, want nothing known", f.Rate)
	}
}

func TestSparks(t *testing.T) {
	for _, c := range []struct {
		trail trail
		width int
		want  string
	}{
		{trail{0, 1, 4, 8}, 4, "▁▃▅█"},
		{trail{0, 1, 4, 8}, 6, "  ▁▃▅█"},
		{trail{100, 0, 1, 4, 8}, 4, "▁▃▅█"}, // to the greatest that is seen
		{trail{0, unknown, 0}, 3, "▁ ▁"},
		{trail{1e-9, 1}, 2, "▂█"}, // a value just above 0
		{nil, 3, "   "},
		{trail{1}, 0, ""},
	} {
		if got := c.trail.spark(c.width); got != c.want {
			t.Errorf("%v in %d is %q, want %q", c.trail, c.width, got, c.want)
		}
	}
	var long trail
	for i := range 10 * remembered {
		long = long.with(Figure(i))
	}
	if len(long) < remembered || len(long) > 2*remembered || long[len(long)-1] != 10*remembered-1 {
		t.Errorf("a trail of %d figures is kept, want %d to %d", len(long), remembered, 2*remembered)
	}
}
