package top

import (
	"math"
	"slices"
	"sort"
	"strconv"
)

// Figure is a number that may be unknown, NaN: in JSON it is null then. Unknown is also what no metric tells.
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

// histogram has cumulative counts up to each bound, in seconds or whatever is counted. The last bound is infinite.
type histogram struct{ bounds, counts []float64 }

// since returns what came to h after old. A histogram that went back, or has other buckets, began anew: all of it came.
func (h *histogram) since(old *histogram) *histogram {
	if old == nil || !slices.Equal(h.bounds, old.bounds) {
		return h
	}
	d := &histogram{bounds: h.bounds, counts: make([]float64, len(h.counts))}
	for i := range h.counts {
		if d.counts[i] = h.counts[i] - old.counts[i]; d.counts[i] < 0 {
			return h
		}
	}
	return d
}

// plus adds another histogram of the same metric. One with other buckets, which no metric of ours has, is left out.
func (h *histogram) plus(other *histogram) *histogram {
	if h == nil {
		return other
	}
	if !slices.Equal(h.bounds, other.bounds) {
		return h
	}
	sum := &histogram{bounds: h.bounds, counts: make([]float64, len(h.counts))}
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

// quantile estimates the value that the part q of what was counted is not above, 0 < q < 1. It
// takes what is in a bucket for evenly spread, and what lies above the last finite bound for that
// bound, as Prometheus' histogram_quantile does
// (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile). It is
// unknown if nothing was counted.
func (h *histogram) quantile(q float64) Figure {
	if h == nil || len(h.counts) < 2 || !(h.count() > 0) {
		return unknown
	}
	counts := slices.Clone(h.counts)
	for i := 1; i < len(counts); i++ {
		counts[i] = max(counts[i], counts[i-1]) // buckets are read one after the other, while they are counted
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
	from, to *sample // from may be nil: nothing is known of what came
	seconds  float64
}

// newInterval returns what came between two samples. If the server's process was started anew in
// between, all that it has counted came.
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

// gauge returns the sum of a metric's series, unknown if there are none.
func (s *sample) gauge(name string) Figure {
	return s.gauges(name, "").get("")
}

// figures are of one metric, by the value of a label.
type figures map[string]Figure

func (f figures) get(value string) Figure {
	if v, ok := f[value]; ok {
		return v
	}
	return unknown
}

// sum returns the figures' sum, unknown if there are none.
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

// gauges returns a metric by a label; "" is a label that all have.
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

// counted returns by how much a counter has grown, by a label. A counter that went back began anew
// at 0, and so did one that is new. Nothing is known without an earlier sample.
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

// rates is counted, by the second.
func (i interval) rates(name, label string) figures {
	f := i.counted(name, label)
	for value := range f {
		f[value] /= Figure(i.seconds)
	}
	return f
}

// histograms returns the changes of a histogram, by a label.
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
