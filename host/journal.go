package host

import (
	"bytes"
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

// entriesOf iterates the entries of a journal, which is nil if there is none. What it hands out is the
// caller's.
func entriesOf(s *journal.Stored) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if s == nil {
			return
		}
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
