package jetstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// piecesIn returns the subjects of the pieces of a slot.
func (c client) piecesIn(slot int) (list []string) {
	c.t.Helper()
	st := c.s.streams[c.s.layout.streamOf(slot)]
	found, err := c.s.subjects(c.t.Context(), c.s.layout.pieceStream(st.number), c.s.layout.piecesOfSlot(slot)+">")
	c.must(err)
	for subject := range found {
		list = append(list, subject)
	}
	return list
}

// importIn returns a name of an import that is kept together with another name. There is another one for
// each number.
func importIn(name string, number int) string {
	for k := 0; ; k++ {
		if hidden := fmt.Sprint(journal.ImportPrefix, number, "-", k); SlotOf(hidden) == SlotOf(name) {
			return hidden
		}
	}
}

// imports returns the names of the imports that are not complete.
func (c client) imports() (names []string) {
	c.t.Helper()
	ended := make(chan []journal.Info, 1)
	c.s.List(journal.ImportPrefix, "", 100, func(page []journal.Info, err error) {
		if err != nil {
			c.t.Error(err)
		}
		ended <- page
	})
	for _, info := range <-ended {
		names = append(names, info.Name)
	}
	return names
}

// A store dies and leaves imports and pieces without a record. The next owner of their slot removes them,
// and nothing else.
func TestWhatADeadStoreHasLeft(t *testing.T) {
	o := settlingAtOnce(shared(t).options(newName()))
	o.AnswerTimeout = minAnswerTimeout
	a := client{t, openStore(t, o)}
	a.s.baseSize = 1000
	names, owner := namesIn(4, true), ownerOf(1, 1)
	slot, dead, alive := SlotOf(names[0]), importIn(names[0], 1), importIn(names[0], 2)
	// The pieces of the first engine are in use, and are not those of its newest base.
	a.must(a.install(names[0], owner, bulkyBase(0, 3000)))
	a.must(a.append(names[0], owner, 0, action(1)))
	a.must(a.install(names[0], owner, bulkyBase(1, 4000)))
	a.must(a.append(names[0], owner, 1, action(2)))
	a.must(a.install(names[0], owner, bulkyBase(2, 10)))
	a.must(a.install(names[1], owner, bulkyBase(0, 3000)))
	a.must(a.append(names[1], owner, 0, action(1)))
	a.must(a.install(dead, owner, bulkyBase(0, 3000)))
	a.must(a.append(dead, owner, 0, action(1)))
	for _, name := range []string{names[0], names[1], dead} {
		a.waitUntilSettled(name)
	}
	used := len(a.piecesIn(slot))
	if used != 4 {
		t.Fatalf("the pieces are %v", a.piecesIn(slot))
	}
	// From now on it writes pieces, and nothing else: those of a base, and those of a creation.
	seam := func(m *nats.Msg) error {
		if strings.HasPrefix(m.Subject, o.Name+".j.") {
			return nil
		}
		return a.s.conn.nc.PublishMsg(m)
	}
	a.s.conn.seam.Store(&seam)
	defer a.s.conn.seam.Store(nil) // so that it can be closed
	a.s.Install(names[1], owner, bulkyBase(1, 5000), journal.Done{})
	a.s.Install(names[2], owner, bulkyBase(0, 5000), journal.Done{})
	a.waitFor("the pieces are written", func() bool { return len(a.piecesIn(slot)) == used+2 })

	o.sweepAfter, o.AnswerTimeout = time.Nanosecond, DefaultAnswerTimeout
	b := client{t, openStore(t, o)}
	b.s.baseSize = 1000
	b.must(b.install(alive, ownerOf(2, 1), bulkyBase(0, 3000)))
	b.must(b.install(names[3], ownerOf(2, 1), bulkyBase(0, 3000)))
	b.waitFor("the import of the former owner is gone", func() bool {
		return slices.Equal(b.imports(), []string{alive})
	})
	// The dead import's pieces are gone, and there are those of what the present owner has created.
	b.waitFor("the pieces without a record are gone", func() bool { return len(b.piecesIn(slot)) == used-1+2 })
	b.expect(names[1], ownerOf(2, 1), 1)
	for at := range uint64(3) {
		if s, err := b.loadAt(names[0], at); err != nil || s == nil || s.Sequence != at {
			t.Errorf("the state at %d: %v, %v", at, s, err)
		}
	}
	b.must(b.append(alive, ownerOf(2, 1), 0, action(1)))
	b.expect(alive, ownerOf(2, 2), 1)
	b.expect(names[3], ownerOf(2, 1))
}
