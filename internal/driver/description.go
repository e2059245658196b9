package driver

import (
	"context"
	"sync"

	"hypertoken/internal/fault"
	"hypertoken/internal/inproc"
	"hypertoken/wasm"
)

// What the core says of itself.

// Core returns the core in this process.
func (h *Engines) Core() *inproc.Core { return h.core }

// Actions returns the core's list of actions as MessagePack. If no engine may run in this process
// (NoFallback), a worker tells it, and Actions waits for one.
func (h *Engines) Actions(ctx context.Context) ([]byte, error) {
	if err := h.useCore(); err != nil {
		return nil, err
	}
	defer h.residents.Done()
	if !h.config.Rules.NoFallback {
		return h.core.Ask(ctx, "Actions", (*wasm.Instance).Actions)
	}
	select {
	case <-h.actions.areKnown:
		return h.actions.list, nil
	case <-ctx.Done():
		return nil, fault.Ended(ctx, "Actions")
	case <-h.life.Done():
		return nil, fault.Shutdown()
	}
}

// Records returns the core's list of records as MessagePack.
func (h *Engines) Records(ctx context.Context) ([]byte, error) {
	if err := h.useCore(); err != nil {
		return nil, err
	}
	defer h.residents.Done()
	return h.core.Ask(ctx, "Records", (*wasm.Instance).Records)
}

// useCore keeps Shutdown from freeing the core. It fails if Shutdown was called. Otherwise the
// caller calls residents.Done.
func (h *Engines) useCore() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosing {
		return fault.Shutdown()
	}
	h.residents.Add(1)
	return nil
}

// toldActions is the core's list of actions as a worker told it, once one has.
type toldActions struct {
	once     sync.Once // guards list
	areKnown chan struct{}
	list     []byte
}

// tell takes in a list of actions that a worker has told. The first one counts.
func (a *toldActions) tell(list []byte) {
	if len(list) == 0 {
		return
	}
	a.once.Do(func() {
		a.list = append([]byte(nil), list...)
		close(a.areKnown)
	})
}
