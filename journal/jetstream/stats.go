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
	staleReads, settlings, copies, failed, takenOver         atomic.Uint64
	latency, writes                                          histogram
}

// countTakeover counts a slot that was acquired, if another node had it before.
func (c *counters) countTakeover(former, owner OwnerRecord) {
	if former.Epoch > 0 && former.Node != owner.Node {
		c.takenOver.Add(1)
	}
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
	// Slots is how many slots the store has now: those of engines that were used here.
	Slots uint64
	// SlotsAcquired, SlotsLost and SlotsGiven count slots, each time anew. SlotsTakenOver of the acquired
	// ones had another owner before: in a cluster, one that is dead.
	SlotsAcquired, SlotsLost, SlotsGiven, SlotsTakenOver uint64
	// Refused batches met another owner, Repeated ones were sent again. Failed ones the servers did not
	// take: they have no room, or a limit is exceeded.
	Refused, Repeated, Failed uint64
	// Doubts are batches whose answer did not come; DoubtsStored of them were stored.
	Doubts, DoubtsStored uint64
	// StaleReads were answered by a replica that was behind, and asked again.
	StaleReads uint64
	// Settlings are batches that moved groups from the tail of a slot to the subjects of their engines,
	// with so many messages, Copies.
	Settlings, Copies uint64
	// Latency is how long stored batches took, in seconds.
	Latency Histogram
	// Writes is how many writes the batches had that were sent, such as appends of one engine each.
	Writes Histogram
}

// Histogram counts values.
type Histogram struct {
	// Bounds are upper bounds, Counts how many values are at most each of them, and not at most the one
	// before it. The last one of Counts has the rest.
	Bounds []float64
	Counts []uint64
	Sum    float64
}

// latencyBounds are in seconds. writesBounds has the number of a batch's writes.
var (
	latencyBounds = [mostBounds]float64{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4, 8}
	writesBounds  = [mostBounds]float64{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1024}
)

const mostBounds = 15

type histogram struct {
	mu     sync.Mutex // guards what follows
	counts [mostBounds + 1]uint64
	sum    float64
}

func (h *histogram) observe(bounds *[mostBounds]float64, v float64) {
	k := 0
	for k < len(bounds) && v > bounds[k] {
		k++
	}
	h.mu.Lock()
	h.counts[k]++
	h.sum += v
	h.mu.Unlock()
}

func (h *histogram) snapshot(bounds *[mostBounds]float64) Histogram {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Histogram{bounds[:], append([]uint64(nil), h.counts[:]...), h.sum}
}

// Stats returns the figures of the store.
func (s *Store) Stats() Stats {
	c := &s.stats
	lost := c.lost.Load() // before acquired: no slot is lost that was not acquired
	acquired := c.acquired.Load()
	return Stats{
		Batches: c.batches.Load(), Messages: c.messages.Load(), Groups: c.groups.Load(), Records: c.records.Load(),
		Bases: c.bases.Load(), Loads: c.loads.Load(), GroupBytes: c.groupBytes.Load(), BaseBytes: c.baseBytes.Load(),
		Pieces: c.pieces.Load(), Slots: acquired - lost, SlotsAcquired: acquired, SlotsLost: lost,
		SlotsGiven: c.given.Load(), SlotsTakenOver: c.takenOver.Load(), Refused: c.refused.Load(),
		Repeated: c.repeated.Load(), Failed: c.failed.Load(), Doubts: c.doubts.Load(),
		DoubtsStored: c.doubtsStored.Load(), StaleReads: c.staleReads.Load(),
		Settlings: c.settlings.Load(), Copies: c.copies.Load(), Latency: c.latency.snapshot(&latencyBounds),
		Writes: c.writes.snapshot(&writesBounds),
	}
}
