package top

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"hypertoken/cmd/hypertoken/internal/top/toptest"
)

func TestParseBounds(t *testing.T) {
	many := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, "hypertoken_worker_engines{worker=\"%d\"} 1\n", i)
		}
		return b.Bytes()
	}
	if _, err := parseMetrics(many(maxLines)); err != nil {
		t.Errorf("%d lines: %v", maxLines, err)
	}
	if _, err := parseMetrics(many(maxLines + 1)); err == nil || !strings.Contains(err.Error(), "200001 lines") {
		t.Errorf("%d lines: %v, want an error that has the number", maxLines+1, err)
	}
	for name, c := range map[string]struct {
		text    string
		foreign bool
	}{
		"a page":            {"<html>hypertoken_workers</html>", true},
		"another program's": {"# TYPE go_goroutines gauge\ngo_goroutines 7\nprocess_start_time_seconds 5\n", true},
		"nothing":           {"", true},
		"cut short":         {"hypertoken_workers 1", false},
		"no number":         {"hypertoken_workers one\n", false},
	} {
		s, err := parseMetrics([]byte(c.text))
		if err == nil || errors.Is(err, errForeign) != c.foreign {
			t.Errorf("%s: %v and %v, want an error, foreign %v", name, s, err, c.foreign)
		}
	}
	// Other metrics are not read, whatever they contain.
	if _, err := parseMetrics([]byte("other{ broken\nhypertoken_workers 1\n")); err != nil {
		t.Errorf("beside a broken metric of another: %v", err)
	}
}

// TestMissing makes frames of parts of the metrics. Missing figures are unknown, and all others
// are right.
func TestMissing(t *testing.T) {
	for _, only := range []string{"hypertoken_workers", "hypertoken_worker_state", "hypertoken_worker_exits_total",
		"hypertoken_actions_total",
		"hypertoken_action_duration_seconds", "hypertoken_build_info"} {
		var kept []string
		for l := range strings.Lines(toptest.Metrics(1)) {
			if strings.Contains(l, only) {
				kept = append(kept, strings.TrimSuffix(l, "\n"))
			}
		}
		w := &watch{client: &client{}}
		for i := range 3 {
			w.take(reading{sample: parsed(t, i, kept...)})
		}
		v := view{frame: w.frame, history: w.history, width: 80, height: 24, theme: colored()}
		if lines := v.lines(); len(lines) != 24 {
			t.Errorf("%s: %d lines", only, len(lines))
		}
		if only == "hypertoken_worker_state" &&
			(len(w.frame.Workers) != toptest.Workers || w.frame.Workers[0].Memory.known()) {
			t.Errorf("workers by state alone: %+v", w.frame.Workers)
		}
	}
}

// FuzzAnswers parses any answer of a server. If it is accepted, it gives JSON, and screens that
// fit the terminal and do not control it.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(toptest.Metrics(0)), []byte(toptest.Metrics(4)), []byte(toptest.Status))
	f.Add([]byte("hypertoken_workers{state=\"\\n\x1b\"} NaN\n"),
		[]byte("hypertoken_worker_state{worker=\"-1\",state=\"\u202e\"} 1\n"), []byte("{}"))
	f.Add([]byte("# TYPE hypertoken_worker_answer_seconds histogram\nhypertoken_worker_answer_seconds_bucket{le=\"NaN\"} -1\n"),
		[]byte("# TYPE hypertoken_worker_answer_seconds histogram\nhypertoken_worker_answer_seconds_bucket{le=\"-Inf\"} +Inf\n"), []byte("[]"))
	f.Fuzz(func(t *testing.T, one, two, said []byte) {
		w := &watch{client: &client{name: "url"}}
		for i, body := range [][]byte{one, two} {
			r := reading{at: time.Unix(int64(i), 0)}
			if r.sample, r.err = parseMetrics(body); r.err == nil {
				r.sample.at, r.sample.server = r.at, r.at
				r.sample.status, r.sample.statusErr = parseStatus(said)
			}
			w.take(r)
		}
		if w.frame == nil {
			return
		}
		if _, err := json.Marshal(w.frame); err != nil {
			t.Errorf("no JSON: %v", err)
		}
		v := view{frame: w.frame, history: w.history, width: 80, height: 24, gone: w.gone, theme: colored()}
		for i := range columns {
			v.sort.column = i
			screen := v.lines()
			if len(screen) != 24 {
				t.Errorf("%d lines", len(screen))
			}
			for _, line := range screen {
				text := uncolored(line)
				if n := (cell{text: text}).width(); n > 80 {
					t.Errorf("%d characters wide: %q", n, text)
				}
				if at := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); at >= 0 {
					t.Errorf("%q steers the terminal", text)
				}
			}
		}
	})
}
