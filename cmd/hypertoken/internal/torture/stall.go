package torture

import (
	"fmt"
	"time"
)

// stall finds out whether a torture is stuck.
type stall struct {
	within time.Duration
	last   uint64
	since  time.Time // when the number has changed last
}

func newStall(within time.Duration) *stall { return &stall{within: within, since: time.Now()} }

// look takes in a number that grows with each call that ends and each history that is checked. If it
// has stood still for too long, look returns a violation, and begins to wait anew.
func (s *stall) look(n uint64) []Violation {
	now := time.Now()
	if n == s.last && now.Sub(s.since) <= s.within {
		return nil
	}
	isStuck := n == s.last
	s.last, s.since = n, now
	if !isStuck {
		return nil
	}
	return []Violation{{Fate: Stuck, What: fmt.Sprintf("no call has ended for %v", s.within)}}
}

// eachTick calls f now and then, until calm is closed or f returns false.
func eachTick(every time.Duration, calm <-chan struct{}, f func() bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-calm:
			return
		case <-tick.C:
		}
		if !f() {
			return
		}
	}
}
