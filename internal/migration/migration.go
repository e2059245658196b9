// Package migration takes a journal that another core wrote over to the core of a host.
package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/fault"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Target says what a journal is taken over to.
type Target struct {
	// Core is the hash of the core that goes on with the journal.
	Core string
	// Limits are those of an engine, MemoryLimit that of its instance, in bytes.
	Limits      wasm.Limits
	MemoryLimit uint64
}

// IsNeeded reports whether a journal was written by another core than the one of that hash, and has
// to be replayed by it.
func IsNeeded(s *journal.Stored, core string) bool {
	return s.Core != "" && s.Core != core && (s.Count > 0 || !s.Snapshot)
}

// Migrate returns a snapshot that takes the place of a journal. The core that wrote the journal is
// one of cores. It replays the journal here, and each result is compared with the checksum of the
// result that was acknowledged. The snapshot opens with the target's core, by its format version.
//
// It fails with ErrCoreMismatch if the core is none of cores or can't be run, with ErrDiverged if
// the core gives another result than it did, for a journal that can't be read, and with the error
// of ctx. what names the call in errors.
func Migrate(ctx context.Context, what string, s *journal.Stored, cores [][]byte, to Target) (journal.Base, error) {
	if err := s.CheckEntries(); err != nil {
		return journal.Base{}, fmt.Errorf("%s: %w", what, err)
	}
	code := find(cores, s.Core)
	if code == nil {
		return journal.Base{}, fault.ErrCoreMismatch.With("%s: its journal was written by the core %s and can't be "+
			"replayed by %s: add that one to Options.Cores", what, s.Core, to.Core)
	}
	core, err := wasm.Compile(ctx, code, wasm.Options{Interruptible: true, MemoryLimit: to.MemoryLimit})
	if err != nil {
		return journal.Base{}, fault.ErrCoreMismatch.Because(err, "%s: the core %s of Options.Cores can't be run: %v",
			what, s.Core, err)
	}
	defer func() { _ = core.Close(context.WithoutCancel(ctx)) }()
	i, err := core.Instantiate(ctx)
	if err != nil {
		return journal.Base{}, err
	}
	defer func() { _ = i.Close(context.WithoutCancel(ctx)) }()
	if s.Snapshot {
		err = i.Restore(ctx, s.Data)
	} else {
		err = i.Open(ctx, to.Limits, s.Data)
	}
	if err != nil {
		return journal.Base{}, fmt.Errorf("%s: %w", what, err)
	}
	if err := replay(ctx, i, what, s); err != nil {
		return journal.Base{}, err
	}
	base := journal.Base{Sequence: s.Sequence + s.Count, Snapshot: true, Core: to.Core,
		Keys: append(append([]journal.KeyRecord(nil), s.Keys...), s.Recent...), KeyNumber: s.NewestKeyNumber()}
	if err := i.Snapshot(ctx, func(chunk []byte) error {
		base.Data = append(base.Data, chunk...)
		return nil
	}); err != nil {
		return journal.Base{}, fmt.Errorf("%s: %w", what, err)
	}
	return base, nil
}

// find returns the core of a hash, nil if there is none.
func find(cores [][]byte, hash string) []byte {
	for _, code := range cores {
		if wasm.Hash(code) == hash {
			return code
		}
	}
	return nil
}

// replay runs the entries of a journal.
func replay(ctx context.Context, i *wasm.Instance, what string, s *journal.Stored) error {
	sequence := s.Sequence
	for entry, err := range journal.Entries(s.Entries) {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		sequence++
		r, err := i.Dispatch(ctx, &wasm.Action{Now: entry.Now, Entropy: entry.Entropy, Type: string(entry.Type),
			Payload: entry.Payload})
		var trap *wasm.TrapError
		switch {
		case errors.As(err, &trap):
			return fmt.Errorf("%s: sequence %d, %s: %w", what, sequence, entry.Type, err)
		case err != nil || xxhash.Sum64(r.Result) != entry.Checksum:
			return fault.ErrDiverged.Because(err, "%s: sequence %d, %s: the core %s gives another result than it did",
				what, sequence, entry.Type, s.Core)
		}
	}
	return nil
}
