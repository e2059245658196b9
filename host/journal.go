package host

import (
	"bytes"
	"context"
	"iter"

	"hypertoken/journal"
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

func (e *driver) journal(ctx context.Context) (iter.Seq[Entry], error) {
	select {
	case <-e.closed:
		return nil, shutdownError()
	default:
	}
	s, err := fetchJournal(ctx, e, "Journal")
	if err != nil {
		return nil, err
	}
	if s == nil {
		return func(func(Entry) bool) {}, nil
	}
	return entriesOf(s), nil
}

// entriesOf iterates the entries of a journal. What it hands out is the caller's.
func entriesOf(s *journal.Stored) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		sequence := s.Sequence
		for in, err := range journal.Entries(s.Entries) {
			if err != nil {
				return // the replay will say so
			}
			sequence++
			if !yield(Entry{Sequence: sequence, Now: in.Now, Entropy: in.Entropy, Type: string(in.Type),
				Payload: bytes.Clone(in.Payload), Checksum: in.Checksum}) {
				return
			}
		}
	}
}
