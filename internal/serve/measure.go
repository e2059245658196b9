package serve

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are the counters that the server increments itself.
type counters struct {
	refused *prometheus.CounterVec // by status
	unread  prometheus.Counter
	silent  prometheus.Counter
}

// refuses counts a request that was refused.
func (c *counters) refuses(status int) { c.refused.WithLabelValues(strconv.Itoa(status)).Inc() }

// measure registers the server's own metrics.
func (s *Server) measure(r *prometheus.Registry) error {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hypertoken_serve_" + name, Help: help})
	}
	s.counters = counters{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hypertoken_serve_refused_requests_total",
			Help: "Requests that were refused as a whole, by their HTTP status."}, []string{"status"}),
		unread: counter("unread_answers_total",
			"Clients that were cut off because they did not read an answer in time."),
		silent: counter("silent_websockets_total",
			"WebSockets that were closed because their client answered no ping."),
	}
	connected := func(labels prometheus.Labels, f func(*connections) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hypertoken_serve_connections", ConstLabels: labels,
			Help: "Open connections, by whether they have a seat, as those that talk to engines do."}, func() float64 {
			if c := s.connections.Load(); c != nil {
				return float64(f(c))
			}
			return 0
		})
	}
	for _, c := range []prometheus.Collector{
		s.counters.refused, s.counters.unread, s.counters.silent,
		connected(prometheus.Labels{"seat": "yes"}, func(c *connections) int {
			talking,
				_ := c.count()
			return talking
		}),
		connected(prometheus.Labels{"seat": "no"}, func(c *connections) int {
			_,
				waiting := c.count()
			return waiting
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hypertoken_serve_evicted_connections_total",
			Help: "Connections that were closed to make room for others."}, func() float64 {
			if c := s.connections.Load(); c != nil {
				return float64(c.evicted.Load())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hypertoken_serve_buffered_bytes",
			Help: "Bytes in memory for clients: answers that they have not read, and lines that were read ahead."},
			func() float64 { return float64(s.buffers.bytes()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hypertoken_serve_buffer_capacity_bytes",
			Help: "--max-buffered."},
			func() float64 { return float64(s.buffers.max) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hypertoken_serve_expired_engines_total",
			Help: "Engines that were closed or deleted because they were idle for --engine-idle."},
			func() float64 { return float64(s.engines.expired.Load()) }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
