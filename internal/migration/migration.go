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
	// Limits are those of an engine.
	Limits wasm.Limits
}

// IsNeeded reports whether a journal was written by another core than the one of that hash, and has
// to be replayed by it.
func IsNeeded(s *journal.Stored, core string) bool {
	return s.Core != "" && s.Core != core && (s.Count > 0 || !s.Snapshot)
}

// Migrate returns a snapshot that goes on behind a journal, and the digest that the core which wrote
// the journal gives the state. core is that core. It replays the journal here, and each result is
// compared with the checksum of the result that was acknowledged. The snapshot opens with the
// target's core, by its format version.
//
// It fails with ErrDiverged if the core gives another result than it did, for a journal that can't be
// read, and with the error of ctx. what names the call in errors.
func Migrate(ctx context.Context, what string, s *journal.Stored, core *wasm.Core,
	to Target) (base journal.Base, digest uint64, err error) {
	i, err := Replay(ctx, what, s, core, to.Limits)
	if err != nil {
		return journal.Base{}, 0, err
	}
	defer func() { _ = i.Close(context.WithoutCancel(ctx)) }()
	base = Adopt(s, to)
	base.Snapshot, base.Data = true, nil
	digest, err = i.Digest(ctx)
	if err == nil {
		err = i.Snapshot(ctx, func(chunk []byte) error {
			base.Data = append(base.Data, chunk...)
			return nil
		})
	}
	if err != nil {
		return journal.Base{}, 0, fmt.Errorf("%s: %w", what, err)
	}
	return base, digest, nil
}

// Adopt returns the base that goes on behind a journal which is a snapshot and nothing else, for the
// target's core, with all its keys. The core opens the snapshot by its format version. The base is a
// marker, without its details.
func Adopt(s *journal.Stored, to Target) journal.Base {
	base := s.Base
	base.Sequence, base.IsMarker, base.Details = s.Sequence+s.Count+1, true, nil
	base.Core, base.KeyNumber = to.Core, s.NewestKeyNumber()
	base.Keys = append(append([]journal.KeyRecord(nil), s.Keys...), s.Recent...)
	return base
}

// Replay returns an instance of the core that wrote a journal, with the state that the journal
// ends with. limits are those of an engine that begins with a setup. Replay fails as [Migrate]
// does. The caller closes the instance.
func Replay(ctx context.Context, what string, s *journal.Stored, core *wasm.Core,
	limits wasm.Limits) (*wasm.Instance, error) {
	if err := s.CheckEntries(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	i, err := Open(ctx, core, &s.Base, limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := replayEntries(ctx, i, what, s); err != nil {
		_ = i.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return i, nil
}

// Open returns an instance of a core with the state of a base. limits are those of an engine that
// begins with a setup; a snapshot has its own. The caller closes the instance.
func Open(ctx context.Context, core *wasm.Core, base *journal.Base, limits wasm.Limits) (*wasm.Instance, error) {
	i, err := core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	if base.Snapshot {
		err = i.Restore(ctx, base.Data)
	} else {
		err = i.Open(ctx, limits, base.Data)
	}
	if err != nil {
		return nil, errors.Join(err, i.Close(context.WithoutCancel(ctx)))
	}
	return i, nil
}

// replayEntries runs the entries of a journal.
func replayEntries(ctx context.Context, i *wasm.Instance, what string, s *journal.Stored) error {
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
