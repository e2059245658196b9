package bench

import (
	"maps"
	"slices"
	"strings"
)

// Report has the figures that a run has measured.
type Report struct {
	Machine Machine `json:"machine"`
	// Command is the command line. For is the time that the run was given, Elapsed the time that
	// it took, in seconds.
	Command string  `json:"command"`
	For     float64 `json:"for_s"`
	Elapsed float64 `json:"elapsed_s"`
	// Targets are the targets with their verdicts. Figures are in the order in which they were
	// measured.
	Targets    []Judged     `json:"targets"`
	Figures    []*Figure    `json:"figures"`
	Histograms []*Histogram `json:"histograms"`
	// Skipped has the figures that were not measured, and why.
	Skipped []Skipped `json:"skipped"`

	figures    map[string]*Figure
	histograms map[string]*Histogram
	abouts     map[string]string
}

// Figure is one figure over the rounds of its group.
type Figure struct {
	// ID is PROBE.WHAT: p50, p95 and mean are latencies, rate is a throughput.
	ID    string `json:"id"`
	Group string `json:"group"`
	About string `json:"about"`
	// Unit is us, per_s, bytes, percent, ratio, allocs, engines, actions, records, compactions, kills,
	// stops or errors.
	Unit string `json:"unit"`
	Spread
	Rounds int `json:"rounds"`

	rounds map[int]float64
}

// Skipped is a group or a probe that was left out.
type Skipped struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

func (r *Report) add(group, id, unit string, round int, value float64) {
	f := r.figures[id]
	if f == nil {
		f = &Figure{ID: id, Group: group, Unit: unit, rounds: map[int]float64{}}
		if r.figures == nil {
			r.figures = map[string]*Figure{}
		}
		r.figures[id] = f
		r.Figures = append(r.Figures, f)
	}
	f.rounds[round] = value
	f.Rounds, f.Spread = len(f.rounds), spread(slices.Collect(maps.Values(f.rounds)))
}

// about adds the description of a probe.
func (r *Report) about(probe, about string) {
	if r.abouts == nil {
		r.abouts = map[string]string{}
	}
	r.abouts[probe] = about
}

func (r *Report) histogram(id, about string, laps []int64) {
	h := r.histograms[id]
	if h == nil {
		h = &Histogram{ID: id, About: about, From: histogramFrom, Growth: histogramGrowth}
		if r.histograms == nil {
			r.histograms = map[string]*Histogram{}
		}
		r.histograms[id] = h
		r.Histograms = append(r.Histograms, h)
	}
	h.add(laps)
}

func (r *Report) skip(name, why string) {
	r.Skipped = append(r.Skipped, Skipped{name, why})
}

// finish computes the targets and ratios from the figures.
func (r *Report) finish() {
	for _, f := range r.Figures {
		probe, _, _ := strings.Cut(f.ID, ".")
		f.About = r.abouts[probe]
	}
	for _, t := range targets() {
		r.Targets = append(r.Targets, t.judge(r.figures))
	}
}

// clusterTargets begins the IDs of the targets of a cluster, and clusterPrefix the names of its groups.
const (
	clusterTargets = "10."
	clusterPrefix  = "cluster_"
)

// WithCluster returns a report with what another run has measured of a cluster instead of its own.
func (r *Report) WithCluster(other *Report) *Report {
	both := *r
	isTarget := func(j Judged) bool { return strings.HasPrefix(j.ID, clusterTargets) }
	isFigure := func(f *Figure) bool { return strings.HasPrefix(f.Group, clusterPrefix) }
	isSkipped := func(s Skipped) bool { return strings.HasPrefix(s.Name, clusterPrefix) }
	both.Targets = replaced(r.Targets, other.Targets, isTarget)
	both.Figures = replaced(r.Figures, other.Figures, isFigure)
	both.Skipped = replaced(r.Skipped, other.Skipped, isSkipped)
	return &both
}

// replaced returns the elements of list that are not of a kind, and behind them those of other that are.
func replaced[T any](list, other []T, isOfKind func(T) bool) (both []T) {
	for _, v := range list {
		if !isOfKind(v) {
			both = append(both, v)
		}
	}
	for _, v := range other {
		if isOfKind(v) {
			both = append(both, v)
		}
	}
	return both
}

// Figure returns that of an ID, or nil.
func (r *Report) Figure(id string) *Figure {
	for _, f := range r.Figures {
		if f.ID == id {
			return f
		}
	}
	return nil
}
