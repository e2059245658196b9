package migration_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/fault"
	"hypertoken/internal/migration"
	"hypertoken/journal"
	"hypertoken/wasm"
)

var limits = wasm.Limits{MaxStateBytes: 1 << 20, MaxResult: 1 << 20, MaxDepth: 64}

// written returns a journal of two actions that the built-in core has written.
func written(t *testing.T) *journal.Stored {
	t.Helper()
	ctx := context.Background()
	core, err := wasm.Compile(ctx, wasm.Builtin(), wasm.Options{MemoryLimit: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = core.Close(ctx) }()
	i, err := core.Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Open(ctx, limits, nil); err != nil {
		t.Fatal(err)
	}
	s := &journal.Stored{Base: journal.Base{Core: wasm.Hash(wasm.Builtin())}}
	for range 2 {
		a := journal.Action{Now: 1, Payload: []byte("\x82\xa3key\xa1k\xa5value\x01")}
		r, err := i.Dispatch(ctx, &wasm.Action{Now: a.Now, Type: "game:setProperty", Payload: a.Payload})
		if err != nil {
			t.Fatal(err)
		}
		action := journal.AppendAction(nil, &a, "game:setProperty", a.Payload)
		s.Entries = journal.AppendEntry(s.Entries, action, xxhash.Sum64(r.Result))
		s.Count++
	}
	return s
}

// core returns the built-in core of new Cores.
func core(t *testing.T) *wasm.Core {
	t.Helper()
	cores := migration.NewCores("another", [][]byte{wasm.Builtin()}, 64<<20)
	t.Cleanup(func() { _ = cores.Close(context.Background()) })
	c, err := cores.Get(t.Context(), "open", wasm.Hash(wasm.Builtin()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var target = migration.Target{Core: "another", Limits: limits}

func TestMigrate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*journal.Stored)
		want   error // nil for any error
	}{
		"another result":   {func(s *journal.Stored) { s.Entries[len(s.Entries)-1]++ }, fault.ErrDiverged},
		"a cut entry":      {func(s *journal.Stored) { s.Entries = s.Entries[:len(s.Entries)-1] }, nil},
		"an entry too few": {func(s *journal.Stored) { s.Count++ }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := written(t)
			c.change(s)
			_, _, err := migration.Migrate(t.Context(), "open", s, core(t), target)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	s := written(t)
	if !migration.IsNeeded(s, "another") || migration.IsNeeded(s, s.Core) {
		t.Error("a journal needs the core that wrote it, and no other one")
	}
	base, digest, err := migration.Migrate(t.Context(), "open", s, core(t), target)
	if err != nil || base.Sequence != 3 || !base.IsMarker || digest == 0 ||
		!base.Snapshot || base.Core != "another" || len(base.Data) == 0 {
		t.Errorf("the base is %+v, %v", base, err)
	}
}

// A core is asked of the store if it was not given, and compiled once.
func TestCores(t *testing.T) {
	code, hash := wasm.Builtin(), wasm.Hash(wasm.Builtin())
	asked := 0
	stored := func(code []byte, err error) func() ([]byte, error) {
		return func() ([]byte, error) { asked++; return code, err }
	}
	cores := migration.NewCores("another", nil, 64<<20)
	defer func() { _ = cores.Close(context.Background()) }()
	broken := errors.New("the disk is broken")
	for name, c := range map[string]struct {
		stored func() ([]byte, error)
		hash   string
		want   error
	}{
		"not there":    {stored(nil, nil), hash, fault.ErrCoreMismatch},
		"another core": {stored(code, nil), "00", fault.ErrCoreMismatch},
		"no core":      {stored([]byte("x"), nil), wasm.Hash([]byte("x")), fault.ErrCoreMismatch},
		"no store":     {stored(nil, broken), hash, broken},
	} {
		if _, err := cores.Get(t.Context(), "open", c.hash, c.stored); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	asked = 0
	var first *wasm.Core
	for range 2 {
		core, err := cores.Get(t.Context(), "open", hash, stored(code, nil))
		if err != nil || first != nil && core != first {
			t.Fatal(core, err)
		}
		first = core
	}
	if asked != 1 {
		t.Errorf("the store was asked %d times", asked)
	}
}
