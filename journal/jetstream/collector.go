package jetstream

import "github.com/prometheus/client_golang/prometheus"

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
			newCounter("slots_given_total", "Slots that this store has given to another store.",
				func(st *Stats) uint64 { return st.SlotsGiven }),
			newCounter("refused_batches_total", "Batches that met another owner of a slot.",
				func(st *Stats) uint64 { return st.Refused }),
			newCounter("repeated_batches_total", "Batches that were not stored at first and sent again.",
				func(st *Stats) uint64 { return st.Repeated }),
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
		healthy: desc("healthy", "1 if the servers store what is sent, 0 if not."),
	}
}

// counter is a figure that grows, and how it is read.
type counter struct {
	desc *prometheus.Desc
	read func(*Stats) uint64
}

func newCounter(name, help string, read func(*Stats) uint64) counter {
	return counter{desc(name, help), read}
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("hypertoken_jetstream_"+name, help, nil, nil)
}

type collector struct {
	store            *Store
	counters         []counter
	latency, healthy *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.counters {
		ch <- m.desc
	}
	ch <- c.latency
	ch <- c.healthy
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.store.Stats()
	for _, m := range c.counters {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.read(&st)))
	}
	buckets, count := map[float64]uint64{}, uint64(0)
	for k, n := range st.Latency.Counts {
		if count += n; k < len(st.Latency.Bounds) {
			buckets[st.Latency.Bounds[k]] = count
		}
	}
	ch <- prometheus.MustNewConstHistogram(c.latency, count, st.Latency.Sum, buckets)
	healthy := 0.0
	if c.store.Health() == nil {
		healthy = 1
	}
	ch <- prometheus.MustNewConstMetric(c.healthy, prometheus.GaugeValue, healthy)
}
