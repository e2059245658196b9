package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/require"
	"hypertoken/internal/storeload"
	"hypertoken/journal"
	"hypertoken/workerproc"
)

func TestMain(m *testing.M) {
	workerproc.Main()
	Main()
	if os.Getenv(storeVariable) != "" {
		storeload.Main(func(string) (journal.Store, func() error, error) {
			return journal.NewMemory(), func() error { return nil }, nil
		})
		return
	}
	os.Exit(m.Run())
}

// storeVariable makes the program of the tests one for --sqlite.
const storeVariable = "HYPERTOKEN_BENCH_TEST_STORE"

func only(t *testing.T, d time.Duration, pattern string) *Report {
	t.Helper()
	r, err := Run(t.Context(), Config{For: d, Only: regexp.MustCompile(pattern)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{7}, Spread{7, 7, 7}},
		{[]float64{4, 1}, Spread{1, 2.5, 4}},
		{[]float64{9, 1, 3}, Spread{1, 3, 9}},
		{[]float64{4, 3, 2, 1}, Spread{1, 2.5, 4}},
	} {
		if got := spread(c.values); got != c.want {
			t.Errorf("spread(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]int64, 100)
	for k := range hundred {
		hundred[k] = int64(k + 1)
	}
	for _, c := range []struct {
		sorted []int64
		q      float64
		want   int64
	}{
		{[]int64{5}, 0.5, 5}, {[]int64{5}, 0.95, 5},
		{[]int64{1, 2}, 0.5, 1}, {[]int64{1, 2}, 0.51, 2},
		{hundred, 0.5, 50}, {hundred, 0.95, 95}, {hundred, 0, 1}, {hundred, 1, 100},
	} {
		if got := quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile(%d values, %v) = %d, want %d", len(c.sorted), c.q, got, c.want)
		}
	}
}

func TestASampleIsFigures(t *testing.T) {
	s := sample{laps: []int64{4000, 1000, 2000, 1000}, count: 10, took: 2 * time.Second}
	s.value("own", "bytes", 5)
	s.divide(2)
	got := map[string]float64{}
	s.figures("p", func(id, unit string, v float64) { got[id+" "+unit] = v })
	want := map[string]float64{"p.p50 us": 0.5, "p.p95 us": 2, "p.mean us": 1, "p.rate per_s": 5, "p.own bytes": 5}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
}

func TestHistogram(t *testing.T) {
	h := Histogram{From: 0.1, Growth: 1.05}
	h.add([]int64{1, 100, 104, 106, 116})
	if !slices.Equal(h.Counts, []int{3, 1, 0, 1}) {
		t.Errorf("counts %v", h.Counts)
	}
}

func TestVerdicts(t *testing.T) {
	figures := map[string]*Figure{}
	for id, v := range map[string][]float64{"a": {2, 4, 6}, "b": {1, 2, 2}, "zero": {0, 0, 0}, "other": nil} {
		rounds := map[int]float64{}
		for k, x := range v {
			rounds[k] = x
		}
		figures[id] = &Figure{rounds: rounds}
		if len(v) > 0 {
			figures[id].Spread = spread(v)
		}
	}
	for name, c := range map[string]struct {
		target Target
		want   Verdict
		value  float64
	}{
		"at most, at the limit":  {Target{Figure: "a", Relation: absolute, Limit: 4}, Met, 4},
		"at most, above":         {Target{Figure: "a", Relation: absolute, Limit: 3.99}, Missed, 4},
		"at least, at the limit": {Target{Figure: "a", Relation: absolute, Limit: 4, AtLeast: true}, Met, 4},
		"at least, below": {Target{Figure: "a", Relation: absolute, Limit: 4.01, AtLeast: true}, Missed,
			4},
		"a ratio is taken by rounds": {Target{Figure: "a", Baseline: "b", Relation: over, Limit: 2}, Met, 2},
		"a ratio above":              {Target{Figure: "a", Baseline: "b", Relation: over, Limit: 1.9}, Missed, 2},
		"so many times below": {Target{Figure: "b", Baseline: "a", Relation: under, Limit: 2,
			AtLeast: true}, Met, 2},
		"not so many": {Target{Figure: "b", Baseline: "a", Relation: under, Limit: 3,
			AtLeast: true}, Missed, 2},
		"no such figure": {Target{Figure: "c", Relation: absolute, Limit: 4}, NotMeasured, 0},
		"no such baseline": {Target{Figure: "a", Baseline: "c", Relation: over, Limit: 4}, NotMeasured,
			0},
		"nothing measured": {Target{Figure: "other", Relation: absolute, Limit: 4}, NotMeasured, 0},
		"a baseline of nothing": {Target{Figure: "a", Baseline: "zero", Relation: over, Limit: 4},
			NotMeasured, 0},
		"nothing in a baseline's rounds": {Target{Figure: "a", Baseline: "other", Relation: over, Limit: 4},
			NotMeasured, 0},
	} {
		j := c.target.judge(figures)
		if j.Verdict != c.want || (j.Value == nil) != (c.want == NotMeasured) ||
			(j.Value != nil && j.Value.Median != c.value) {
			t.Errorf("%s: %v %v, want %v %v", name, j.Verdict, j.Value, c.want, c.value)
		}
	}
}

// A ratio that is not the quotient of the figures in its row has a note. The note names no reason
// that was not measured.
func TestRatiosSayWhatTheyAreOf(t *testing.T) {
	r := &Report{}
	for round, v := range [][2]float64{{10, 1}, {4, 3}, {6, 6}} {
		r.add("g", "slow.p50", "us", round, v[0])
		r.add("g", "base.p50", "us", round, v[1])
		r.add("g", "same.p50", "us", round, 3*v[1])
	}
	for _, target := range []Target{
		{ID: "1", Text: "the tail", Figure: "slow.p50", Baseline: "base.p50", Relation: over, Limit: 1},
		{ID: "2", Text: "so many times below", Figure: "base.p50", Baseline: "slow.p50", Relation: under, Limit: 1},
		{ID: "3", Text: "the same in each round", Figure: "same.p50", Baseline: "base.p50", Relation: over, Limit: 1},
		{ID: "4", Text: "itself", Figure: "slow.p50", Relation: absolute, Limit: 1},
	} {
		r.Targets = append(r.Targets, target.judge(r.figures))
	}
	want := []string{
		"the tail: figure over baseline is 1.00x to 10.00x in the rounds, of which 1.33x is the median; the quotient of the medians is 2.00x",
		"so many times below: baseline over figure is 1.00x to 10.00x in the rounds, of which 1.33x is the median; the quotient of the medians is 2.00x",
	}
	if got := r.RatioNotes(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	var b bytes.Buffer
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range append(want, RatioNote) {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the report:\n%s", want, &b)
		}
	}
	if _, rest, _ := strings.Cut(text, want[1]); strings.TrimSpace(rest) != "" {
		t.Errorf("after its notes the report says %q", rest)
	}
	r.Targets = r.Targets[3:]
	b.Reset()
	if _, err := r.WriteTo(&b); err != nil || strings.Contains(b.String(), "ratio") {
		t.Errorf("a report without ratios explains them:\n%s", &b)
	}
}

// Every target refers to a figure that is measured.
func TestTargetsHaveProbes(t *testing.T) {
	probes, seen := map[string]bool{"heavy": true, "light": true}, map[string]bool{}
	for _, g := range groups() {
		for _, p := range g.probes {
			if probes[p.name] && p.name != "idle" {
				t.Errorf("two probes are %s", p.name)
			}
			probes[p.name] = true
		}
	}
	for _, target := range targets() {
		if seen[target.ID] {
			t.Errorf("two targets are %s", target.ID)
		}
		seen[target.ID] = true
		for _, id := range []string{target.Figure, target.Baseline} {
			if name, _, _ := strings.Cut(id, "."); id != "" && !probes[name] {
				t.Errorf("%s: no probe has %s", target.ID, id)
			}
		}
		if target.Baseline == "" && target.Relation != absolute {
			t.Errorf("%s: the baseline %q and %s", target.ID, target.Baseline, target.Relation)
		}
	}
}

func TestTheReport(t *testing.T) {
	var slices []Progress
	r, err := Run(t.Context(), Config{For: time.Second,
		Only:     regexp.MustCompile("^roundtrip/(pipe|go_plugin.*|dispatch_worker)$"),
		Progress: func(p Progress) { slices = append(slices, p) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(slices) == 0 || slices[len(slices)-1].Done != slices[0].Slices-1 {
		t.Errorf("progress: %v", slices)
	}
	for _, id := range []string{"pipe.p50", "pipe.p95", "pipe.mean", "go_plugin_netrpc.p50", "go_plugin_grpc.p50",
		"dispatch_worker.p95"} {
		f := r.Figure(id)
		if f == nil {
			t.Errorf("%s is not measured: %v", id, r.Skipped)
			continue
		}
		if f.Min <= 0 || f.Min > f.Median || f.Median > f.Max || f.Rounds != 5 || f.Unit != "us" || f.About == "" ||
			f.Group != "roundtrip" {
			t.Errorf("%s: %+v", id, *f)
		}
	}
	for _, j := range r.Targets {
		if measured := j.ID == "1.pipe" || j.ID == "1.tail" ||
			j.ID == "1.netrpc"; measured != (j.Verdict != NotMeasured) {
			t.Errorf("%s: %v", j.ID, j.Verdict)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var shape struct {
		Machine struct {
			Cores int
			Go    string
			Core  string `json:"core_sha256"`
		}
		Targets []struct {
			ID, Text, Figure, Relation, Verdict string
			Limit                               float64
			Value                               *Spread
		}
		Figures []struct {
			ID, Unit         string
			Min, Median, Max float64
		}
		Histograms []struct {
			ID     string
			From   float64 `json:"from_us"`
			Counts []int
		}
	}
	if err := json.Unmarshal(b, &shape); err != nil {
		t.Fatal(err)
	}
	if shape.Machine.Cores < 1 || shape.Machine.Go == "" || len(shape.Machine.Core) != 64 {
		t.Errorf("machine: %+v", shape.Machine)
	}
	if len(shape.Targets) != len(targets()) || shape.Targets[0].Value == nil || shape.Targets[0].Verdict == "" ||
		shape.Targets[0].Limit != 3 {
		t.Errorf("targets: %+v", shape.Targets)
	}
	if len(shape.Figures) != len(r.Figures) || shape.Figures[0].ID != "pipe.p50" || shape.Figures[0].Median <= 0 {
		t.Errorf("figures: %+v", shape.Figures)
	}
	if len(shape.Histograms) != 2 || shape.Histograms[0].From != histogramFrom || len(shape.Histograms[0].Counts) == 0 {
		t.Errorf("histograms: %+v", shape.Histograms)
	}
}

func TestTheTextFits(t *testing.T) {
	r := only(t, 500*time.Millisecond, "^in_process/")
	var b bytes.Buffer
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(line) > 101 && !strings.HasPrefix(line, "versions") {
			t.Errorf("a line of %d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	for _, want := range []string{"bare_interruptible.p50", "dispatch, p50", "the interruptible call"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in the report:\n%s", want, &b)
		}
	}
}

// A group that is left out if the time is short is measured if it is the only one.
func TestOneGroupAtATime(t *testing.T) {
	type group struct {
		pattern string
		time    time.Duration
		want    []string
	}
	for _, c := range require.Sample(4, []group{
		{"^allocations/", time.Second, []string{"allocations_worker.allocs", "allocations_in_process.bytes", "allocations_bare.allocs"}},
		{"^pipelined/", time.Second, []string{"go_plugin_netrpc_pipelined.rate", "go_plugin_grpc_pipelined.rate", "pipelined_worker.rate",
			"pipelined_64_callers.rate", "pipelined_64_engines.rate"}},
		{"^light/", time.Second, []string{"light_1_workers.rate", "light.best"}},
		{"^heavy/", time.Second, []string{"heavy_8_workers.rate", "heavy.least_of_more"}},
		{"^starts/", time.Second, []string{"start.p50", "kill.p50", "replay.rate"}},
		{"^out/", 3 * time.Second, []string{"taken_out.p50", "taken_out.engine"}},
		{"^journal/", time.Second, []string{"journal_default.rate", "journal_none.rate"}},
		{"^(durable|directory)/", 2 * time.Second, []string{"write_and_sync.p50", "disk_1x1.p50", "memory_1x1.rate"}},
		{"^stores/(disk|memory)_16x64", time.Second, []string{"disk_16x64.rate", "memory_16x64.rate"}},
		{"^shutdown/", 2 * time.Second, []string{"shutdown_disk.p50", "shutdown_memory.engines"}},
		{"^past/", 4 * time.Second, []string{"state_at.p50", "fork.p50", "undo.p50"}},
		{"^memory/growth", 2500 * time.Millisecond, []string{"growth.actions"}},
	}) {
		t.Run(c.pattern, func(t *testing.T) {
			// A busy machine needs more time for the same: a slice of the shortest may end before
			// anything in it has.
			for given := c.time; ; given *= 4 {
				r := only(t, given, c.pattern)
				missing := ""
				for _, id := range c.want {
					if f := r.Figure(id); f == nil || f.Rounds == 0 ||
						(f.Median <= 0) != (id == "allocations_bare.allocs") {
						missing += fmt.Sprintf("%s is not measured in %v: %+v; left out: %v\n", id, given, f, r.Skipped)
					}
				}
				if missing == "" {
					break
				}
				if given > 16*c.time {
					t.Fatal(missing)
				}
			}
		})
	}
}

func TestALackOfTime(t *testing.T) {
	r := only(t, 300*time.Millisecond, "^(idle|allocations)/")
	if len(r.Skipped) != 1 || r.Skipped[0].Name != "idle" ||
		!strings.Contains(r.Skipped[0].Why, "give the run more time") {
		t.Errorf("left out: %v", r.Skipped)
	}
	if r.Figure("allocations_bare.allocs") == nil {
		t.Error("what there is time for is not measured")
	}
}

func TestACoreWithoutTheActions(t *testing.T) {
	r, err := Run(t.Context(), Config{For: time.Second, Core: cores.Actionless(),
		Only: regexp.MustCompile("^roundtrip/(pipe|dispatch_worker|ping_worker)$")})
	if err != nil {
		t.Fatal(err)
	}
	if r.Figure("pipe.p50") == nil || r.Figure("dispatch_worker.p50") != nil {
		t.Errorf("figures: %v", r.Figures)
	}
	want := []Skipped{{"roundtrip/ping_worker", "the core has no debug:log"},
		{"roundtrip/dispatch_worker", "the core has no stack:draw"}}
	if !slices.Equal(r.Skipped, want) {
		t.Errorf("left out: %v, want %v", r.Skipped, want)
	}
}

func TestNodeThatIsNotThere(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r := only(t, 200*time.Millisecond, "(roundtrip|pipelined)/node")
	if len(r.Figures) > 0 || len(r.Skipped) != 2 || r.Skipped[0].Why != "there is no node on the PATH" {
		t.Errorf("%d figures; left out: %v", len(r.Figures), r.Skipped)
	}
}

// Another program measures SQLite. Without it, SQLite is left out.
func TestAnotherProgramForAStore(t *testing.T) {
	const pattern = "^durable/sqlite"
	r := only(t, 100*time.Millisecond, pattern)
	if len(r.Figures) > 0 || len(r.Skipped) != 1 ||
		!strings.Contains(r.Skipped[0].Why, "name the program with --sqlite") {
		t.Errorf("%d figures; left out: %v", len(r.Figures), r.Skipped)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(storeVariable, "1")
	r, err = Run(t.Context(), Config{For: 500 * time.Millisecond, Only: regexp.MustCompile(pattern), SQLite: self,
		Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if f := r.Figure("sqlite_1x1.p50"); f == nil || f.Median <= 0 || f.Rounds != 5 {
		t.Errorf("%+v; left out: %v", f, r.Skipped)
	}
	_, err = Run(t.Context(), Config{For: time.Second, Only: regexp.MustCompile(pattern), SQLite: "no-such-program"})
	if err == nil || !strings.Contains(err.Error(), "--sqlite") {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestAnInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Run(ctx, Config{For: 2 * time.Second, Only: regexp.MustCompile("^(in_process/bare|idle)"),
		Progress: func(p Progress) {
			if p.Done == 3 {
				cancel()
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Figure("bare_plain.p50") == nil ||
		!slices.Contains(r.Skipped, Skipped{"in_process", "interrupted, and all after it"}) {
		t.Errorf("%d figures; left out: %v", len(r.Figures), r.Skipped)
	}
}

func TestWhatCannotBe(t *testing.T) {
	if _, err := Run(t.Context(), Config{For: time.Second, Only: regexp.MustCompile("nothing")}); !errors.Is(err,
		ErrNothing) {
		t.Errorf("nothing to measure: %v", err)
	}
	if _, err := Run(t.Context(), Config{For: time.Second, CorePath: "missing.wasm"}); !errors.Is(err,
		host.ErrBadInput) {
		t.Errorf("no core: %v", err)
	}
}
