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
	historian, err := e.historian(what)
	if err != nil {
		return journal.Part{}, err
	}
	part, err := storeAnswer(ctx, what, func(done func(journal.Part, error)) {
		historian.Range(e.name, from, historyPiece, done)
	})
	switch {
	case err != nil:
		return journal.Part{}, historyError(what, err)
	case part.First != from || part.Count == 0:
		return journal.Part{}, fmt.Errorf("%s: the store has read %d entries from the sequence %d on", what, part.Count,
			part.First)
	}
	return part, nil
}

// JournalAt returns the newest base of the journal whose sequence is at most at, and what follows
// it up to at. If at is 0 and what the engine began with is trimmed, it returns the oldest base
// that the store keeps. It fails as StateAt does.
func (e *Driver) JournalAt(ctx context.Context, at uint64) (*journal.Stored, error) {
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
	return e.loadAt(ctx, fmt.Sprintf("JournalAt(%d)", at), at)
}

// historian returns the store of an engine that is open, if it can read the past.
func (e *Driver) historian(what string) (journal.Historian, error) {
	select {
	case <-e.closed:
		return nil, fault.Shutdown()
	default:
	}
	historian, canRead := e.engines.config.Store.(journal.Historian)
	if !canRead {
		return nil, badInput("%s: the store can't read the past: it is no journal.Historian", what)
	}
	return historian, nil
}
