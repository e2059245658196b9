package host_test

import (
	"errors"
	"slices"
	"testing"

	"hypertoken/host"
	"hypertoken/journal"
)

// keepAll returns a store in memory that keeps the whole history.
func keepAll() journal.Store { return journal.NewMemoryWith(journal.MemoryOptions{}) }

// A recorded game: the digest after each sequence.
type game struct {
	t       *testing.T
	e       *host.Engine
	digests []host.Digest
}

func newGame(t *testing.T, o host.Options) *game {
	t.Helper()
	g := &game{t: t, e: open(t, newHost(t, o), "e", deck(5))}
	g.note()
	return g
}

func (g *game) note() { g.digests = append(g.digests, digest(g.t, g.e)) }

func (g *game) shuffle(n int) {
	g.t.Helper()
	for range n {
		dispatch(g.t, g.e, "stack:shuffle", nil)
		g.note()
	}
}

// back checks a rewind: its position is the next sequence, with the state of an earlier one.
func (g *game) back(p host.Position, err error, want int) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
	g.note()
	last := len(g.digests) - 1
	if p.Sequence != uint64(last) || p.Digest != g.digests[want] || p.Digest != g.digests[last] {
		g.t.Fatalf("at %v, want the sequence %d with the state of %d, %v", p, last, want, g.digests[want])
	}
}

func (g *game) undo(want int) { g.t.Helper(); p, err := g.e.Undo(g.t.Context()); g.back(p, err, want) }
func (g *game) redo(want int) { g.t.Helper(); p, err := g.e.Redo(g.t.Context()); g.back(p, err, want) }
func (g *game) revert(to uint64, want int) {
	g.t.Helper()
	p, err := g.e.Revert(g.t.Context(), to)
	g.back(p, err, want)
}

// check holds every state of the past against what it was.
func (g *game) check() {
	g.t.Helper()
	for at, want := range g.digests {
		if d, err := g.e.DigestAt(g.t.Context(), uint64(at)); err != nil || d != want {
			g.t.Errorf("at %d: %v, %v, want %v", at, d, err, want)
		}
	}
}

func TestUndoAndRedo(t *testing.T) { everywhere(t, testUndoAndRedo) }

func testUndoAndRedo(t *testing.T) {
	g := newGame(t, host.Options{Store: keepAll()})
	if _, err := g.e.Undo(t.Context()); !errors.Is(err, host.ErrConflict) {
		t.Errorf("an undo of nothing: %v", err)
	}
	g.shuffle(3)
	if _, err := g.e.Redo(t.Context()); !errors.Is(err, host.ErrConflict) {
		t.Errorf("a redo of nothing: %v", err)
	}
	g.undo(2) // 4
	g.undo(1) // 5
	g.redo(2) // 6
	g.redo(3) // 7
	g.undo(2) // 8
	// A new step forgets what was undone, and its parent is what was current before it.
	g.shuffle(1) // 9
	if _, err := g.e.Redo(t.Context()); !errors.Is(err, host.ErrConflict) {
		t.Errorf("a redo behind a new step: %v", err)
	}
	g.undo(2) // 10
	g.redo(9) // 11
	g.undo(2) // 12
	g.undo(1) // 13
	g.undo(0) // 14
	if _, err := g.e.Undo(t.Context()); !errors.Is(err, host.ErrConflict) {
		t.Errorf("an undo behind the first: %v", err)
	}
	g.redo(1)      // 15
	g.revert(9, 9) // 16: a step of its own
	g.undo(1)      // 17
	g.redo(16)     // 18
	g.check()
	if r := dispatch(t, g.e, "stack:shuffle", nil); r.Sequence != 19 {
		t.Errorf("an action behind all of that has the sequence %d", r.Sequence)
	}
}

// A batch is one step; actions that are gathered into independent batches are not.
func TestUndoOfABatch(t *testing.T) { everywhere(t, testUndoOfABatch) }

func testUndoOfABatch(t *testing.T) {
	g := newGame(t, host.Options{Store: keepAll()})
	shuffle := host.Action{Type: "stack:shuffle"}
	batch := func(mode host.BatchMode) {
		t.Helper()
		if _, err := g.e.DispatchBatch(t.Context(), mode, []host.Action{shuffle, shuffle, shuffle}); err != nil {
			t.Fatal(err)
		}
		sequence := g.e.Newest()
		for at := sequence - 2; at < sequence; at++ {
			d, err := g.e.DigestAt(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			g.digests = append(g.digests, d)
		}
		g.note()
	}
	g.shuffle(1)                 // 1
	batch(host.BatchAtomic)      // 2 to 4
	batch(host.BatchIndependent) // 5 to 7
	g.undo(4)                    // 8
	g.undo(1)                    // 9
	g.redo(4)                    // 10
	g.redo(7)                    // 11
	g.check()
	var batches []uint64
	for entry, err := range g.e.History(t.Context(), 1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Marker == nil {
			batches = append(batches, entry.Batch)
		}
	}
	if want := []uint64{0, 2, 2, 2, 5, 5, 5}; !slices.Equal(batches, want) {
		t.Errorf("the batches are %d, want %d", batches, want)
	}
}

// Keys that were used stay used, the key of a revert too, and IfSequence holds for it.
func TestRevertHasKeys(t *testing.T) { everywhere(t, testRevertHasKeys) }

func testRevertHasKeys(t *testing.T) {
	store := keepAll()
	g := newGame(t, host.Options{Store: store})
	dispatch(t, g.e, "stack:shuffle", nil, host.Key("s"))
	g.note()
	if _, err := g.e.Revert(t.Context(), 0, host.IfSequence(0)); !errors.Is(err, host.ErrConflict) {
		t.Errorf("another sequence: %v", err)
	}
	first, err := g.e.Revert(t.Context(), 0, host.IfSequence(1), host.Key("r"))
	g.back(first, err, 0)
	for range 2 {
		if again, err := g.e.Revert(t.Context(), 0, host.IfSequence(1), host.Key("r")); err != nil || again != first {
			t.Errorf("the repetition returns %v, %v, want %v", again, err, first)
		}
		if _, err := g.e.Revert(t.Context(), 1, host.Key("r")); !errors.Is(err, host.ErrKeyReused) {
			t.Errorf("the key of another revert: %v", err)
		}
		if r := dispatch(t, g.e, "stack:shuffle", nil, host.Key("s")); r.Sequence != 1 {
			t.Errorf("a key from before the revert ran again, at %d", r.Sequence)
		}
		// The store has them, too.
		if err := g.e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.e = open(t, newHost(t, host.Options{Store: store}), "e", nil)
	}
	for name, option := range map[string]host.DispatchOption{"WithDigest": host.WithDigest(),
		"Entropy": host.Entropy([16]byte{})} {
		if _, err := g.e.Revert(t.Context(), 0, option); !errors.Is(err, host.ErrBadInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := g.e.Revert(t.Context(), 3); !errors.Is(err, host.ErrBadInput) {
		t.Errorf("a sequence to come: %v", err)
	}
	if d := digest(t, g.e); d != g.digests[2] {
		t.Errorf("the engine is at %v after reverts that failed", d)
	}
}

// The default store keeps nothing that came before a marker.
func TestUndoOfWhatIsTrimmed(t *testing.T) {
	g := newGame(t, host.Options{})
	g.shuffle(3)
	g.undo(2)
	if _, err := g.e.Undo(t.Context()); !errors.Is(err, host.ErrHistoryTrimmed) {
		t.Errorf("got %v", err)
	}
	g.shuffle(2)
	g.undo(5)
}

// A revert is refused by a store that can't read the past, and the engine goes on.
func TestRevertNeedsAHistorian(t *testing.T) {
	g := newGame(t, host.Options{Store: struct{ journal.Store }{journal.NewMemory()}})
	g.shuffle(1)
	for name, f := range map[string]func() (host.Position, error){
		"revert": func() (host.Position, error) { return g.e.Revert(t.Context(), 0) },
		"undo":   func() (host.Position, error) { return g.e.Undo(t.Context()) },
	} {
		if _, err := f(); !errors.Is(err, host.ErrBadInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.shuffle(1)
}

func TestFork(t *testing.T) { everywhere(t, testFork) }

func testFork(t *testing.T) {
	g := newGame(t, host.Options{Store: keepAll()})
	h := g.e.Host()
	g.shuffle(4)
	for _, isOpen := range []bool{true, false} {
		if !isOpen {
			if err := g.e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for at := range uint64(5) {
			name := "fork"
			p, err := h.Fork(t.Context(), "e", at, name)
			if err != nil || p.Sequence != 0 || p.Digest != g.digests[at] {
				t.Fatalf("at %d: %v, %v", at, p, err)
			}
			f := open(t, h, name, nil)
			if d := digest(t, f); d != g.digests[at] {
				t.Errorf("at %d: it has the digest %v", at, d)
			}
			base, _, err := f.JournalAt(t.Context(), 0)
			if err != nil || !base.IsMarker {
				t.Errorf("it begins with %+v, %v", base, err)
			}
			if _, err := f.Undo(t.Context()); !errors.Is(err, host.ErrConflict) {
				t.Errorf("an undo: %v", err)
			}
			if r := dispatch(t, f, "stack:shuffle", nil); r.Sequence != 1 {
				t.Errorf("its first action has the sequence %d", r.Sequence)
			}
			if _, err := h.Fork(t.Context(), "e", 0, name); !errors.Is(err, host.ErrEngineExists) {
				t.Errorf("a name that is open: %v", err)
			}
			if err := f.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Fork(t.Context(), "e", 0, name); !errors.Is(err, host.ErrEngineExists) {
				t.Errorf("a name that is stored: %v", err)
			}
			if err := h.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		from string
		at   uint64
		to   string
		want error
	}{
		"no such engine":   {"x", 0, "f", host.ErrEngineNotFound},
		"no such sequence": {"e", 5, "f", host.ErrBadInput},
		"no name":          {"e", 0, "", host.ErrBadInput},
		"a hidden name":    {"e", 0, "\x00f", host.ErrBadInput},
	} {
		if _, err := h.Fork(t.Context(), c.from, c.at, c.to); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImport(t *testing.T) { everywhere(t, testImport) }

func testImport(t *testing.T) {
	g := newGame(t, host.Options{Store: keepAll()})
	shuffle := host.Action{Type: "stack:shuffle"}
	g.shuffle(2)
	dispatch(t, g.e, "stack:draw", nil, host.Key("k"))
	if _, err := g.e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{shuffle, shuffle}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := g.e.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.e.Redo(t.Context(), host.Key("r")); err != nil {
		t.Fatal(err)
	}
	g.shuffle(1)
	for _, isOther := range []bool{true, false} {
		to := g.e.Host()
		if isOther {
			to = newHost(t, host.Options{Store: keepAll()})
		}
		i := beginImport(t, g.e, to, "copy")
		if page, err := to.Stored(t.Context(), "", "", 10); err != nil || len(page) > 1 || len(page) == 1 && page[0].Name != "e" {
			t.Errorf("stored before the commit: %+v, %v", page, err)
		}
		if e := to.Get("copy"); e != nil {
			t.Error("it is open before the commit")
		}
		p, err := i.Commit(t.Context())
		want, err1 := g.e.Position(t.Context())
		if err != nil || err1 != nil || p != want {
			t.Fatalf("at %v, %v, want %v, %v", p, err, want, err1)
		}
		e := open(t, to, "copy", nil)
		for at := range want.Sequence + 1 {
			d, err := g.e.DigestAt(t.Context(), at)
			if is, err1 := e.DigestAt(t.Context(), at); err != nil || err1 != nil || is != d {
				t.Errorf("at %d: %v, %v, want %v, %v", at, is, err1, d, err)
			}
		}
		// What was undone, and the keys, are as they were.
		undone, err := e.Undo(t.Context())
		if undoneThere, err1 := g.e.Undo(t.Context()); err != nil || err1 != nil || undone != undoneThere {
			t.Errorf("an undo leads to %v, %v, want %v, %v", undone, err, undoneThere, err1)
		}
		if r := dispatch(t, e, "stack:draw", nil, host.Key("k")); r.Sequence != 3 {
			t.Errorf("a key ran again at %d", r.Sequence)
		}
		if again, err := e.Redo(t.Context(), host.Key("r")); err != nil || again.Sequence != 9 {
			t.Errorf("the key of a redo ran again: %v, %v", again, err)
		}
		if _, err := g.e.Redo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// beginImport begins an import of the whole engine, and adds all its entries.
func beginImport(t *testing.T, from *host.Engine, to *host.Host, name string) *host.Import {
	t.Helper()
	base, _, err := from.JournalAt(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	i, err := to.Import(t.Context(), name, base)
	if err != nil {
		t.Fatal(err)
	}
	for entry, err := range from.History(t.Context(), base.Sequence+1, 0) {
		if err == nil {
			err = i.Add(t.Context(), entry)
		}
		if err != nil {
			t.Fatalf("sequence %d: %v", entry.Sequence, err)
		}
	}
	return i
}

// An import that is broken off, or that fails, leaves the name free.
func TestAnImportThatFails(t *testing.T) {
	g := newGame(t, host.Options{Store: keepAll()})
	g.shuffle(2)
	g.undo(1)
	store := keepAll()
	to := newHost(t, host.Options{Store: store})
	base, _, err := g.e.JournalAt(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	isFree := func(what string) {
		t.Helper()
		if _, err := to.Open(t.Context(), "copy", host.EngineOptions{Mode: host.OpenExisting}); !errors.Is(err,
			host.ErrEngineNotFound) {
			t.Errorf("%s: the name is not free: %v", what, err)
		}
	}
	var all []host.Entry
	for entry, err := range g.e.History(t.Context(), 1, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, entry)
	}
	for name, c := range map[string]struct {
		change func(list []host.Entry)
		want   error
	}{
		"another result":  {func(list []host.Entry) { list[1].Checksum++ }, host.ErrDiverged},
		"another action":  {func(list []host.Entry) { list[1].Type = "stack:nothing" }, host.ErrDiverged},
		"a missing entry": {func(list []host.Entry) { list[0].Sequence++ }, host.ErrBadInput},
		"another state": {func(list []host.Entry) {
			m := *list[2].Marker
			m.Digest++
			list[2].Marker = &m
		}, host.ErrDiverged},
		"a later step": {func(list []host.Entry) {
			m := *list[2].Marker
			m.Current = 9
			list[2].Marker = &m
		}, host.ErrBadInput},
	} {
		list := slices.Clone(all)
		c.change(list)
		i, err := to.Import(t.Context(), "copy", base)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range list {
			if err = i.Add(t.Context(), entry); err != nil {
				break
			}
		}
		if err == nil {
			_, err = i.Commit(t.Context())
		} else if _, again := i.Commit(t.Context()); again == nil {
			t.Errorf("%s: it is committed after a failure", name)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := i.Abort(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		isFree(name)
	}
	if n, err := to.RemoveImports(t.Context()); n != 0 || err != nil {
		t.Errorf("%d imports are left, %v", n, err)
	}
	// As a process leaves it that has ended in the middle.
	beginImport(t, g.e, to, "copy")
	if err := to.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	to = newHost(t, host.Options{Store: store})
	isFree("broken off")
	if n, err := to.RemoveImports(t.Context()); n != 1 || err != nil {
		t.Errorf("%d imports were removed, %v", n, err)
	}
	i := beginImport(t, g.e, to, "copy")
	if _, err := i.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Import(t.Context(), "copy", base); !errors.Is(err, host.ErrEngineExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	late := beginImport(t, g.e, to, "late")
	open(t, to, "late", nil)
	if _, err := late.Commit(t.Context()); !errors.Is(err, host.ErrEngineExists) {
		t.Errorf("a name that was taken meanwhile: %v", err)
	}
}

// installs is a store in memory that tells of every base that is stored.
type installs struct {
	journal.Store
	journal.Historian
	bases chan journal.Base
}

func (s *installs) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.Store.Install(name, owner, base, journal.DoneFunc(func(err error) {
		done.Report(err)
		if err == nil && name == "e" {
			s.bases <- base
		}
	}))
}

// A marker stays one when its keys are shed, though nothing has followed it.
func TestAMarkerWithoutItsKeysStaysAMarker(t *testing.T) {
	all := keepAll()
	store := &installs{all, all.(journal.Historian), make(chan journal.Base, 10)}
	const most = 100_000
	g := newGame(t, host.Options{Store: store, MaxKeyBytes: most, KeyBytes: most})
	for _, key := range []string{"a", "b"} {
		dispatch(t, g.e, "test:huge", dict{"bytes": most / 3}, host.Key(key))
		g.note()
	}
	g.undo(1)
	<-store.bases // its setup
	marked := <-store.bases
	other := open(t, g.e.Host(), "other", nil)
	dispatch(t, other, "test:huge", dict{"bytes": most / 2}, host.Key("c"))
	shed := <-store.bases
	if !marked.IsMarker || !shed.IsMarker || shed.Sequence != marked.Sequence || len(shed.Keys) >= len(marked.Keys) {
		t.Errorf("stored: marker %v at %d with %d keys, then marker %v at %d with %d", marked.IsMarker, marked.Sequence,
			len(marked.Keys), shed.IsMarker, shed.Sequence, len(shed.Keys))
	}
	g.redo(2)
	g.check()
}
