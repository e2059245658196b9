package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// A store that keeps a part of the history passes the rules, too. The short form has those in which a
// journal has several bases.
func TestTheSuiteWithoutAHistory(t *testing.T) {
	short := []string{"bases keep what follows them", "bases keep newer keys", "a marker is replaced",
		"the past can be read"}
	for _, rule := range journaltest.Rules() {
		if deep(0, 1) == 0 && !slices.Contains(short, rule.Name) {
			continue
		}
		t.Run(rule.Name, func(t *testing.T) {
			o := settlingAtOnce(shared(t).options(newName()))
			o.History.SinceBase = true
			s := openStore(t, o)
			s.groupSize, s.baseSize, s.pieceSize = 2048, 200, 1500
			rule.Check(t, s)
		})
	}
}

// steps is a store with one engine that has a base behind every fifth action. A test sets its clock.
type steps struct {
	client
	o     Options
	clock *atomic.Int64 // how far it is ahead, in milliseconds
	name  string
	owner journal.Owner
	want  []int // all actions
}

// newSteps returns one that keeps so much of the history.
func newSteps(t testing.TB, history journal.History) *steps {
	p := &steps{o: shared(t).options(newName()), clock: new(atomic.Int64), name: "a", owner: ownerOf(1, 1)}
	p.o.History = history
	p.o.now = func() time.Time { return time.Now().Add(time.Duration(p.clock.Load()) * time.Millisecond) }
	p.client = client{t, nil}
	p.reopen()
	p.must(p.install(p.name, p.owner, setup()))
	return p
}

// reopen opens another store on the same journals.
func (p *steps) reopen() {
	p.t.Helper()
	if p.s != nil {
		p.must(p.s.Close())
	}
	p.s = openStore(p.t, p.o)
	p.s.groupSize, p.s.baseSize, p.s.pieceSize = 2048, 1000, 1500
}

// add appends five actions and installs a base of a size that leaves some of them behind it.
func (p *steps) add(size, behind int) {
	p.t.Helper()
	for range 5 {
		p.must(p.append(p.name, p.owner, uint64(len(p.want)), action(len(p.want)+1)))
		p.want = append(p.want, len(p.want)+1)
	}
	p.must(p.install(p.name, p.owner, bulkyBase(uint64(len(p.want)-behind), size)))
	p.wait()
}

// wait waits until nothing is left to trim.
func (p *steps) wait() {
	p.t.Helper()
	st := p.s.streams[0]
	p.waitFor("nothing is left to trim", func() bool {
		answer := make(chan bool, 1)
		st.post(func() { answer <- !st.trims.isRunning && len(st.trims.list) == 0 && !st.trims.isWalking })
		return <-answer
	})
}

// walk looks at all engines of the slot.
func (p *steps) walk() {
	p.t.Helper()
	p.expectLoad()
	p.must(p.slotOf(p.name).walk(p.t.Context()))
}

// expectLoad checks that the journal is whole from its newest base on.
func (p *steps) expectLoad() {
	p.t.Helper()
	stored, err := p.load(p.name, p.owner)
	p.must(err)
	if got, want := numbersOf(p.t, stored.Entries), p.want[stored.Sequence:]; !slices.Equal(got, want) {
		p.t.Fatalf("the journal has %v behind the base %d, want %v", got, stored.Sequence, want)
	}
}

// oldest checks that all from one base on is kept, and nothing before it.
func (p *steps) oldest(want uint64) {
	p.t.Helper()
	got, err := p.checkTrimmed(p.name, p.want)
	p.must(err)
	if got != want {
		p.t.Fatalf("the oldest base is %d, want %d", got, want)
	}
}

// checkTrimmed reads all that is kept of a journal, and returns the sequence of the oldest base.
func (c client) checkTrimmed(name string, want []int) (oldest uint64, err error) {
	newest := uint64(len(want))
	for ; ; oldest++ {
		if _, err := c.loadAt(name, oldest); !errors.Is(err, journal.ErrTrimmed) {
			break
		}
	}
	for at := oldest; at <= newest; at++ {
		stored, err := c.loadAt(name, at)
		if err != nil || stored == nil || stored.Sequence < oldest || stored.Sequence+stored.Count != at {
			return 0, fmt.Errorf("the state at %d, the oldest is %d: %+v, %w", at, oldest, stored, err)
		}
		if got := numbersOf(c.t, stored.Entries); !slices.Equal(got, want[stored.Sequence:at]) {
			return 0, fmt.Errorf("the state at %d has the actions %v behind %d", at, got, stored.Sequence)
		}
	}
	for at := uint64(1); at <= newest; at++ {
		part, err := c.part(name, at)
		switch {
		case at <= oldest && !errors.Is(err, journal.ErrTrimmed):
			return 0, fmt.Errorf("the entries from %d on, the oldest base is %d: %+v, %w", at, oldest, part, err)
		case at <= oldest:
		case err != nil || part.First != at || part.Count == 0:
			return 0, fmt.Errorf("the entries from %d on, the oldest base is %d: %+v, %w", at, oldest, part, err)
		default:
			if got := numbersOf(c.t, part.Entries); !slices.Equal(got, want[at-1:at-1+part.Count]) {
				return 0, fmt.Errorf("the entries from %d on are %v", at, got)
			}
		}
	}
	if _, err := c.part(name, 0); (oldest > 0) != errors.Is(err, journal.ErrTrimmed) {
		return 0, fmt.Errorf("what the journal began with, the oldest base is %d: %w", oldest, err)
	}
	return oldest, nil
}

func (c client) part(name string, from uint64) (part journal.Part, err error) {
	ended := make(chan struct{})
	c.s.Range(name, from, 1<<20, func(p journal.Part, e error) {
		part, err = p, e
		close(ended)
	})
	<-ended
	return part, err
}

// size returns how much the list says that an engine takes.
func (c client) size(name string) uint64 {
	c.t.Helper()
	for _, info := range c.list() {
		if info.Name == name {
			return info.Bytes
		}
	}
	c.t.Fatalf("%q is not listed", name)
	return 0
}

// messagesOf returns how many messages an engine's subject has.
func (c client) messagesOf(name string) int {
	c.t.Helper()
	token, err := token(name)
	c.must(err)
	st := c.s.streams[c.s.layout.streamOf(SlotOf(name))]
	subject := c.s.layout.engineSubject(SlotOf(name), token)
	found, err := c.s.subjects(c.t.Context(), st.name, subject)
	c.must(err)
	return int(found[subject])
}

// Only the newest base is kept, with what it needs: groups that are before it in the log, too. Pieces of
// what is gone are removed, and the list counts it no more.
func TestTrimmingSinceTheNewestBase(t *testing.T) {
	for _, size := range []int{100, 4000} { // the second one lies in pieces
		for _, behind := range []int{0, 2} {
			t.Run(fmt.Sprintf("%d bytes, %d behind", size, behind), func(t *testing.T) {
				p := newSteps(t, journal.History{SinceBase: true})
				var first uint64
				for n := range 4 {
					p.add(size, behind)
					p.oldest(uint64(5*(n+1) - behind))
					p.expectLoad()
					if got := p.size("a"); n == 0 {
						first = got
					} else if got > first+first/2 {
						t.Errorf("%d bytes are listed, %d behind the first base", got, first)
					}
				}
				if n := p.messagesOf("a"); n > 2 {
					t.Errorf("%d messages are kept, want a base and what is before it", n)
				}
				pieces := 0
				if size > 1000 {
					pieces = 1
				}
				if got := p.piecesIn(SlotOf("a")); len(got) != pieces {
					t.Errorf("the pieces are %v", got)
				}
				p.reopen()
				p.oldest(uint64(20 - behind))
				p.expectLoad()
				checkChain(t, p.s, "a")
			})
		}
	}
}

// A base that stays in the log only because it lies behind groups which a newer base needs is no base any
// more: groups that it needs itself are gone.
func TestTrimmingLeavesABaseWithoutItsGroups(t *testing.T) {
	o := settlingAtOnce(shared(t).options(newName()))
	o.History.SinceBase = true
	p := &steps{client: client{t, openStore(t, o)}, name: "a", owner: ownerOf(1, 1)}
	p.must(p.install("a", p.owner, setup()))
	for range 2 {
		var group []journal.Record
		for n := len(p.want) + 1; len(group) < 5; n++ {
			group, p.want = append(group, action(n)), append(p.want, n)
		}
		p.must(p.append("a", p.owner, uint64(len(p.want)-5), group...))
		p.waitUntilSettled("a")
	}
	p.must(p.install("a", p.owner, bulkyBase(3, 10)))
	p.wait()
	p.oldest(3)
	p.must(p.install("a", p.owner, bulkyBase(7, 10)))
	p.wait()
	p.oldest(7)
	p.expectLoad()
	if n := p.messagesOf("a"); n != 3 {
		t.Errorf("%d messages are kept, want a group and two bases", n)
	}
}

// As much is kept as fits into a bound, from base to base.
func TestTrimmingByBytes(t *testing.T) {
	all := newSteps(t, journal.History{})
	const bases = 5
	for range bases {
		all.add(3000, 0)
	}
	exactly := all.size("a")
	all.oldest(0)
	for _, c := range []struct{ bound, oldest uint64 }{{exactly, 0}, {exactly - 1, 5}, {1, 5 * bases}} {
		p := newSteps(t, journal.History{Bytes: c.bound})
		for range bases {
			p.add(3000, 0)
		}
		p.oldest(c.oldest)
		if got := p.size("a"); c.bound > 1 && got > c.bound || got < 3000 {
			t.Errorf("%d bytes are listed, the bound is %d", got, c.bound)
		}
	}
	// Another bound holds from the next tenure on.
	all.o.History.Bytes = 1
	all.reopen()
	all.walk()
	all.oldest(5 * bases)
	all.expectLoad()
}

// What was stored too long ago is found by the walk, also if nobody plays. The newest base always stays.
func TestTrimmingByAge(t *testing.T) {
	p := newSteps(t, journal.History{Age: time.Hour})
	p.add(100, 0)
	p.add(100, 0)
	p.clock.Add((30 * time.Minute).Milliseconds())
	p.walk()
	p.oldest(0)
	p.clock.Add((31 * time.Minute).Milliseconds())
	p.walk()
	p.oldest(10)
	p.add(100, 0)
	p.oldest(10)
	p.reopen()
	p.clock.Add((61 * time.Minute).Milliseconds())
	p.walk()
	p.oldest(15)
	p.expectLoad()
}

// The walk begins by itself some time after a slot was acquired, and leaves imports alone.
func TestTheWalkBegins(t *testing.T) {
	p := newSteps(t, journal.History{})
	hidden := importIn("a", 1)
	p.must(p.install(hidden, p.owner, setup()))
	p.must(p.install(hidden, p.owner, bulkyBase(0, 10)))
	p.must(p.install(hidden, p.owner, marker(1)))
	p.add(100, 0)
	p.add(100, 0)
	p.o.History.SinceBase, p.o.sweepAfter = true, time.Hour // so that the import is not swept
	p.reopen()
	p.expectLoad()
	p.onLoop("a", func(sl *slot) { sl.walkAt = time.Unix(1, 0) })
	p.waitFor("the history is trimmed", func() bool {
		_, err := p.loadAt("a", 0)
		return errors.Is(err, journal.ErrTrimmed)
	})
	p.wait()
	p.oldest(10)
	if _, err := p.loadAt(hidden, 0); err != nil {
		t.Errorf("the import is trimmed: %v", err)
	}
}

// A store dies after each message that it sends while it trims. What is left is whole, from a base on, and
// the next owner trims the rest and removes the pieces of what is gone.
func TestADeathAtEachStepOfTrimming(t *testing.T) {
	const steps = 40
	var closing sync.WaitGroup
	defer closing.Wait()
	o := shared(t).options(newName())
	o.AnswerTimeout = minAnswerTimeout
	o.sweepAfter = time.Hour // the test says when
	names := namesIn(steps, true)
	open := func() client {
		c := client{t, openStore(t, o)}
		c.s.groupSize, c.s.baseSize, c.s.pieceSize = 2048, 1000, 1500
		c.s.trimmed = 2
		return c
	}
	for step := 0; ; step++ {
		if step == steps {
			t.Fatalf("the trimming has not come to its end after %d messages", steps)
		}
		if deep(step%4, 0) != 0 {
			continue // a sample
		}
		name := names[step]
		a := &steps2{client: open(), name: name}
		a.fill([]int{3000, 10, 3000, 3000})
		a.trimFromNowOn(name)
		isDead := deathAfter(a.s, step)
		ended := make(chan struct{})
		sl := a.slotOf(name)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			sl.trim(ctx, name)
		}()
		isEnd := false
		select {
		case <-ended:
			isEnd = true
		case <-isDead:
		}
		cancel()
		closing.Go(func() {
			<-ended
			_ = a.s.Close()
		})
		b := open()
		oldest, err := b.checkTrimmed(name, a.want)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if isEnd && oldest != 19 {
			t.Errorf("the trimming has ended, and the oldest base is %d", oldest)
		}
		_, err = b.load(name, ownerOf(2, 1))
		b.must(err)
		b.trimFromNowOn(name)
		b.onLoop(name, func(sl *slot) { sl.sweepAt, sl.walkAt = time.Unix(1, 0), time.Unix(1, 0) })
		b.waitFor("the rest is trimmed", func() bool {
			_, err := b.loadAt(name, 18)
			return errors.Is(err, journal.ErrTrimmed) && b.piecesOf(name) == 1
		})
		oldest, err = b.checkTrimmed(name, a.want)
		if err != nil || oldest != 19 {
			t.Fatalf("step %d: the oldest base is %d, %v", step, oldest, err)
		}
		b.must(b.append(name, ownerOf(2, 1), 20, action(21)))
		b.expect(name, ownerOf(2, 2), 20, 21)
		checkChain(t, b.s, name)
		closing.Go(func() { _ = b.s.Close() })
		if isEnd {
			t.Logf("a trimming sends %d messages", step)
			return
		}
	}
}

// steps2 is an engine whose history a test trims.
type steps2 struct {
	client
	name string
	want []int
}

// fill creates the engine, with a base of each of these sizes, which leaves an action behind it.
func (p *steps2) fill(sizes []int) {
	p.t.Helper()
	owner := ownerOf(1, 1)
	p.must(p.install(p.name, owner, setup()))
	for _, size := range sizes {
		for range 5 {
			p.must(p.append(p.name, owner, uint64(len(p.want)), action(len(p.want)+1)))
			p.want = append(p.want, len(p.want)+1)
		}
		p.must(p.install(p.name, owner, bulkyBase(uint64(len(p.want)-1), size)))
	}
}

// onLoop has the stream's loop run f with the present tenure of the slot of a name.
func (c client) onLoop(name string, f func(*slot)) {
	st := c.s.streams[c.s.layout.streamOf(SlotOf(name))]
	ran := make(chan struct{})
	st.post(func() {
		f(st.slots[SlotOf(name)])
		close(ran)
	})
	<-ran
}

// slotOf returns the present tenure of the slot of a name.
func (c client) slotOf(name string) (present *slot) {
	c.onLoop(name, func(sl *slot) { present = sl })
	return present
}

// trimFromNowOn has a store that kept everything keep nothing from before the newest base.
func (c client) trimFromNowOn(name string) {
	c.onLoop(name, func(*slot) { c.s.o.History.SinceBase = true })
}

// piecesOf returns how many large bases and groups of an engine lie in pieces.
func (c client) piecesOf(name string) (n int) {
	token, err := token(name)
	c.must(err)
	prefix := c.s.layout.piecesOfSlot(SlotOf(name)) + token + "."
	for _, subject := range c.piecesIn(SlotOf(name)) {
		if strings.HasPrefix(subject, prefix) {
			n++
		}
	}
	return n
}

// Another store reads the past while the history is trimmed behind each base. What it is told is right, or
// that it is trimmed; nothing is ever damaged.
func TestReadingWhileHistoryIsTrimmed(t *testing.T) {
	o := settlingAtOnce(shared(t).options(newName()))
	o.History.SinceBase = true
	a, b := client{t, openStore(t, o)}, client{t, openStore(t, o)}
	for _, s := range []*Store{a.s, b.s} {
		s.groupSize, s.baseSize, s.pieceSize = 2048, 1000, 1500
	}
	const name = "a"
	owner := ownerOf(1, 1)
	a.must(a.install(name, owner, setup()))
	var newest atomic.Uint64
	var trimmed, read atomic.Int64
	var readers sync.WaitGroup
	isOver := make(chan struct{})
	for k := range 3 {
		readers.Go(func() {
			for n := uint64(0); ; n++ {
				select {
				case <-isOver:
					return
				default:
				}
				at := newest.Load()
				at -= min(at, n%7)
				var first uint64
				var got []int
				var err error
				switch k {
				case 0:
					var stored *journal.Stored
					if stored, err = b.loadAt(name, at); err == nil {
						first, got = stored.Sequence, numbersOf(t, stored.Entries)
					}
				case 1:
					var part journal.Part
					if part, err = b.part(name, max(at, 1)); err == nil {
						first, got = part.First-1, numbersOf(t, part.Entries)
					}
				default:
					b.size(name)
				}
				switch {
				case errors.Is(err, journal.ErrTrimmed):
					trimmed.Add(1)
				case errors.Is(err, journal.ErrRefused): // the part begins behind the newest sequence
				case err != nil:
					t.Errorf("reading at %d: %v", at, err)
				default:
					read.Add(1)
				}
				for j, n := range got {
					if n != int(first)+j+1 {
						t.Errorf("reading at %d: the action %d is behind the sequence %d", at, n, int(first)+j)
					}
				}
			}
		})
	}
	var want []int
	for n := 1; n <= deep(120, 600) || trimmed.Load() == 0; n++ {
		a.must(a.append(name, owner, uint64(n-1), action(n)))
		want = append(want, n)
		newest.Store(uint64(n))
		if n%3 == 0 {
			a.must(a.install(name, owner, bulkyBase(uint64(n-n%2), 10+n%5*500)))
		}
	}
	close(isOver)
	readers.Wait()
	stored, err := a.load(name, owner)
	a.must(err)
	if got := numbersOf(t, stored.Entries); !slices.Equal(got, want[stored.Sequence:]) {
		t.Errorf("the journal has %v behind %d", got, stored.Sequence)
	}
	t.Logf("%d readings, %d of them of what was trimmed", read.Load()+trimmed.Load(), trimmed.Load())
}

// A rename copies the whole journal, so it waits for the end of a trimming, and none begins meanwhile.
func TestRenamingWhileHistoryIsTrimmed(t *testing.T) {
	o := shared(t).options(newName())
	o.History.SinceBase = true
	c := client{t, openStore(t, o)}
	names := namesIn(2, true)
	owner := ownerOf(1, 1)
	c.must(c.install(names[0], owner, setup()))
	var want []int
	for n := range deep(10, 100) {
		c.must(c.append(names[0], owner, uint64(2*n), action(2*n+1), action(2*n+2)))
		want = append(want, 2*n+1, 2*n+2)
		c.must(c.install(names[0], owner, bulkyBase(uint64(2*n+1), 100)))
		c.must(c.rename(names[0], names[1], owner))
		names[0], names[1] = names[1], names[0]
	}
	stored, err := c.load(names[0], owner)
	c.must(err)
	if got := numbersOf(t, stored.Entries); !slices.Equal(got, want[stored.Sequence:]) {
		t.Errorf("the journal has %v behind %d", got, stored.Sequence)
	}
	checkChain(t, c.s, names[0])
	c.waitFor("the history is trimmed", func() bool {
		_, err := c.loadAt(names[0], stored.Sequence-1)
		return errors.Is(err, journal.ErrTrimmed)
	})
	if oldest, err := c.checkTrimmed(names[0], want); err != nil || oldest != stored.Sequence {
		t.Errorf("the oldest base is %d, the newest %d: %v", oldest, stored.Sequence, err)
	}
}
