package top

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"hypertoken/internal/printable"
)

// maxLines bounds the lines about HyperToken in an answer. A host of 1,024 workers has a third of
// that.
const maxLines = 200_000

// errForeign is the error for an answer without metrics of HyperToken.
var errForeign = errors.New("it has no metrics of HyperToken")

// sample has the metrics of a server at one time.
type sample struct {
	at        time.Time // by this machine's clock
	server    time.Time // by the server's, to the second
	families  map[string]*family
	status    *status // nil if the server has none
	statusErr error   // the error, if the status could not be read
	// cluster is nil if the server is no node of one, and clusterErr the error if it could not be read.
	cluster    *overview
	clusterErr error
}

// family is a metric with its series, each found by its labels.
type family struct {
	series []series
	byKey  map[string]int
}

// series is one series of a metric: a value or a histogram.
type series struct {
	key    string
	labels map[string]string
	value  float64
	hist   *histogram
}

// status is the answer to GET /v1/status.
type status struct {
	Engines []struct {
		Name  string `json:"name"`
		Place string `json:"place"`
	} `json:"engines"`
	Errors []RecentError `json:"errors"`
}

// RecentError is the failure of an action, from the server's status.
type RecentError struct {
	At      time.Time `json:"at"`
	Engine  string    `json:"engine"`
	Action  string    `json:"action"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
}

const startTime = "process_start_time_seconds"

// parseMetrics reads the metrics of HyperToken in Prometheus' text format. Other metrics of the
// application are left out before parsing.
func parseMetrics(body []byte) (*sample, error) {
	var ours bytes.Buffer
	lines := 0
	for line := range bytes.Lines(body) {
		what := bytes.TrimLeft(line, " \t")
		if rest, ok := bytes.CutPrefix(what, []byte("# TYPE ")); ok {
			what = rest
		}
		own := bytes.HasPrefix(what, []byte("hypertoken_"))
		if !own && !bytes.HasPrefix(what, []byte(startTime)) {
			continue
		}
		if own {
			lines++
		}
		ours.Write(line)
	}
	if lines == 0 {
		return nil, errForeign
	}
	if lines > maxLines {
		return nil, fmt.Errorf("it has %d lines of metrics of HyperToken, above the limit of %d", lines, maxLines)
	}
	if b := ours.Bytes(); b[len(b)-1] != '\n' {
		return nil, errors.New("its metrics are cut short: the last line has no end")
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&ours)
	if err != nil {
		return nil, fmt.Errorf("its metrics can't be read: %s", printable.Line(err.Error(), 200))
	}
	s := &sample{families: make(map[string]*family, len(families))}
	for name, f := range families {
		s.families[name] = newFamily(f)
	}
	return s, nil
}

func newFamily(from *dto.MetricFamily) *family {
	f := &family{byKey: make(map[string]int, len(from.GetMetric()))}
	for _, m := range from.GetMetric() {
		s := series{labels: make(map[string]string, len(m.GetLabel()))}
		var key []string
		for _, l := range m.GetLabel() {
			s.labels[l.GetName()] = printable.Line(l.GetValue(), maxLabel)
			key = append(key, l.GetName()+"\xff"+l.GetValue())
		}
		slices.Sort(key)
		s.key = strings.Join(key, "\xfe")
		switch {
		case m.Counter != nil:
			s.value = m.GetCounter().GetValue()
		case m.Gauge != nil:
			s.value = m.GetGauge().GetValue()
		case m.Untyped != nil:
			s.value = m.GetUntyped().GetValue()
		case m.Histogram != nil:
			s.hist = newHistogram(m.GetHistogram())
		default:
			continue
		}
		if _, again := f.byKey[s.key]; again {
			continue // the first counts
		}
		f.byKey[s.key] = len(f.series)
		f.series = append(f.series, s)
	}
	return f
}

func newHistogram(from *dto.Histogram) *histogram {
	h := &histogram{sum: from.GetSampleSum()}
	buckets := slices.Clone(from.GetBucket())
	slices.SortFunc(buckets, func(a, b *dto.Bucket) int {
		switch x, y := a.GetUpperBound(), b.GetUpperBound(); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	for _, b := range buckets {
		n := b.GetCumulativeCountFloat()
		if n == 0 {
			n = float64(b.GetCumulativeCount())
		}
		if !math.IsNaN(b.GetUpperBound()) {
			h.bounds, h.counts = append(h.bounds, b.GetUpperBound()), append(h.counts, n)
		}
	}
	if n := len(h.bounds); n == 0 || !math.IsInf(h.bounds[n-1], 1) {
		all := from.GetSampleCountFloat()
		if all == 0 {
			all = float64(from.GetSampleCount())
		}
		h.bounds, h.counts = append(h.bounds, math.Inf(1)), append(h.counts, all)
	}
	return h
}

// maxStatusErrors bounds the errors that are kept of a status.
const maxStatusErrors = 64

func parseStatus(body []byte) (*status, error) {
	s := &status{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("its status can't be read: %s", printable.Line(err.Error(), 200))
	}
	s.Errors = s.Errors[:min(len(s.Errors), maxStatusErrors)]
	for i := range s.Errors {
		e := &s.Errors[i]
		e.Engine, e.Action = printable.Line(e.Engine, maxLabel), printable.Line(e.Action, maxLabel)
		e.Code, e.Message = printable.Line(e.Code, maxLabel), printable.Line(e.Message, 1000)
	}
	for i := range s.Engines {
		s.Engines[i].Place = printable.Line(s.Engines[i].Place, maxLabel)
	}
	return s, nil
}

// maxLabel bounds the characters of a label's value that are kept.
const maxLabel = 200
