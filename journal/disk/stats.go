package disk

import (
	"sync"
	"sync/atomic"
	"time"
)

// counters are what the store counts.
type counters struct {
	batches, groups, records, groupBytes, keyedBytes      atomic.Uint64
	bases, pieces, baseBytes, loads, compactions, damages atomic.Uint64

	engines, heads atomic.Int64
	isCounted      atomic.Bool

	mu    sync.Mutex // guards what follows
	sync  Histogram
	batch Histogram
}

// syncBounds are the upper bounds of the classes of the time of a sync, in seconds: 50 µs to 1.6
// s.
var syncBounds = doubling(50e-6, 16)

// batchBounds are the upper bounds of the classes of the calls in a batch: 1 to 4,096.
var batchBounds = doubling(1, 13)

func doubling(first float64, n int) (bounds []float64) {
	for range n {
		bounds = append(bounds, first)
		first *= 2
	}
	return bounds
}

// Histogram counts values in classes.
type Histogram struct {
	// Bounds are the upper bounds of the classes, ascending. One more class has what is above
	// them.
	Bounds []float64
	// Counts are the numbers of values in each class.
	Counts []uint64
	// Sum is the sum of all values.
	Sum float64
}

func (h *Histogram) observe(bounds []float64, value float64) {
	if h.Counts == nil {
		h.Bounds, h.Counts = bounds, make([]uint64, len(bounds)+1)
	}
	k := 0
	for k < len(bounds) && value > bounds[k] {
		k++
	}
	h.Counts[k]++
	h.Sum += value
}

func (h *Histogram) clone() Histogram {
	return Histogram{h.Bounds, append([]uint64(nil), h.Counts...), h.Sum}
}

func (c *counters) observeSync(d time.Duration) {
	c.mu.Lock()
	c.sync.observe(syncBounds, d.Seconds())
	c.mu.Unlock()
}

func (c *counters) observeBatch(calls int) {
	c.mu.Lock()
	c.batch.observe(batchBounds, float64(calls))
	c.mu.Unlock()
}

// Stats are figures of a store since it was opened.
type Stats struct {
	// Engines is the number of names that are stored. IsCounted says whether it is known: Open
	// counts them in the background.
	Engines   int64
	IsCounted bool
	// Owned is the number of engines that somebody owns.
	Owned int64
	// Batches is the number of batches that were written, Groups of appends, Records of their
	// records, Bases of bases, Loads of loads.
	Batches, Groups, Records, Bases, Loads uint64
	// GroupBytes, KeyedBytes and BaseBytes are the bytes of the rows of groups, key records and
	// bases.
	GroupBytes, KeyedBytes, BaseBytes uint64
	// WrittenBytes is all that was written to files, compactions included.
	WrittenBytes uint64
	// Compactions is the number of compactions. Damages is how often a file was found damaged.
	Compactions, Damages uint64
	// UsedBytes is what the files take on the disk, FreeBytes the space that is free there; both
	// are 0 if they are not known.
	UsedBytes, FreeBytes uint64
	// SyncSeconds is how long the syncs of the log took, BatchCalls how many appends and installs
	// went into each batch.
	SyncSeconds, BatchCalls Histogram
}

// Stats returns the present figures. It takes some microseconds.
func (s *Store) Stats() Stats {
	c := &s.stats
	st := Stats{
		Engines: c.engines.Load(), IsCounted: c.isCounted.Load(), Owned: c.heads.Load(),
		Batches: c.batches.Load(), Groups: c.groups.Load(), Records: c.records.Load(),
		Bases: c.bases.Load(), Loads: c.loads.Load(),
		GroupBytes: c.groupBytes.Load(), KeyedBytes: c.keyedBytes.Load(), BaseBytes: c.baseBytes.Load(),
		WrittenBytes: s.gate.written.Load(), Compactions: c.compactions.Load(), Damages: c.damages.Load(),
	}
	c.mu.Lock()
	st.SyncSeconds, st.BatchCalls = c.sync.clone(), c.batch.clone()
	c.mu.Unlock()
	s.space.mu.Lock()
	st.FreeBytes, st.UsedBytes = s.space.free, s.space.used
	s.space.mu.Unlock()
	return st
}
