// Package toptest has a server for tests of 'hypertoken top'. It exports the same metrics at the
// same step of every run, with the names that hypertoken/metrics uses.
package toptest

import (
	"fmt"
	"slices"
	"strings"
)

// Workers is how many workers the server has. The third is in backoff from step 2 on, the fourth
// starts anew at step 4.
const Workers = 4

// Start is the Unix time at which the server's process started; it is an hour old at step 0, and
// steps are a second apart.
const (
	Start = 1_767_350_400 // 2026-01-02 10:40 UTC
	age   = 3600 + 23*60
)

// shape is how busy a step is.
var shape = []float64{4, 6, 8, 10, 8, 6, 4, 2}

// upTo returns the sum of the shape over the steps 1 to step, and an hour's of the past.
func upTo(step int) float64 {
	sum := 1000.0
	for i := range step {
		sum += shape[i%len(shape)]
	}
	return sum
}

var bounds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1}

// quick and slow have, for each bound, the share of the durations that are at most this bound.
var (
	quick = []float64{0.30, 0.60, 0.85, 0.95, 0.985, 0.995, 1, 1, 1, 1}
	slow  = []float64{0, 0.02, 0.05, 0.10, 0.20, 0.40, 0.60, 0.90, 0.995, 1}
)

type text struct{ strings.Builder }

func (t *text) family(name, kind string) {
	fmt.Fprintf(t, "# HELP %s Help.\n# TYPE %s %s\n", name, name, kind)
}

func (t *text) gauge(name string, value float64) {
	t.family(name, "gauge")
	fmt.Fprintf(t, "%s %v\n", name, value)
}

func (t *text) each(name, kind, label string, values map[string]float64) {
	t.family(name, kind)
	var keys []string
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(t, "%s{%s=%q} %v\n", name, label, k, values[k])
	}
}

func (t *text) histogram(name, label, value string, count float64, spread []float64) {
	for i, b := range bounds {
		fmt.Fprintf(t, "%s_bucket{%s=%q,le=\"%v\"} %.0f\n", name, label, value, b, count*spread[i])
	}
	fmt.Fprintf(t, "%s_bucket{%s=%q,le=\"+Inf\"} %.0f\n%s_sum{%s=%q} %v\n%s_count{%s=%q} %.0f\n",
		name, label, value, count, name, label, value, count/1000, name, label, value, count)
}

// Metrics returns the metrics that the server exports at a step.
func Metrics(step int) string {
	t := &text{}
	n, now := upTo(step), float64(Start+age+step)
	t.gauge("process_start_time_seconds", Start)
	t.family("go_goroutines", "gauge")
	t.WriteString("go_goroutines 12\n")
	t.family("hypertoken_build_info", "gauge")
	t.WriteString("hypertoken_build_info{version=\"v1.4.0\",goversion=\"go1.26.8\"} 1\n")

	actions := []struct {
		name   string
		part   float64
		spread []float64
	}{{"stack:draw", 200, quick}, {"space:place", 120, quick}, {"source:shuffle", 10, slow},
		{"agent:trade", 70, quick}, {"other", 1, slow}}
	t.family("hypertoken_actions_total", "counter")
	for _, a := range actions {
		fmt.Fprintf(t, "hypertoken_actions_total{action=%q,outcome=\"ok\"} %.0f\n", a.name, n*a.part*0.9)
		fmt.Fprintf(t, "hypertoken_actions_total{action=%q,outcome=\"out_of_range\"} %.0f\n", a.name, n*a.part*0.08)
		fmt.Fprintf(t, "hypertoken_actions_total{action=%q,outcome=\"timeout\"} %.0f\n", a.name, n*a.part*0.02)
	}
	t.family("hypertoken_action_duration_seconds", "histogram")
	for _, a := range actions {
		t.histogram("hypertoken_action_duration_seconds", "action", a.name, n*a.part, a.spread)
	}
	t.gauge("hypertoken_actions_dispatched_total", n*401+12)
	t.gauge("hypertoken_actions_in_flight", 12)
	t.gauge("hypertoken_in_flight_requests", 14)
	t.gauge("hypertoken_in_flight_bytes", 1.5*(1<<20))
	t.gauge("hypertoken_queued_requests", float64(step))
	t.gauge("hypertoken_queue_capacity_requests", 65536)
	t.gauge("hypertoken_queue_capacity_bytes", 256<<20)
	fallback, local := 0.0, 0.0
	if step >= 5 {
		fallback, local = 1, 8
	}
	t.gauge("hypertoken_fallback_active", fallback)
	t.each("hypertoken_engines", "gauge", "place", map[string]float64{"worker": 96, "in_process": local, "placing": 2,
		"out": 1200})
	t.each("hypertoken_worker_exits_total", "counter", "reason", map[string]float64{"died": 3, "deadline": 1,
		"stalled": 0, "memory": 0, "shutdown": 0})
	workers(t, step, n, now)
	return t.String()
}

func workers(t *text, step int, n, now float64) {
	state := []string{"ready", "ready", "ready", "ready"}
	if step >= 2 {
		state[2] = "backoff"
	}
	if step == 4 {
		state[3] = "starting"
	}
	byState := map[string]float64{"starting": 0, "ready": 0, "backoff": 0, "given_up": 0, "probing": 0, "stopped": 0}
	for _, s := range state {
		byState[s]++
	}
	t.each("hypertoken_workers", "gauge", "state", byState)
	t.each("hypertoken_spares", "gauge", "state", map[string]float64{"ready": 1, "backoff": 0})
	t.family("hypertoken_worker_state", "gauge")
	for w, s := range state {
		for _, one := range []string{"starting", "ready", "backoff", "given_up", "probing", "stopped"} {
			value := 0
			if one == s {
				value = 1
			}
			fmt.Fprintf(t, "hypertoken_worker_state{worker=\"%d\",state=%q} %d\n", w, one, value)
		}
	}
	gauges := func(name, kind string, value func(w float64) float64) {
		values := map[string]float64{}
		for w := range Workers {
			values[fmt.Sprint(w)] = value(float64(w))
		}
		t.each("hypertoken_worker_"+name, kind, "worker", values)
	}
	frozen := func(w float64) float64 { // the third worker does nothing any more from step 2 on
		if w == 2 {
			return upTo(min(step, 1))
		}
		return n
	}
	started := func(w float64) float64 {
		if w == 3 && step >= 4 {
			return Start + age + 4
		}
		return Start + 60*w
	}
	gauges("start_time_seconds", "gauge", started)
	gauges("restarts_total", "counter", func(w float64) float64 {
		if w == 3 && step >= 4 {
			return 4
		}
		return w
	})
	gauges("answers_total", "counter", func(w float64) float64 { return frozen(w) * (180 - 40*w) })
	gauges("busy_seconds_total", "counter", func(w float64) float64 { return frozen(w) * (0.09 - 0.02*w) })
	gauges("last_answer_timestamp_seconds", "gauge", func(w float64) float64 { return now - 1 })
	gauges("pending_requests", "gauge", func(w float64) float64 { return 4 - w })
	gauges("engines", "gauge", func(w float64) float64 { return 32 - w })
	gauges("resident_memory_bytes", "gauge", func(w float64) float64 { return (64 + 100*w) * (1 << 20) })
	gauges("open_fds", "gauge", func(w float64) float64 { return 11 + w })
	gauges("cpu_seconds_total", "counter", func(w float64) float64 {
		if w == 3 && step >= 4 { // it is another process
			return 0.25 * float64(step-3)
		}
		return frozen(w) * (0.1 - 0.02*w)
	})
	t.family("hypertoken_worker_answer_seconds", "histogram")
	for w := range Workers {
		spread := quick
		if w == 1 {
			spread = slow
		}
		t.histogram("hypertoken_worker_answer_seconds", "worker", fmt.Sprint(w),
			frozen(float64(w))*(180-40*float64(w)), spread)
	}
}

// Status is the server's answer to GET /v1/status. One of its messages tries to control the
// terminal.
const Status = `{"engines":[{"name":"table-1","place":"worker"},{"name":"table-2","place":"out"}],"errors":[
{"at":"2026-01-02T11:59:58Z","engine":"table-7","action":"stack:draw","code":"out_of_range","message":"field count: 0 is below 1"},
{"at":"2026-01-02T11:59:31Z","engine":"table-12","action":"source:shuffle","code":"timeout","message":"the action took longer than its deadline of 30s, and was withdrawn"},
{"at":"2026-01-02T11:58:02Z","engine":"tisch-ö","action":"agent:trade","code":"bad_payload","message":"\u001b[2J\u001b[31mred\u202e\nand a second line"},
{"at":"2026-01-02T11:57:00Z","engine":"table-7","action":"space:place","code":"not_found","message":"no zone \"river\""},
{"at":"2026-01-02T11:56:00Z","engine":"table-8","action":"space:place","code":"not_found","message":"no zone \"river\""}]}`
