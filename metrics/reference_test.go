package metrics_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"hypertoken/internal/histogram"
)

// longest is the last bound of the native histograms. All longer durations are in one bucket.
const longest = 1024 * time.Second

// durations returns durations at every bound and close to it, and some thousand others, none
// longer than longest.
func durations() []time.Duration {
	list := []time.Duration{0, 1, 59, 60, 61}
	add := func(bound time.Duration) {
		for d := bound - 2; d <= min(bound+2, longest); d++ {
			list = append(list, d)
		}
	}
	for _, seconds := range histogram.Bounds {
		add(time.Duration(seconds * 1e9))
	}
	factor := math.Exp2(math.Exp2(-histogram.Schema))
	for seconds := histogram.ZeroThreshold; seconds < 1025; seconds *= factor {
		add(time.Duration(seconds * 1e9))
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		if d := time.Duration(math.Exp(r.Float64() * 35)); d <= longest {
			list = append(list, d)
		}
	}
	return list
}

// Both kinds of histograms equal those that the client library makes of the same durations.
func TestBothKindsAreThoseOfTheClientLibrary(t *testing.T) {
	reference := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Buckets: histogram.Bounds[:],
		NativeHistogramBucketFactor:  math.Exp2(math.Exp2(-histogram.Schema)),
		NativeHistogramZeroThreshold: histogram.ZeroThreshold})
	var h histogram.Histogram
	sum := 0.0
	for _, d := range durations() {
		h.Observe(d)
		reference.Observe(d.Seconds())
		sum += d.Seconds()
	}
	var s histogram.Snapshot
	h.AddTo(&s)
	var m dto.Metric
	if err := reference.Write(&m); err != nil {
		t.Fatal(err)
	}
	want := m.GetHistogram()
	if s.Count != want.GetSampleCount() || math.Abs(s.Sum.Seconds()-sum) > 1e-3 {
		t.Errorf("%d durations of %v together, want %d of %v s", s.Count, s.Sum, want.GetSampleCount(), sum)
	}
	for k, n := range s.Classic() {
		if b := want.GetBucket()[k]; b.GetCumulativeCount() != n {
			t.Errorf("%d at most %v, want %d", n, histogram.Bounds[k], b.GetCumulativeCount())
		}
	}
	if want.GetSchema() != histogram.Schema {
		t.Fatalf("the reference has the schema %d", want.GetSchema())
	}
	zero, buckets := s.Native()
	if zero != want.GetZeroCount() {
		t.Errorf("%d are zero, want %d", zero, want.GetZeroCount())
	}
	at, n, k := 0, int64(0), 0
	wanted := map[int]uint64{}
	for _, span := range want.GetPositiveSpan() {
		at += int(span.GetOffset())
		for range span.GetLength() {
			n += want.GetPositiveDelta()[k]
			if n > 0 {
				wanted[at] = uint64(n)
			}
			k++
			at++
		}
	}
	for at, n := range wanted {
		if buckets[at] != n {
			t.Errorf("%d in the native bucket %d, want %d", buckets[at], at, n)
		}
	}
	if len(buckets) != len(wanted) {
		t.Errorf("%d native buckets, want %d", len(buckets), len(wanted))
	}
}
