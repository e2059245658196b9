package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/marker"
	"hypertoken/internal/measure"
	"hypertoken/internal/migration"
	"hypertoken/journal"
)

// How an engine is opened, loaded and forgotten.

// Open creates the engine of a name from a base, or loads it if the store knows the name. The
// base's Core is set here. It fails with ErrBadInput if an engine of that name is open, with an
// ActionError if the core refuses the setup, and with ErrCoreMismatch if the journal of a stored
// engine needs another core to be replayed.
func (h *Engines) Open(ctx context.Context, name string, base journal.Base, o OpenOptions) (*Driver, error) {
	e := h.newDriver(name, o)
	if err := h.enlist(e, badInput("Open: an engine named %q is open; close it first", name)); err != nil {
		return nil, err
	}
	defer h.residents.Done()
	if err := openJournal(ctx, e, base, o.Opening); err != nil {
		e.stop()
		return nil, err
	}
	h.mu.Lock()
	e.isOpen = true
	h.mu.Unlock()
	return e, nil
}

// enlist takes a new driver in, so that its name is taken and Shutdown waits: the caller calls Done of
// residents once nothing of the call uses the store or a core any more. It fails with isOpen if a
// driver has the name, and with ErrShutdown if the host is closing.
func (h *Engines) enlist(e *Driver, isOpen error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.isClosing:
		return fault.Shutdown()
	case h.drivers[e.name] != nil:
		return isOpen
	}
	h.drivers[e.name] = e
	h.residents.Add(1)
	return nil
}

func (h *Engines) newDriver(name string, o OpenOptions) *Driver {
	number := h.owners.Add(1)
	e := &Driver{engines: h, name: name, number: number, timeout: h.config.Timeout, closed: make(chan struct{}),
		owner: journal.Owner{Host: h.id, Number: number},
		meter: meter{engines: h, engine: name, shard: int(number % measure.CountShards)}}
	e.keys.Init(h.config.KeyWindow, h.config.KeyBytes, &h.keyBytes, &h.counts.KeysForgotten)
	e.m, e.mail.driver = engine.New(&h.config.Machine), e
	if o.Timeout != 0 {
		e.timeout = o.Timeout
	}
	e.gathering = gathering{driver: e, isEnabled: o.GathersActions, window: o.Window, mode: o.Mode}
	return e
}

// openJournal loads what is stored, or creates the engine.
func openJournal(ctx context.Context, e *Driver, base journal.Base, opening Opening) error {
	h := e.engines
	what := fmt.Sprintf("open %q", e.name)
	limited, cancel := h.limitOpening(ctx)
	defer cancel()
	if err := h.cores.keep(limited, h, what); err != nil {
		return err
	}
	s, err := fetchJournal(limited, e, what)
	switch {
	case err != nil:
		return err
	case s != nil && opening == OpenNew:
		return taken(what)
	case s == nil && opening == OpenExisting:
		return fault.ErrEngineNotFound.With("%s: the store knows no engine of that name", what)
	case s == nil:
		base.Data, base.Core = slices.Clone(base.Data), h.config.CoreHash
		return createJournal(limited, e, what, base)
	}
	if err := marker.CheckNeeds(&s.Base); err != nil {
		return fault.ErrBroken.Because(err, "%s: %v", what, err)
	}
	if s.Core != "" && s.Core != h.config.CoreHash {
		if err := h.cores.choose(limited, h, what); err != nil {
			return err
		}
		if s, err = migrate(limited, e, what, s); err != nil {
			return err
		}
	}
	e.mu.Lock()
	e.m.Opened(s)
	e.noteMarker(&s.Base)
	e.keys.Load(s)
	e.work.shed = h.keyBytes.Load() > h.config.MaxKeyBytes
	e.unlockAndDeliver(false)
	return nil
}

// limitOpening returns a context that ends with ctx, after OpenTimeout, and with the host. The
// caller calls free when it needs the context no more.
func (h *Engines) limitOpening(ctx context.Context) (limited context.Context, free func()) {
	ctx, end := context.WithCancelCause(ctx)
	limited, cancel := h.clock.Limit(ctx, h.config.OpenTimeout, fault.OwnCause{Err: fault.ErrTimeout.Because(
		context.DeadlineExceeded, "not done after %v (OpenTimeout)", h.config.OpenTimeout)})
	stop := context.AfterFunc(h.life, func() { end(fault.OwnCause{Err: fault.Shutdown()}) })
	return limited, func() {
		stop()
		cancel()
		end(nil)
	}
}

// createJournal places an engine from what it begins with, and stores that only then: the store never
// has a setup that the core refuses.
func createJournal(ctx context.Context, e *Driver, what string, base journal.Base) error {
	e.mu.Lock()
	e.m.Created(&journal.Stored{Base: base})
	e.keys.Load(&journal.Stored{Base: base})
	e.noteMarker(&base)
	e.isOpening = true
	e.unlockAndDeliver(false)
	err := ready(ctx, e, what)
	if err == nil {
		err = installBase(ctx, e, what, base)
	}
	e.mu.Lock()
	e.isOpening = false
	e.m.Kept()
	e.unlockAndDeliver(false)
	var refused *fault.ActionError
	switch {
	case errors.Is(err, fault.ErrBroken) && errors.As(err, &refused):
		return refused
	}
	return notCreated(what, err)
}

// notCreated returns the error of a base that could not be stored as the first of its name.
func notCreated(what string, err error) error {
	if errors.Is(err, journal.ErrNotOwner) {
		return fault.ErrEngineExists.Because(err, "%s: another host has created an engine of that name meanwhile", what)
	}
	return err
}

// migrate has this host's core go on with a journal that another core wrote: a marker behind it has
// the state as this host's core restores it.
func migrate(ctx context.Context, e *Driver, what string, s *journal.Stored) (*journal.Stored, error) {
	o := &e.engines.config
	to := migration.Target{Core: o.CoreHash, Limits: o.Machine.Limits}
	m := marker.Marker{Kind: marker.Upgrade, FromCore: s.Core}
	var base journal.Base
	if migration.IsNeeded(s, o.CoreHash) {
		core, err := e.engines.cores.find(ctx, e.engines, what, s.Core)
		if err != nil {
			return nil, err
		}
		if base, m.DigestBefore, err = migration.Migrate(ctx, what, s, core, to); err != nil {
			return nil, err
		}
	} else {
		base = migration.Adopt(s, to)
	}
	restored, err := e.engines.restored(ctx, what, e.name, base)
	if err != nil {
		return nil, err
	}
	base.Data, m.Digest = restored.Raw, restored.Digest
	now, err := e.engines.stepAt(ctx, what, e.name, base.Sequence-1)
	if err != nil {
		return nil, err
	}
	m.Current, m.Redo = now.current, now.redo
	base.Details = m.Encode()
	if err := installBase(ctx, e, what, base); err != nil {
		return nil, err
	}
	return &journal.Stored{Base: base, Owner: e.owner}, nil
}

// fetchJournal asks the store for the journal, and waits.
func fetchJournal(ctx context.Context, e *Driver, what string) (*journal.Stored, error) {
	return storeAnswer(ctx, what, func(done func(*journal.Stored, error)) {
		e.mu.Lock() // so that the owner is still the newest
		e.engines.config.Store.Load(e.name, e.owner, done)
		e.unlockAndDeliver(false)
	})
}

// installBase has the store install a base, and waits.
func installBase(ctx context.Context, e *Driver, what string, base journal.Base) error {
	return storeCall(ctx, what, func(done journal.Done) { e.engines.config.Store.Install(e.name, e.owner, base, done) })
}

// Delete forgets a closed engine for good. It fails with ErrBadInput if the engine is open; a name
// that is not known is no error.
func (h *Engines) Delete(ctx context.Context, name string) error {
	h.mu.Lock()
	isOpen := h.drivers[name] != nil
	h.mu.Unlock()
	if isOpen {
		return badInput("Delete: the engine %q is open; close it first", name)
	}
	return storeCall(ctx, fmt.Sprintf("delete %q", name), func(done journal.Done) { h.config.Store.Delete(name, done) })
}

// Journal returns what the store has of the engine: nil if it does not know the engine.
func (e *Driver) Journal(ctx context.Context) (*journal.Stored, error) {
	if err := e.openError("Journal"); err != nil {
		return nil, err
	}
	s, err := fetchJournal(ctx, e, "Journal")
	return s, e.noteMoved(err)
}
