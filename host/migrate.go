package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"hypertoken/journal"
	"hypertoken/wasm"
)

// migrate makes a snapshot of a journal that another core wrote: that core replays it, here, and every result is held
// against the one that was acknowledged. The snapshot opens with this host's core, by its format version.
func migrate(ctx context.Context, e *driver, what string, s *journal.Stored) (*journal.Stored, error) {
	h := e.host
	var code []byte
	for _, c := range h.options.Cores {
		if wasm.Hash(c) == s.Core {
			code = c
		}
	}
	if code == nil {
		return nil, ErrCoreMismatch.With("%s: its journal was written by the core %s and can't be replayed by %s: "+
			"add that one to Options.Cores", what, s.Core, h.hash)
	}
	core, err := wasm.Compile(ctx, code, wasm.Options{Interruptible: true,
		MemoryLimit: uint64(h.options.MaxEngineMemory)})
	if err != nil {
		return nil, ErrCoreMismatch.Because(err, "%s: the core %s of Options.Cores can't be run: %v", what, s.Core, err)
	}
	defer func() { _ = core.Close(context.WithoutCancel(ctx)) }()
	i, err := core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close(context.WithoutCancel(ctx)) }()
	if s.Snapshot {
		err = i.Restore(ctx, s.Data)
	} else {
		err = i.Open(ctx, h.options.limits(), s.Data)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	for entry := range entriesOf(s) {
		r, err := i.Dispatch(ctx, &wasm.Action{Now: entry.Now, Entropy: entry.Entropy, Type: entry.Type,
			Payload: entry.Payload})
		var trap *wasm.TrapError
		switch {
		case errors.As(err, &trap):
			return nil, fmt.Errorf("%s: sequence %d, %s: %w", what, entry.Sequence, entry.Type, err)
		case err != nil || xxhash.Sum64(r.Result) != entry.Checksum:
			return nil, ErrDiverged.Because(err, "%s: sequence %d, %s: the core %s gives another result than it did", what,
				entry.Sequence, entry.Type, s.Core)
		}
	}
	base := journal.Base{Sequence: s.Sequence + s.Count, Snapshot: true, Core: h.hash,
		Keys: append(append([]journal.KeyRecord(nil), s.Keys...), s.Recent...), KeyNumber: s.NewestKeyNumber()}
	if err := i.Snapshot(ctx, func(chunk []byte) error {
		base.Data = append(base.Data, chunk...)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := installBase(ctx, e, what, base); err != nil {
		return nil, err
	}
	return &journal.Stored{Base: base, Owner: e.owner}, nil
}

// isForeign reports whether a journal needs another core than this host's: one that has to be replayed.
func isForeign(h *Host, s *journal.Stored) bool {
	return s.Core != "" && s.Core != h.hash && (s.Count > 0 || !s.Snapshot)
}
