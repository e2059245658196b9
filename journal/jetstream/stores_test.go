package jetstream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// twoStores opens two stores on the same journals.
func twoStores(t testing.TB) (a, b client) {
	o := shared(t).options(newName())
	o.AnswerTimeout = 200 * time.Millisecond
	return client{t, openStore(t, o)}, client{t, openStore(t, o)}
}

// A store that acquires a slot fences the former owner, with all of its engines.
func TestASlotIsTakenOver(t *testing.T) {
	a, b := twoStores(t)
	names := namesIn(3, true)
	for _, name := range names {
		a.must(a.install(name, ownerOf(1, 1), setup()))
		a.must(a.append(name, ownerOf(1, 1), 0, action(1)))
	}
	b.expect(names[0], ownerOf(2, 1), 1)
	for _, name := range names {
		wantError(t, "an append of the former owner", a.append(name, ownerOf(1, 1), 1, action(2)), journal.ErrNotOwner)
		wantError(t, "a barrier of the former owner", a.barrier(name, ownerOf(1, 1)), journal.ErrNotOwner)
	}
	if n := a.s.Stats().SlotsLost; n != 1 {
		t.Errorf("%d slots were lost, want 1", n)
	}
	b.must(b.append(names[0], ownerOf(2, 1), 1, action(3)))
	wantError(t, "an append to an engine that was not loaded", b.append(names[1], ownerOf(2, 1), 1, action(3)),
		journal.ErrNotOwner)
	wantError(t, "a creation of a known name", b.install(names[1], ownerOf(2, 1), setup()), journal.ErrNotOwner)
	a.expect(names[0], ownerOf(1, 2), 1, 3)
	wantError(t, "an append of the other former owner", b.append(names[0], ownerOf(2, 1), 2, action(4)),
		journal.ErrNotOwner)
}

// A marker is stored under the fence, like a group: that of a former owner takes no sequence.
func TestAMarkerIsFenced(t *testing.T) {
	a, b := twoStores(t)
	const name = "a"
	a.must(a.install(name, ownerOf(1, 1), setup()))
	a.must(a.append(name, ownerOf(1, 1), 0, action(1)))
	b.expect(name, ownerOf(2, 1), 1)
	wantError(t, "a marker of the former owner", a.install(name, ownerOf(1, 1), marker(2)), journal.ErrNotOwner)
	b.must(b.append(name, ownerOf(2, 1), 1, action(2)))
	b.expect(name, ownerOf(2, 2), 1, 2)
	wantError(t, "a marker of a sequence that is taken", b.install(name, ownerOf(2, 2), marker(2)), journal.ErrRefused)
	b.must(b.install(name, ownerOf(2, 2), marker(3)))
	stored := a.expect(name, ownerOf(1, 2))
	if !stored.IsMarker || stored.Sequence != 3 || string(stored.Details) != "details" {
		t.Errorf("the base has the sequence %d, marker %t, details %q", stored.Sequence, stored.IsMarker,
			stored.Details)
	}
	a.must(a.append(name, ownerOf(1, 2), 3, action(4)))
	a.expect(name, ownerOf(1, 2), 4)
	checkChain(t, a.s, name)
}

// What a store has queued in one tenure of a slot is never sent in a later one, also if the store has
// the slot back by then. Such an append once corrupted journals.
func TestNothingOfAnEarlierTenureIsSent(t *testing.T) {
	a, b := twoStores(t)
	f := inject(a.s)
	const name = "a"
	a.must(a.install(name, ownerOf(1, 1), setup()))
	a.must(a.append(name, ownerOf(1, 1), 0, action(1)))
	// The append waits, known not to be stored, while the slot goes away and comes back.
	asked, goOn := make(chan struct{}), make(chan struct{})
	f.add(func(f *faults, m *nats.Msg) error {
		close(asked)
		go func() {
			<-goOn
			_ = noResponders(f, m)
		}()
		return nil
	})
	ended := make(chan error, 1)
	a.s.Append(name, ownerOf(1, 1), 1, []journal.Record{action(2)}, journal.DoneFunc(func(err error) { ended <- err }))
	<-asked
	b.expect(name, ownerOf(2, 1), 1)
	b.must(b.append(name, ownerOf(2, 1), 1, action(3)))
	close(goOn)
	stored := a.expect(name, ownerOf(1, 2), 1, 3)
	if stored.Owner == ownerOf(1, 2) {
		t.Error("the former owner is the new one")
	}
	wantError(t, "the append of the earlier tenure", <-ended, journal.ErrNotOwner)
	a.must(a.append(name, ownerOf(1, 2), 2, action(4)))
	a.expect(name, ownerOf(1, 2), 1, 3, 4)
	checkChain(t, a.s, name)
}

// A batch in doubt whose slot is taken over meanwhile: the truth is found all the same.
func TestTakenOverInDoubt(t *testing.T) {
	for _, isSent := range []bool{true, false} {
		t.Run(fmt.Sprint("stored ", isSent), func(t *testing.T) {
			a, b := twoStores(t)
			f := inject(a.s)
			const name = "a"
			a.must(a.install(name, ownerOf(1, 1), setup()))
			if isSent {
				f.add(answerIsLost)
			} else {
				f.add(holdBack)
			}
			ended := make(chan error, 1)
			a.s.Append(name, ownerOf(1, 1), 0, []journal.Record{action(1)},
				journal.DoneFunc(func(err error) { ended <- err }))
			f.waitFor(2)
			a.must(a.s.conn.nc.Flush())
			stored, err := b.load(name, ownerOf(2, 1))
			b.must(err)
			b.must(f.release()) // too late
			b.must(b.append(name, ownerOf(2, 1), stored.Count, action(7)))
			err = <-ended
			switch want := []int{7}; {
			case isSent && err != nil:
				t.Errorf("the append is stored, and fails with %v", err)
			case isSent:
				b.expect(name, ownerOf(2, 2), 1, 7)
			default:
				wantError(t, "an append that is not stored", err, journal.ErrNotOwner)
				b.expect(name, ownerOf(2, 2), want...)
			}
			checkChain(t, b.s, name)
		})
	}
}

// Two stores take slots from each other, while batches and answers are lost. What each call is told
// agrees with the journals.
func TestStoresThatCompete(t *testing.T) {
	o := shared(t).options(newName())
	o.AnswerTimeout = minAnswerTimeout
	stores := []client{{t, openStore(t, o)}, {t, openStore(t, o)}}
	names := append(namesIn(2, true), "other")
	for _, name := range names {
		stores[0].must(stores[0].install(name, ownerOf(9, 1), setup()))
	}
	var mu sync.Mutex // guards what follows
	sequence := 0
	acknowledged, unknown := map[string][]int{}, map[int]bool{}
	var wg sync.WaitGroup
	for k, c := range stores {
		f := inject(c.s)
		for j, name := range names {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(k), uint64(j)))
				for round := range uint64(deep(6, 40)) {
					owner := ownerOf(byte(k+1), round*10+uint64(j)+1)
					stored, err := c.load(name, owner)
					if err != nil {
						if !errors.Is(err, journal.ErrUnavailable) {
							t.Errorf("load: %v", err)
							return
						}
						continue
					}
					newest := stored.Sequence + stored.Count
					for range 1 + r.IntN(4) {
						if r.IntN(8) == 0 {
							f.add([]fault{lostOnTheWay, answerIsLost, holdBack, noResponders}[r.IntN(4)])
						}
						mu.Lock()
						sequence++
						n := sequence
						mu.Unlock()
						err := c.append(name, owner, newest, action(n))
						mu.Lock()
						switch {
						case err == nil:
							acknowledged[name] = append(acknowledged[name], n)
						case !errors.Is(err, journal.ErrRefused) && !errors.Is(err, journal.ErrUnavailable):
							unknown[n] = true
						}
						mu.Unlock()
						if err != nil {
							break
						}
						newest++
					}
				}
				if err := f.release(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for _, c := range stores {
		c.s.conn.seam.Store(nil)
	}
	for _, name := range names {
		stored, err := stores[0].load(name, ownerOf(9, 2))
		stores[0].must(err)
		there := map[int]bool{}
		for _, n := range numbersOf(t, stored.Entries) {
			if there[n] {
				t.Errorf("the action %d is there twice", n)
			}
			there[n] = true
		}
		for _, n := range acknowledged[name] {
			if !there[n] {
				t.Errorf("the action %d was acknowledged, and is not there", n)
			}
			delete(there, n)
		}
		for n := range there {
			if !unknown[n] {
				t.Errorf("the action %d was refused, and is there", n)
			}
		}
		checkChain(t, stores[0].s, name)
	}
	t.Logf("%d acknowledged, %d unknown; %+v", len(acknowledged[names[0]]), len(unknown), stores[0].s.Stats())
}

// Claims forbid slots, and are told of those that come and go.
func TestClaims(t *testing.T) {
	o := shared(t).options(newName())
	claims := &testClaims{}
	o.Claims, o.Node, o.Address = claims, "node-a", "here:1"
	a := client{t, openStore(t, o)}
	a.must(a.install("a", ownerOf(1, 1), setup()))
	o.Claims, o.Node = claimAll{}, "node-b"
	b := client{t, openStore(t, o)}
	b.expect("a", ownerOf(2, 1))
	claims.forbid(true)
	_, err := a.load("a", ownerOf(1, 2))
	var moved *MovedError
	if !errors.As(err, &moved) || moved.Owner.Node != "node-b" || moved.Owner.Epoch != 2 {
		t.Fatalf("a load of a slot that may not be acquired: %v", err)
	}
	wantError(t, "the load", err, journal.ErrNotOwner)
	b.must(b.append("a", ownerOf(2, 1), 0, action(1)))
	claims.forbid(false)
	a.expect("a", ownerOf(1, 3), 1)
	if got := claims.log(); got != fmt.Sprintf("acquired %[1]d 1, lost %[1]d, acquired %[1]d 3, ", SlotOf("a")) {
		t.Errorf("the claims were told: %s", got)
	}
}

type testClaims struct {
	mu          sync.Mutex // guards what follows
	isForbidden bool
	text        string
}

func (c *testClaims) forbid(v bool) {
	c.mu.Lock()
	c.isForbidden = v
	c.mu.Unlock()
}

func (c *testClaims) log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text
}

func (c *testClaims) MayClaim(slot int, present OwnerRecord) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isForbidden {
		return &MovedError{slot, present}
	}
	return nil
}

func (c *testClaims) Acquired(slot int, r OwnerRecord) {
	c.mu.Lock()
	c.text += fmt.Sprintf("acquired %d %d, ", slot, r.Epoch)
	c.mu.Unlock()
}

func (c *testClaims) Lost(slot int) {
	c.mu.Lock()
	c.text += fmt.Sprintf("lost %d, ", slot)
	c.mu.Unlock()
}
