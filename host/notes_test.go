package host_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/journal"
)

// What is remembered of a batch that had a key is in the history, behind the entry that it followed,
// and an import has it.
func TestNotesAreInTheHistory(t *testing.T) {
	h := newHost(t, host.Options{Store: keepAll()})
	e := open(t, h, "e", deck(20))
	shuffle, peek := host.Action{Type: "stack:shuffle"}, host.Action{Type: "stack:peek"}
	bad := host.Action{Type: "no:such"}
	var first []string
	batches := []struct {
		key     string
		mode    host.BatchMode
		members []host.Action
	}{
		{"at the beginning", host.BatchAtomic, []host.Action{peek}},
		{"of two", host.BatchIndependent, []host.Action{shuffle, bad, shuffle, peek}},
		{"that only looks", host.BatchIndependent, []host.Action{bad, peek}},
		{"of one", host.BatchAtomic, []host.Action{peek, shuffle}},
		{"behind a marker", host.BatchAtomic, []host.Action{peek}},
	}
	run := func(e *host.Engine, k int) string {
		b := batches[k]
		return outcomesOf(e.DispatchBatch(t.Context(), b.mode, b.members, host.Key(b.key)))
	}
	for k := range batches {
		if k == 4 {
			if _, err := e.Undo(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		first = append(first, run(e, k))
		dispatch(t, e, "stack:peek", nil)
	}
	dispatch(t, e, "stack:draw", nil, host.Key("an action's"))
	base, entries, err := e.JournalAt(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []host.Entry
	for entry, err := range entries {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, entry)
	}
	if len(list) != 1 || list[0].Note == nil || list[0].Note.Key != "at the beginning" {
		t.Errorf("behind the setup: %+v", list)
	}
	for entry, err := range e.History(t.Context(), 1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, entry)
	}
	var is []string
	for _, entry := range list {
		switch {
		case entry.Note != nil:
			is = append(is, fmt.Sprintf("%d note %s", entry.Sequence, entry.Note.Key))
		case entry.Marker != nil:
			is = append(is, fmt.Sprintf("%d %s", entry.Sequence, entry.Marker.Kind))
		default:
			is = append(is, strings.TrimSpace(fmt.Sprintf("%d %s %s", entry.Sequence, entry.Type, entry.Key)))
		}
	}
	want := []string{"0 note at the beginning", "1 stack:shuffle", "2 stack:shuffle", "2 note of two",
		"2 note that only looks", "3 stack:shuffle", "3 note of one", "4 revert", "4 note behind a marker",
		"5 stack:draw an action's"}
	if !slices.Equal(is, want) {
		t.Fatalf("the history is %q, want %q", is, want)
	}

	to := newHost(t, host.Options{Store: keepAll()})
	i, err := to.Import(t.Context(), "copy", base)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		if err := i.Add(t.Context(), entry); err != nil {
			t.Fatalf("%+v: %v", entry, err)
		}
	}
	if _, err := i.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := open(t, to, "copy", nil)
	check := func(what string) {
		t.Helper()
		at, err := c.Position(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for k := range batches {
			if again := run(c, k); again != first[k] {
				t.Errorf("%s, %s: the copy answers %s, the first answer was %s", what, batches[k].key, again, first[k])
			}
		}
		if now, err := c.Position(t.Context()); err != nil || now != at {
			t.Errorf("%s: a repetition had an effect: %v, %v, before %v", what, now, err, at)
		}
	}
	if digest(t, c) != digest(t, e) {
		t.Error("the copy has another state")
	}
	check("as it was imported")
	dispatch(t, c, "game:setProperty", dict{"key": "k", "value": strings.Repeat("long", 5_000)}) // worth a snapshot
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = open(t, to, "copy", nil)
	check("from a snapshot")
}

// A note that no batch leaves, or that belongs elsewhere, is refused, and has no effect.
func TestNotesThatAreRefused(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:draw", nil, host.Key("taken"))
	outcome := []byte{0xc3, 0xa0} // not the array that an outcome is
	for name, c := range map[string]struct {
		note journal.KeyRecord
		want error
	}{
		"another sequence": {journal.KeyRecord{Key: "k", Sequence: 2}, host.ErrDiverged},
		"no key":           {journal.KeyRecord{Sequence: 1}, host.ErrBadInput},
		"a long key":       {journal.KeyRecord{Key: strings.Repeat("k", 257), Sequence: 1}, host.ErrBadInput},
		"a host's own key": {journal.KeyRecord{Key: "\x00k", Sequence: 1}, host.ErrBadInput},
		"no outcome":       {journal.KeyRecord{Key: "k", Sequence: 1, Result: outcome}, host.ErrBadInput},
		"a key of another": {journal.KeyRecord{Key: "taken", Sequence: 1}, host.ErrKeyReused},
	} {
		if err := e.AddNote(t.Context(), &c.note); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := e.AddNote(t.Context(), &journal.KeyRecord{Key: "k", Sequence: 1}); err != nil {
		t.Errorf("a note of an empty batch: %v", err)
	}
	if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 2 {
		t.Errorf("the next action has the sequence %d", r.Sequence)
	}
}
