package bench

import (
	"math"
	"slices"
	"time"
)

// sample has the measurements of a probe in a slice.
type sample struct {
	// laps are how long things took, in ns. If one lap is several things, it is their mean.
	laps []int64
	// count things were done in that time.
	count int
	took  time.Duration

	values []value
}

type value struct {
	suffix, unit string
	value        float64
}

// maxLaps bounds how many laps of a slice are kept: the first ones.
const maxLaps = 1 << 20

func (s *sample) lap(d time.Duration) {
	if len(s.laps) < maxLaps {
		s.laps = append(s.laps, int64(d))
	}
}

func (s *sample) rate(count int, took time.Duration) { s.count, s.took = count, took }

// value adds a figure of another kind.
func (s *sample) value(suffix, unit string, v float64) {
	s.values = append(s.values, value{suffix, unit, v})
}

// figures passes on the figures of the sample. Latencies are in µs.
func (s *sample) figures(name string, add func(id, unit string, value float64)) {
	if len(s.laps) > 0 {
		sum := int64(0)
		for _, l := range s.laps {
			sum += l
		}
		sorted := slices.Clone(s.laps)
		slices.Sort(sorted)
		add(name+".p50", "us", float64(quantile(sorted, 0.50))/1e3)
		add(name+".p95", "us", float64(quantile(sorted, 0.95))/1e3)
		add(name+".mean", "us", float64(sum)/float64(len(s.laps))/1e3)
	}
	if s.took > 0 {
		add(name+".rate", "per_s", float64(s.count)/s.took.Seconds())
	}
	for _, v := range s.values {
		add(name+"."+v.suffix, v.unit, v.value)
	}
}

// quantile returns the smallest of the sorted values that the share q of them does not exceed
// (nearest rank).
func quantile(sorted []int64, q float64) int64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Spread is the least, the median and the greatest of some values.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// spread returns that of values, of which there is one at least. The median of an even number is
// the mean of the two in the middle.
func spread(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Spread{v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]}
}

// Histogram counts latencies in buckets that are each 5 % wider than the one before.
type Histogram struct {
	ID    string `json:"id"`
	About string `json:"about"`
	// From is the lower bound of the first bucket, in µs. The lower bound of bucket k is From ·
	// 1.05^k.
	From   float64 `json:"from_us"`
	Growth float64 `json:"growth"`
	Counts []int   `json:"counts"`
}

const (
	histogramFrom   = 0.1
	histogramGrowth = 1.05
)

// add counts laps, in ns. A lap below the first bucket is counted in the first bucket.
func (h *Histogram) add(laps []int64) {
	for _, l := range laps {
		k := max(0, int(math.Log(float64(l)/1e3/h.From)/math.Log(h.Growth)))
		for len(h.Counts) <= k {
			h.Counts = append(h.Counts, 0)
		}
		h.Counts[k]++
	}
}

// divide makes laps of n things the mean of each.
func (s *sample) divide(n int64) {
	for k := range s.laps {
		s.laps[k] /= n
	}
}
