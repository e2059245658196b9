// Package metrics exports what a host counts to Prometheus. The host counts anyway; an application that does not import
// this package pays nothing more.
package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/host"
)

const namespace = "hypertoken"

// Collector collects a host's counts when it is scraped. Register it once a host.
type Collector struct {
	host *host.Host

	actions, restarts, recovered, placings, fallbacks, dropped *prometheus.Desc
	inFlight, inFlightBytes, workers, spares, engines          *prometheus.Desc
	takeovers                                                  *prometheus.Desc
	pending, resident                                          *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns the collector of a host. Labels tell several hosts of one registry apart; nil for none.
func NewCollector(h *host.Host, labels prometheus.Labels) *Collector {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, variable, labels)
	}
	return &Collector{
		host:          h,
		actions:       desc("actions_total", "Actions by outcome: ok, the code of their error, or other.", "outcome"),
		restarts:      desc("worker_exits_total", "Ends of worker processes by reason.", "reason"),
		recovered:     desc("recovered_requests_total", "Requests that were in flight when their worker ended, and went elsewhere."),
		placings:      desc("placings_total", "Engines that were placed: opened, recovered, moved or taken in again."),
		fallbacks:     desc("fallbacks_total", "Engines that were placed in the host's process for want of a worker."),
		dropped:       desc("dropped_events_total", "Events that a listener was too slow for."),
		inFlight:      desc("in_flight_requests", "Requests that are dispatched and unanswered."),
		inFlightBytes: desc("in_flight_bytes", "What the requests in flight take of the queue."),
		takeovers:     desc("takeovers_total", "Workers that ended and were replaced by a spare."),
		workers:       desc("workers", "Workers by state.", "state"),
		spares:        desc("spares", "Spare workers by state.", "state"),
		engines:       desc("engines", "Open engines by place.", "place"),
		pending:       desc("worker_pending_requests", "Requests in a worker's pipe.", "worker"),
		resident:      desc("worker_resident_memory_bytes", "Resident memory of a worker process, sampled each second.", "worker"),
	}
}

// Register registers the collector of a host.
func Register(r prometheus.Registerer, h *host.Host) error { return r.Register(NewCollector(h, nil)) }

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.actions, c.restarts, c.recovered, c.placings, c.fallbacks, c.dropped,
		c.inFlight, c.inFlightBytes, c.takeovers, c.workers, c.spares, c.engines, c.pending, c.resident} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	s := c.host.Stats()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for outcome, n := range s.Actions {
		count(c.actions, n, outcome)
	}
	for reason, n := range s.Restarts {
		count(c.restarts, n, reason)
	}
	count(c.recovered, s.Recovered)
	count(c.placings, s.Placed)
	count(c.fallbacks, s.Fallbacks)
	count(c.dropped, s.DroppedEvents)
	count(c.takeovers, s.Takeovers)
	gauge(c.inFlight, float64(s.InFlight))
	gauge(c.inFlightBytes, float64(s.InFlightBytes))
	states := map[string]int{}
	for _, w := range s.Workers {
		states[w.State]++
		id := strconv.Itoa(w.ID)
		gauge(c.pending, float64(w.Pending), id)
		gauge(c.resident, float64(w.Resident), id)
	}
	spares := map[string]int{}
	for _, w := range s.Spares {
		spares[w.State]++
	}
	for _, state := range host.WorkerStates {
		gauge(c.workers, float64(states[state]), state)
		gauge(c.spares, float64(spares[state]), state)
	}
	for place, n := range s.Engines {
		gauge(c.engines, float64(n), place)
	}
}
