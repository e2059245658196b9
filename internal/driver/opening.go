package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/measure"
	"hypertoken/internal/migration"
	"hypertoken/journal"
)

// How an engine is opened, loaded and forgotten.

// Open creates the engine of a name from a setup, or loads it if the store knows the name. It fails
// with ErrBadInput if an engine of that name is open, with an ActionError if the core refuses the
// setup, and with ErrCoreMismatch if the journal of a stored engine needs another core to be
// replayed.
func (h *Engines) Open(ctx context.Context, name string, setup []byte, o OpenOptions) (*Driver, error) {
	if name == "" {
		return nil, badInput("Open: an engine's name must not be empty")
	}
	e := h.newDriver(name, o)
	h.mu.Lock()
	switch {
	case h.isClosing:
		h.mu.Unlock()
		return nil, fault.Shutdown()
	case h.drivers[name] != nil:
		h.mu.Unlock()
		return nil, badInput("Open: an engine named %q is open; close it first", name)
	}
	h.drivers[name] = e
	h.mu.Unlock()
	created, err := openJournal(ctx, e, setup)
	if err != nil {
		e.stop()
		if created {
			h.config.Store.Delete(name, journal.Done{})
		}
		return nil, err
	}
	return e, nil
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

// openJournal loads the engine's journal, or creates it from the setup. created says that it did
// the latter, or tried to.
func openJournal(ctx context.Context, e *Driver, setup []byte) (created bool, err error) {
	h := e.engines
	what := fmt.Sprintf("open %q", e.name)
	limited, cancel := h.clock.Limit(ctx, h.config.OpenTimeout, fault.OwnCause{Err: fault.ErrTimeout.Because(
		context.DeadlineExceeded, "not done after %v (OpenTimeout)", h.config.OpenTimeout)})
	defer cancel()
	s, err := fetchJournal(limited, e, what)
	if err != nil {
		return false, err
	}
	if s != nil {
		if migration.IsNeeded(s, h.config.CoreHash) {
			if s, err = migrate(limited, e, what, s); err != nil {
				return false, err
			}
		}
		e.mu.Lock()
		e.m.Opened(s)
		e.keys.Load(s)
		e.work.shed = h.keyBytes.Load() > h.config.MaxKeyBytes
		e.unlockAndDeliver(false)
		return false, nil
	}
	base := journal.Base{Data: slices.Clone(setup), Core: h.config.CoreHash}
	if err := installBase(limited, e, what, base); err != nil {
		return true, err
	}
	e.mu.Lock()
	e.m.Opened(&journal.Stored{Base: base})
	e.isOpening = true
	e.unlockAndDeliver(false)
	err = ready(limited, e, what)
	e.mu.Lock()
	e.isOpening = false
	e.unlockAndDeliver(false)
	var refused *fault.ActionError
	if errors.Is(err, fault.ErrBroken) && errors.As(err, &refused) {
		return true, refused
	}
	return true, err
}

// migrate replaces a journal that another core wrote by a snapshot for this host's core.
func migrate(ctx context.Context, e *Driver, what string, s *journal.Stored) (*journal.Stored, error) {
	o := &e.engines.config
	base, err := migration.Migrate(ctx, what, s, o.Cores,
		migration.Target{Core: o.CoreHash, Limits: o.Machine.Limits, MemoryLimit: o.Core.MemoryLimit})
	if err == nil {
		err = installBase(ctx, e, what, base)
	}
	if err != nil {
		return nil, err
	}
	return &journal.Stored{Base: base, Owner: e.owner}, nil
}

// fetchJournal asks the store for the journal, and waits.
func fetchJournal(ctx context.Context, e *Driver, what string) (*journal.Stored, error) {
	type loaded struct {
		stored *journal.Stored
		err    error
	}
	came := make(chan loaded, 1)
	e.mu.Lock() // so that the owner is still the newest
	e.engines.config.Store.Load(e.name, e.owner, func(s *journal.Stored, err error) { came <- loaded{s, err} })
	e.unlockAndDeliver(false)
	select {
	case l := <-came:
		if l.err != nil {
			return nil, fmt.Errorf("%s: the store: %w", what, l.err)
		}
		return l.stored, nil
	case <-ctx.Done():
		return nil, fault.Ended(ctx, what)
	}
}

// installBase has the store install a base, and waits.
func installBase(ctx context.Context, e *Driver, what string, base journal.Base) error {
	done := make(chan error, 1)
	e.engines.config.Store.Install(e.name, e.owner, base, journal.DoneFunc(reportTo(done)))
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: the store: %w", what, err)
		}
		return nil
	case <-ctx.Done():
		return fault.Ended(ctx, what)
	}
}

// reportTo returns a function that puts the first error into a channel, which has room for it, and
// drops others: a store may report a call that nobody waits for any more.
func reportTo(done chan<- error) func(error) {
	return func(err error) {
		select {
		case done <- err:
		default:
		}
	}
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
	done := make(chan error, 1)
	h.config.Store.Delete(name, journal.DoneFunc(reportTo(done)))
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.Ended(ctx, "Delete")
	}
}

// Journal returns what the store has of the engine: nil if it does not know the engine.
func (e *Driver) Journal(ctx context.Context) (*journal.Stored, error) {
	select {
	case <-e.closed:
		return nil, fault.Shutdown()
	default:
	}
	return fetchJournal(ctx, e, "Journal")
}
