package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/measure"
	"hypertoken/internal/migration"
	"hypertoken/internal/payload"
	"hypertoken/journal"
)

// How an engine is opened, loaded and forgotten.

// EngineOptions configure an engine.
type EngineOptions struct {
	// Setup is what a new engine starts from: a map {stack, source} as the conformance traces have it, any value that
	// encodes to one, or [Raw]. nil is an empty engine. It is not used if the store knows the name already.
	Setup any

	// Timeout is as Options.Timeout, which is its default.
	Timeout time.Duration
	// EnableBatching gathers what is dispatched within BatchWindow into one batch. Default Options.EnableBatching.
	EnableBatching bool
	// BatchWindow is how long a batch waits for more actions after its first. Default Options.BatchWindow.
	BatchWindow time.Duration
	// BatchMode is that of gathered batches. Default Options.BatchMode.
	BatchMode BatchMode
}

// NewEngine returns an engine with a host of its own that has one worker: o configures the host,
// and its Workers are not used. It fails as [New] and [Host.Open] do. The caller calls Shutdown,
// which ends both.
func NewEngine(ctx context.Context, o Options, engine EngineOptions) (*Engine, error) {
	o.Workers = 1
	h, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	e, err := h.Open(ctx, "engine", engine)
	if err != nil {
		_ = h.Shutdown(context.WithoutCancel(ctx))
		return nil, err
	}
	return e, nil
}

// Open creates the engine of a name, or loads it if the store knows the name. It fails with
// [ErrBadInput] if an engine of that name is open, with an [*ActionError] if the core refuses the
// setup, and with [ErrCoreMismatch] if the journal of a stored engine needs another core to be
// replayed.
func (h *Host) Open(ctx context.Context, name string, o EngineOptions) (*Engine, error) {
	if name == "" {
		return nil, badInput("Open: an engine's name must not be empty")
	}
	setup, err := h.options.encodeSetup(o.Setup)
	if err != nil {
		return nil, err
	}
	e := h.newDriver(name, &o)
	h.mu.Lock()
	switch {
	case h.closing:
		h.mu.Unlock()
		return nil, shutdownError()
	case h.engines[name] != nil:
		h.mu.Unlock()
		return nil, badInput("Open: an engine named %q is open; close it first", name)
	}
	h.engines[name] = e
	h.mu.Unlock()
	created, err := openJournal(ctx, e, setup)
	if err != nil {
		e.stop()
		if created {
			h.options.Store.Delete(name, journal.Done{})
		}
		return nil, err
	}
	return &Engine{host: h, name: name, seam: e}, nil
}

// encodeSetup encodes what an engine starts from.
func (o *Options) encodeSetup(setup any) ([]byte, error) {
	switch s := setup.(type) {
	case nil:
		return nil, nil
	case Raw:
		return s, nil
	}
	return new(payload.Buffer).Encode("EngineOptions.Setup", setup, o.setupLimits())
}

func (h *Host) newDriver(name string, o *EngineOptions) *driver {
	number := h.owners.Add(1)
	e := &driver{host: h, name: name, number: number, timeout: h.options.Timeout, closed: make(chan struct{}),
		owner: journal.Owner{Host: h.id, Number: number},
		meter: meter{host: h, engine: name, shard: int(number % measure.CountShards)}}
	e.keys.Init(h.options.KeyWindow, h.options.KeyBytes, &h.keyBytes, &h.counts.KeysForgotten)
	e.m, e.mail.driver = engine.New(&h.machines), e
	if o.Timeout != 0 {
		e.timeout = o.Timeout
	}
	e.gathering = gathering{driver: e, isEnabled: h.options.EnableBatching || o.EnableBatching,
		window: h.options.BatchWindow, mode: h.options.BatchMode}
	if o.BatchWindow > 0 {
		e.gathering.window = o.BatchWindow
	}
	if o.BatchMode != BatchAtomic {
		e.gathering.mode = o.BatchMode
	}
	return e
}

// open loads or creates what is stored. created says that the store knows the name only since.
func openJournal(ctx context.Context, e *driver, setup []byte) (created bool, err error) {
	h := e.host
	what := fmt.Sprintf("open %q", e.name)
	limited, cancel := h.clock.Limit(ctx, h.options.OpenTimeout, fault.OwnCause{Err: fault.ErrTimeout.Because(
		context.DeadlineExceeded, "not done after %v (OpenTimeout)", h.options.OpenTimeout)})
	defer cancel()
	s, err := fetchJournal(limited, e, what)
	if err != nil {
		return false, err
	}
	if s != nil {
		if migration.IsNeeded(s, h.hash) {
			if s, err = migrate(limited, e, what, s); err != nil {
				return false, err
			}
		}
		e.mu.Lock()
		e.m.Opened(s)
		e.keys.Load(s)
		e.work.shed = h.keyBytes.Load() > h.options.MaxKeyBytes
		e.unlockAndDeliver(false)
		return false, nil
	}
	base := journal.Base{Data: slices.Clone(setup), Core: h.hash}
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
	var refused *ActionError
	if errors.Is(err, ErrBroken) && errors.As(err, &refused) {
		return true, refused
	}
	return true, err
}

// migrate replaces a journal that another core wrote by a snapshot for this host's core.
func migrate(ctx context.Context, e *driver, what string, s *journal.Stored) (*journal.Stored, error) {
	o := &e.host.options
	base, err := migration.Migrate(ctx, what, s, o.Cores,
		migration.Target{Core: e.host.hash, Limits: o.limits(), MemoryLimit: uint64(o.MaxEngineMemory)})
	if err == nil {
		err = installBase(ctx, e, what, base)
	}
	if err != nil {
		return nil, err
	}
	return &journal.Stored{Base: base, Owner: e.owner}, nil
}

// fetch asks the store for the journal, and waits.
func fetchJournal(ctx context.Context, e *driver, what string) (*journal.Stored, error) {
	type loaded struct {
		stored *journal.Stored
		err    error
	}
	came := make(chan loaded, 1)
	e.mu.Lock() // so that the owner is still the newest
	e.host.options.Store.Load(e.name, e.owner, func(s *journal.Stored, err error) { came <- loaded{s, err} })
	e.unlockAndDeliver(false)
	select {
	case l := <-came:
		if l.err != nil {
			return nil, fmt.Errorf("%s: the store: %w", what, l.err)
		}
		return l.stored, nil
	case <-ctx.Done():
		return nil, ended(ctx, what)
	}
}

// install has the store install a base, and waits.
func installBase(ctx context.Context, e *driver, what string, base journal.Base) error {
	done := make(chan error, 1)
	e.host.options.Store.Install(e.name, e.owner, base, journal.DoneFunc(reportTo(done)))
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: the store: %w", what, err)
		}
		return nil
	case <-ctx.Done():
		return ended(ctx, what)
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

// Delete forgets a closed engine for good. It fails with [ErrBadInput] where it is open; a name that is not known is
// no error.
func (h *Host) Delete(ctx context.Context, name string) error {
	h.mu.Lock()
	open := h.engines[name] != nil
	h.mu.Unlock()
	if open {
		return badInput("Delete: the engine %q is open; close it first", name)
	}
	done := make(chan error, 1)
	h.options.Store.Delete(name, journal.DoneFunc(reportTo(done)))
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ended(ctx, "Delete")
	}
}

// forget takes a closed engine off. Its lock is held.
func forget(h *Host, e *driver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engines[e.name] == e {
		delete(h.engines, e.name)
	}
}
