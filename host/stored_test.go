package host_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Whether an engine may, must or must not be stored already is the caller's choice.
func TestOpenModes(t *testing.T) {
	h := newHost(t, host.Options{})
	for _, c := range []struct {
		name string
		mode host.OpenMode
		want error
	}{
		{"a", host.OpenExisting, host.ErrEngineNotFound},
		{"a", host.OpenNew, nil},
		{"a", host.OpenNew, host.ErrEngineExists},
		{"a", host.OpenExisting, nil},
		{"a", host.OpenOrCreate, nil},
		{"b", host.OpenOrCreate, nil},
		{"b", host.OpenNew, host.ErrEngineExists},
		{"b", host.OpenNew + 1, host.ErrBadInput},
		{"b", host.OpenOrCreate - 1, host.ErrBadInput},
	} {
		e, err := h.Open(t.Context(), c.name, host.EngineOptions{Setup: deck(5), Mode: c.mode})
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Fatalf("%s, %v: got %v, want %v", c.name, c.mode, err, c.want)
		}
		if err != nil {
			continue
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A setup that the core refuses is never stored, whenever the host ends.
func TestARefusedSetupIsNotStored(t *testing.T) {
	store := &countingInstalls{Store: journal.NewMemory()}
	h := newHost(t, host.Options{Store: store})
	var refused *host.ActionError
	if _, err := h.Open(t.Context(), "e", host.EngineOptions{Setup: 7}); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
	if store.installs > 0 {
		t.Errorf("%d bases were stored", store.installs)
	}
	if _, err := h.Open(t.Context(), "e", host.EngineOptions{Mode: host.OpenExisting}); !errors.Is(err,
		host.ErrEngineNotFound) {
		t.Errorf("got %v", err)
	}
}

// countingInstalls counts the bases that are stored.
type countingInstalls struct {
	journal.Store
	installs int
}

func (s *countingInstalls) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.installs++
	s.Store.Install(name, owner, base, done)
}

// What is stored is listed in pages, what is open by itself.
func TestStored(t *testing.T) {
	h := newHost(t, host.Options{})
	for k := range 5 {
		e := open(t, h, fmt.Sprint("table-", k), deck(5))
		dispatch(t, e, "stack:draw", nil)
		if k > 1 {
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(t, h, "other", nil)
	var names []string
	for after := ""; ; {
		page, err := h.Stored(t.Context(), "table-", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			if s.Sequence != 1 || s.Core != h.CoreHash() || s.Bytes == 0 || s.Created.IsZero() {
				t.Errorf("%+v", s)
			}
			names = append(names, s.Name)
		}
		if len(page) < 2 {
			break
		}
		after = page[1].Name
	}
	if want := []string{"table-0", "table-1", "table-2", "table-3", "table-4"}; !slices.Equal(names, want) {
		t.Errorf("stored: %q, want %q", names, want)
	}
	if _, err := h.Stored(t.Context(), "", "", 0); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("a limit of 0: %v", err)
	}
	names = nil
	for e := range h.Engines() {
		names = append(names, e.Name())
	}
	if want := []string{"table-0", "table-1", "other"}; !slices.Equal(names, want) {
		t.Errorf("open: %q, want %q", names, want)
	}
	if e := h.Get("table-1"); e == nil || e.Name() != "table-1" {
		t.Errorf("got %v", e)
	}
	if e := h.Get("table-2"); e != nil {
		t.Errorf("an engine that is closed: %v", e)
	}
	blind := newHost(t, host.Options{Store: struct{ journal.Store }{journal.NewMemory()}})
	if _, err := blind.Stored(t.Context(), "", "", 1); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("a store that can't list: %v", err)
	}
}

// A store that keeps cores has the one that wrote a journal, so another core goes on with it.
func TestTheStoreKeepsCores(t *testing.T) {
	store := keepAll()
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:draw", nil)
	before := digest(t, e)
	other := newHost(t, host.Options{Store: store, Core: cores.Example})
	if e = open(t, other, "e", nil); digest(t, e) != before {
		t.Error("it differs")
	}
	if r := dispatch(t, e, "process:item", dict{"item": 1}); r.Sequence != 3 {
		t.Errorf("got %+v", r)
	}
	for entry, err := range e.History(t.Context(), 2, 2) {
		if m := entry.Marker; err != nil || m == nil || m.Kind != host.MarkerUpgrade ||
			m.FromCore != wasm.Hash(cores.Test) || m.Digest != before || m.DigestBefore != before || m.Current != 1 {
			t.Errorf("the upgrade has left %+v, %v", m, err)
		}
	}
	// The former states are those of the former core, and can be gone back to.
	for at := range uint64(2) {
		d, err := e.DigestAt(t.Context(), at)
		if err != nil || at == 1 && d != before {
			t.Errorf("at %d: %v, %v, want %v", at, d, err, before)
		}
		if p, err := e.Revert(t.Context(), at); err != nil || p.Digest != d {
			t.Errorf("a revert to %d: %v, %v, want %v", at, p, err, d)
		}
	}
	dispatch(t, e, "stack:reverse", nil)
	careful, err := host.New(t.Context(), host.Options{Store: store, NoFallback: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = careful.Shutdown(context.Background()) }()
	if _, err := careful.Open(t.Context(), "e", host.EngineOptions{}); !errors.Is(err, host.ErrCoreMismatch) {
		t.Errorf("a core in this process, with NoFallback: %v", err)
	}
}

// health is a store whose health is what a test says.
type health struct {
	journal.Store
	err error
}

func (h *health) Health() error { return h.err }

func TestStoreHealth(t *testing.T) {
	store := &health{Store: journal.NewMemory()}
	h := newHost(t, host.Options{Store: store})
	if err := h.StoreHealth(); err != nil {
		t.Error(err)
	}
	store.err = journal.ErrFull
	if err := h.StoreHealth(); !errors.Is(err, journal.ErrFull) {
		t.Errorf("got %v", err)
	}
	if err := newHost(t, host.Options{}).StoreHealth(); err != nil {
		t.Error(err)
	}
}

// A host with another core goes on with a snapshot. What it stores behind the snapshot is its own
// core's, so the next host of that core replays it.
func TestAnotherCoreGoesOnWithASnapshot(t *testing.T) {
	store := journal.NewMemory()
	play := func(core []byte, sequence uint64, action string, payload any) {
		t.Helper()
		h := newHost(t, host.Options{Store: store, Core: core})
		e := open(t, h, "e", deck(5))
		if r := dispatch(t, e, action, payload); r.Sequence != sequence {
			t.Fatalf("%s: got %+v, want the sequence %d", action, r, sequence)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The journal is long enough for a snapshot when the engine is closed.
	play(cores.Test, 1, "game:setProperty", dict{"key": "k", "value": strings.Repeat("long", 5_000)})
	// Each change of the core takes a sequence.
	play(cores.Example, 3, "process:item", dict{"item": 1}) // only this core has the action
	play(cores.Example, 4, "process:item", dict{"item": 2})
	play(cores.Test, 6, "stack:reverse", nil)
}
