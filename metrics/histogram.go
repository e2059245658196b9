package metrics

import (
	"maps"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"hypertoken/host"
	"hypertoken/internal/histogram"
)

// durations is a metric with both kinds of buckets; a Prometheus server takes the kind that it
// wants. The client library can't be used, because it makes constant metrics of one kind only.
type durations struct {
	desc      *prometheus.Desc
	labels    []*dto.LabelPair
	counted   *host.Histogram
	exemplars []host.Exemplar
}

func (o out) durations(d *prometheus.Desc, h *host.Histogram, exemplars []host.Exemplar, labels ...string) {
	o.ch <- &durations{d, prometheus.MakeLabelPairs(d, labels), h, exemplars}
}

// Desc implements [prometheus.Metric].
func (d *durations) Desc() *prometheus.Desc { return d.desc }

// Write implements [prometheus.Metric].
func (d *durations) Write(m *dto.Metric) error {
	h := &dto.Histogram{
		SampleCount: proto.Uint64(d.counted.Count),
		SampleSum:   proto.Float64(d.counted.Sum.Seconds()),
		Schema:      proto.Int32(histogram.Schema), ZeroThreshold: proto.Float64(histogram.ZeroThreshold),
	}
	for k, n := range d.counted.Classic() {
		h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: proto.Uint64(n),
			UpperBound: proto.Float64(histogram.Bounds[k])})
	}
	zero, native := d.counted.Native()
	h.ZeroCount = proto.Uint64(zero)
	h.PositiveSpan, h.PositiveDelta = spans(native)
	for _, x := range d.exemplars {
		e := &dto.Exemplar{Value: proto.Float64(x.Value.Seconds()), Timestamp: timestamppb.New(x.At),
			Label: []*dto.LabelPair{
				{Name: proto.String("trace_id"), Value: proto.String(x.TraceID)}, {Name: proto.String("span_id"), Value: proto.String(x.SpanID)}}}
		h.Exemplars = append(h.Exemplars, e)
		if at := histogram.ClassicBucket(x.Value); at < len(h.Bucket) {
			h.Bucket[at].Exemplar = e
		} else {
			inf := &dto.Bucket{CumulativeCount: h.SampleCount, UpperBound: proto.Float64(infinite), Exemplar: e}
			h.Bucket = append(h.Bucket, inf)
		}
	}
	slices.SortFunc(h.Exemplars,
		func(a, b *dto.Exemplar) int { return a.GetTimestamp().AsTime().Compare(b.GetTimestamp().AsTime()) })
	if len(h.PositiveSpan) == 0 {
		// An empty span marks an empty histogram as a native one.
		h.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	m.Label, m.Histogram = d.labels, h
	return nil
}

var infinite = math.Inf(1)

// spans writes native buckets as runs of neighbours. Each count is written as its difference from
// the count before it.
func spans(buckets map[int]uint64) (list []*dto.BucketSpan, deltas []int64) {
	next, before := 0, int64(0)
	for k, at := range slices.Sorted(maps.Keys(buckets)) {
		if k == 0 || at != next {
			list = append(list, &dto.BucketSpan{Offset: proto.Int32(int32(at - next)), Length: proto.Uint32(0)})
		}
		*list[len(list)-1].Length++
		n := int64(buckets[at])
		deltas = append(deltas, n-before)
		next, before = at+1, n
	}
	return list, deltas
}
