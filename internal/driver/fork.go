package driver

import (
	"context"
	"fmt"

	"hypertoken/internal/fault"
	"hypertoken/internal/marker"
	"hypertoken/journal"
)

// Engines that begin as copies of others.

// Fork creates the engine of a name from the state that another one had at a sequence, and returns
// the digest of that state. The other engine need not be open, and the new one is not open.
func (h *Engines) Fork(ctx context.Context, from string, at uint64, name string) (Result, error) {
	what := fmt.Sprintf("fork %q from %q at %d", name, from, at)
	ctx, cancel := h.limitOpening(ctx)
	defer cancel()
	// The state may be that of another core.
	if err := h.cores.choose(ctx, h, what); err != nil {
		return Result{}, err
	}
	s, err := h.snapshotAt(ctx, what, from, at)
	if err != nil {
		return Result{}, err
	}
	m := marker.Marker{Kind: marker.Fork, FromEngine: from, FromSequence: at, Digest: s.Digest}
	base := journal.Base{Snapshot: true, Data: s.Raw, Core: h.config.CoreHash, IsMarker: true, Details: m.Encode()}
	err = h.create(ctx, what, name, base)
	return Result{HasDigest: true, Digest: s.Digest}, err
}

// create stores the base of a new engine, which is known to be placeable, without opening it.
func (h *Engines) create(ctx context.Context, what, name string, base journal.Base) error {
	if err := h.cores.keep(ctx, h, what); err != nil {
		return err
	}
	e := h.newDriver(name, OpenOptions{})
	if err := h.enlist(e, fault.ErrEngineExists.With("%s: an engine of that name is open", what)); err != nil {
		return err
	}
	defer h.residents.Done()
	defer e.stop() // releases the journal
	switch s, err := fetchJournal(ctx, e, what); {
	case err != nil:
		return err
	case s != nil:
		return taken(what)
	}
	return notCreated(what, installBase(ctx, e, what, base))
}
