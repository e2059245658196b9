package driver

import (
	"context"
	"errors"
	"fmt"

	"hypertoken/internal/fault"
	"hypertoken/journal"
)

// What the store keeps of an engine's journal, read in pieces.

// historyPiece is about how many bytes of a history are read at once.
const historyPiece = 256 << 10

// Newest returns the sequence of the newest action that is known to be stored.
func (e *Driver) Newest() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.m.View().Sequence
}

// ReadHistory returns entries of the journal from a sequence on: those that take about
// historyPiece bytes, and at least one. It fails with ErrHistoryTrimmed if the store does not keep
// the entry, and with ErrBadInput for a sequence beyond the newest.
func (e *Driver) ReadHistory(ctx context.Context, from uint64) (journal.Part, error) {
	what := fmt.Sprintf("History from %d", from)
	if err := e.openError(what); err != nil {
		return journal.Part{}, err
	}
	part, err := e.engines.readHistory(ctx, what, e.name, from, historyPiece)
	return part, e.noteMoved(err)
}

// readHistory returns entries of the journal of a name from a sequence on: those that take about so
// many bytes, and at least one; or the marker of that sequence.
func (h *Engines) readHistory(ctx context.Context, what, name string, from uint64, size int) (journal.Part, error) {
	historian, err := h.historian(what)
	if err != nil {
		return journal.Part{}, err
	}
	part, err := storeAnswer(ctx, what, func(done func(journal.Part, error)) {
		historian.Range(name, from, size, done)
	})
	switch {
	case err != nil:
		return journal.Part{}, historyError(what, err)
	case part.First != from || part.Count == 0 || part.Marker != nil && part.Count != 1:
		return journal.Part{}, fmt.Errorf("%s: the store has read %d entries from the sequence %d on", what, part.Count,
			part.First)
	}
	return part, nil
}

// JournalAt returns the newest base of the journal whose sequence is at most at, and what follows
// it up to at, with the batches in it. If at is 0 and what the engine began with is trimmed, it returns the oldest base
// that the store keeps. It fails as StateAt does.
func (e *Driver) JournalAt(ctx context.Context, at uint64) (*journal.Stored, []journal.Batch, error) {
	s, err := e.oldestAt(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	var batches []journal.Batch
	for next := s.Sequence + 1; next <= s.Sequence+s.Count; {
		part, err := e.ReadHistory(ctx, next)
		if err != nil {
			return nil, nil, err
		}
		batches = append(batches, part.Batches...)
		next += part.Count
	}
	return s, batches, nil
}

// oldestAt loads the part of the journal that leads to a sequence, or the oldest base for 0.
func (e *Driver) oldestAt(ctx context.Context, at uint64) (*journal.Stored, error) {
	s, err := e.loadOpenAt(ctx, at)
	if at > 0 || !errors.Is(err, fault.ErrHistoryTrimmed) {
		return s, err
	}
	// The store can load every state from its oldest base on, and none before.
	trimmed, kept := uint64(0), e.Newest()
	for trimmed+1 < kept {
		middle := trimmed + (kept-trimmed)/2
		switch _, err := e.loadOpenAt(ctx, middle); {
		case err == nil:
			kept = middle
		case errors.Is(err, fault.ErrHistoryTrimmed):
			trimmed = middle
		default:
			return nil, err
		}
	}
	return e.loadOpenAt(ctx, kept)
}

func (e *Driver) loadOpenAt(ctx context.Context, at uint64) (*journal.Stored, error) {
	what := fmt.Sprintf("JournalAt(%d)", at)
	if err := e.openError(what); err != nil {
		return nil, err
	}
	s, err := e.engines.loadAt(ctx, what, e.name, at)
	return s, e.noteMoved(err)
}

// historian returns the store, if it can read the past.
func (h *Engines) historian(what string) (journal.Historian, error) {
	historian, canRead := h.config.Store.(journal.Historian)
	if !canRead {
		return nil, badInput("%s: the store can't read the past: it is no journal.Historian", what)
	}
	return historian, nil
}
