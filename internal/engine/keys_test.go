package engine

import (
	"sync/atomic"
	"testing"

	"hypertoken/journal"
)

// A snapshot takes in the keys up to its sequence, and the store keeps the later ones, forgotten or not.
func TestKeysOfASnapshot(t *testing.T) {
	var keys Keys[int]
	var total atomic.Int64
	var forgotten atomic.Uint64
	keys.Init(2, 1<<20, &total, &forgotten)
	record := func(key string, sequence, number uint64) journal.KeyRecord {
		return journal.KeyRecord{Key: key, Sequence: sequence, Number: number}
	}
	store := journal.NewMemory()
	stored := journal.DoneFunc(func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	install := func(b journal.Base) {
		store.Install("e", journal.Owner{}, b, stored)
	}
	install(journal.Base{})
	// a and b have changed something, the others are batches that have not; c is appended after the snapshot of 1.
	action := journal.AppendAction(nil, &journal.Action{}, "x", nil)
	group := []journal.Record{{Action: action}, {}, {}, {Action: action}, {}}
	list := []journal.KeyRecord{record("a", 1, 1), record("a2", 1, 2), record("a3", 1, 3), record("b", 2, 4),
		record("b2", 2, 5)}
	for k := range group {
		group[k].Keyed = &list[k]
	}
	store.Append("e", journal.Owner{}, 0, group, stored)
	recent := func() (names string) {
		store.Load("e", journal.Owner{}, func(s *journal.Stored, err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range s.Recent {
				names += k.Key + " "
			}
		})
		return names
	}
	for _, c := range []struct {
		remembered   int // of the list, of which the table keeps two
		sequence     uint64
		keys, number int
		recent       string
	}{
		{3, 1, 2, 3, "b b2 "},
		{5, 1, 0, 3, "b b2 "}, // as after a doubt: the later ones are loaded already
		{5, 2, 2, 5, ""},
	} {
		keys.Load(&journal.Stored{Recent: list[:c.remembered]})
		b := journal.Base{Sequence: c.sequence}
		b.Keys, b.KeyNumber = keys.UpTo(c.sequence)
		install(b)
		if len(b.Keys) != c.keys || b.KeyNumber != uint64(c.number) || recent() != c.recent {
			t.Errorf("up to %d of %d: %d keys, number %d, the store keeps %q", c.sequence, c.remembered, len(b.Keys),
				b.KeyNumber, recent())
		}
	}
}
