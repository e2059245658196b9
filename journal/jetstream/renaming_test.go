package jetstream

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

func (c client) rename(from, to string, owner journal.Owner) error {
	ended := make(chan error, 1)
	c.s.Rename(from, to, owner, journal.DoneFunc(func(err error) { ended <- err }))
	return <-ended
}

// bulky returns an action with a payload of so many bytes.
func bulky(n, size int) journal.Record {
	a := journal.Action{Now: int64(n)}
	payload := append([]byte{0xc6, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)},
		bytes.Repeat([]byte{byte(n)}, size)...)
	return journal.Record{Action: journal.AppendAction(nil, &a, "test:act", payload), Checksum: uint64(n)}
}

// bulkyBase returns a snapshot of so many bytes.
func bulkyBase(sequence uint64, size int) journal.Base {
	return journal.Base{Sequence: sequence, Snapshot: true, Core: "core",
		Data: bytes.Repeat([]byte{byte(sequence)}, size)}
}

// A journal with all that a journal can have gets another name: groups and bases in messages and in
// pieces, groups that are settled and those in the tail, groups from before their base, markers.
func TestAJournalIsRenamed(t *testing.T) {
	for _, o := range []struct {
		name string
		o    Options
	}{
		{"while settling", settlingAtOnce(shared(t).options(newName()))},
		{"in the tail", shared(t).options(newName())},
	} {
		t.Run(o.name, func(t *testing.T) {
			s := openStore(t, o.o)
			s.groupSize, s.pieceSize = 2048, 1500 // several messages, with records and with pieces
			c, owner := client{t, s}, ownerOf(1, 1)
			names := namesIn(3, true)
			from, to := names[0], names[1]
			c.must(c.install(from, owner, setup()))
			var want []int
			next := func(r journal.Record) {
				c.must(c.append(from, owner, uint64(len(want)), r))
				want = append(want, len(want)+1)
			}
			for range 3 {
				for _, size := range []int{1, 500, 40, 900, 5000} {
					next(bulky(len(want)+1, size))
				}
				// The base leaves the last two actions behind it.
				c.must(c.install(from, owner, bulkyBase(uint64(len(want)-2), 100+len(want)*40)))
				next(action(len(want) + 1))
			}
			c.must(c.install(from, owner, marker(uint64(len(want)+1))))
			want = append(want, 0)
			next(action(len(want) + 1))
			before, err := c.load(from, owner)
			c.must(err)
			past := c.allParts(from)
			c.must(c.rename(from, to, owner))
			if stored, err := c.load(from, owner); stored != nil || err != nil {
				t.Fatalf("the former name: %v, %v", stored, err)
			}
			after, err := c.load(to, owner)
			c.must(err)
			if fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("the journal was\n%v\nand is\n%v", before, after)
			}
			if got := c.allParts(to); got != past {
				t.Errorf("the history was\n%s\nand is\n%s", past, got)
			}
			for at := range uint64(len(want)) {
				if stored, err := c.loadAt(to, at); stored == nil || stored.Sequence+stored.Count != at {
					t.Errorf("the state at %d: %v, %v", at, stored, err)
				}
			}
			checkChain(t, s, to)
			// The head is right, too: what follows can be loaded.
			newest := uint64(len(want))
			c.must(c.append(to, owner, newest, action(50)))
			c.must(c.install(to, owner, bulkyBase(newest+1, 10)))
			c.must(c.append(to, owner, newest+1, action(51)))
			c.expect(to, owner, 51)
			c.must(c.rename(to, names[2], owner))
			c.must(c.append(names[2], owner, newest+2, action(52)))
			c.expect(names[2], ownerOf(1, 2), 51, 52)
			checkChain(t, s, names[2])
			if page := c.list(); len(page) != 1 || page[0].Name != names[2] {
				t.Errorf("the list has %v", page)
			}
		})
	}
}

// allParts returns the whole history as text.
func (c client) allParts(name string) (text string) {
	c.t.Helper()
	for from := uint64(0); ; {
		ended := make(chan journal.Part, 1)
		c.s.Range(name, from, 1000, func(p journal.Part, err error) {
			if err != nil {
				c.t.Errorf("Range(%q, %d): %v", name, from, err)
			}
			ended <- p
		})
		part := <-ended
		if part.Count == 0 && from > 0 {
			return text
		}
		marker := part.Marker
		part.Marker = nil
		text += fmt.Sprintf("%+v %+v\n", part, marker)
		from = max(1, part.First+part.Count)
	}
}

func (c client) list() []journal.Info {
	c.t.Helper()
	ended := make(chan []journal.Info, 1)
	c.s.List("", "", 100, func(page []journal.Info, err error) {
		if err != nil {
			c.t.Error(err)
		}
		ended <- page
	})
	return <-ended
}

// A store dies after each message of a rename, also in the middle of a batch. Then the journal has one of
// the two names, with all that was stored, and the other name is free.
func TestADeathAtEachStepOfARename(t *testing.T) {
	const steps = 40
	names := namesIn(2*steps, true)
	o := shared(t).options(newName())
	o.AnswerTimeout = minAnswerTimeout
	var closing sync.WaitGroup
	defer closing.Wait()
	for step := 0; ; step++ {
		if step == steps {
			t.Fatalf("the rename has not come to its end after %d messages", steps)
		}
		if deep(step%3, 0) != 0 {
			continue // a sample
		}
		a := client{t, openStore(t, o)}
		a.s.groupSize, a.s.pieceSize = 700, 400
		from, to, owner := names[2*step], names[2*step+1], ownerOf(1, 1)
		a.must(a.install(from, owner, setup()))
		for n, size := range []int{10, 600, 10, 1200, 300} {
			a.must(a.append(from, owner, uint64(n), bulky(n+1, size)))
		}
		isDead := deathAfter(a.s, step)
		ended := make(chan error, 1)
		go func() { ended <- a.rename(from, to, owner) }()
		isEnd := false
		select {
		case err := <-ended:
			a.must(err)
			isEnd = true
		case <-isDead:
		}
		closing.Go(func() { _ = a.s.Close() })
		b := client{t, openStore(t, o)}
		old, err := b.load(from, ownerOf(2, 1))
		b.must(err)
		present, err := b.load(to, ownerOf(2, 1))
		b.must(err)
		if (old == nil) == (present == nil) || isEnd && present == nil {
			t.Fatalf("step %d: the former name has %v, the new one %v", step, old, present)
		}
		name, free := from, to
		if present != nil {
			name, free = to, from
		}
		b.expect(name, ownerOf(2, 2), 1, 2, 3, 4, 5)
		b.expectPast(name, 1, 2, 3, 4, 5)
		if page := b.list(); !isListed(page, name) || isListed(page, free) {
			t.Errorf("step %d: the list has %v, want %s", step, page, name)
		}
		checkChain(t, b.s, name)
		// What is left of the copy is in nobody's way.
		if step/3%2 == 0 {
			b.must(b.rename(name, free, ownerOf(2, 2)))
			b.expect(free, ownerOf(2, 2), 1, 2, 3, 4, 5)
			checkChain(t, b.s, free)
		} else {
			b.must(b.install(free, ownerOf(2, 1), setup()))
			b.expect(free, ownerOf(2, 2))
			checkChain(t, b.s, free)
		}
		closing.Go(func() { _ = b.s.Close() })
		if isEnd {
			t.Logf("a rename sends %d messages", step)
			return
		}
	}
}

func isListed(page []journal.Info, name string) bool {
	for k := range page {
		if page[k].Name == name {
			return true
		}
	}
	return false
}

// Whatever happens to the batches of a rename on their way, it is done once.
func TestFaultsOfARename(t *testing.T) {
	shared(t)
	for name, faults := range map[string][]fault{
		"the batch is lost":                {lostOnTheWay},
		"the answer is lost":               {answerIsLost},
		"lost, then the answer":            {lostOnTheWay, answerIsLost},
		"the batch comes late":             {holdBack},
		"it says that the fence has moved": {answered(400, codeWrongSequence)},
		"an error that tells nothing":      {answered(500, 19999)},
		"each batch in another way": {answerIsLost, lostOnTheWay, holdBack, answerIsLost, answerIsLost,
			holdBack},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is that in which an answer does not come
			s, f := quickStore(t)
			s.groupSize = 300
			c, owner, names := client{t, s}, ownerOf(1, 1), namesIn(2, true)
			c.must(c.install(names[0], owner, setup()))
			for n := range 4 {
				c.must(c.append(names[0], owner, uint64(n), bulky(n+1, 200)))
			}
			f.add(faults...)
			c.must(c.rename(names[0], names[1], owner))
			c.must(f.release())
			c.must(c.append(names[1], owner, 4, action(5)))
			c.expect(names[1], ownerOf(1, 2), 1, 2, 3, 4, 5)
			c.expectPast(names[1], 1, 2, 3, 4, 5)
			checkChain(t, s, names[1])
			if stored, err := c.load(names[0], owner); stored != nil || err != nil {
				t.Errorf("the former name: %v, %v", stored, err)
			}
		})
	}
}

// Another store takes the slot over in the middle of a rename. The rename is refused, and has no effect.
func TestTakenOverWhileRenaming(t *testing.T) {
	a, b := twoStores(t)
	a.s.groupSize = 300
	names := namesIn(2, true)
	a.must(a.install(names[0], ownerOf(1, 1), setup()))
	for n := range 4 {
		a.must(a.append(names[0], ownerOf(1, 1), uint64(n), bulky(n+1, 200)))
	}
	f := inject(a.s)
	asked, goOn := make(chan struct{}), make(chan struct{})
	pass := func(f *faults, m *nats.Msg) error { return f.s.conn.nc.PublishMsg(m) }
	f.add(pass, pass, func(f *faults, m *nats.Msg) error {
		close(asked)
		go func() {
			<-goOn
			_ = noResponders(f, m)
		}()
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- a.rename(names[0], names[1], ownerOf(1, 1)) }()
	<-asked
	b.expect(names[0], ownerOf(2, 1), 1, 2, 3, 4)
	b.must(b.install(names[1], ownerOf(2, 1), setup()))
	close(goOn)
	wantError(t, "the rename", <-ended, journal.ErrNotOwner)
	b.must(b.append(names[1], ownerOf(2, 1), 0, action(7)))
	b.expect(names[0], ownerOf(2, 2), 1, 2, 3, 4)
	b.expect(names[1], ownerOf(2, 2), 7)
	checkChain(t, b.s, names[0])
	checkChain(t, b.s, names[1])
}
