package jetstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// heirOf returns a store as one that slots are given to.
func heirOf(s *Store) Heir { return Heir{s.o.Node, s.o.Address} }

// A slot that is given away belongs to the heir, with all that was stored. The former owner has no
// part in it any more.
func TestGive(t *testing.T) {
	a, b := twoStores(t)
	const name = "a"
	slot := SlotOf(name)
	if _, err := a.s.Give(t.Context(), slot, heirOf(b.s)); !errors.Is(err, journal.ErrNotOwner) {
		t.Errorf("a slot that nobody has is given: %v", err)
	}
	a.must(a.install(name, ownerOf(1, 1), setup()))
	a.must(a.append(name, ownerOf(1, 1), 0, action(1)))
	if named, err := a.s.Named(t.Context()); err != nil || !slices.Equal(named, []int{slot}) {
		t.Errorf("named %v %v, want %d", named, err, slot)
	}
	if _, err := a.s.Give(t.Context(), slot, heirOf(a.s)); !errors.Is(err, journal.ErrRefused) {
		t.Errorf("a slot is given to its owner: %v", err)
	}
	given, err := a.s.Give(t.Context(), slot, heirOf(b.s))
	a.must(err)
	if given.Node != b.s.o.Node || given.Epoch != 2 {
		t.Errorf("the record is %+v", given)
	}
	wantError(t, "an append", a.append(name, ownerOf(1, 1), 1, action(2)), journal.ErrNotOwner)
	wantError(t, "a barrier", a.barrier(name, ownerOf(1, 1)), journal.ErrNotOwner)
	if _, err := a.s.Give(t.Context(), slot, heirOf(b.s)); !errors.Is(err, journal.ErrNotOwner) {
		t.Errorf("a slot is given twice: %v", err)
	}
	if named, err := b.s.Named(t.Context()); err != nil || !slices.Equal(named, []int{slot}) {
		t.Errorf("named %v %v, want %d", named, err, slot)
	}
	// The heir gives it on without having used it.
	given, err = b.s.Give(t.Context(), slot, heirOf(a.s))
	b.must(err)
	if given.Node != a.s.o.Node || given.Epoch != 3 {
		t.Errorf("the record is %+v", given)
	}
	a.expect(name, ownerOf(1, 2), 1)
	a.must(a.append(name, ownerOf(1, 2), 1, action(2)))
	checkChain(t, a.s, name)
	if got := a.s.Stats(); got.SlotsGiven != 1 || got.SlotsAcquired != 2 || got.SlotsLost != 0 {
		t.Errorf("%+v", got)
	}
}

// What was called before is waited for, what is called later has no effect, and what acquires a slot
// waits.
func TestGiveWaits(t *testing.T) {
	a, b := twoStores(t)
	const name = "a"
	appended, goOn := a.beginAppend(name)
	gave := make(chan error, 1)
	go func() {
		_, err := a.s.Give(t.Context(), SlotOf(name), heirOf(b.s))
		gave <- err
	}()
	a.waitFor("the slot is being given", func() bool {
		return errors.Is(a.barrierNow(name, ownerOf(1, 1)), journal.ErrNotOwner)
	})
	wantError(t, "an append", a.append(name, ownerOf(1, 1), 1, action(2)), journal.ErrNotOwner)
	// Since then the loop has looked at what is given: it does so after so many rounds at the latest.
	isHeld := false
	for range mostMailRounds + 1 {
		a.onLoop(name, func(sl *slot) { isHeld = sl != nil && sl.giving != nil && !sl.giving.isWriting })
	}
	if !isHeld {
		t.Fatal("the owner record is written while the append is on its way")
	}
	loaded := make(chan error, 1)
	a.s.Load(name, ownerOf(1, 2), func(_ *journal.Stored, err error) { loaded <- err })
	select {
	case err := <-loaded:
		t.Errorf("a load does not wait: %v", err)
	case err := <-gave:
		t.Errorf("the append was not waited for: %v", err)
	default:
	}
	close(goOn)
	a.must(<-appended)
	a.must(<-gave)
	a.must(<-loaded) // it has acquired the slot again
	b.expect(name, ownerOf(2, 1), 1)
	checkChain(t, b.s, name)
}

// beginAppend makes an engine, and begins an append to it that is on its way until goOn is closed.
func (c client) beginAppend(name string) (appended <-chan error, goOn chan struct{}) {
	c.t.Helper()
	f := inject(c.s)
	c.must(c.install(name, ownerOf(1, 1), setup()))
	asked, goOn := make(chan struct{}), make(chan struct{})
	f.add(func(f *faults, m *nats.Msg) error {
		close(asked)
		go func() {
			<-goOn
			_ = f.s.conn.nc.PublishMsg(m)
		}()
		return nil
	})
	ended := make(chan error, 1)
	c.s.Append(name, ownerOf(1, 1), 0, []journal.Record{action(1)}, journal.DoneFunc(func(err error) { ended <- err }))
	<-asked
	return ended, goOn
}

// barrierNow asks for a barrier, and returns ErrNotOwner if the slot's tenure ends; nil if the barrier
// waits behind something else.
func (c client) barrierNow(name string, owner journal.Owner) error {
	ended := make(chan error, 1)
	c.s.Barrier(name, owner, journal.DoneFunc(func(err error) { ended <- err }))
	seen := make(chan struct{})
	c.s.streams[0].post(func() { close(seen) })
	<-seen
	select {
	case err := <-ended:
		return err
	default:
		return nil
	}
}

// If the time for it ends, the slot stays where it is.
func TestGiveUpGiving(t *testing.T) {
	a, b := twoStores(t)
	const name = "a"
	appended, goOn := a.beginAppend(name)
	ctx, cancel := context.WithCancel(t.Context())
	gave := make(chan error, 1)
	go func() {
		_, err := a.s.Give(ctx, SlotOf(name), heirOf(b.s))
		gave <- err
	}()
	a.waitFor("the slot is being given", func() bool {
		return errors.Is(a.barrierNow(name, ownerOf(1, 1)), journal.ErrNotOwner)
	})
	loaded := make(chan error, 1)
	a.s.Load(name, ownerOf(1, 2), func(_ *journal.Stored, err error) { loaded <- err })
	cancel()
	wantError(t, "giving", <-gave, context.Canceled)
	close(goOn)
	a.must(<-appended)
	a.must(<-loaded)
	a.must(a.append(name, ownerOf(1, 2), 1, action(2)))
	b.expect(name, ownerOf(2, 1), 1, 2)
}

// ownerWrites is a seam that meets the writes of owner records.
func ownerWrites(s *Store, meet func(m *nats.Msg) error) {
	seam := func(m *nats.Msg) error {
		if strings.Contains(m.Subject, ".owner.") && m.Header.Get(headerExpected) != "" {
			return meet(m)
		}
		return s.conn.nc.PublishMsg(m)
	}
	s.conn.seam.Store(&seam)
}

// The answer to the record that gives a slot away is lost. The slot is given once.
func TestGiveWhoseAnswerIsLost(t *testing.T) {
	for _, isTaken := range []bool{false, true} {
		a, b := twoStores(t)
		const name = "a"
		a.must(a.install(name, ownerOf(1, 1), setup()))
		var writes atomic.Int32
		ownerWrites(a.s, func(m *nats.Msg) error {
			if writes.Add(1) > 1 {
				return a.s.conn.nc.PublishMsg(m)
			}
			other := *m
			other.Reply = a.s.conn.nc.NewInbox()
			if err := a.s.conn.nc.PublishMsg(&other); err != nil {
				return err
			}
			if isTaken { // the heir is quick
				if err := a.s.conn.nc.Flush(); err != nil {
					return err
				}
				b.expect(name, ownerOf(2, 1))
			}
			return nil
		})
		_, err := a.s.Give(t.Context(), SlotOf(name), heirOf(b.s))
		a.must(err)
		if writes.Load() < 2 {
			t.Error("no answer was lost")
		}
		if !isTaken {
			b.expect(name, ownerOf(2, 1))
		}
		b.must(b.append(name, ownerOf(2, 1), 0, action(1)))
		b.expect(name, ownerOf(2, 2), 1)
	}
}

// Another store takes the slot before it is given.
func TestGiveWhatIsTaken(t *testing.T) {
	a, b := twoStores(t)
	const name = "a"
	a.must(a.install(name, ownerOf(1, 1), setup()))
	b.expect(name, ownerOf(2, 1))
	_, err := a.s.Give(t.Context(), SlotOf(name), Heir{Node: "third"})
	wantError(t, "giving what another store has", err, journal.ErrNotOwner)
	b.must(b.append(name, ownerOf(2, 1), 0, action(1)))
	a.expect(name, ownerOf(1, 2), 1)
}

// The servers do not say whether the slot is given. Then nobody uses it before its owner is known.
func TestGiveInDoubt(t *testing.T) {
	o := shared(t).options(newName())
	o.AnswerTimeout, o.Patience = minAnswerTimeout, 2*minAnswerTimeout
	a := client{t, openStore(t, o)}
	const name = "a"
	a.must(a.install(name, ownerOf(1, 1), setup()))
	ownerWrites(a.s, func(*nats.Msg) error { return nil }) // lost
	_, err := a.s.Give(t.Context(), SlotOf(name), Heir{Node: "other"})
	wantError(t, "giving", err, journal.ErrUnavailable)
	wantError(t, "an append", a.append(name, ownerOf(1, 1), 0, action(1)), journal.ErrNotOwner)
	a.s.conn.seam.Store(nil)
	a.expect(name, ownerOf(1, 2))
}

// A store that is closed gives nothing away.
func TestGiveOfAClosedStore(t *testing.T) {
	a, b := twoStores(t)
	a.must(a.install("a", ownerOf(1, 1), setup()))
	a.must(a.s.Close())
	_, err := a.s.Give(t.Context(), SlotOf("a"), heirOf(b.s))
	wantError(t, "giving", err, errClosed)
}

// handOn gives all slots of a node to the members that should have them, as a node does that ends.
func (n *node) handOn(ctx context.Context, t *testing.T) {
	t.Helper()
	slots, err := n.store.Named(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	for _, slot := range slots {
		for {
			heir, ok := n.Heir(slot, 0)
			if !ok {
				t.Errorf("nobody should have the slot %d", slot)
				return
			}
			_, err := n.store.Give(ctx, slot, heir)
			if err == nil || errors.Is(err, journal.ErrNotOwner) {
				break
			}
			if !errors.Is(err, journal.ErrUnavailable) {
				t.Errorf("slot %d: %v", slot, err)
				return
			}
		}
	}
}

// A node that drains gives its slots to the others, which have them at once: nobody waits for a
// verdict.
func TestMembersHandOver(t *testing.T) {
	c := shared(t)
	name := newName()
	a, b := joinNode(t, c, name, "a"), joinNode(t, c, name, "b")
	a.until(t, "two", a.sees("a", "b"))
	b.until(t, "two", b.sees("a", "b"))
	names := namesIn(20, false)
	had := map[string]bool{}
	for _, engine := range names {
		if _, err := b.load(t, engine); err == nil {
			had[engine] = true
			c := client{t, b.store}
			c.must(c.install(engine, ownerOf(1, 1), setup()))
			c.must(c.append(engine, ownerOf(1, 1), 0, action(1)))
		}
	}
	if len(b.Owned()) != len(slotsOf(had)) {
		t.Errorf("owned: %v", b.Owned())
	}
	b.Drain()
	b.until(t, "it drains", func() bool { _, ok := b.Heir(0, 0); return ok })
	if _, ok := b.Heir(0, time.Hour); ok {
		t.Error("a membership that has changed a moment ago is stable for an hour")
	}
	b.handOn(t.Context(), t)
	if len(b.Owned()) != 0 {
		t.Errorf("owned after the hand-over: %v", b.Owned())
	}
	for engine := range had {
		var moved *MovedError
		if _, err := b.load(t, engine); !errors.As(err, &moved) || moved.Owner.Address != "a" {
			t.Errorf("%s at the node that drains: %v", engine, err)
		}
		stored, err := a.load(t, engine)
		if err != nil {
			t.Errorf("%s: %v", engine, err)
		} else if got := numbersOf(t, stored.Entries); !slices.Equal(got, []int{1}) {
			t.Errorf("%s has the actions %v, want 1", engine, got)
		}
	}
	if !a.sees("a", "b")() {
		t.Error("somebody has died")
	}
}

func slotsOf(names map[string]bool) map[int]bool {
	slots := map[int]bool{}
	for name := range names {
		slots[SlotOf(name)] = true
	}
	return slots
}

// Two stores give slots to each other all the time, while engines append. What each was told is true.
func TestSlotsThatAreGivenToAndFro(t *testing.T) {
	a, b := twoStores(t)
	giveToAndFro(t, a, b, namesIn(deep(4, 8), false), func(given uint64) bool { return given >= uint64(deep(40, 400)) })
}

// giveToAndFro has players append through two stores, and gives their slots from one store to the other,
// until isEnough says that so many were given. Then it compares all that players were told with the journals.
func giveToAndFro(t *testing.T, a, b client, names []string, isEnough func(given uint64) bool) {
	t.Helper()
	var isOver atomic.Bool
	var running sync.WaitGroup
	var mu sync.Mutex // guards acknowledged
	acknowledged := map[string][]int{}
	for k, name := range names {
		a.must(a.install(name, ownerOf(byte(k), 1), setup()))
		running.Go(func() {
			stores, present, owner := []client{a, b}, 0, uint64(1)
			newest, n := uint64(0), 0
			for !isOver.Load() {
				n++
				err := stores[present].append(name, ownerOf(byte(k), owner), newest, action(n))
				if err == nil {
					mu.Lock()
					acknowledged[name] = append(acknowledged[name], n)
					mu.Unlock()
					newest++
					continue
				}
				if !errors.Is(err, journal.ErrNotOwner) && !errors.Is(err, journal.ErrUnavailable) {
					// Nobody knows, so the journal tells.
					mu.Lock()
					acknowledged[name] = append(acknowledged[name], -n)
					mu.Unlock()
				}
				for {
					present, owner = 1-present, owner+1
					stored, err := stores[present].load(name, ownerOf(byte(k), owner))
					if err == nil {
						newest = stored.Sequence + stored.Count
						break
					}
					var moved *MovedError
					if !errors.As(err, &moved) && !errors.Is(err, journal.ErrUnavailable) {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			}
		})
	}
	for k := 0; !isEnough(a.s.Stats().SlotsGiven+b.s.Stats().SlotsGiven) && !t.Failed(); k++ {
		slot := SlotOf(names[k%len(names)])
		stores := []client{a, b}
		for j := range 2 {
			_, err := stores[j].s.Give(t.Context(), slot, heirOf(stores[1-j].s))
			if err != nil && !errors.Is(err, journal.ErrNotOwner) && !errors.Is(err, journal.ErrUnavailable) {
				t.Error(err)
			}
		}
	}
	isOver.Store(true)
	running.Wait()
	for k, name := range names {
		stored, err := a.load(name, ownerOf(byte(k), 1<<40))
		for errors.Is(err, journal.ErrUnavailable) {
			stored, err = a.load(name, ownerOf(byte(k), 1<<40))
		}
		a.must(err)
		got, next := numbersOf(t, stored.Entries), 0
		for _, n := range acknowledged[name] {
			switch {
			case next < len(got) && got[next] == max(n, -n):
				next++
			case n > 0:
				t.Errorf("%s: the action %d was acknowledged, and is not there", name, n)
			}
		}
		if next != len(got) {
			t.Errorf("%s has the actions %v of which nobody was told", name, got[next:])
		}
		checkChain(t, a.s, name)
	}
	t.Logf("%+v", a.s.Stats())
}
