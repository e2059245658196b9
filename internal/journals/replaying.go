package journals

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/marker"
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
	// wanted are the digests that states have to have, by their sequences: later markers went back there.
	wanted map[uint64][]wanted
	Report
}

// wanted is the digest that a marker says of the state that it went back to.
type wanted struct {
	marker uint64 // its sequence
	digest uint64
	core   string // that the marker is with
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
	if err != nil || next == nil || next.IsMarker { // no action has the sequence of a marker
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
	if s.IsMarker {
		if err := c.checkMarker(ctx, i, &s.Base); err != nil {
			return err
		}
	}
	sequence := s.Sequence
	if err := c.checkWanted(ctx, i, s.Core, sequence); err != nil {
		return err
	}
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
		if err := c.checkWanted(ctx, i, s.Core, sequence); err != nil {
			return err
		}
	}
	switch {
	case s.next == nil:
		return nil
	case s.next.IsMarker:
		return c.checkUpgrade(ctx, i, s.next)
	}
	return c.compare(ctx, core, i, s.next)
}

// checkMarker compares the state of a marker with the digest that the marker says, and notes which
// state has to have it, too.
func (c *checking) checkMarker(ctx context.Context, i *wasm.Instance, base *journal.Base) error {
	m, err := marker.Read(base)
	if err != nil {
		return c.differs(ctx, base.Sequence, err.Error())
	}
	have, err := i.Digest(ctx)
	if err != nil {
		return c.differs(ctx, base.Sequence, fmt.Sprintf("the marker's state has no digest: %v", err))
	}
	if have != m.Digest {
		return c.differs(ctx, base.Sequence, fmt.Sprintf("the marker has the digest %016x, and its state %016x",
			m.Digest, have))
	}
	if m.Kind == marker.Revert {
		c.wanted[m.To] = append(c.wanted[m.To], wanted{base.Sequence, m.Digest, base.Core})
	}
	c.Bases++
	return nil
}

// checkWanted compares the state at a sequence with those of the markers that went back to it. The
// digest of another core may be another one.
func (c *checking) checkWanted(ctx context.Context, i *wasm.Instance, core string, sequence uint64) error {
	for _, w := range c.wanted[sequence] {
		if w.core != core {
			continue
		}
		have, err := i.Digest(ctx)
		if err != nil {
			return c.differs(ctx, sequence, fmt.Sprintf("the state has no digest: %v", err))
		}
		if have != w.digest {
			return c.differs(ctx, w.marker, fmt.Sprintf("the marker goes back to the sequence %d with the digest %016x, "+
				"and the state there has %016x", sequence, w.digest, have))
		}
	}
	return nil
}

// checkUpgrade compares the state before an upgrade with the digest that the former core gave then.
func (c *checking) checkUpgrade(ctx context.Context, i *wasm.Instance, next *journal.Base) error {
	m, err := marker.Read(next)
	if err != nil || m.Kind != marker.Upgrade || m.DigestBefore == 0 {
		return nil //nolint:nilerr // a marker that can't be read differs already
	}
	have, err := i.Digest(ctx)
	if err != nil {
		return c.differs(ctx, next.Sequence, fmt.Sprintf("the state has no digest: %v", err))
	}
	if have != m.DigestBefore {
		return c.differs(ctx, next.Sequence,
			fmt.Sprintf("the core before the upgrade gave the digest %016x, and gives %016x", m.DigestBefore, have))
	}
	return nil
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
