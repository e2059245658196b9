package torture

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"hypertoken/journal"
)

// slowStore is a store in which some appends complete late, and some fail.
type slowStore struct {
	journal.Store
	fails   bool
	pending sync.WaitGroup
	failed  atomic.Int64

	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

func newStore(seed uint64, fails bool) *slowStore {
	return &slowStore{Store: journal.NewMemory(), fails: fails, rand: rand.New(rand.NewPCG(seed, 0x5702e))}
}

// failEvery: on average, one of so many appends fails.
const failEvery = 1500

func (s *slowStore) Append(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done) {
	s.mu.Lock()
	n, how := s.rand.IntN(3*failEvery), s.rand.IntN(2)
	s.mu.Unlock()
	switch {
	case s.fails && n < 3:
		s.failed.Add(1)
		if how == 0 {
			s.Store.Append(name, owner, after, group, journal.Done{})
		}
		done.Report(errors.New("the store has lost its connection"))
	case n%3 == 0:
		// Actions run while this append waits. Their answers are the next group.
		s.pending.Go(func() {
			for range n % 64 {
				runtime.Gosched()
			}
			s.Store.Append(name, owner, after, group, done)
		})
	default:
		s.Store.Append(name, owner, after, group, done)
	}
}
