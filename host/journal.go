package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"iter"

	"hypertoken/internal/engine"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Entry is one committed action of an engine's journal, a marker, or a note.
type Entry struct {
	// Sequence counts actions and markers, from 1. A note takes none: it has that of the entry before
	// it.
	Sequence uint64
	// Marker says what the entry sets the state to, if it is a marker; nil otherwise. All that follows
	// is zero if it is not nil.
	Marker *Marker
	// Note is what is remembered of a whole batch that had a key, if the entry is a note; nil otherwise.
	// It must not be changed. All that follows is zero if it is not nil. A note changes no state.
	Note *journal.KeyRecord
	// Now is the clock that the action saw, in milliseconds since the epoch.
	Now int64
	// Entropy is what its randomness came from.
	Entropy [wasm.EntropySize]byte
	Type    string
	// Payload is MessagePack.
	Payload []byte
	// Checksum is the XXH64 of the result that was acknowledged.
	Checksum uint64
	// Key is the [Key] of the action, "" if it had none or if [Engine.Journal] has returned the
	// entry.
	Key string
	// Batch is the sequence of the first action of the batch that the action is a part of, if the
	// batch is one step for [Engine.Undo]; 0 otherwise, and if [Engine.Journal] has returned the entry.
	Batch uint64
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
			if !yield(entryOf(sequence, &in)) {
				return
			}
		}
	}
}

// History iterates over the actions from one sequence to another, both included, that are stored:
// those behind older snapshots too, as far back as the store keeps them; and over the markers and
// the notes of these sequences. from is at least 1; 0 for to is the newest when the iteration
// begins. Memory is bounded, however long the history: it is read in pieces. What is handed out is
// the caller's.
//
// The last pair is an empty entry and an error if the iteration can't go on: [ErrBadInput] for
// sequences that the engine does not have, and if the store is no [journal.Historian];
// [ErrHistoryTrimmed] for what the store does not keep; [ErrCanceled] or [ErrTimeout] if ctx ends.
func (e *Engine) History(ctx context.Context, from, to uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		newest := e.seam.Newest()
		to := to
		if to == 0 {
			to = newest
		}
		if from < 1 || to > newest || from > to+1 {
			yield(Entry{}, badInput("History from %d to %d: the engine has the sequences 1 to %d", from, to, newest))
			return
		}
		for from <= to {
			part, err := e.seam.ReadHistory(ctx, from)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for entry, err := range entriesOfPart(part, false) {
				if err != nil || entry.Sequence > to {
					if err != nil {
						yield(Entry{}, err)
					}
					return
				}
				if !yield(entry, nil) {
					return
				}
			}
			from += part.Count
		}
	}
}

// entriesOfPart iterates over the entries of a part of a history, with their keys, and the notes that
// were appended behind each. hasBase says that notes at the sequence before the part are a part of it,
// too: those behind the base that the part follows.
func entriesOfPart(part journal.Part, hasBase bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		keyed := part.Keyed
		for ; len(keyed) > 0 && keyed[0].Sequence < part.First; keyed = keyed[1:] {
			if hasBase && keyed[0].Sequence+1 == part.First && !yield(noteOf(&keyed[0]), nil) {
				return
			}
		}
		if part.Marker != nil {
			m, err := markerOf(part.Marker)
			if yield(Entry{Sequence: part.First, Marker: m}, err) && err == nil {
				yieldNotes(keyed, yield)
			}
			return
		}
		sequence := part.First - 1
		batches := part.Batches
		for in, err := range journal.Entries(part.Entries) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			sequence++
			entry := entryOf(sequence, &in)
			n := 0
			for n < len(keyed) && keyed[n].Sequence == sequence {
				n++
			}
			var notes []journal.KeyRecord
			entry.Key, notes = keyOf(keyed[:n], &in)
			keyed = keyed[n:]
			for len(batches) > 0 && batches[0].Last < sequence {
				batches = batches[1:]
			}
			if len(batches) > 0 && batches[0].First <= sequence {
				entry.Batch = batches[0].First
			}
			if !yield(entry, nil) || !yieldNotes(notes, yield) {
				return
			}
		}
	}
}

// yieldNotes hands notes out.
func yieldNotes(notes []journal.KeyRecord, yield func(Entry, error) bool) bool {
	for k := range notes {
		if !yield(noteOf(&notes[k]), nil) {
			return false
		}
	}
	return true
}

func noteOf(note *journal.KeyRecord) Entry { return Entry{Sequence: note.Sequence, Note: note} }

// entryOf returns an entry that is the caller's.
func entryOf(sequence uint64, in *journal.Entry) Entry {
	return Entry{Sequence: sequence, Now: in.Now, Entropy: in.Entropy, Type: string(in.Type),
		Payload: bytes.Clone(in.Payload), Checksum: in.Checksum}
}

// keyOf returns the key that an action had, "" if none, of the key records of its sequence, and the
// others: those are notes. Only the action's own has its sum, and it was appended first.
func keyOf(keyed []journal.KeyRecord, in *journal.Entry) (key string, notes []journal.KeyRecord) {
	if len(keyed) == 0 {
		return "", nil
	}
	sum := engine.NewSum(engine.SumOfAction)
	engine.AddToSum(sum, in.Type)
	engine.AddToSum(sum, in.Payload)
	if keyed[0].Sum != [sha256.Size]byte(sum.Sum(nil)) {
		return "", keyed
	}
	return keyed[0].Key, keyed[1:]
}

// JournalAt returns the newest base of the engine's journal whose sequence is at most at, the setup
// or a snapshot, and the actions and notes from there up to at: both as they were at one moment, so
// that no later snapshot comes between. With 0 it returns the oldest base that the store keeps. It
// fails as [Engine.StateAt] does. The base must not be changed; what the iteration hands out is the
// caller's.
func (e *Engine) JournalAt(ctx context.Context, at uint64) (journal.Base, iter.Seq2[Entry, error], error) {
	s, batches, err := e.seam.JournalAt(ctx, at)
	if err != nil {
		return journal.Base{}, nil, err
	}
	part := journal.Part{First: s.Sequence + 1, Count: s.Count, Entries: s.Entries, Keyed: s.Recent, Batches: batches}
	return s.Base, entriesOfPart(part, true), nil
}

// Newest returns the sequence of the newest action that is known to be stored.
func (e *Engine) Newest() uint64 { return e.seam.Newest() }
