package host_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"hypertoken/host"
)

// acknowledged is an action that was, with what it needs to be run again.
type acknowledged struct {
	sequence uint64
	action   string
	payload  any
	options  []host.DispatchOption
	raw      string
}

// Whatever fails on the way, and whoever is taken out meanwhile, an engine's state is what its
// acknowledged actions make of a fresh one, and each of them gives the same result there. The seed
// is printed where it is not.
func TestAcknowledgedActionsAreTheState(t *testing.T) {
	everywhere(t, testAcknowledgedActionsAreTheState)
}

func testAcknowledgedActionsAreTheState(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	// Its engines hang on purpose: MaxKills keeps them from being held back for that.
	h := newHost(t, host.Options{MaxInProcess: 2, SnapshotBytes: 500, MaxEngineMemory: 8 << 20, MaxKills: 1000})
	const engines, callers, calls = 4, 3, 60
	var wg sync.WaitGroup
	var mu sync.Mutex
	acks := make([][]acknowledged, engines)
	opened := make([]*host.Engine, engines)
	for n := range engines {
		e := open(t, h, fmt.Sprint("e", n), deck(40))
		opened[n] = e
		for caller := range callers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(n*callers+caller)))
				for range calls {
					for _, a := range attempt(t, e, r) {
						mu.Lock()
						acks[n] = append(acks[n], a)
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	for n, list := range acks {
		// Closed and loaded again, it is the same.
		if err := opened[n].Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		e := open(t, h, opened[n].Name(), nil)
		bySequence := map[uint64]acknowledged{}
		for _, a := range list {
			if _, twice := bySequence[a.sequence]; twice {
				t.Fatalf("engine %d: sequence %d was acknowledged twice", n, a.sequence)
			}
			bySequence[a.sequence] = a
		}
		model := open(t, h, fmt.Sprint("model", n), deck(40))
		for s := uint64(1); s <= uint64(len(list)); s++ {
			a, there := bySequence[s]
			if !there {
				t.Fatalf("engine %d: nobody was told of sequence %d of %d", n, s, len(list))
			}
			r := dispatch(t, model, a.action, a.payload, a.options...)
			if r.Sequence != s || string(r.Raw) != a.raw {
				t.Fatalf("engine %d, sequence %d, %s: acknowledged %q, again %q", n, s, a.action, a.raw, r.Raw)
			}
		}
		if got, want := digest(t, e), digest(t, model); got != want {
			t.Errorf("engine %d: digest %v, its %d acknowledged actions make %v", n, got, len(list), want)
		}
		if len(list) < calls/4 { // deadlines end most of what waits behind a hang
			t.Errorf("engine %d: only %d were acknowledged", n, len(list))
		}
	}
}

// attempt sends something, and returns what changed the engine.
func attempt(t *testing.T, e *host.Engine, r *rand.Rand) []acknowledged {
	var entropy [16]byte
	for i := range entropy {
		entropy[i] = byte(r.Uint32())
	}
	options := []host.DispatchOption{host.Now(time.UnixMilli(r.Int64N(1e12))), host.Entropy(entropy)}
	send := func(ctx context.Context, action string, payload any) []acknowledged {
		result, err := e.Dispatch(ctx, action, payload, options...)
		if err != nil || !result.Changed {
			return nil
		}
		return []acknowledged{{result.Sequence, action, payload, options, string(result.Raw)}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(2*time.Millisecond))))
	defer cancel()
	switch r.IntN(12) {
	case 0:
		return send(t.Context(), "test:trap", nil)
	case 1:
		return send(ctx, "test:spin", nil)
	case 2:
		return send(t.Context(), "stack:draw", dict{"count": 0})
	case 3:
		return send(ctx, "stack:shuffle", nil)
	case 4:
		return send(t.Context(), "test:grow", nil)
	case 5, 6:
		mode := host.BatchMode(r.IntN(2))
		members := []host.Action{
			{Type: "stack:cut", Payload: dict{"position": r.IntN(60)}, Options: options},
			{Type: "space:place", Payload: dict{"zone": "z", "card": dict{"id": "c"}}, Options: options},
			{Type: "stack:reverse", Options: options},
		}
		batch, err := e.DispatchBatch(ctx, mode, members)
		if err != nil {
			return nil
		}
		var all []acknowledged
		for i, o := range batch.Outcomes {
			if o.Err == nil && o.Result.Changed {
				all = append(all, acknowledged{o.Result.Sequence, members[i].Type, members[i].Payload, options,
					string(o.Result.Raw)})
			}
		}
		return all
	case 7:
		return send(t.Context(), "space:place", dict{"zone": "z", "card": dict{"id": fmt.Sprint(r.IntN(9))}})
	case 8:
		return send(t.Context(), "stack:draw", nil)
	case 9:
		return send(t.Context(), "stack:reset", nil)
	default:
		return send(t.Context(), "stack:shuffle", dict{"seed": r.Uint32()})
	}
}
