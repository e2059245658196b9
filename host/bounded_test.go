package host

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"hypertoken/internal/driver"
	"hypertoken/internal/engine"
	"hypertoken/journal"
)

// measured is the store in memory, which notes how large an engine's journal gets.
type measured struct {
	journal.Store
	entries, data, keys int // at most, in bytes; keys are their number
	installs            int
}

func (s *measured) Append(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done) {
	s.Store.Append(name, owner, after, group, journal.DoneFunc(func(err error) {
		s.measure(name, owner)
		done.Report(err)
	}))
}

func (s *measured) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.Store.Install(name, owner, base, journal.DoneFunc(func(err error) {
		s.measure(name, owner)
		s.installs++
		done.Report(err)
	}))
}

func (s *measured) measure(name string, owner journal.Owner) {
	s.Load(name, owner, func(j *journal.Stored, _ error) {
		s.entries, s.data, s.keys = max(s.entries, len(j.Entries)), max(s.data, len(j.Data)),
			max(s.keys, len(j.Keys)+len(j.Recent))
	})
}

// An engine takes no more memory for having run more actions: snapshots replace the
// entries, keys are forgotten, and the queues hold what is under way.
func TestAnEngineStaysAsSmallAsItIs(t *testing.T) {
	const (
		actions       = 200_000
		window        = 256
		snapshotBytes = 16 << 10
		entryBytes    = 64 // of a draw or a reset
		keyWindow     = 100
	)
	store := &measured{Store: journal.NewMemory()}
	h, err := New(t.Context(), Options{InProcess: true, Store: store, SnapshotBytes: snapshotBytes,
		KeyWindow: keyWindow, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	deck := make([]map[string]any, 52)
	for k := range deck {
		deck[k] = map[string]any{"id": fmt.Sprint(k)}
	}
	e, err := h.Open(t.Context(), "e", EngineOptions{Setup: map[string]any{"stack": deck}})
	if err != nil {
		t.Fatal(err)
	}
	var futures [window]*Future
	for k := range actions {
		f := &futures[k%window]
		if *f != nil {
			if _, err := (*f).Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		action, options := "stack:draw", []DispatchOption(nil)
		if k%52 == 51 {
			action = "stack:reset"
		}
		if k%100 == 0 {
			options = append(options, Key(fmt.Sprint(k)))
		}
		*f = e.DispatchAsync(t.Context(), action, nil, options...)
	}
	if _, err := All(t.Context(), futures[:]...); err != nil {
		t.Fatal(err)
	}
	d := e.seam.(*driver.Driver).Details()
	if d.Sequence != actions {
		t.Fatalf("%d actions are in the journal", d.Sequence)
	}
	// What is dispatched while a snapshot is taken and stored comes on top.
	if most := snapshotBytes + 3*window*entryBytes; store.entries > most {
		t.Errorf("the entries had %d bytes, want at most %d", store.entries, most)
	}
	if most := 52 * 100; store.data > most {
		t.Errorf("a snapshot had %d bytes, want at most %d", store.data, most)
	}
	if most := keyWindow + (snapshotBytes/entryBytes+3*window)/100 + 1; store.keys > most || d.Keys > keyWindow {
		t.Errorf("%d keys were stored, want at most %d; %d are remembered", store.keys, most, d.Keys)
	}
	if least := actions * entryBytes / 2 / (snapshotBytes + 3*window*entryBytes); store.installs < least {
		t.Errorf("%d snapshots, want at least %d", store.installs, least)
	}
	for name, n := range map[string]int{"the machine": d.Capacity, "keys": d.KeysCapacity} {
		if n > 4*window {
			t.Errorf("%s has room for %d", name, n)
		}
	}
}

// What the store keeps of keys is bounded, though nothing changes and no batch takes a sequence.
func TestTheStoreForgetsTheKeysOfBatchesThatChangeNothing(t *testing.T) {
	const keyWindow, keyBytes = 20, 16 << 10
	store := &measured{Store: journal.NewMemory()}
	h, err := New(t.Context(), Options{InProcess: true, Store: store, KeyWindow: keyWindow, KeyBytes: keyBytes,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, err := h.Open(t.Context(), "e", EngineOptions{Setup: map[string]any{"stack": []any{map[string]any{"id": "a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for k := range 10 * keyBytes / engine.RecordOverhead {
		r, err := e.DispatchBatch(t.Context(), BatchAtomic, []Action{{Type: "stack:peek"}}, Key(fmt.Sprint(k)))
		if err != nil || r.Sequence != 0 {
			t.Fatal(r, err)
		}
	}
	if store.installs < 5 {
		t.Errorf("%d snapshots", store.installs)
	}
	if most := keyWindow + 2*keyBytes/engine.RecordOverhead; store.keys > most {
		t.Errorf("the store had %d keys, %d are enough", store.keys, most)
	}
}
