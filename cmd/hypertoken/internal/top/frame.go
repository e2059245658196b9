package top

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"
)

// Frame has everything that is shown at one time: figures over the last interval, and the current
// state. A figure that the server does not export is unknown. As JSON, a Frame is a line of
// 'hypertoken top --json'. Scripts may rely on its names; times are in seconds.
type Frame struct {
	At        time.Time `json:"at"`
	URL       string    `json:"url"`
	Interval  Figure    `json:"interval_seconds"` // unknown before the second sample, and so are all rates
	Version   string    `json:"version,omitempty"`
	GoVersion string    `json:"go_version,omitempty"`
	Uptime    Figure    `json:"uptime_seconds"` // of the server's process

	Rate      Figure  `json:"actions_per_second"` // of all outcomes, also errors
	P50       Figure  `json:"p50_seconds"`        // from dispatch to outcome
	P99       Figure  `json:"p99_seconds"`
	ErrorRate Figure  `json:"errors_per_second"`
	ErrorPart Figure  `json:"error_ratio"` // errors per action
	InFlight  Figure  `json:"in_flight_actions"`
	Queue     Queue   `json:"queue"`
	Fallback  Figure  `json:"fallback_active"` // 1 if engines run in the host's process because no worker can
	Engines   figures `json:"engines"`         // by place
	Exits     figures `json:"worker_exits"`    // ends of worker processes, by reason, since the server started

	States  figures  `json:"workers_by_state"`
	Spares  figures  `json:"spares_by_state"`
	Workers []Worker `json:"workers"`
	Actions []Action `json:"actions"` // that had an outcome in the interval, the slowest by P99 first

	ErrorCodes []ErrorCode     `json:"error_codes"`             // the most in the interval first, then the most in all
	Errors     []RepeatedError `json:"recent_errors,omitempty"` // the newest first; equal errors are one
	HasErrors  bool            `json:"-"`                       // the server has a status, so Errors is complete
	StatusErr  string          `json:"status_error,omitempty"`

	Cluster *Cluster `json:"cluster,omitempty"` // nil if the server is no node of one
}

// Queue has the requests that are accepted and unanswered, and the room for them.
type Queue struct {
	InFlight      Figure `json:"in_flight_requests"`
	InFlightBytes Figure `json:"in_flight_bytes"`
	Queued        Figure `json:"queued_requests"` // those of them that no worker has yet
	Capacity      Figure `json:"capacity_requests"`
	CapacityBytes Figure `json:"capacity_bytes"`
}

// Worker is a worker process.
type Worker struct {
	ID          string `json:"worker"`
	State       string `json:"state"` // "" if the server does not export it
	Uptime      Figure `json:"uptime_seconds"`
	Restarts    Figure `json:"restarts"`
	Rate        Figure `json:"answers_per_second"`
	P50         Figure `json:"p50_seconds"` // from the pipe to the answer
	P99         Figure `json:"p99_seconds"`
	Utilization Figure `json:"utilization_ratio"`
	Pending     Figure `json:"pending_requests"`
	Engines     Figure `json:"engines"`
	Memory      Figure `json:"resident_memory_bytes"`
	CPU         Figure `json:"cpu_ratio"` // 1 is a core
	FDs         Figure `json:"open_fds"`
	LastAnswer  Figure `json:"last_answer_age_seconds"`
}

// Action has the figures of all actions of one name.
type Action struct {
	Name string `json:"action"`
	Rate Figure `json:"per_second"`
	P50  Figure `json:"p50_seconds"`
	P99  Figure `json:"p99_seconds"`
}

// ErrorCode is how often actions failed with a code.
type ErrorCode struct {
	Code  string `json:"code"`
	Rate  Figure `json:"per_second"`
	Total Figure `json:"total"`
}

// RepeatedError is an error in the server's status. Errors that differ in their time only are one
// RepeatedError: the newest of them, with their number.
type RepeatedError struct {
	RecentError
	Count int `json:"count"`
}

// collapse returns the errors, the newest first. Errors that differ in their time only are
// returned once.
func collapse(list []RecentError) []RepeatedError {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b RecentError) int { return b.At.Compare(a.At) })
	var collapsed []RepeatedError
	at := map[RecentError]int{} // by the error without its time
	for _, e := range list {
		key := e
		key.At = time.Time{}
		k, seen := at[key]
		if !seen {
			k = len(collapsed)
			at[key] = k
			collapsed = append(collapsed, RepeatedError{RecentError: e})
		}
		collapsed[k].Count++
	}
	return collapsed
}

const outcomeOK = "ok"

// newFrame returns the figures at the end of an interval and over it.
func newFrame(i interval, url string) *Frame {
	s := i.to
	f := &Frame{At: s.at, URL: url, Interval: unknown}
	if i.from != nil {
		f.Interval = Figure(i.seconds)
	}
	if build := s.families["hypertoken_build_info"]; build != nil && len(build.series) > 0 {
		f.Version, f.GoVersion = build.series[0].labels["version"], build.series[0].labels["goversion"]
	}
	now := Figure(float64(s.server.UnixMilli()) / 1000)
	f.Uptime = age(now, s.gauge(startTime))

	all := i.rates("hypertoken_actions_total", "outcome")
	f.Rate = all.sum()
	if len(all) == 0 && i.rates("hypertoken_actions_dispatched_total", "").sum().known() {
		f.Rate = 0 // a server that had no action yet has no series of their outcomes
	}
	if f.Rate.known() {
		f.ErrorRate = f.Rate - zeroIfUnknown(all.get(outcomeOK))
		f.ErrorPart = unknown
		if f.Rate > 0 {
			f.ErrorPart = f.ErrorRate / f.Rate
		}
	} else {
		f.ErrorRate, f.ErrorPart = unknown, unknown
	}
	byAction := i.histograms("hypertoken_action_duration_seconds", "action")
	var total *histogram
	for _, name := range sortedKeys(byAction) {
		h := byAction[name]
		total = total.plus(h)
		if h.count() > 0 {
			f.Actions = append(f.Actions, Action{name, Figure(h.count() / i.seconds), h.quantile(0.50),
				h.quantile(0.99)})
		}
	}
	f.P50, f.P99 = total.quantile(0.50), total.quantile(0.99)
	slices.SortStableFunc(f.Actions, func(a, b Action) int {
		return cmp.Or(descending(a.P99, b.P99),
			descending(a.Rate, b.Rate))
	})

	f.InFlight = s.gauge("hypertoken_actions_in_flight")
	f.Queue = Queue{
		InFlight:      s.gauge("hypertoken_in_flight_requests"),
		InFlightBytes: s.gauge("hypertoken_in_flight_bytes"),
		Queued:        s.gauge("hypertoken_queued_requests"),
		Capacity:      s.gauge("hypertoken_queue_capacity_requests"),
		CapacityBytes: s.gauge("hypertoken_queue_capacity_bytes"),
	}
	f.Fallback = s.gauge("hypertoken_fallback_active")
	f.Engines = s.gauges("hypertoken_engines", "place")
	if len(f.Engines) == 0 && s.status != nil {
		for _, e := range s.status.Engines {
			f.Engines[e.Place]++
		}
	}
	f.Exits = s.gauges("hypertoken_worker_exits_total", "reason")
	f.States = s.gauges("hypertoken_workers", "state")
	f.Spares = s.gauges("hypertoken_spares", "state")
	f.Workers = workers(i, now)
	f.errors(i, all)
	f.Cluster = newCluster(i, now)
	return f
}

// errors adds the recent errors to the frame. rates are the rates of outcomes.
func (f *Frame) errors(i interval, rates figures) {
	totals := i.to.gauges("hypertoken_actions_total", "outcome")
	for _, code := range sortedKeys(totals) {
		if code != outcomeOK && totals[code] > 0 {
			f.ErrorCodes = append(f.ErrorCodes, ErrorCode{code, rates.get(code), totals[code]})
		}
	}
	slices.SortStableFunc(f.ErrorCodes, func(a, b ErrorCode) int {
		return cmp.Or(descending(a.Rate, b.Rate), descending(a.Total, b.Total))
	})
	if s := i.to.status; s != nil {
		f.HasErrors = true
		f.Errors = collapse(s.Errors)
	}
	if err := i.to.statusErr; err != nil {
		f.StatusErr = err.Error()
	}
}

// workers returns all workers that occur in a metric, sorted by number.
func workers(i interval, now Figure) []Worker {
	const label = "worker"
	gauges := func(name string) figures { return i.to.gauges("hypertoken_worker_"+name, label) }
	rates := func(name string) figures { return i.rates("hypertoken_worker_"+name, label) }
	var (
		states    = workerStates(i.to)
		started   = gauges("start_time_seconds")
		restarts  = gauges("restarts_total")
		answers   = rates("answers_total")
		busy      = rates("busy_seconds_total")
		pending   = gauges("pending_requests")
		engines   = gauges("engines")
		memory    = gauges("resident_memory_bytes")
		cpu       = rates("cpu_seconds_total")
		fds       = gauges("open_fds")
		last      = gauges("last_answer_timestamp_seconds")
		durations = i.histograms("hypertoken_worker_answer_seconds", label)
	)
	ids := map[string]bool{}
	for id := range states {
		ids[id] = true
	}
	for _, f := range []figures{started, restarts, gauges("answers_total"), pending, engines, memory, fds} {
		for id := range f {
			ids[id] = true
		}
	}
	var list []Worker
	for _, id := range sortedKeys(ids) {
		list = append(list, Worker{
			ID: id, State: states[id],
			Uptime: age(now, started.get(id)), Restarts: restarts.get(id),
			Rate: answers.get(id), P50: durations[id].quantile(0.50), P99: durations[id].quantile(0.99),
			Utilization: busy.get(id), Pending: pending.get(id), Engines: engines.get(id),
			Memory: memory.get(id), CPU: cpu.get(id), FDs: fds.get(id), LastAnswer: age(now, last.get(id)),
		})
	}
	slices.SortStableFunc(list, func(a, b Worker) int { return cmp.Compare(a.number(), b.number()) })
	return list
}

// number is the worker's number. It is infinite if its label is not a number.
func (w *Worker) number() float64 {
	n, err := strconv.ParseUint(w.ID, 10, 32)
	if err != nil {
		return math.Inf(1)
	}
	return float64(n)
}

// states are in the order of a worker's life; those who sort by state see trouble last.
var states = []string{"ready", "starting", "probing", "backoff", "given_up", "stopped"}

// workerStates returns the state whose series is 1, of each worker.
func workerStates(s *sample) map[string]string {
	found := map[string]string{}
	if f := s.families["hypertoken_worker_state"]; f != nil {
		for _, one := range f.series {
			id := one.labels["worker"]
			if _, ok := found[id]; !ok {
				found[id] = ""
			}
			if one.value == 1 {
				found[id] = one.labels["state"]
			}
		}
	}
	return found
}

// age returns the time since at. It is unknown if at is unknown or 0.
func age(now, at Figure) Figure {
	if !at.known() || at <= 0 {
		return unknown
	}
	return max(0, now-at)
}

func zeroIfUnknown(f Figure) Figure {
	if f.known() {
		return f
	}
	return 0
}

// descending orders figures, the unknown last.
func descending(a, b Figure) int {
	switch {
	case a.known() && b.known():
		return cmp.Compare(b, a)
	case a.known():
		return -1
	case b.known():
		return 1
	}
	return 0
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
