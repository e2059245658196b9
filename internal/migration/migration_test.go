package migration_test

import (
	"bytes"
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

func TestMigrate(t *testing.T) {
	builtin := [][]byte{wasm.Builtin()}
	journalOf := *written(t)
	for name, c := range map[string]struct {
		cores  [][]byte
		change func(*journal.Stored)
		want   error // nil for any error
	}{
		"no core that wrote it": {nil, func(*journal.Stored) {}, fault.ErrCoreMismatch},
		"another result": {builtin, func(s *journal.Stored) { s.Entries[len(s.Entries)-1]++ },
			fault.ErrDiverged},
		"a cut entry":      {builtin, func(s *journal.Stored) { s.Entries = s.Entries[:len(s.Entries)-1] }, nil},
		"an entry too few": {builtin, func(s *journal.Stored) { s.Count++ }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := journalOf
			s.Entries = bytes.Clone(s.Entries)
			c.change(&s)
			to := migration.Target{Core: "another", Limits: limits, MemoryLimit: 64 << 20}
			_, err := migration.Migrate(t.Context(), "open", &s, c.cores, to)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	s := &journalOf
	if !migration.IsNeeded(s, "another") || migration.IsNeeded(s, s.Core) {
		t.Error("a journal needs the core that wrote it, and no other one")
	}
	to := migration.Target{Core: "another", Limits: limits, MemoryLimit: 64 << 20}
	base, err := migration.Migrate(t.Context(), "open", s, builtin, to)
	if err != nil || base.Sequence != 2 || !base.Snapshot || base.Core != "another" || len(base.Data) == 0 {
		t.Errorf("the base is %+v, %v", base, err)
	}
}
