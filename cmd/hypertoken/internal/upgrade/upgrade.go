// Package upgrade tries another core on the games of a store, and changes none of them.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/journals"
	"hypertoken/internal/migration"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Source is what a store has to be able to do. Its games stay as they are.
type Source interface {
	journal.Lister
	journal.Historian
	journal.CoreKeeper
}

// Options configure a [Check].
type Options struct {
	// Core is the code of the core that is tried.
	Core []byte
	// Known are the codes of cores that the store may not have.
	Known [][]byte
	// Limits are those of an engine, MemoryLimit the bytes of memory that it may take.
	Limits      wasm.Limits
	MemoryLimit uint64
	// Timeout bounds an action of the core that is tried; 0 is no bound.
	Timeout time.Duration
	// Report is called for each game that would differ, with the reason.
	Report func(name, why string) error
	// Progress is called after each game, with what was done so far. nil is nobody.
	Progress func(Summary)
}

// Summary counts what a check has done.
type Summary struct {
	// Games is how many games were checked, Differ how many of them would differ. Present is how many
	// are with the core already; they are not checked.
	Games, Differ, Present int
	// Actions is how many actions were replayed by both cores.
	Actions uint64
}

// page is how many names are read at once.
const page = 1000

// Check replays every game that is with another core than o.Core, from its newest base: first by the
// core that it is with, then by o.Core. A game would differ if
//   - the core that it is with does not give the results that were acknowledged, so that it could not
//     be taken over;
//   - o.Core does not read the state that the game is in, or reads another one;
//   - an action has another result by o.Core.
//
// Check fails if the store does, if o.Core can't be run, or if ctx ends.
func Check(ctx context.Context, source Source, o Options) (sum Summary, err error) {
	core, err := wasm.Compile(ctx, o.Core, wasm.Options{Interruptible: true, MemoryLimit: o.MemoryLimit})
	if err != nil {
		return sum, err
	}
	c := checker{Options: o, source: source, core: core, hash: wasm.Hash(o.Core)}
	c.former = migration.NewCores(c.hash, o.Known, o.MemoryLimit)
	defer func() {
		err = errors.Join(err, c.former.Close(context.WithoutCancel(ctx)), core.Close(context.WithoutCancel(ctx)))
	}()
	for after := ""; ; {
		list, err := journals.Answer(ctx, func(done func([]journal.Info, error)) { source.List("", after, page, done) })
		if err != nil {
			return c.sum, err
		}
		for _, info := range list {
			if err := c.game(ctx, info); err != nil {
				return c.sum, err
			}
		}
		if len(list) < page {
			return c.sum, nil
		}
		after = list[len(list)-1].Name
	}
}

// checker is a check that is under way.
type checker struct {
	Options
	source Source
	core   *wasm.Core // that is tried
	hash   string     // of core
	former *migration.Cores
	sum    Summary
}

// game checks a game, and reports it if it would differ.
func (c *checker) game(ctx context.Context, info journal.Info) error {
	if info.Core == c.hash {
		c.sum.Present++
		return nil
	}
	s, err := journals.Answer(ctx, func(done func(*journal.Stored, error)) {
		c.source.LoadAt(info.Name, info.Sequence, done)
	})
	if err == nil && s == nil {
		return nil // it was deleted
	}
	if err == nil {
		err = c.compare(ctx, info.Name, s)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, journal.ErrFailed) || errors.Is(err, journal.ErrUnavailable) {
		return err
	}
	c.sum.Games++
	if err != nil {
		c.sum.Differ++
		if err := c.Report(info.Name, err.Error()); err != nil {
			return err
		}
	}
	if c.Progress != nil {
		c.Progress(c.sum)
	}
	return nil
}

// compare returns how a game would differ, or nil.
func (c *checker) compare(ctx context.Context, name string, s *journal.Stored) error {
	former, err := c.former.Get(ctx, "the former core", s.Core, func() ([]byte, error) {
		return journals.Answer(ctx, func(done func([]byte, error)) { c.source.Core(s.Core, done) })
	})
	if err != nil {
		return err
	}
	// This is what a host does when it opens the game.
	base, want, err := migration.Migrate(ctx, "the former core", s, former,
		migration.Target{Core: c.hash, Limits: c.Limits})
	if err != nil {
		return err
	}
	newest := s.Sequence + s.Count
	have, err := c.digest(ctx, c.core, &base)
	switch {
	case err != nil:
		return fmt.Errorf("the state of the sequence %d can't be read by the new core: %w", newest, err)
	case have != want:
		return fmt.Errorf("the state of the sequence %d has the digest %016x, by the new core %016x", newest, want, have)
	}
	return c.replay(ctx, s)
}

// digest returns the digest of a base's state.
func (c *checker) digest(ctx context.Context, core *wasm.Core, base *journal.Base) (uint64, error) {
	i, err := migration.Open(ctx, core, base, c.Limits)
	if err != nil {
		return 0, err
	}
	defer func() { _ = i.Close(context.WithoutCancel(ctx)) }()
	return i.Digest(ctx)
}

// replay runs the entries of a journal by the core that is tried.
func (c *checker) replay(ctx context.Context, s *journal.Stored) error {
	i, err := migration.Open(ctx, c.core, &s.Base, c.Limits)
	if err != nil {
		return fmt.Errorf("the base of the sequence %d can't be read by the new core: %w", s.Sequence, err)
	}
	defer func() { _ = i.Close(context.WithoutCancel(ctx)) }()
	sequence := s.Sequence
	for entry, err := range journal.Entries(s.Entries) {
		if err != nil {
			return err
		}
		sequence++
		r, err := c.dispatch(ctx, i, &entry)
		if err != nil {
			return fmt.Errorf("sequence %d: %s fails by the new core: %w", sequence, entry.Type, err)
		}
		if xxhash.Sum64(r.Result) != entry.Checksum {
			return fmt.Errorf("sequence %d: %s has another result by the new core", sequence, entry.Type)
		}
		c.sum.Actions++
	}
	return nil
}

func (c *checker) dispatch(ctx context.Context, i *wasm.Instance, e *journal.Entry) (wasm.Reply, error) {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	return i.Dispatch(ctx, &wasm.Action{Now: e.Now, Entropy: e.Entropy, Type: string(e.Type), Payload: e.Payload})
}
