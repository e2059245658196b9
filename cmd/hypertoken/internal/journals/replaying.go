package journals

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/migration"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// A journal is checked from its newest base to its oldest one, a segment at a time. A segment is
// a base and the entries up to the next base. So each base and each entry is read once, and no
// more than one segment is in memory. What one segment shows does not depend on the others.

// Difference says where a journal is not what the core makes of it.
type Difference struct {
	// Sequence is where the difference shows.
	Sequence uint64
	// Why says what is different.
	Why string
}

// checking is the check of one journal.
type checking struct {
	v    *Verifier
	name string
	Report
}

// segment is a base and what follows it.
type segment struct {
	*journal.Stored
	// next is the base behind the segment; nil behind the newest one.
	next *journal.Base
}

// run checks the segments of a journal, the newest one first.
func (c *checking) run(ctx context.Context, newest uint64) error {
	var next *journal.Base
	for at := newest; ; {
		s, err := c.load(ctx, at, next)
		if errors.Is(err, journal.ErrTrimmed) && next != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.check(ctx, s); err != nil {
			return err
		}
		c.First = s.Sequence
		if s.Sequence == 0 {
			return nil
		}
		next, at = &s.Base, s.Sequence-1
	}
}

// load reads the segment that ends at a sequence, or with the entry before the next base.
func (c *checking) load(ctx context.Context, at uint64, next *journal.Base) (segment, error) {
	stored, err := Answer(ctx, func(done func(*journal.Stored, error)) { c.v.source.LoadAt(c.name, at, done) })
	if err == nil && stored == nil {
		err = ErrUnknown
	}
	if err != nil || next == nil {
		return segment{stored, next}, err
	}
	// The entry just before the next base is the one that LoadAt does not report.
	last, err := Answer(ctx, func(done func(journal.Part, error)) { c.v.source.Range(c.name, next.Sequence, 1, done) })
	if err != nil {
		return segment{}, err
	}
	_, rest, err := journal.ReadEntry(last.Entries)
	if err != nil {
		return segment{}, err
	}
	s := *stored
	s.Entries = append(s.Entries[:len(s.Entries):len(s.Entries)], last.Entries[:len(last.Entries)-len(rest)]...)
	s.Count++
	return segment{&s, next}, nil
}

// check replays a segment. A difference is reported, and no error.
func (c *checking) check(ctx context.Context, s segment) error {
	if err := s.CheckEntries(); err != nil {
		return err
	}
	core, err := c.v.cores.get(ctx, s.Core)
	if err != nil {
		return err
	}
	i, err := migration.Open(ctx, core, &s.Base, wasm.DefaultLimits)
	if err != nil {
		return c.differs(ctx, s.Sequence, fmt.Sprintf("the base can't be opened: %v", err))
	}
	defer func() { _ = i.Close(context.WithoutCancel(ctx)) }()
	sequence := s.Sequence
	for entry, err := range journal.Entries(s.Entries) {
		if err != nil {
			return err
		}
		sequence++
		r, err := i.Dispatch(ctx, &wasm.Action{Now: entry.Now, Entropy: entry.Entropy, Type: string(entry.Type),
			Payload: entry.Payload})
		if err != nil {
			return c.differs(ctx, sequence, fmt.Sprintf("%s fails: %v", entry.Type, err))
		}
		if sum := xxhash.Sum64(r.Result); sum != entry.Checksum {
			return c.differs(ctx, sequence, fmt.Sprintf("%s has a result of the checksum %016x, and %016x was acknowledged",
				entry.Type, sum, entry.Checksum))
		}
		c.Actions++
		c.v.actions.Add(1)
	}
	if s.next == nil {
		return nil
	}
	return c.compare(ctx, core, i, s.next)
}

// compare compares the state behind a segment with the base that follows.
func (c *checking) compare(ctx context.Context, core *wasm.Core, i *wasm.Instance, next *journal.Base) error {
	// A base that another core goes on with is a snapshot of this one: see internal/migration.
	stored, err := migration.Open(ctx, core, next, wasm.DefaultLimits)
	if err != nil {
		return c.differs(ctx, next.Sequence, fmt.Sprintf("the base can't be opened: %v", err))
	}
	defer func() { _ = stored.Close(context.WithoutCancel(ctx)) }()
	want, err := stored.Digest(ctx)
	if err != nil {
		return c.differs(ctx, next.Sequence, fmt.Sprintf("the base has no digest: %v", err))
	}
	have, err := i.Digest(ctx)
	if err != nil {
		return c.differs(ctx, next.Sequence, fmt.Sprintf("the state has no digest: %v", err))
	}
	if have != want {
		return c.differs(ctx, next.Sequence, fmt.Sprintf("the base has the digest %016x, and the actions before it lead to %016x",
			want, have))
	}
	c.Bases++
	return nil
}

// differs notes a difference, and keeps the earliest. If ctx has ended, that is the error.
func (c *checking) differs(ctx context.Context, sequence uint64, why string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.Difference == nil || sequence < c.Difference.Sequence {
		c.Difference = &Difference{sequence, why}
	}
	return nil
}
