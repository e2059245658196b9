package host_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
)

// choosingStore is a store in memory whose journals are to be with one core.
type choosingStore struct {
	journal.Store
	target atomic.Value // the core's hash, a string
	asked  atomic.Int64
}

func (s *choosingStore) MayUpgrade(hash string, done journal.Done) {
	s.asked.Add(1)
	if hash != s.target.Load() {
		done.Report(journal.ErrNotTarget)
		return
	}
	done.Report(nil)
}

// A journal is taken over by the core that the store names, and by no other one: forth, and back.
func TestOnlyTheTargetTakesAJournalOver(t *testing.T) {
	store := &choosingStore{Store: journal.NewMemory()}
	options := host.Options{InProcess: true, Store: store, Cores: [][]byte{cores.Test, cores.Example}}
	options.Core = cores.Test
	former := newHost(t, options)
	options.Core = cores.Example
	newer := newHost(t, options)
	store.target.Store(former.CoreHash())

	e := open(t, former, "e", deck(5))
	dispatch(t, e, "stack:draw", nil)
	before := digest(t, e)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := store.asked.Load(); n != 0 {
		t.Errorf("the store was asked %d times about an engine that stays with its core", n)
	}
	refused := func(h *host.Host) {
		t.Helper()
		_, err := h.Open(t.Context(), "e", host.EngineOptions{})
		if !errors.Is(err, host.ErrCoreMismatch) || !errors.Is(err, journal.ErrNotTarget) {
			t.Errorf("got %v", err)
		}
	}
	taken := func(h *host.Host) {
		t.Helper()
		e := open(t, h, "e", nil)
		if digest(t, e) != before {
			t.Error("it differs")
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refused(newer)
	taken(former)
	store.target.Store(newer.CoreHash())
	taken(newer)
	refused(former)
	store.target.Store(former.CoreHash())
	taken(former)
	refused(newer)
}
