package journals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"

	"hypertoken/host"
	"hypertoken/internal/migration"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Reader reads the states that the journals of a store have had. It replays them in this process,
// by the cores that wrote them, and changes nothing.
type Reader struct {
	source Source
	cores  cores
}

// NewReader returns a reader. The caller calls Close.
func NewReader(s Source, o Options) *Reader {
	return &Reader{source: s, cores: newCores(s, o)}
}

// Close frees the compiled cores. No other call is under way.
func (r *Reader) Close(ctx context.Context) error { return r.cores.close(ctx) }

// CoreOf returns the code of the core that a journal is with.
func CoreOf(ctx context.Context, s Source, o Options, name string) ([]byte, error) {
	info, err := Find(ctx, s, name)
	if err != nil {
		return nil, err
	}
	c := newCores(s, o)
	return c.code(ctx, info.Core)
}

// State is the whole state of a game at a sequence.
type State struct {
	// Sequence is that of the newest action in the state.
	Sequence uint64
	// Digest is that of the state.
	Digest uint64
	// Value is the state in MessagePack.
	Value []byte
}

// StateAt returns the state that a journal leads to at a sequence. It replays the journal from the
// newest snapshot before, and compares each result with the one that was acknowledged. It fails
// with [ErrUnknown] for a name that no journal has, with an error that wraps [journal.ErrTrimmed]
// if the history is not kept that far back, and for a sequence beyond the newest.
func (r *Reader) StateAt(ctx context.Context, name string, at uint64) (State, error) {
	s := State{Sequence: at}
	err := r.replay(ctx, name, at, func(i *wasm.Instance) (err error) {
		if s.Digest, err = i.Digest(ctx); err != nil {
			return err
		}
		return i.State(ctx, func(chunk []byte) error {
			s.Value = append(s.Value, chunk...)
			return nil
		})
	})
	return s, err
}

// DigestAt returns the digest of the state at a sequence. It fails as StateAt does.
func (r *Reader) DigestAt(ctx context.Context, name string, at uint64) (digest uint64, err error) {
	err = r.replay(ctx, name, at, func(i *wasm.Instance) (err error) {
		digest, err = i.Digest(ctx)
		return err
	})
	return digest, err
}

// replay has ask look at the instance that a journal leads to at a sequence.
func (r *Reader) replay(ctx context.Context, name string, at uint64, ask func(*wasm.Instance) error) error {
	stored, err := r.load(ctx, name, at)
	if err != nil {
		return err
	}
	core, err := r.cores.get(ctx, stored.Core)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	i, err := migration.Replay(ctx, fmt.Sprintf("%q at %d", name, at), stored, core, wasm.DefaultLimits)
	if err == nil {
		err = errors.Join(ask(i), i.Close(context.WithoutCancel(ctx)))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// load reads the journal up to a sequence, from the newest base before.
func (r *Reader) load(ctx context.Context, name string, at uint64) (*journal.Stored, error) {
	stored, err := Answer(ctx, func(done func(*journal.Stored, error)) { r.source.LoadAt(name, at, done) })
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q at %d: %w", name, at, err)
	case stored == nil:
		return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return stored, nil
}

// Game is a journal of a store, for [hypertoken/internal/jsonl.Export].
type Game struct {
	reader *Reader
	info   journal.Info
}

// Game returns the journal of a name. It fails with [ErrUnknown] if there is none.
func (r *Reader) Game(ctx context.Context, name string) (*Game, error) {
	info, err := Find(ctx, r.source, name)
	return &Game{r, info}, err
}

// Newest returns the sequence of the newest action.
func (g *Game) Newest() uint64 { return g.info.Sequence }

// DigestAt returns the digest of the state at a sequence.
func (g *Game) DigestAt(ctx context.Context, sequence uint64) (host.Digest, error) {
	digest, err := g.reader.DigestAt(ctx, g.info.Name, sequence)
	return host.Digest(digest), err
}

// JournalAt returns the newest base whose sequence is at most at, and the entries behind it up to
// at; with 0 the oldest base that is kept.
func (g *Game) JournalAt(ctx context.Context, at uint64) (journal.Base, iter.Seq2[host.Entry, error], error) {
	s, err := g.reader.load(ctx, g.info.Name, at)
	if at == 0 && errors.Is(err, journal.ErrTrimmed) {
		// The store can load every state from its oldest base on, and none before.
		at = uint64(sort.Search(int(g.info.Sequence), func(at int) bool {
			_, err = g.reader.load(ctx, g.info.Name, uint64(at))
			return !errors.Is(err, journal.ErrTrimmed)
		}))
		s, err = g.reader.load(ctx, g.info.Name, at)
	}
	if err != nil {
		return journal.Base{}, nil, err
	}
	return s.Base, func(yield func(host.Entry, error) bool) {
		for k := range s.Recent {
			note := &s.Recent[k] // of those behind the base, whatever has no entry is a note
			if note.Sequence == s.Sequence && !yield(host.Entry{Sequence: note.Sequence, Note: note}, nil) {
				return
			}
		}
		for e, err := range g.History(ctx, s.Sequence+1, s.Sequence+s.Count) {
			if !yield(e, err) {
				return
			}
		}
	}, nil
}

// History iterates over the entries from one sequence to another, both included.
func (g *Game) History(ctx context.Context, from, to uint64) iter.Seq2[host.Entry, error] {
	return func(yield func(host.Entry, error) bool) {
		for e, err := range Entries(ctx, g.reader.source, g.info.Name, from, to) {
			if err != nil {
				yield(host.Entry{}, err)
				return
			}
			switch {
			case e.Marker != nil:
				if !yield(host.Entry{Sequence: e.Sequence, Marker: &host.Marker{Base: e.Marker}}, nil) {
					return
				}
				continue
			case e.Note != nil:
				if !yield(host.Entry{Sequence: e.Sequence, Note: e.Note}, nil) {
					return
				}
				continue
			}
			if !yield(host.Entry{Sequence: e.Sequence, Batch: e.Batch, Now: e.Now, Entropy: e.Entropy,
				Type:    string(e.Type),
				Payload: bytes.Clone(e.Payload), Checksum: e.Checksum, Key: e.Key}, nil) {
				return
			}
		}
	}
}
