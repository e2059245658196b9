package measure

import (
	"sync/atomic"

	"hypertoken/internal/fault"
)

// CountShards is how many shards Counts has.
const CountShards = 16

// Counts is what a host counts in any case, whether somebody measures it or not.
type Counts struct {
	shards [CountShards]struct {
		outcomes [fault.MaxOutcomes]atomic.Uint64
		_        [64]byte
	}
	// Placed counts placings that ended well, Fallbacks those in the host's process for want of a worker.
	Placed, Fallbacks atomic.Uint64
	// DroppedEvents counts events that a listener was too slow for.
	DroppedEvents atomic.Uint64
	// KeysForgotten counts keys that were forgotten for their size, Holds how often an engine was held back.
	KeysForgotten, Holds atomic.Uint64
}

// Action counts an action by its outcome. shard is from 0 to CountShards - 1.
func (c *Counts) Action(shard int, err error) {
	c.shards[shard].outcomes[fault.OutcomeNumber(err)].Add(1)
}

// Actions returns how many actions had which outcome, with a number for every outcome.
func (c *Counts) Actions() map[string]uint64 {
	m := map[string]uint64{}
	for k, name := range fault.Outcomes() {
		n := uint64(0)
		for shard := range c.shards {
			n += c.shards[shard].outcomes[k].Load()
		}
		m[name] = n
	}
	return m
}
