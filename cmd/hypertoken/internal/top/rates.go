package top

import (
	"math"
	"slices"
	"sort"
	"strconv"
)

// Figure is a number that may be unknown, NaN: in JSON it is null then. Unknown is also what no
// metric tells.
type Figure float64

var unknown = Figure(math.NaN())

func (f Figure) known() bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }

// MarshalJSON implements [json.Marshaler]. Whole numbers have all their digits, others six.
func (f Figure) MarshalJSON() ([]byte, error) {
	const exact = 1 << 53
	switch v := float64(f); {
	case !f.known():
		return []byte("null"), nil
	case v == math.Trunc(v) && math.Abs(v) <= exact:
		return strconv.AppendInt(nil, int64(v), 10), nil
	}
	return strconv.AppendFloat(nil, float64(f), 'g', 6, 64), nil
}

// histogram has cumulative counts up to each bound. The bounds are in the metric's unit, and the
// last one is infinite.
type histogram struct {
	bounds, counts []float64
	sum            float64 // of what was counted
}

// since returns what was counted in h after old. If a count of h is lower, or the buckets differ,
// the histogram has begun again, and since returns h.
func (h *histogram) since(old *histogram) *histogram {
	if old == nil || !slices.Equal(h.bounds, old.bounds) {
		return h
	}
	d := &histogram{bounds: h.bounds, counts: make([]float64, len(h.counts)), sum: h.sum - old.sum}
	for i := range h.counts {
		if d.counts[i] = h.counts[i] - old.counts[i]; d.counts[i] < 0 {
			return h
		}
	}
	return d
}

// plus returns the sum of two histograms of one metric. If other has other buckets, it is left
// out; no metric of HyperToken has such histograms.
func (h *histogram) plus(other *histogram) *histogram {
	if h == nil {
		return other
	}
	if !slices.Equal(h.bounds, other.bounds) {
		return h
	}
	sum := &histogram{bounds: h.bounds, counts: make([]float64, len(h.counts)), sum: h.sum + other.sum}
	for i := range h.counts {
		sum.counts[i] = h.counts[i] + other.counts[i]
	}
	return sum
}

func (h *histogram) count() float64 {
	if h == nil || len(h.counts) == 0 {
		return 0
	}
	return h.counts[len(h.counts)-1]
}

// quantile estimates the q-quantile of the counted values, 0 < q < 1. It assumes that the values
// in a bucket are spread evenly. If the quantile is above the last finite bound, it returns that
// bound. Prometheus' histogram_quantile does the same
// (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile). The
// result is unknown if nothing was counted.
func (h *histogram) quantile(q float64) Figure {
	if h == nil || len(h.counts) < 2 || !(h.count() > 0) {
		return unknown
	}
	counts := slices.Clone(h.counts)
	for i := 1; i < len(counts); i++ {
		counts[i] = max(counts[i], counts[i-1]) // the server may count between the reading of two buckets
	}
	last := len(counts) - 1
	rank := q * counts[last]
	b := sort.SearchFloat64s(counts, rank)
	switch {
	case b >= last:
		return Figure(h.bounds[last-1])
	case b == 0 && h.bounds[0] <= 0:
		return Figure(h.bounds[0])
	case b == 0:
		return Figure(h.bounds[0] * rank / counts[0])
	}
	low, high := h.bounds[b-1], h.bounds[b]
	return Figure(low + (high-low)*(rank-counts[b-1])/(counts[b]-counts[b-1]))
}

// interval is the time between two samples, with the changes in it.
type interval struct {
	from, to *sample // from may be nil: the changes are unknown then
	seconds  float64
}

// newInterval returns the interval between two samples. If the server's process was restarted in
// between, everything that it has counted is in the interval.
func newInterval(from, to *sample) interval {
	if from == nil {
		return interval{to: to}
	}
	seconds := to.at.Sub(from.at).Seconds()
	if seconds <= 0 {
		return interval{to: to}
	}
	was, is := from.gauge(startTime), to.gauge(startTime)
	if was.known() && is.known() && math.Abs(float64(was-is)) > 0.5 {
		from = &sample{}
	}
	return interval{from, to, seconds}
}

// gauge returns the sum of a metric's series. It is unknown if there are none.
func (s *sample) gauge(name string) Figure {
	return s.gauges(name, "").get("")
}

// figures has the figures of one metric, by the value of a label.
type figures map[string]Figure

func (f figures) get(value string) Figure {
	if v, ok := f[value]; ok {
		return v
	}
	return unknown
}

// sum returns the sum of the figures. It is unknown if there are none.
func (f figures) sum() Figure {
	if len(f) == 0 {
		return unknown
	}
	var sum Figure
	for _, v := range f {
		sum += v
	}
	return sum
}

// gauges returns the figures of a metric by the value of a label. With the label "", all series
// are one figure.
func (s *sample) gauges(name, label string) figures {
	f := figures{}
	if family := s.families[name]; family != nil {
		for _, one := range family.series {
			if one.hist == nil {
				f[one.labels[label]] += Figure(one.value)
			}
		}
	}
	return f
}

// counted returns by how much a counter has grown, by the value of a label. A counter that is new,
// or lower than before, has begun at 0. Without an earlier sample there are no figures.
func (i interval) counted(name, label string) figures {
	f := figures{}
	family := i.to.families[name]
	if family == nil || i.from == nil {
		return f
	}
	old := i.from.families[name]
	for _, one := range family.series {
		if one.hist != nil {
			continue
		}
		grown := one.value
		if old != nil {
			if at, ok := old.byKey[one.key]; ok && old.series[at].value <= one.value {
				grown -= old.series[at].value
			}
		}
		f[one.labels[label]] += Figure(grown)
	}
	return f
}

// rates returns the figures of counted per second.
func (i interval) rates(name, label string) figures {
	f := i.counted(name, label)
	for value := range f {
		f[value] /= Figure(i.seconds)
	}
	return f
}

// histograms returns the changes of a histogram, by the value of a label.
func (i interval) histograms(name, label string) map[string]*histogram {
	f := map[string]*histogram{}
	family := i.to.families[name]
	if family == nil || i.from == nil {
		return f
	}
	old := i.from.families[name]
	for _, one := range family.series {
		if one.hist == nil {
			continue
		}
		var before *histogram
		if old != nil {
			if at, ok := old.byKey[one.key]; ok {
				before = old.series[at].hist
			}
		}
		f[one.labels[label]] = f[one.labels[label]].plus(one.hist.since(before))
	}
	return f
}
