package host

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"hypertoken/ipc"
	"hypertoken/wasm"
)

// Entry is one committed action of an engine's journal.
type Entry struct {
	// Sequence counts the actions that were committed, from 1.
	Sequence uint64
	// Now is the clock that the action saw, in milliseconds since the epoch.
	Now int64
	// Entropy is what its randomness came from.
	Entropy [wasm.EntropySize]byte
	Type    string
	// Payload is MessagePack.
	Payload []byte
	// Checksum is the XXH64 of the result that was acknowledged.
	Checksum uint64
}

// Journal returns the actions committed since the engine's last snapshot, oldest first, as they are now. A broken
// engine's can be read too.
func (e *Engine) Journal(ctx context.Context) (iter.Seq[Entry], error) {
	type loaded struct {
		stored *Stored
		err    error
	}
	came := make(chan loaded, 1)
	e.mu.Lock()
	if e.m.state == engineClosed {
		e.unlock(false)
		return nil, shutdownError()
	}
	// With the lock, so that the owner is still the newest.
	e.host.options.Store.Load(e.name, e.owner, func(s *Stored, err error) { came <- loaded{s, err} })
	e.unlock(false)
	var l loaded
	select {
	case l = <-came:
	case <-ctx.Done():
		return nil, ended(ctx, "Journal")
	}
	if l.err != nil {
		return nil, fmt.Errorf("Journal: the store: %w", l.err)
	}
	if l.stored == nil {
		return func(func(Entry) bool) {}, nil
	}
	return l.stored.all(), nil
}

// all iterates the entries. What it hands out is the caller's.
func (s *Stored) all() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		sequence := s.Sequence
		for rest := s.Entries; len(rest) > 0; {
			in, after, err := ipc.ReadEntry(rest)
			if err != nil {
				return // the replay will say so
			}
			sequence++
			rest = after
			if !yield(Entry{Sequence: sequence, Now: in.Now, Entropy: in.Entropy, Type: string(in.Type),
				Payload: bytes.Clone(in.Payload), Checksum: in.Checksum}) {
				return
			}
		}
	}
}
