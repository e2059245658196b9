package top

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"hypertoken/cmd/hypertoken/internal/top/toptest"
)

// sampleAt returns a sample of the tests' server at a step.
func sampleAt(t testing.TB, step int) *sample {
	t.Helper()
	s, err := parseMetrics([]byte(toptest.Metrics(step)))
	if err != nil {
		t.Fatal(err)
	}
	if s.status, err = parseStatus([]byte(toptest.Status)); err != nil {
		t.Fatal(err)
	}
	s.at = toptest.Epoch.Add(time.Duration(step) * time.Second)
	s.server = s.at
	return s
}

// viewAt returns the screen at a step, if it has been shown since step 0.
func viewAt(t testing.TB, step, width, height int) *view {
	t.Helper()
	w := &watch{client: &client{name: "http://127.0.0.1:9464/metrics"}}
	for i := range step + 1 {
		w.take(reading{at: toptest.Epoch.Add(time.Duration(i) * time.Second), sample: sampleAt(t, i)})
	}
	return &view{frame: w.frame, history: w.history, width: width, height: height, every: time.Second, theme: colored()}
}

// asNode shows the page of nodes, as if the server was one all the time.
func asNode(v *view) {
	step := int(v.frame.At.Sub(toptest.Epoch) / time.Second)
	v.isNodes, v.frame.Cluster = true, newCluster(newInterval(nodeAt(step-1), nodeAt(step)),
		Figure(toptest.Start+3600+23*60+step))
}

// nodeAt returns a sample of the tests' node at a step.
func nodeAt(step int) *sample {
	s, err := parseMetrics([]byte(toptest.NodeMetrics(step)))
	if err != nil {
		panic(err)
	}
	if s.cluster, err = parseOverview([]byte(toptest.Cluster)); err != nil {
		panic(err)
	}
	s.at = toptest.Epoch.Add(time.Duration(step) * time.Second)
	return s
}

// TestScreens compares screens of several sizes with files. No screen is larger than its terminal.
func TestScreens(t *testing.T) {
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	for _, c := range []struct {
		name                string
		step, width, height int
		change              func(*view)
	}{
		{"first", 0, 80, 24, nil},
		{"80x24", 4, 80, 24, nil},
		{"60x20", 4, 60, 20, nil},
		{"200x50", 9, 200, 50, nil},
		{"40x10", 4, 40, 10, nil},
		{"paused", 4, 80, 24, func(v *view) { v.paused = true }},
		{"fallback", 5, 80, 24, nil},
		{"gone", 4, 80, 24, func(v *view) { v.gone = &gone{v.frame.At.Add(time.Second), errors.New("connection refused")} }},
		{"refused", 4, 60, 20, func(v *view) {
			v.gone = &gone{v.frame.At.Add(time.Second), errors.New(strings.Repeat("a long error ", 20))}
		}},
		{"sorted", 4, 80, 24, func(v *view) { v.sort = sorting{column: 6} }},
		{"reversed", 4, 80, 24, func(v *view) { v.sort = sorting{column: 6, reverse: true} }},
		{"codes", 4, 80, 24, func(v *view) { v.frame.HasErrors, v.frame.Errors = false, nil }},
		{"repeated", 4, 80, 24, func(v *view) {
			var list []RecentError
			for i := range 30 {
				list = append(list, v.frame.Errors[i%3%2].RecentError)
				list[i].At = list[i].At.Add(-time.Duration(i) * time.Second)
			}
			v.frame.Errors = collapse(append(list, v.frame.Errors[2].RecentError))
		}},
		{"many", 4, 80, 24, func(v *view) {
			v.offset = 5
			for i := 4; i < 40; i++ {
				w := v.frame.Workers[i%4]
				w.ID = fmt.Sprint(i)
				v.frame.Workers = append(v.frame.Workers, w)
			}
		}},
		{"plain", 4, plainWidth, 0, func(v *view) { v.plain, v.theme = true, theme{} }},
		{"nodes", 4, 80, 24, asNode},
		{"nodes-60x20", 4, 60, 20, asNode},
		{"nodes-200x50", 4, 200, 50, asNode},
		{"nodes-40x10", 4, 40, 10, asNode},
		{"nodes-nolease", 6, 80, 24, asNode},
		{"nodes-many", 4, 80, 24, func(v *view) {
			asNode(v)
			for k := 3; k < 40; k++ {
				n := v.frame.Cluster.Nodes[k%3]
				n.Address = fmt.Sprint("10.0.0.", k, ":9465")
				v.frame.Cluster.Nodes = append(v.frame.Cluster.Nodes, n)
			}
			v.nodeOffset = 5
		}},
		{"nodes-gone", 4, 80, 24, func(v *view) {
			asNode(v)
			v.gone = &gone{v.frame.At.Add(time.Second), errors.New("connection refused")}
		}},
		{"nodes-unknown", 4, 80, 24, func(v *view) {
			asNode(v)
			c := v.frame.Cluster
			c.Nodes, c.Streams, c.Err, c.AskedAge = nil, nil, "it answers 503 Service Unavailable", unknown
		}},
		{"nodes-plain", 4, plainWidth, 0, func(v *view) {
			asNode(v)
			v.isNodes, v.plain, v.theme = false, true, theme{}
		}},
		{"workers-of-node", 4, 80, 24, func(v *view) {
			asNode(v)
			v.isNodes = false
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := viewAt(t, c.step, c.width, c.height)
			if c.change != nil {
				c.change(v)
			}
			lines := v.lines()
			if c.height > 0 && len(lines) != c.height {
				t.Errorf("%d lines, want %d", len(lines), c.height)
			}
			for i, line := range lines {
				if w := lipgloss.Width(line); w > c.width {
					t.Errorf("line %d is %d characters wide, above %d", i+1, w, c.width)
				}
			}
			golden(t, c.name+".screen", uncolored(strings.Join(lines, "\n"))+"\n")
		})
	}
}

// Errors that differ in nothing but their time are one row, with the newest time and how many
// there are. All else tells them apart.
func TestTheSameErrorsAreOne(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	same := RecentError{Engine: "a", Action: "stack:draw", Code: "timeout", Message: "too long"}
	var list []RecentError
	for second, change := range []func(*RecentError){
		func(*RecentError) {}, func(e *RecentError) { e.Engine = "b" }, func(*RecentError) {},
		func(e *RecentError) { e.Action = "stack:peek" },
		func(e *RecentError) { e.Code = "canceled" }, func(e *RecentError) { e.Message = "too late" },
		func(*RecentError) {},
	} {
		e := same
		change(&e)
		e.At = at(second)
		list = append(list, e)
	}
	f := newFrame(interval{to: &sample{status: &status{Errors: list}}}, "")
	if len(f.Errors) != 5 || f.Errors[0].Count != 3 || !f.Errors[0].At.Equal(at(6)) || f.Errors[0].Engine != "a" {
		t.Errorf("got %+v", f.Errors)
	}
	for _, e := range f.Errors[1:] {
		if e.Count != 1 {
			t.Errorf("%+v", e)
		}
	}
	b, err := json.Marshal(f.Errors[0])
	if err != nil || !strings.Contains(string(b), `"count":3`) || !strings.Contains(string(b), `"code":"timeout"`) {
		t.Errorf("as JSON it is %s, %v", b, err)
	}
}
