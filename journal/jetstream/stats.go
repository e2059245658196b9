package jetstream

import (
	"sync"
	"sync/atomic"
)

// counters are what a store counts.
type counters struct {
	batches, messages, groups, records, bases, loads, pieces atomic.Uint64
	groupBytes, baseBytes                                    atomic.Uint64
	acquired, lost, given                                    atomic.Uint64
	refused, repeated, doubts, doubtsStored                  atomic.Uint64
	staleReads, settlings, copies                            atomic.Uint64
	latency                                                  histogram
}

// Stats are the figures of a store, counted from when it was opened.
type Stats struct {
	// Batches were sent, with so many Messages.
	Batches, Messages uint64
	// Groups, Records in them, and Bases were stored; Loads read.
	Groups, Records, Bases, Loads uint64
	// GroupBytes and BaseBytes are the bytes of what was stored.
	GroupBytes, BaseBytes uint64
	// Pieces were written of what is too large for a message.
	Pieces uint64
	// SlotsAcquired, SlotsLost and SlotsGiven count slots, each time anew.
	SlotsAcquired, SlotsLost, SlotsGiven uint64
	// Refused batches met another owner, Repeated ones were sent again.
	Refused, Repeated uint64
	// Doubts are batches whose answer did not come; DoubtsStored of them were stored.
	Doubts, DoubtsStored uint64
	// StaleReads were answered by a replica that was behind, and asked again.
	StaleReads uint64
	// Settlings are batches that moved groups from the tail of a slot to the subjects of their engines,
	// with so many messages, Copies.
	Settlings, Copies uint64
	// Latency is how long stored batches took, in seconds.
	Latency Histogram
}

// Histogram counts values.
type Histogram struct {
	// Bounds are upper bounds, Counts how many values are at most each of them, and not at most the one
	// before it. The last one of Counts has the rest.
	Bounds []float64
	Counts []uint64
	Sum    float64
}

// latencyBounds are in seconds.
var latencyBounds = []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4, 8}

type histogram struct {
	mu     sync.Mutex // guards what follows
	counts [16]uint64
	sum    float64
}

func (h *histogram) observe(v float64) {
	k := 0
	for k < len(latencyBounds) && v > latencyBounds[k] {
		k++
	}
	h.mu.Lock()
	h.counts[k]++
	h.sum += v
	h.mu.Unlock()
}

func (h *histogram) snapshot() Histogram {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Histogram{latencyBounds, append([]uint64(nil), h.counts[:]...), h.sum}
}

// Stats returns the figures of the store.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Batches: c.batches.Load(), Messages: c.messages.Load(), Groups: c.groups.Load(), Records: c.records.Load(),
		Bases: c.bases.Load(), Loads: c.loads.Load(), GroupBytes: c.groupBytes.Load(), BaseBytes: c.baseBytes.Load(),
		Pieces: c.pieces.Load(), SlotsAcquired: c.acquired.Load(), SlotsLost: c.lost.Load(),
		SlotsGiven: c.given.Load(), Refused: c.refused.Load(), Repeated: c.repeated.Load(), Doubts: c.doubts.Load(),
		DoubtsStored: c.doubtsStored.Load(), StaleReads: c.staleReads.Load(),
		Settlings: c.settlings.Load(), Copies: c.copies.Load(), Latency: c.latency.snapshot(),
	}
}
