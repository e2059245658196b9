package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/journal"
)

// A history is read in pieces, from where the store keeps it, with the keys of its actions.
func TestHistory(t *testing.T) { everywhere(t, testHistory) }

func testHistory(t *testing.T) {
	h := newHost(t, host.Options{SnapshotBytes: 1 << 20})
	e := open(t, h, "e", deck(5))
	padding := strings.Repeat("x", 10_000) // 60 actions are several pieces
	for k := range 60 {
		dispatch(t, e, "debug:log", dict{"note": fmt.Sprint(k, padding)}, host.Key(fmt.Sprint("key ", k)))
	}
	batch := []host.Action{{Type: "stack:draw"}, {Type: "stack:peek"}, {Type: "stack:reverse"}}
	if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, batch, host.Key("of the batch")); err != nil {
		t.Fatal(err)
	}
	dispatch(t, e, "stack:draw", nil, host.Key("the last"))
	if n := e.Newest(); n != 63 {
		t.Fatalf("the newest sequence is %d", n)
	}
	read := func(from, to uint64) (list []host.Entry) {
		t.Helper()
		for entry, err := range e.History(t.Context(), from, to) {
			if err != nil {
				t.Fatal(err)
			}
			if entry.Note != nil {
				if entry.Note.Key != "of the batch" || entry.Sequence != 62 {
					t.Errorf("a note at %d of the key %q", entry.Sequence, entry.Note.Key)
				}
				continue
			}
			list = append(list, entry)
		}
		return list
	}
	all := read(1, 0)
	if len(all) != 63 {
		t.Fatalf("%d entries", len(all))
	}
	for k, entry := range all {
		want := fmt.Sprint("key ", k)
		switch {
		case k == 62:
			want = "the last"
		case k >= 60:
			want = ""
		}
		if entry.Sequence != uint64(k+1) || entry.Key != want || entry.Type == "" || entry.Checksum == 0 {
			t.Errorf("entry %d: %d, %s, the key %q, want %q", k, entry.Sequence, entry.Type, entry.Key, want)
		}
	}
	for _, c := range []struct{ from, to, first, n uint64 }{{1, 1, 1, 1}, {30, 40, 30, 11}, {63, 63, 63, 1},
		{61, 0, 61, 3}, {64, 63, 0, 0}, {64, 0, 0, 0}, {5, 4, 0, 0}} {
		list := read(c.from, c.to)
		if uint64(len(list)) != c.n || (c.n > 0 && list[0].Sequence != c.first) {
			t.Errorf("from %d to %d: %d entries", c.from, c.to, len(list))
		}
	}
	for range e.History(t.Context(), 1, 0) {
		break // a caller that has read enough
	}
	for _, c := range []struct{ from, to uint64 }{{0, 0}, {0, 5}, {65, 0}, {1, 64}, {6, 4}} {
		if err := firstError(e.History(t.Context(), c.from, c.to)); !errors.Is(err, host.ErrBadInput) ||
			!strings.Contains(err.Error(), "1 to 63") {
			t.Errorf("from %d to %d: %v", c.from, c.to, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	blind := open(t, newHost(t, host.Options{Store: struct{ journal.Store }{journal.NewMemory()}}), "e", deck(5))
	dispatch(t, blind, "stack:draw", nil)
	if err := firstError(blind.History(ended, 1, 0)); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("a store without history: %v", err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := firstError(e.History(t.Context(), 1, 0)); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("a closed engine: %v", err)
	}
	if _, _, err := e.JournalAt(t.Context(), 0); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("a closed engine: %v", err)
	}
}

func firstError(entries func(yield func(host.Entry, error) bool)) error {
	for _, err := range entries {
		if err != nil {
			return err
		}
	}
	return nil
}

// An engine goes on elsewhere from a snapshot and what follows it, with its sequence and its keys.
func TestAnEngineGoesOnFromASnapshot(t *testing.T) { everywhere(t, testAnEngineGoesOnFromASnapshot) }

func testAnEngineGoesOnFromASnapshot(t *testing.T) {
	h := newHost(t, host.Options{SnapshotBytes: 4000})
	e := open(t, h, "e", deck(5))
	first := dispatch(t, e, "stack:peek", nil, host.Key("k"))
	for range 200 {
		dispatch(t, e, "stack:shuffle", nil)
	}
	base, _, err := e.JournalAt(t.Context(), e.Newest())
	if err != nil || !base.Snapshot || base.Sequence == 0 || base.Core != h.CoreHash() {
		t.Fatalf("a base of the sequence %d, %v", base.Sequence, err)
	}
	oldest, _, err := e.JournalAt(t.Context(), 0)
	if err != nil || oldest.Sequence > base.Sequence {
		t.Errorf("the oldest base has the sequence %d, the newest %d, %v", oldest.Sequence, base.Sequence, err)
	}
	if err := firstError(e.History(t.Context(), 1, 0)); !errors.Is(err, host.ErrHistoryTrimmed) {
		t.Errorf("what the store does not keep: %v", err)
	}
	other := newHost(t, host.Options{})
	copied, err := other.Open(t.Context(), "copy", host.EngineOptions{Snapshot: &base})
	if err != nil {
		t.Fatal(err)
	}
	for entry, err := range e.History(t.Context(), base.Sequence+1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		dispatch(t, copied, entry.Type, host.Raw(entry.Payload), host.Entropy(entry.Entropy))
	}
	if digest(t, copied) != digest(t, e) || copied.Newest() != e.Newest() {
		t.Errorf("it has the sequence %d, want %d, or another digest", copied.Newest(), e.Newest())
	}
	if r := dispatch(t, copied, "stack:peek", nil, host.Key("k")); r.Sequence != first.Sequence {
		t.Errorf("the key is forgotten: %d", r.Sequence)
	}
	if err := copied.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if copied = open(t, other, "copy", nil); digest(t, copied) != digest(t, e) {
		t.Error("opened again, it differs")
	}
	if r := dispatch(t, copied, "stack:peek", nil, host.Key("k")); r.Sequence != first.Sequence {
		t.Errorf("opened again, the key is forgotten: %d", r.Sequence)
	}
	for name, o := range map[string]host.EngineOptions{
		"two beginnings":       {Setup: deck(1), Snapshot: &base},
		"a setup that is late": {Snapshot: &journal.Base{Sequence: 5}},
		"a key of the future": {Snapshot: &journal.Base{Snapshot: true, KeyNumber: 1, Keys: []journal.KeyRecord{
			{Number: 1, Sequence: 1}}}},
		"numbers that fall": {Snapshot: &journal.Base{Snapshot: true, KeyNumber: 2, Keys: []journal.KeyRecord{
			{Number: 2}, {Number: 1}}}},
		"a number that is too large": {Snapshot: &journal.Base{Snapshot: true, Keys: []journal.KeyRecord{{Number: 1}}}},
	} {
		if _, err := other.Open(t.Context(), "other", o); !errors.Is(err, host.ErrBadInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	damaged := base
	damaged.Data = append([]byte(nil), base.Data[:len(base.Data)/2]...)
	if _, err := other.Open(t.Context(), "other", host.EngineOptions{Snapshot: &damaged}); err == nil {
		t.Error("half a snapshot is opened")
	}
}
