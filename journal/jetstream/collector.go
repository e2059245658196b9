package jetstream

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// NewCollector returns a collector of a store's [Stats], for a registry of Prometheus. README.md has a
// table of the metrics. A program that opens several stores gives each a registerer with a label.
func NewCollector(s *Store) prometheus.Collector {
	return &collector{
		store: s,
		counters: []counter{
			newCounter("batches_total", "Batches that were sent.", func(st *Stats) uint64 { return st.Batches }),
			newCounter("messages_total", "Messages in these batches.", func(st *Stats) uint64 { return st.Messages }),
			newCounter("groups_total", "Groups of records that were appended.",
				func(st *Stats) uint64 { return st.Groups }),
			newCounter("records_total", "Records that were appended.", func(st *Stats) uint64 { return st.Records }),
			newCounter("bases_total", "Bases that were installed.", func(st *Stats) uint64 { return st.Bases }),
			newCounter("loads_total", "Journals that were loaded.", func(st *Stats) uint64 { return st.Loads }),
			newCounter("group_bytes_total", "Bytes of groups.", func(st *Stats) uint64 { return st.GroupBytes }),
			newCounter("base_bytes_total", "Bytes of bases.", func(st *Stats) uint64 { return st.BaseBytes }),
			newCounter("pieces_total", "Pieces of what is too large for a message.",
				func(st *Stats) uint64 { return st.Pieces }),
			newCounter("slots_acquired_total", "Slots that this store has acquired, each time anew.",
				func(st *Stats) uint64 { return st.SlotsAcquired }),
			newCounter("slots_lost_total", "Slots that another store has taken over.",
				func(st *Stats) uint64 { return st.SlotsLost }),
			newCounter("slots_taken_over_total", "Acquired slots that another store had before: in a cluster, a dead one.",
				func(st *Stats) uint64 { return st.SlotsTakenOver }),
			newCounter("slots_given_total", "Slots that this store has given to another store.",
				func(st *Stats) uint64 { return st.SlotsGiven }),
			newCounter("refused_batches_total", "Batches that met another owner of a slot.",
				func(st *Stats) uint64 { return st.Refused }),
			newCounter("repeated_batches_total", "Batches that were not stored at first and sent again.",
				func(st *Stats) uint64 { return st.Repeated }),
			newCounter("failed_batches_total", "Batches that the servers did not take: no room, or a limit.",
				func(st *Stats) uint64 { return st.Failed }),
			newCounter("doubts_total", "Batches whose answer did not come.",
				func(st *Stats) uint64 { return st.Doubts }),
			newCounter("doubts_stored_total", "Batches whose answer did not come, and that were stored.",
				func(st *Stats) uint64 { return st.DoubtsStored }),
			newCounter("stale_reads_total", "Answers of replicas that were behind.",
				func(st *Stats) uint64 { return st.StaleReads }),
			newCounter("settlings_total", "Batches that moved groups from the tail of a slot to their engines.",
				func(st *Stats) uint64 { return st.Settlings }),
			newCounter("copies_total", "Messages with groups that were moved so.",
				func(st *Stats) uint64 { return st.Copies }),
		},
		latency: desc("batch_seconds", "How long it took until a batch was stored."),
		writes:  desc("batch_writes", "Batches by their number of writes."),
		healthy: desc("healthy", "1 if the servers store what is sent, 0 if not."),
		slots:   desc("slots", "Slots that this store has now."),
		streams: streamDescs{
			leader: desc("stream_has_leader", "1 if a server leads the stream, 0 if none has answered.", "stream"),
			replicas: desc("stream_replicas", "Copies of the stream, the leader's included, by state.", "stream",
				"state"),
			lag:      desc("stream_lag", "Writes that the replica is behind which is farthest behind.", "stream"),
			messages: desc("stream_messages", "Messages in the stream.", "stream"),
			bytes:    desc("stream_bytes", "Bytes of the stream.", "stream"),
		},
	}
}

// streamDescs are the metrics of a stream.
type streamDescs struct{ leader, replicas, lag, messages, bytes *prometheus.Desc }

// counter is a figure that grows, and how it is read.
type counter struct {
	desc *prometheus.Desc
	read func(*Stats) uint64
}

func newCounter(name, help string, read func(*Stats) uint64) counter {
	return counter{desc(name, help), read}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hypertoken_jetstream_"+name, help, labels, nil)
}

type collector struct {
	store                           *Store
	counters                        []counter
	latency, writes, healthy, slots *prometheus.Desc
	streams                         streamDescs
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.counters {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{c.latency, c.writes, c.healthy, c.slots, c.streams.leader,
		c.streams.replicas, c.streams.lag, c.streams.messages, c.streams.bytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.store.Stats()
	for _, m := range c.counters {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.read(&st)))
	}
	ch <- st.Latency.metric(c.latency)
	ch <- st.Writes.metric(c.writes)
	ch <- prometheus.MustNewConstMetric(c.healthy, prometheus.GaugeValue, oneIf(c.store.Health() == nil))
	ch <- prometheus.MustNewConstMetric(c.slots, prometheus.GaugeValue, float64(st.Slots))
	c.collectStreams(ch)
}

// collectStreams asks the servers, if they were not asked a moment ago.
func (c *collector) collectStreams(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), viewPatience)
	defer cancel()
	view := c.store.View(ctx)
	for k := range view.Streams {
		s := &view.Streams[k]
		gauge := func(d *prometheus.Desc, v float64, more ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, more...)...)
		}
		gauge(c.streams.leader, oneIf(s.Leader != ""))
		if s.Leader == "" {
			continue
		}
		states := map[string]int{"current": 1, "behind": 0, "offline": 0}
		for _, r := range s.Replicas {
			states[r.state()]++
		}
		for state, n := range states {
			gauge(c.streams.replicas, float64(n), state)
		}
		gauge(c.streams.lag, float64(s.Lag()))
		gauge(c.streams.messages, float64(s.Messages))
		gauge(c.streams.bytes, float64(s.Bytes))
	}
}

// state returns the state of a replica as a label.
func (r *Replica) state() string {
	switch {
	case r.IsOffline:
		return "offline"
	case !r.IsCurrent:
		return "behind"
	}
	return "current"
}

// metric returns the histogram as one of Prometheus.
func (h *Histogram) metric(d *prometheus.Desc) prometheus.Metric {
	buckets, count := map[float64]uint64{}, uint64(0)
	for k, n := range h.Counts {
		if count += n; k < len(h.Bounds) {
			buckets[h.Bounds[k]] = count
		}
	}
	return prometheus.MustNewConstHistogram(d, count, h.Sum, buckets)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
