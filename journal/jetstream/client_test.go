package jetstream

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hypertoken/journal"
)

// client calls a store, and waits for the end of each call.
type client struct {
	t testing.TB
	s *Store
}

func (c client) append(name string, owner journal.Owner, newest uint64, group ...journal.Record) error {
	ended := make(chan error, 1)
	c.s.Append(name, owner, newest, group, journal.DoneFunc(func(err error) { ended <- err }))
	return <-ended
}

func (c client) install(name string, owner journal.Owner, base journal.Base) error {
	ended := make(chan error, 1)
	c.s.Install(name, owner, base, journal.DoneFunc(func(err error) { ended <- err }))
	return <-ended
}

func (c client) delete(name string) error {
	ended := make(chan error, 1)
	c.s.Delete(name, journal.DoneFunc(func(err error) { ended <- err }))
	return <-ended
}

func (c client) barrier(name string, owner journal.Owner) error {
	ended := make(chan error, 1)
	c.s.Barrier(name, owner, journal.DoneFunc(func(err error) { ended <- err }))
	return <-ended
}

func (c client) load(name string, owner journal.Owner) (stored *journal.Stored, err error) {
	ended := make(chan struct{})
	c.s.Load(name, owner, func(s *journal.Stored, e error) {
		stored, err = s, e
		close(ended)
	})
	<-ended
	return stored, err
}

// waitUntilSettled waits until the slot's tail has nothing of an engine.
func (c client) waitUntilSettled(name string) {
	c.t.Helper()
	token, err := token(name)
	c.must(err)
	slot := SlotOf(name)
	st := c.s.streams[c.s.layout.streamOf(slot)]
	c.waitFor("the engine "+name+" is settled", func() bool {
		answer := make(chan bool, 1)
		st.post(func() {
			sl := st.slots[slot]
			answer <- sl == nil || sl.tail.engines[token] == 0
		})
		return <-answer
	})
}

// waitFor waits until something is true.
func (c client) waitFor(what string, isTrue func() bool) {
	c.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for since := time.Now(); !isTrue(); <-ticker.C {
		if time.Since(since) > time.Minute {
			c.t.Fatalf("after a minute it is not true that %s", what)
		}
	}
}

// settlingAtOnce returns options of a store that settles what is in the tails with the next batch.
func settlingAtOnce(o Options) Options {
	o.settling = settling{bytes: 1, messages: 1, age: time.Minute}
	return o
}

func (c client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// expect fails the test if the journal does not have exactly the actions with these numbers.
func (c client) expect(name string, owner journal.Owner, want ...int) *journal.Stored {
	c.t.Helper()
	s, err := c.load(name, owner)
	c.must(err)
	if s == nil {
		c.t.Fatalf("the name %q is not known", name)
	}
	if got := numbersOf(c.t, s.Entries); !slices.Equal(got, want) {
		c.t.Fatalf("the journal %q has the actions %v, want %v", name, got, want)
	}
	return s
}

// action returns a record that can be told from those of other numbers.
func action(n int) journal.Record {
	a := journal.Action{Now: int64(n)}
	return journal.Record{Action: journal.AppendAction(nil, &a, "test:act", []byte{0xc0}), Checksum: uint64(n)}
}

// numbersOf returns the numbers of actions.
func numbersOf(t testing.TB, entries []byte) (list []int) {
	t.Helper()
	for e, err := range journal.Entries(entries) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, int(e.Now))
	}
	return list
}

func ownerOf(host byte, number uint64) journal.Owner {
	return journal.Owner{Host: [16]byte{host}, Number: number}
}

func setup() journal.Base { return journal.Base{Data: []byte("setup"), Core: "core"} }

// marker returns a base that takes a sequence.
func marker(sequence uint64) journal.Base {
	return journal.Base{Sequence: sequence, IsMarker: true, Snapshot: true, Data: []byte("state"), Core: "core",
		Details: []byte("details")}
}

// wantError fails the test if an error does not wrap another one.
func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

// namesIn returns n names whose slots are all different, or all the same.
func namesIn(n int, isSame bool) (names []string) {
	seen := map[int]bool{}
	for k := 0; len(names) < n; k++ {
		name := fmt.Sprint("engine", k)
		slot := SlotOf(name)
		if len(names) > 0 && isSame != seen[slot] {
			continue
		}
		seen[slot] = true
		names = append(names, name)
	}
	return names
}
