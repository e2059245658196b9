package driver

import (
	"context"
	"maps"
	"slices"
	"strings"

	"hypertoken/journal"
)

// What the store tells of engines without opening them.

// Stored returns a page of the engines that the store knows. It fails with ErrBadInput if the store
// can't list, and for a limit below 1.
func (h *Engines) Stored(ctx context.Context, prefix, after string, limit int) ([]journal.Info, error) {
	lister, canList := h.config.Store.(journal.Lister)
	switch {
	case !canList:
		return nil, badInput("Stored: the store can't list its engines: it is no journal.Lister")
	case limit < 1:
		return nil, badInput("Stored: the limit is %d, want at least 1", limit)
	}
	return storeAnswer(ctx, "Stored", func(done func([]journal.Info, error)) {
		lister.List(prefix, after, limit, done)
	})
}

// StoreHealth returns why the store takes no appends, nil if it does or can't say.
func (h *Engines) StoreHealth() error {
	if checker, canSay := h.config.Store.(journal.HealthChecker); canSay {
		return checker.Health()
	}
	return nil
}

// isHidden reports whether an engine is one that nobody but its import sees.
func isHidden(name string) bool { return strings.HasPrefix(name, "\x00") }

// Find returns the driver of an engine that is open, nil if there is none.
func (h *Engines) Find(name string) *Driver {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.drivers[name]; e != nil && e.isOpen {
		return e
	}
	return nil
}

// All returns the drivers of the engines that are open now, oldest first.
func (h *Engines) All() []*Driver {
	h.mu.Lock()
	defer h.mu.Unlock()
	open := slices.Collect(maps.Values(h.drivers))
	return byAge(slices.DeleteFunc(open, func(e *Driver) bool { return !e.isOpen || isHidden(e.name) }))
}

// release tells the store that the engine has no more use for its journal.
func (e *Driver) release() {
	if r, canRelease := e.engines.config.Store.(journal.Releaser); canRelease {
		r.Release(e.name, e.owner, journal.Done{})
	}
}
