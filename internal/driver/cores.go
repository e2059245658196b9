package driver

import (
	"context"
	"sync/atomic"

	"hypertoken/internal/fault"
	"hypertoken/internal/migration"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// oldCores are the cores that wrote journals. The store keeps them, and this host's own among them, so
// that a host with another core can open the journals that this one writes.
type oldCores struct {
	compiled *migration.Cores
	isKept   atomic.Bool // the store has this host's core
}

// keep has the store keep this host's core, once. what names the call in errors.
func (c *oldCores) keep(ctx context.Context, h *Engines, what string) error {
	keeper, canKeep := h.config.Store.(journal.CoreKeeper)
	if !canKeep || c.isKept.Load() {
		return nil
	}
	err := storeCall(ctx, what, func(done journal.Done) {
		keeper.KeepCore(h.config.CoreHash, h.config.Core.Code, done)
	})
	if err == nil {
		c.isKept.Store(true)
	}
	return err
}

// choose fails with ErrCoreMismatch, which wraps [journal.ErrNotTarget], if the store says that journals
// are to be with another core than this host's. what names the call in errors.
func (c *oldCores) choose(ctx context.Context, h *Engines, what string) error {
	chooser, isChooser := h.config.Store.(journal.CoreChooser)
	if !isChooser {
		return nil
	}
	return storeCall(ctx, what, func(done journal.Done) { chooser.MayUpgrade(h.config.CoreHash, done) })
}

// find returns the core of a hash. Under NoFallback no core runs in this process, so it fails then.
func (c *oldCores) find(ctx context.Context, h *Engines, what, hash string) (*wasm.Core, error) {
	if h.config.Rules.NoFallback {
		return nil, fault.ErrCoreMismatch.With("%s: its journal was written by the core %s and has to be replayed by it in "+
			"this process, which Options.NoFallback forbids: open it once with a host that has no NoFallback", what, hash)
	}
	return c.compiled.Get(ctx, what, hash, func() ([]byte, error) {
		keeper, canKeep := h.config.Store.(journal.CoreKeeper)
		if !canKeep {
			return nil, nil
		}
		return storeAnswer(ctx, what, func(done func([]byte, error)) { keeper.Core(hash, done) })
	})
}
