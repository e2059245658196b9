package host_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"hypertoken/host"
	"hypertoken/journal"
)

// tellingStore tells of each group that it has.
type tellingStore struct {
	journal.Store
	had chan int
}

func (s *tellingStore) Append(name string, owner journal.Owner, after uint64, group []journal.Record,
	done journal.Done) {
	s.Store.Append(name, owner, after, group, done)
	s.had <- len(group)
}

// What nobody waits for is read and journaled all the same, also after somebody has waited for something else.
func TestAnswersAreReadThoughNobodyWaits(t *testing.T) {
	everywhere(t, testAnswersAreReadThoughNobodyWaits)
}

func testAnswersAreReadThoughNobodyWaits(t *testing.T) {
	store := &tellingStore{journal.NewMemory(), make(chan int, 1000)}
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(52))
	for round := range 20 {
		const burst = 7
		for range burst {
			e.DispatchAsync(context.Background(), "stack:reverse", nil)
		}
		want := burst
		if round%2 == 1 {
			dispatch(t, e, "stack:reverse", nil)
			e.DispatchAsync(context.Background(), "stack:reverse", nil)
			want += 2
		}
		for want > 0 {
			select {
			case n := <-store.had:
				want -= n
			case <-t.Context().Done():
				t.Fatalf("round %d: %d were never journaled", round, want)
			}
		}
	}
}

// A caller that waits may read for the others: each caller gets its own outcome, however many wait in
// whatever way, and some give up.
func TestWhoeverReadsEachGetsItsOwn(t *testing.T) { everywhere(t, testWhoeverReadsEachGetsItsOwn) }

func testWhoeverReadsEachGetsItsOwn(t *testing.T) {
	h := newHost(t, host.Options{})
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		e := open(t, h, name, nil)
		for caller := range 8 {
			wg.Go(func() {
				for k := range 100 {
					ctx, cancel := context.WithCancel(t.Context())
					want := caller*1000 + k
					f := e.DispatchAsync(ctx, "game:setProperty", map[string]any{"key": "k", "value": want})
					switch (caller + k) % 4 {
					case 0:
						<-f.Done()
					case 1:
						cancel()
					case 2:
						_, _ = f.Wait(ctx)
					}
					r, err := f.Wait(context.Background())
					cancel()
					if errors.Is(err, host.ErrCanceled) && (caller+k)%4 == 1 {
						continue
					}
					got, err := host.As[map[string]int](r, err)
					if err != nil || got["k"] != want {
						t.Errorf("%s, caller %d: %v, %v; want %d", name, caller, got, err, want)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}
