// Package metrics exports the counts and measurements of a host to Prometheus. A host measures
// from the moment a collector is made for it. An application that does not import this package
// pays nothing for measuring.
//
// docs/observability.md lists every metric, and what to do if it changes.
package metrics

import (
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/shirou/gopsutil/v4/process"

	"hypertoken/host"
	"hypertoken/internal/version"
)

const namespace = "hypertoken"

// Collector collects a host's measurements when it is scraped. Register one for each host.
type Collector struct {
	host *host.Host
	descs
	all []*prometheus.Desc

	mu  sync.Mutex // guards cpu
	cpu map[int]*cpuTime
}

var _ prometheus.Collector = (*Collector)(nil)

// descs are the metrics, in the order of docs/observability.md.
type descs struct {
	build                                              *prometheus.Desc
	dispatched, actions, outcomes, actionsInFlight     *prometheus.Desc
	duration, run, queue, wire                         *prometheus.Desc
	batches, batchActions                              *prometheus.Desc
	inFlight, inFlightBytes, queued                    *prometheus.Desc
	capacity, capacityBytes                            *prometheus.Desc
	workers, spares, state                             *prometheus.Desc
	exits, restarts, takeovers                         *prometheus.Desc
	started, busy, lastAnswer, answers, answerDuration *prometheus.Desc
	pending, workerEngines                             *prometheus.Desc
	resident, cpuSeconds, openFDs                      *prometheus.Desc
	recovered, recovery, replayed, placings            *prometheus.Desc
	fallback, switches, engines                        *prometheus.Desc
	records, recordBytes, snapshots, snapshotBytes     *prometheus.Desc
	keyBytes, keysForgotten, held, holds               *prometheus.Desc
	frames, frameBytes, dropped                        *prometheus.Desc
}

// NewCollector returns the collector of a host. The host measures from this call on. If one
// registry has several hosts, each needs labels of its own; otherwise labels may be nil.
//
// It waits until the host's core is compiled, which takes about a second if the code is not
// cached.
func NewCollector(h *host.Host, labels prometheus.Labels) *Collector {
	c := &Collector{host: h, cpu: map[int]*cpuTime{}}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		d := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, variable, labels)
		c.all = append(c.all, d)
		return d
	}
	c.descs = descs{
		build: desc("build_info",
			"1. Its labels name the versions of the program and of Go.", "version", "goversion"),

		dispatched: desc("actions_dispatched_total",
			"Actions that callers dispatched, members of batches included."),
		actions: desc("actions_total",
			"Actions that ended, by outcome: ok, the code of the error, core for a code of the core's own, or other.",
			"action", "outcome"),
		outcomes: desc("action_outcomes_total",
			"Actions that ended, by outcome, over all actions. Every outcome is there from the start.", "outcome"),
		actionsInFlight: desc("actions_in_flight", "Actions without an outcome yet."),
		duration:        desc("action_duration_seconds", "Time from the call to the outcome.", "action"),
		run: desc("action_run_seconds",
			"Time that the core ran the action, for actions that were not in a batch.", "action"),
		queue: desc("action_queue_seconds",
			"Time from the call until the action, or the batch, was in its worker's pipe."),
		wire: desc("action_wire_seconds",
			"Time in the pipe, behind other requests, and on the way back, without the run."),

		batches: desc("batches_total",
			"Batches by mode and outcome, those that a window gathered included.", "mode", "outcome"),
		batchActions: desc("batch_actions", "Batches by their number of actions."),

		inFlight: desc("in_flight_requests",
			"Requests that the host has accepted and not answered, questions about the state included."),
		inFlightBytes: desc("in_flight_bytes", "Bytes of the queue that the requests in flight take."),
		queued: desc("queued_requests",
			"Requests that no worker has yet: they wait for room, for their engine, or for room in a pipe."),
		capacity:      desc("queue_capacity_requests", "How many requests may be in flight (MaxQueue)."),
		capacityBytes: desc("queue_capacity_bytes", "How many bytes requests in flight may take (MaxQueueBytes)."),

		workers: desc("workers", "Workers by state.", "state"),
		spares:  desc("spares", "Spare workers by state.", "state"),
		state:   desc("worker_state", "1 for the state that the worker is in.", "worker", "state"),
		exits:   desc("worker_exits_total", "Ends of worker processes, spares included, by reason.", "reason"),
		restarts: desc("worker_restarts_total",
			"Processes of a worker that ended, except by shutdown.", "worker"),
		takeovers: desc("takeovers_total", "Workers that ended and were replaced by a spare."),

		started: desc("worker_start_time_seconds",
			"Unix time at which the worker's process was started.", "worker"),
		busy: desc("worker_busy_seconds_total",
			"Time that a worker spent on requests that it has answered.", "worker"),
		lastAnswer: desc("worker_last_answer_timestamp_seconds",
			"Unix time at which the host last heard of a worker.", "worker"),
		answers: desc("worker_answers_total",
			"Requests that a worker answered, those of placings and snapshots included.", "worker"),
		answerDuration: desc("worker_answer_seconds",
			"Time from a worker's pipe to its answer, of actions and batches.", "worker"),
		pending:       desc("worker_pending_requests", "Requests in a worker's pipe.", "worker"),
		workerEngines: desc("worker_engines", "Engines that are placed on a worker.", "worker"),
		resident:      desc("worker_resident_memory_bytes", "Resident memory of a worker's process.", "worker"),
		cpuSeconds:    desc("worker_cpu_seconds_total", "CPU time of a worker's processes, user and system.", "worker"),
		openFDs:       desc("worker_open_fds", "Open file descriptors of a worker's process.", "worker"),

		recovered: desc("recovered_requests_total",
			"Requests that were in flight when their worker ended, and were sent again elsewhere."),
		recovery: desc("recovery_seconds",
			"Time from the end of a worker until an engine with pending requests was placed again."),
		replayed: desc("replayed_actions_total", "Actions that were replayed to place engines."),
		placings: desc("placings_total",
			"Engines that were placed: opened, recovered, moved, or placed again after being idle."),

		fallback: desc("fallback_active", "1 while engines run in the host's process because no worker can run."),
		switches: desc("fallback_switches_total",
			"Engines that moved to in_process because no worker could run, or back to a worker.", "to"),
		engines: desc("engines", "Open engines by place.", "place"),

		records:       desc("journal_records_total", "Actions that were appended to journals."),
		recordBytes:   desc("journal_bytes_total", "Bytes of the actions that were appended to journals."),
		snapshots:     desc("snapshots_total", "Snapshots that replaced journals."),
		snapshotBytes: desc("snapshot_bytes_total", "Bytes of the snapshots that replaced journals."),

		keyBytes: desc("key_bytes",
			"Bytes of remembered keys of open engines, with the results of their actions."),
		keysForgotten: desc("keys_forgotten_total",
			"Keys that were forgotten because results took too many bytes (KeyBytes, MaxKeyBytes)."),

		held:  desc("engines_held", "Engines that are held back because workers were killed for their actions."),
		holds: desc("engine_holds_total", "How often an engine was held back."),

		frames: desc("frames_total", "Frames between the host and its workers.", "direction"),
		frameBytes: desc("frame_bytes_total",
			"Bytes of the frames between the host and its workers, with their headers.", "direction"),
		dropped: desc("dropped_events_total", "Events that were dropped because a listener was too slow."),
	}
	h.Measure()
	return c
}

// Register registers the collector of a host, see [NewCollector].
func Register(r prometheus.Registerer, h *host.Host) error { return r.Register(NewCollector(h, nil)) }

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.all {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	m, to := c.host.Measure(), out{ch}
	to.gauge(c.build, 1, version.String(), runtime.Version())
	c.collectActions(to, &m)
	c.collectWorkers(to, &m)

	to.gauge(c.inFlight, float64(m.InFlight))
	to.gauge(c.inFlightBytes, float64(m.InFlightBytes))
	to.gauge(c.queued, float64(m.Queued))
	to.gauge(c.capacity, float64(m.MaxQueue))
	to.gauge(c.capacityBytes, float64(m.MaxQueueBytes))

	to.count(c.recovered, m.Recovered)
	to.durations(c.recovery, &m.Recovery, nil)
	to.count(c.replayed, m.Replayed)
	to.count(c.placings, m.Placed)
	active := 0.0
	if m.FallenBack > 0 {
		active = 1
	}
	to.gauge(c.fallback, active)
	to.count(c.switches, m.Fallbacks, "in_process")
	to.count(c.switches, m.MovedBack, "worker")
	for place, n := range m.Engines {
		to.gauge(c.engines, float64(n), place.String())
	}
	to.count(c.records, m.Records)
	to.count(c.recordBytes, m.RecordBytes)
	to.count(c.snapshots, m.Snapshots)
	to.count(c.snapshotBytes, m.SnapshotBytes)
	to.gauge(c.keyBytes, float64(m.KeyBytes))
	to.count(c.keysForgotten, m.KeysForgotten)
	to.gauge(c.held, float64(m.Held))
	to.count(c.holds, m.Holds)
	to.count(c.frames, m.FramesSent, "sent")
	to.count(c.frames, m.FramesReceived, "received")
	to.count(c.frameBytes, m.BytesSent, "sent")
	to.count(c.frameBytes, m.BytesReceived, "received")
	to.count(c.dropped, m.DroppedEvents)
}

func (c *Collector) collectActions(to out, m *host.Measurements) {
	to.count(c.dispatched, m.Dispatched)
	to.gauge(c.actionsInFlight, float64(m.ActionsInFlight))
	for outcome, n := range m.Actions {
		to.count(c.outcomes, n, outcome)
	}
	for k := range m.ByAction {
		a := &m.ByAction[k]
		for outcome, n := range a.Outcomes {
			to.count(c.actions, n, a.Action, outcome)
		}
		to.durations(c.duration, &a.Duration, a.Exemplars, a.Action)
		if a.Run.Count > 0 {
			to.durations(c.run, &a.Run, nil, a.Action)
		}
	}
	to.durations(c.queue, &m.Queue, nil)
	to.durations(c.wire, &m.Wire, nil)
	for _, b := range m.Batches {
		to.count(c.batches, b.Count, b.Mode, b.Outcome)
	}
	last := len(m.BatchSizes.AtMost) - 1
	sizes := map[float64]uint64{}
	for k, n := range m.BatchSizes.AtMost[:last] {
		sizes[float64(int(1)<<k)] = n
	}
	to.ch <- prometheus.MustNewConstHistogram(c.batchActions, m.BatchSizes.AtMost[last], float64(m.BatchSizes.Members),
		sizes)
}

func (c *Collector) collectWorkers(to out, m *host.Measurements) {
	for reason, n := range m.Restarts {
		to.count(c.exits, n, reason.String())
	}
	to.count(c.takeovers, m.Takeovers)
	states, spares := map[host.WorkerState]int{}, map[host.WorkerState]int{}
	for _, w := range m.Spares {
		spares[w.State]++
	}
	for k := range m.MeasuredWorkers {
		w := &m.MeasuredWorkers[k]
		id := strconv.Itoa(w.ID)
		states[w.State]++
		for _, state := range host.WorkerStates() {
			is := 0.0
			if state == w.State {
				is = 1
			}
			to.gauge(c.state, is, id, state.String())
		}
		to.count(c.restarts, w.Restarts, id)
		to.seconds(c.busy, w.Busy, id)
		to.time(c.started, w.Started, id)
		to.time(c.lastAnswer, w.LastAnswer, id)
		to.count(c.answers, w.Answered, id)
		to.durations(c.answerDuration, &w.Answers, nil, id)
		to.gauge(c.pending, float64(w.Pending), id)
		to.gauge(c.workerEngines, float64(w.Engines), id)
		c.collectProcess(to, w, id)
	}
	for _, state := range host.WorkerStates() {
		to.gauge(c.workers, float64(states[state]), state.String())
		to.gauge(c.spares, float64(spares[state]), state.String())
	}
}

// cpuTime is the CPU time of a worker's processes: past is that of the processes that have ended,
// last that of the current one.
type cpuTime struct {
	process    int
	past, last float64
}

// collectProcess reads the memory, the descriptors and the CPU time of a worker's process from the
// system. A figure that the system does not give, for example because the process has just ended,
// is left out.
func (c *Collector) collectProcess(to out, w *host.WorkerMeasurements, id string) {
	p := process.Process{Pid: int32(w.PID)}
	if w.PID != 0 {
		if m, err := p.MemoryInfo(); err == nil {
			to.gauge(c.resident, float64(m.RSS), id)
		}
		if n, err := p.NumFDs(); err == nil {
			to.gauge(c.openFDs, float64(n), id)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.cpu[w.ID]
	if t == nil {
		t = new(cpuTime)
		c.cpu[w.ID] = t
	}
	if t.process != w.Process {
		t.process, t.past, t.last = w.Process, t.past+t.last, 0
	}
	if w.PID != 0 {
		if used, err := p.Times(); err == nil {
			t.last = max(t.last, used.User+used.System)
		}
	}
	to.ch <- prometheus.MustNewConstMetric(c.cpuSeconds, prometheus.CounterValue, t.past+t.last, id)
}

// out is the channel that takes the metrics of a scrape.
type out struct{ ch chan<- prometheus.Metric }

func (o out) count(d *prometheus.Desc, v uint64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (o out) seconds(d *prometheus.Desc, v time.Duration, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v.Seconds(), labels...)
}

func (o out) gauge(d *prometheus.Desc, v float64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// time sends a time, unless it is zero.
func (o out) time(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		o.gauge(d, float64(t.UnixNano())/1e9, labels...)
	}
}
