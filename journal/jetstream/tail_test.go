package jetstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// loadAt reads the state at a sequence.
func (c client) loadAt(name string, at uint64) (stored *journal.Stored, err error) {
	ended := make(chan struct{})
	c.s.LoadAt(name, at, func(s *journal.Stored, e error) {
		stored, err = s, e
		close(ended)
	})
	<-ended
	return stored, err
}

// expectPast fails the test if the history of a journal does not have exactly these actions, read by a
// store that need not own the engine. The journal begins with a setup and has no markers.
func (c client) expectPast(name string, want ...int) {
	c.t.Helper()
	stored, err := c.loadAt(name, uint64(len(want)))
	c.must(err)
	if stored == nil {
		c.t.Fatalf("LoadAt: the name %q is not known", name)
	}
	if got := numbersOf(c.t, stored.Entries); !slices.Equal(got, want[stored.Sequence:]) {
		c.t.Fatalf("LoadAt of %q has the actions %v behind %d, want %v", name, got, stored.Sequence, want)
	}
	var got []int
	for len(got) < len(want) {
		ended := make(chan error, 1)
		c.s.Range(name, uint64(len(got)+1), 1<<20, func(p journal.Part, err error) {
			got = append(got, numbersOf(c.t, p.Entries)...)
			if err == nil && p.Count == 0 {
				err = errors.New("the part is empty")
			}
			ended <- err
		})
		c.must(<-ended)
	}
	if !slices.Equal(got, want) {
		c.t.Fatalf("Range of %q has the actions %v, want %v", name, got, want)
	}
	answer := make(chan []journal.Info, 1)
	c.s.List(name, "", 1, func(page []journal.Info, err error) {
		c.must(err)
		answer <- page
	})
	if page := <-answer; len(page) != 1 || page[0].Sequence != uint64(len(want)) {
		c.t.Fatalf("the list has %+v, want the sequence %d", page, len(want))
	}
}

// tailOf returns how many messages the log has on the subject of a slot, and how many records of them
// are not settled.
func (c client) tailOf(slot int) (messages, records int) {
	c.t.Helper()
	st := c.s.streams[c.s.layout.streamOf(slot)]
	mark, err := c.s.mark(c.t.Context(), c.s.layout.readSubject(st.number))
	c.must(err)
	t, _, err := st.readTail(c.t.Context(), slot, c.s.layout.readSubject(st.number), mark)
	c.must(err)
	for _, n := range t.engines {
		records += n
	}
	list, _, err := c.s.conn.read(c.t.Context(), st.name, query{Next: c.s.layout.tailSubject(slot), Seq: 1,
		Batch: queryBatch}, time.Second)
	c.must(err)
	return len(list), records
}

// The groups of a slot are settled in the order of its tail. So an engine that is idle keeps nothing in
// it, and what is settled is removed. Every reader finds everything all the time.
func TestTheTailIsSettled(t *testing.T) {
	o := shared(t).options(newName())
	o.settling = settling{bytes: 1 << 20, messages: 20, age: time.Hour}
	a, b := client{t, openStore(t, o)}, client{t, openStore(t, o)}
	names, owner := namesIn(3, true), ownerOf(1, 1)
	for _, name := range names {
		a.must(a.install(name, owner, setup()))
	}
	idle, busy, other := names[0], names[1], names[2]
	a.must(a.append(idle, owner, 0, action(1)))
	a.must(a.append(other, owner, 0, action(1), action(2)))
	b.expectPast(idle, 1)
	b.expectPast(other, 1, 2)
	var want []int
	for n := range 50 {
		a.must(a.append(busy, owner, uint64(n), action(n)))
		want = append(want, n)
		if n%7 == 0 {
			b.expectPast(busy, want...)
		}
	}
	a.waitFor("the first groups are settled and removed", func() bool {
		messages, records := a.tailOf(SlotOf(idle))
		return messages < 30 && records < 30
	})
	for _, name := range names[:1] {
		a.waitUntilSettled(name)
	}
	b.expectPast(idle, 1)
	b.expectPast(busy, want...)
	for _, c := range []client{a, b, a} {
		c.expect(idle, ownerOf(2, 1), 1)
		c.expect(other, ownerOf(2, 1), 1, 2)
		c.expect(busy, ownerOf(2, 1), want...)
	}
	a.must(a.append(busy, ownerOf(2, 1), 50, action(50)))
	b.expectPast(busy, append(want, 50)...)
	for _, name := range names {
		checkChain(t, a.s, name)
	}
	if st := a.s.Stats(); st.Settlings == 0 || st.Copies == 0 || st.Copies > 10 {
		t.Errorf("the groups were settled %d times, in %d messages", st.Settlings, st.Copies)
	}
}

// A group that is old is settled also if nothing is written any more.
func TestAnOldTailIsSettled(t *testing.T) {
	o := shared(t).options(newName())
	o.settling = settling{bytes: 1 << 20, messages: 1 << 20, age: time.Millisecond}
	c, owner := client{t, openStore(t, o)}, ownerOf(1, 1)
	c.must(c.install("a", owner, setup()))
	c.must(c.append("a", owner, 0, action(1)))
	c.waitUntilSettled("a")
	c.expectPast("a", 1)
	c.expect("a", owner, 1)
}

// A base names the first message that it needs. Groups behind the base may have been settled before it
// is stored, in one message with groups that the base contains.
func TestABaseBehindWhichGroupsAreSettled(t *testing.T) {
	for _, isSettled := range []bool{true, false} {
		t.Run(fmt.Sprint("settled ", isSettled), func(t *testing.T) {
			o := shared(t).options(newName())
			o.settling = settling{bytes: 1 << 20, messages: 5, age: time.Hour}
			c, owner := client{t, openStore(t, o)}, ownerOf(1, 1)
			c.must(c.install("a", owner, setup()))
			want := []int{1, 2, 3, 4}
			for n := range want {
				c.must(c.append("a", owner, uint64(n), action(n+1)))
			}
			if isSettled {
				c.must(c.append("a", owner, 4, action(5)))
				want = append(want, 5)
				c.waitUntilSettled("a")
			}
			c.must(c.install("a", owner, journal.Base{Sequence: 2, Snapshot: true, Data: []byte("2"), Core: "core"}))
			newest := uint64(len(want))
			c.must(c.append("a", owner, newest, action(int(newest)+1)))
			want = append(want, int(newest)+1)
			if stored := c.expect("a", owner, want[2:]...); stored.Sequence != 2 {
				t.Errorf("the base has the sequence %d", stored.Sequence)
			}
			c.expectPast("a", want...)
			again := client{t, openStore(t, o)}
			again.expect("a", ownerOf(2, 1), want[2:]...)
			again.must(again.install("a", ownerOf(2, 1), journal.Base{Sequence: 3, Snapshot: true, Data: []byte("3"),
				Core: "core"}))
			again.expect("a", ownerOf(2, 1), want[3:]...)
			again.expectPast("a", want...)
			checkChain(t, again.s, "a")
		})
	}
}

// deathAfter has a store die once it has sent so many messages: nothing that it sends later arrives.
// isDead is closed then.
func deathAfter(s *Store, n int) (isDead chan struct{}) {
	isDead = make(chan struct{})
	var mu sync.Mutex // guards sent
	sent := 0
	seam := func(m *nats.Msg) error {
		mu.Lock()
		defer mu.Unlock()
		if sent++; sent == n+1 {
			close(isDead)
		}
		if sent > n {
			return nil
		}
		return s.conn.nc.PublishMsg(m)
	}
	s.conn.seam.Store(&seam)
	return isDead
}

// A store dies after each single message that it sends, while it appends, settles, installs bases and
// deletes. The next owner finds what was reported as stored, each action once, and goes on.
func TestADeathAtEachStep(t *testing.T) {
	shared(t)
	const steps = 60
	names := namesIn(3*steps, true)
	o := settlingAtOnce(shared(t).options(newName()))
	o.AnswerTimeout = minAnswerTimeout
	var closing sync.WaitGroup
	defer closing.Wait()
	for step := 0; ; step++ {
		if step == steps {
			t.Fatalf("the store has not come to its end after %d messages", steps)
		}
		if deep(step%3, 0) != 0 {
			continue // a sample
		}
		a := client{t, openStore(t, o)}
		mine := names[3*step : 3*step+3]
		// What is known of the three engines: the actions that were reported as stored, and the one that
		// may be stored.
		var mu sync.Mutex // guards these, since the store is left alone when it has died
		stored, pending, isDeleted := map[string][]int{}, map[string]int{}, map[string]bool{}
		isOver := make(chan struct{})
		isDead := deathAfter(a.s, step)
		go func() {
			defer close(isOver)
			owner := ownerOf(1, 1)
			for _, name := range mine {
				if a.install(name, owner, setup()) != nil {
					return
				}
				mu.Lock()
				stored[name] = []int{}
				mu.Unlock()
			}
			for n := range 4 {
				for _, name := range mine[:3-n%2] {
					mu.Lock()
					newest := len(stored[name])
					pending[name] = n + 1
					mu.Unlock()
					if a.append(name, owner, uint64(newest), action(n+1)) != nil {
						return
					}
					mu.Lock()
					stored[name] = append(stored[name], n+1)
					delete(pending, name)
					mu.Unlock()
				}
				base := journal.Base{Sequence: 1, Snapshot: true, Data: []byte("1"), Core: "core"}
				if n == 2 && a.install(mine[0], owner, base) != nil {
					return
				}
			}
			mu.Lock()
			isDeleted[mine[2]] = true // or not
			mu.Unlock()
			_ = a.delete(mine[2])
		}()
		isEnd := false
		select {
		case <-isOver:
			isEnd = true
		case <-isDead:
		}
		closing.Go(func() { _ = a.s.Close() })
		b := client{t, openStore(t, o)}
		mu.Lock()
		for _, name := range mine {
			if stored[name] == nil {
				continue
			}
			got, err := b.load(name, ownerOf(2, 1))
			b.must(err)
			if got == nil {
				if !isDeleted[name] {
					t.Fatalf("step %d: the engine %s is gone", step, name)
				}
				continue
			}
			want := stored[name]
			have := numbersOf(t, got.Entries)
			if n := pending[name]; n > 0 && uint64(len(want)) < got.Sequence+uint64(len(have)) {
				want = append(want, n)
			}
			if !slices.Equal(have, want[got.Sequence:]) {
				t.Fatalf("step %d: the engine %s has %v behind %d, want %v", step, name, have, got.Sequence, want)
			}
			b.must(b.append(name, ownerOf(2, 1), uint64(len(want)), action(9)))
			b.waitUntilSettled(name)
			b.expectPast(name, append(slices.Clone(want), 9)...)
			checkChain(t, b.s, name)
		}
		mu.Unlock()
		closing.Go(func() { _ = b.s.Close() })
		if isEnd {
			t.Logf("the store sends %d messages", step)
			return
		}
	}
}

// Another store takes the slot over while the batch that settles its tail is on its way.
func TestTakenOverWhileSettling(t *testing.T) {
	for _, isStored := range []bool{true, false} {
		t.Run(fmt.Sprint("stored ", isStored), func(t *testing.T) {
			o := shared(t).options(newName())
			o.AnswerTimeout = 200 * time.Millisecond
			o.settling = settling{bytes: 1 << 20, messages: 4, age: time.Hour}
			a, b := client{t, openStore(t, o)}, client{t, openStore(t, o)}
			names, owner := namesIn(2, true), ownerOf(1, 1)
			f := inject(a.s)
			for _, name := range names {
				a.must(a.install(name, owner, setup()))
				a.must(a.append(name, owner, 0, action(1)))
				a.must(a.append(name, owner, 1, action(2)))
			}
			// The settling goes with this append, or behind it.
			met := make(chan struct{})
			var once sync.Once
			meet := func(f *faults, m *nats.Msg) error {
				once.Do(func() { close(met) })
				if isStored {
					return answerIsLost(f, m)
				}
				return holdBack(f, m)
			}
			f.add(meet, meet)
			ended := make(chan error, 1)
			a.s.Append(names[0], owner, 2, []journal.Record{action(3)},
				journal.DoneFunc(func(err error) { ended <- err }))
			<-met
			a.must(a.s.conn.nc.Flush())
			stored, err := b.load(names[0], ownerOf(2, 1))
			b.must(err)
			b.must(f.release()) // too late
			want := numbersOf(t, stored.Entries)
			b.must(b.append(names[0], ownerOf(2, 1), stored.Count, action(7)))
			want = append(want, 7)
			err = <-ended
			isThere := slices.Contains(want, 3)
			if isThere && err != nil || !isThere && !errors.Is(err, journal.ErrNotOwner) {
				t.Errorf("the append of the former owner: %v, and the journal has %v", err, want)
			}
			b.expectPast(names[0], want...)
			b.expectPast(names[1], 1, 2)
			a.expect(names[0], ownerOf(1, 2), want...)
			a.expect(names[1], ownerOf(1, 2), 1, 2)
			for _, name := range names {
				checkChain(t, a.s, name)
			}
		})
	}
}

// A message that comes to the servers twice counts once, wherever it lies.
func TestSentTwice(t *testing.T) {
	for _, settling := range []settling{
		{bytes: 1, messages: 1, age: time.Hour}, {bytes: 1 << 20, messages: 6, age: time.Hour},
	} {
		o := shared(t).options(newName())
		o.settling = settling
		c, owner := client{t, openStore(t, o)}, ownerOf(1, 1)
		f := inject(c.s)
		twice := func(f *faults, m *nats.Msg) error {
			if err := f.s.conn.nc.PublishMsg(m); err != nil {
				return err
			}
			return f.s.conn.nc.PublishMsg(m)
		}
		f.add(slices.Repeat([]fault{twice}, 100)...)
		names := namesIn(2, true)
		for _, name := range names {
			c.must(c.install(name, owner, setup()))
		}
		var want []int
		for n := range 10 {
			for _, name := range names {
				c.must(c.append(name, owner, uint64(n), action(n)))
			}
			want = append(want, n)
			if n == 4 {
				base := journal.Base{Sequence: 3, Snapshot: true, Data: []byte("3"), Core: "core"}
				c.must(c.install(names[0], owner, base))
			}
		}
		again := client{t, openStore(t, o)}
		for _, c := range []client{c, again, c} {
			c.expect(names[0], ownerOf(2, 1), want[3:]...)
			c.expect(names[1], ownerOf(2, 1), want...)
			for _, name := range names {
				c.must(c.append(name, ownerOf(2, 1), uint64(len(want)), action(len(want))))
			}
			want = append(want, len(want))
			for _, name := range names {
				c.expectPast(name, want...)
			}
		}
	}
}

// The servers refuse the second attempt of a batch whose first one is stored. The refusal tells only of
// the second one.
func TestARefusalAfterAnEarlierAttempt(t *testing.T) {
	s, f := quickStore(t)
	c, owner := client{t, s}, ownerOf(1, 1)
	storedAndDenied := func(f *faults, m *nats.Msg) error {
		if err := answerIsLost(f, m); err != nil {
			return err
		}
		return noResponders(f, m)
	}
	f.add(storedAndDenied, answered(400, codeWrongSequence))
	c.must(c.install("a", owner, setup()))
	f.add(storedAndDenied, answered(400, codeWrongSequence))
	c.must(c.append("a", owner, 0, action(1)))
	f.add(storedAndDenied, answered(400, codeWrongSequence))
	c.must(c.install("a", owner, journal.Base{Sequence: 1, Snapshot: true, Data: []byte("1"), Core: "core"}))
	c.must(c.append("a", owner, 1, action(2)))
	c.expect("a", owner, 2)
	c.expectPast("a", 1, 2)
	checkChain(t, s, "a")
}

// A load reads, and another store acquires the slot and writes meanwhile. What that store has written
// was not stored by this one: the load begins anew, and acquires the slot.
func TestALoadThatReadsOfTheNextOwner(t *testing.T) {
	a, b := twoStores(t)
	const name = "a"
	a.must(a.install(name, ownerOf(1, 1), setup()))
	subject := a.s.layout.engineSubject(SlotOf(name), name)
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	seam := func(m *nats.Msg) error {
		if strings.HasPrefix(m.Subject, "$JS.API.DIRECT.GET.") && strings.Contains(string(m.Data), subject) {
			isFirst := false
			once.Do(func() { isFirst = true })
			if isFirst {
				close(reading)
				<-goOn
			}
		}
		return a.s.conn.nc.PublishMsg(m)
	}
	a.s.conn.seam.Store(&seam)
	ended := make(chan *journal.Stored, 1)
	a.s.Load(name, ownerOf(1, 2), func(stored *journal.Stored, err error) {
		if err != nil {
			t.Error(err)
		}
		ended <- stored
	})
	<-reading
	b.expect(name, ownerOf(2, 1))
	b.must(b.append(name, ownerOf(2, 1), 0, action(1)))
	b.must(b.install(name, ownerOf(2, 1), journal.Base{Sequence: 1, Snapshot: true, Data: []byte("1"), Core: "core"}))
	close(goOn)
	stored := <-ended
	if stored == nil || stored.Sequence != 1 {
		t.Fatalf("the load: %+v", stored)
	}
	a.must(a.append(name, ownerOf(1, 2), 1, action(2)))
	wantError(t, "an append of the former owner", b.append(name, ownerOf(2, 1), 1, action(3)), journal.ErrNotOwner)
	checkChain(t, a.s, name)
}

// A damaged record of a tail breaks its engine alone, a damaged head the slot.
func TestDamageInATail(t *testing.T) {
	for _, where := range []string{"a record", "the head", "the copy of the head", "the head and its copy"} {
		t.Run(where, func(t *testing.T) {
			o := shared(t).options(newName())
			a := client{t, openStore(t, o)}
			names, owner := namesIn(2, true), ownerOf(1, 1)
			for _, name := range names {
				a.must(a.install(name, owner, setup()))
				a.must(a.append(name, owner, 0, action(1)))
			}
			elsewhere := namesIn(2, false)[1]
			a.must(a.install(elsewhere, owner, setup()))
			slot := SlotOf(names[0])
			subject := a.s.layout.tailSubject(slot)
			list, _, err := a.s.conn.read(t.Context(), a.s.streams[0].name, query{Next: subject, Seq: 1, Batch: 10},
				readSilence)
			a.must(err)
			last := list[len(list)-1]
			u, err := readBundle(last.data, kindTail, subject)
			a.must(err)
			u.id, u.previous = a.s.newID(), last.at
			b := u.appendTo(nil, subject)
			inCopy := len(headCopy(b)) + 4
			switch where {
			case "a record":
				b[len(b)-inCopy-3] ^= 4
			case "the head":
				b[1] ^= 4
			case "the copy of the head":
				b[len(b)-inCopy+11] ^= 4
			default:
				b[11] ^= 4
				b[len(b)-inCopy+11] ^= 4
			}
			_, err = a.s.conn.write(t.Context(), &nats.Msg{Subject: subject, Data: b}, DefaultPatience)
			a.must(err)
			again := client{t, openStore(t, o)}
			if where == "the head" || where == "the copy of the head" {
				again.expect(names[1], ownerOf(2, 1), 1) // one of the two is enough
				again.expectPast(names[1], 1)
				again.must(again.append(names[1], ownerOf(2, 1), 1, action(2)))
				a.expect(names[1], ownerOf(1, 2), 1, 2)
				return
			}
			_, err = again.load(names[1], ownerOf(2, 1))
			wantError(t, "a load", err, journal.ErrDamaged)
			_, err = again.loadAt(names[1], 1)
			wantError(t, "LoadAt", err, journal.ErrDamaged)
			answer := make(chan int, 1)
			again.s.List("", "", 10, func(page []journal.Info, err error) {
				again.must(err)
				answer <- len(page)
			})
			if n := <-answer; n != 3 {
				t.Errorf("%d engines are listed, want 3", n)
			}
			again.expect(elsewhere, ownerOf(2, 1))
			if where != "a record" {
				return
			}
			again.expect(names[0], ownerOf(2, 1), 1)
			again.must(again.append(names[0], ownerOf(2, 1), 1, action(2)))
			again.must(again.delete(names[1]))
			again.must(again.install(names[1], ownerOf(2, 1), setup()))
			again.must(again.append(names[1], ownerOf(2, 1), 0, action(5)))
			for _, c := range []client{again, a} {
				c.expect(names[0], ownerOf(2, 2), 1, 2)
				c.expect(names[1], ownerOf(2, 2), 5)
				c.expectPast(names[1], 5)
			}
		})
	}
}

func FuzzReadBundle(f *testing.F) {
	r := record{kind: kindGroup, ordinal: 2}
	for _, u := range []bundle{
		{kind: kindTail, previous: 7, settled: 3, drops: []string{"a"},
			records: []bundled{{token: "b", data: r.appendTo(nil, "s")}}},
		{kind: kindTail},
		{kind: kindCopies, records: []bundled{{data: r.appendTo(nil, "s")}, {data: r.appendTo(nil, "s")}}},
	} {
		f.Add(u.appendTo(nil, "s"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []recordKind{kindTail, kindCopies} {
			u, err := readBundle(b, kind, "s")
			if err != nil {
				continue
			}
			again, err := readBundle(u.appendTo(nil, "s"), kind, "s")
			if err != nil || len(again.records) != len(u.records) || again.settled != u.settled || again.id != u.id {
				t.Fatalf("%+v, written and read again: %+v, %v", u, again, err)
			}
		}
		if list, err := readMessage(&message{"s", 1, b}); err == nil && len(list) == 0 {
			t.Fatal("a message without a record")
		}
	})
}

// A batch in doubt writes to an engine whose groups were settled since it was loaded. What was settled is
// not taken for what the batch has.
func TestADoubtBehindWhatIsSettled(t *testing.T) {
	o := settlingAtOnce(shared(t).options(newName()))
	o.AnswerTimeout = 150 * time.Millisecond
	s := openStore(t, o)
	c, owner, f := client{t, s}, ownerOf(1, 1), inject(s)
	c.must(c.install("a", owner, setup()))
	c.must(c.append("a", owner, 0, action(1)))
	c.must(c.append("a", owner, 1, action(2)))
	c.waitUntilSettled("a")
	f.add(answerIsLost)
	c.must(c.install("a", owner, journal.Base{Sequence: 1, Snapshot: true, Data: []byte("1"), Core: "core"}))
	c.expect("a", owner, 2)
	c.expectPast("a", 1, 2)
	checkChain(t, s, "a")
	f.add(lostOnTheWay)
	c.must(c.install("a", owner, marker(3)))
	c.expect("a", owner)
	checkChain(t, s, "a")
}

// A reader reads the tail, then groups are settled, then it reads the engine's subject. The groups are in
// both, and count once.
func TestSettledBetweenTwoReadings(t *testing.T) {
	o := shared(t).options(newName())
	o.settling = settling{bytes: 1 << 20, messages: 3, age: time.Hour}
	a, b := client{t, openStore(t, o)}, client{t, openStore(t, o)}
	const name = "a"
	owner := ownerOf(1, 1)
	a.must(a.install(name, owner, setup()))
	a.must(a.append(name, owner, 0, action(1)))
	a.must(a.append(name, owner, 1, action(2)))
	subject := a.s.layout.engineSubject(SlotOf(name), name)
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	seam := func(m *nats.Msg) error {
		if strings.HasPrefix(m.Subject, "$JS.API.DIRECT.GET.") && strings.Contains(string(m.Data), subject) {
			once.Do(func() {
				close(reading)
				<-goOn
			})
		}
		return b.s.conn.nc.PublishMsg(m)
	}
	b.s.conn.seam.Store(&seam)
	ended := make(chan error, 1)
	go func() {
		stored, err := b.loadAt(name, 2)
		if err == nil && stored.Count != 2 {
			err = fmt.Errorf("the state at 2 has %d entries", stored.Count)
		}
		ended <- err
	}()
	<-reading
	a.must(a.append(name, owner, 2, action(3)))
	a.waitUntilSettled(name)
	close(goOn)
	b.must(<-ended)
	b.expectPast(name, 1, 2, 3)
}
