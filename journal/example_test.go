package journal_test

import (
	"errors"
	"fmt"
	"time"

	"hypertoken/journal"
)

// measuredStore is a store that notes how long each append took and how it ended.
type measuredStore struct {
	journal.Store // all other calls are passed on as they are
	log           func(name string, records int, took time.Duration, err error)
}

func (s *measuredStore) Append(
	name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done,
) {
	began, records := time.Now(), len(group)
	s.Store.Append(name, owner, after, group, journal.DoneFunc(func(err error) {
		// The group is the host's again once done is told. So all that is needed of it was noted
		// before.
		s.log(name, records, time.Since(began), err)
		done.Report(err)
	}))
}

// A store that wraps another one sees how the calls end that it passes on. An application would
// hand it to a host as host.Options.Store; here it is called as a host would.
func Example_wrapper() {
	store := &measuredStore{journal.NewMemory(), func(name string, records int, _ time.Duration, err error) {
		fmt.Printf("%s, %d records: %v\n", name, records, err)
	}}
	owner := journal.Owner{Host: [16]byte{1}, Number: 1}
	store.Install("game", owner, journal.Base{Data: []byte("setup")}, journal.Done{})

	action := journal.AppendAction(nil, &journal.Action{Now: 1_700_000_000_000}, "stack:draw", nil)
	store.Append("game", owner, 0, []journal.Record{{Action: action}}, journal.Done{})
	store.Append("game", owner, 5, []journal.Record{{Action: action}}, journal.Done{})
	// Output:
	// game, 1 records: <nil>
	// game, 1 records: journal: an append behind the sequence 5, the newest one is 1
}

func ExampleDoneFunc() {
	store := journal.NewMemory()
	ended := make(chan error, 1) // has room, so that a store that reports at once need not wait
	store.Delete("game", journal.DoneFunc(func(err error) { ended <- err }))
	fmt.Println(<-ended)
	// Output: <nil>
}

// appends is told how appends ended, by their numbers.
type appends struct{ inFlight uint64 }

func (a *appends) CallEnded(call uint64, err error) {
	if call == a.inFlight { // others were superseded
		fmt.Println("append", call, "ended:", err)
	}
}

func ExampleDoneFor() {
	store := journal.NewMemory()
	first := journal.Owner{Host: [16]byte{1}, Number: 1}
	store.Install("game", first, journal.Base{}, journal.Done{})
	second := journal.Owner{Host: [16]byte{1}, Number: 2}
	store.Load("game", second, func(*journal.Stored, error) {})

	action := journal.AppendAction(nil, &journal.Action{}, "stack:draw", nil)
	a := &appends{inFlight: 8}
	store.Append("game", first, 0, []journal.Record{{Action: action}}, journal.DoneFor(a, 7)) // superseded
	store.Append("game", second, 0, []journal.Record{{Action: action}}, journal.DoneFor(a, 8))
	// Output: append 8 ended: <nil>
}

func ExampleStore_Load() {
	store := journal.NewMemory()
	first := journal.Owner{Host: [16]byte{1}, Number: 1}
	store.Install("game", first, journal.Base{Data: []byte("setup")}, journal.Done{})
	action := journal.AppendAction(nil, &journal.Action{}, "stack:draw", nil)
	store.Append("game", first, 0, []journal.Record{{Action: action, Checksum: 42}}, journal.Done{})

	second := journal.Owner{Host: [16]byte{2}, Number: 1}
	store.Load("game", second, func(s *journal.Stored, err error) {
		fmt.Printf("%q, %d entries\n", s.Data, s.Count)
	})
	store.Append("game", first, 1, []journal.Record{{Action: action}}, journal.DoneFunc(func(err error) {
		fmt.Println(errors.Is(err, journal.ErrNotOwner))
	}))
	// Output:
	// "setup", 1 entries
	// true
}

func ExampleEntries() {
	draw := journal.AppendAction(nil, &journal.Action{Now: 1000}, "stack:draw", nil)
	reset := journal.AppendAction(nil, &journal.Action{Now: 2000}, "stack:reset", nil)
	stored := journal.Stored{Base: journal.Base{Sequence: 10}, Count: 2}
	stored.Entries = journal.AppendEntry(stored.Entries, draw, 1)
	stored.Entries = journal.AppendEntry(stored.Entries, reset, 2)

	sequence := stored.Sequence
	for entry, err := range journal.Entries(stored.Entries) {
		if err != nil {
			fmt.Println(err)
			return
		}
		sequence++
		fmt.Printf("%d: %s at %d\n", sequence, entry.Type, entry.Now)
	}
	// Output:
	// 11: stack:draw at 1000
	// 12: stack:reset at 2000
}
