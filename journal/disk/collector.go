package disk

import "github.com/prometheus/client_golang/prometheus"

// NewCollector returns a collector of a store's [Stats], for a registry of Prometheus. README.md
// has a table of the metrics. A program that opens several stores gives each a registerer with a
// label.
func NewCollector(s *Store) prometheus.Collector {
	c := &collector{store: s}
	c.metrics = []metric{
		counter("batches_total", "Batches that were written to the log.", func(st *Stats) uint64 { return st.Batches }),
		counter("groups_total", "Groups of records that were appended.", func(st *Stats) uint64 { return st.Groups }),
		counter("records_total", "Records that were appended.", func(st *Stats) uint64 { return st.Records }),
		counter("bases_total", "Bases that were installed.", func(st *Stats) uint64 { return st.Bases }),
		counter("loads_total", "Journals that were loaded.", func(st *Stats) uint64 { return st.Loads }),
		counter("group_bytes_total", "Bytes of the rows of groups.", func(st *Stats) uint64 { return st.GroupBytes }),
		counter("key_bytes_total", "Bytes of the rows of key records.",
			func(st *Stats) uint64 { return st.KeyedBytes }),
		counter("base_bytes_total", "Bytes of bases.", func(st *Stats) uint64 { return st.BaseBytes }),
		counter("written_bytes_total", "Bytes that were written to files: logs, tables, and what compactions write again.",
			func(st *Stats) uint64 { return st.WrittenBytes }),
		counter("compactions_total", "Compactions that have ended.", func(st *Stats) uint64 { return st.Compactions }),
		counter("damages_total", "How often a file was found damaged.", func(st *Stats) uint64 { return st.Damages }),
		gauge("used_bytes", "Bytes that the store's files take on the disk.",
			func(st *Stats) float64 { return float64(st.UsedBytes) }),
		gauge("free_bytes", "Bytes that are free on the disk.",
			func(st *Stats) float64 { return float64(st.FreeBytes) }),
		gauge("engines", "Engines that are stored. It grows for a moment after the start, while they are counted.",
			func(st *Stats) float64 { return float64(st.Engines) }),
		gauge("owned_engines", "Engines that are in use.", func(st *Stats) float64 { return float64(st.Owned) }),
	}
	c.sync = desc("sync_seconds", "How long it took to force the log onto the disk.")
	c.batch = desc("batch_calls", "Batches by their number of appends and installs.")
	c.minFree = desc("min_free_bytes", "Options.MinFree: if less is free, the store takes nothing that needs room.")
	c.healthy = desc("healthy", "1 if the store takes appends, 0 if the disk is full or the store has failed.")
	c.failed = desc("failed", "1 if the store has failed for good.")
	return c
}

const metricPrefix = "hypertoken_store_"

// metric is a figure and how it is read.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*Stats) float64
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(metricPrefix+name, help, nil, nil)
}

func counter(name, help string, read func(*Stats) uint64) metric {
	return metric{desc(name, help), prometheus.CounterValue, func(st *Stats) float64 { return float64(read(st)) }}
}

func gauge(name, help string, read func(*Stats) float64) metric {
	return metric{desc(name, help), prometheus.GaugeValue, read}
}

type collector struct {
	store   *Store
	metrics []metric

	sync, batch, minFree, healthy, failed *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{c.sync, c.batch, c.minFree, c.healthy, c.failed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.store.Stats()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.read(&st))
	}
	ch <- constHistogram(c.sync, &st.SyncSeconds)
	ch <- constHistogram(c.batch, &st.BatchCalls)
	gauge := func(desc *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	gauge(c.minFree, float64(c.store.o.MinFree))
	gauge(c.healthy, oneIf(c.store.Health() == nil))
	gauge(c.failed, oneIf(c.store.Err() != nil))
}

func oneIf(isTrue bool) float64 {
	if isTrue {
		return 1
	}
	return 0
}

func constHistogram(desc *prometheus.Desc, h *Histogram) prometheus.Metric {
	buckets, count := map[float64]uint64{}, uint64(0)
	for k, n := range h.Counts {
		count += n
		if k < len(h.Bounds) {
			buckets[h.Bounds[k]] = count
		}
	}
	return prometheus.MustNewConstHistogram(desc, count, h.Sum, buckets)
}
