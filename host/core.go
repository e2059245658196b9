package host

import (
	"context"
	"sync"

	"hypertoken/wasm"
)

// CoreHash returns the SHA-256 of the core, in hexadecimal.
func (h *Host) CoreHash() string { return h.hash }

// CoreToolchain returns what the core says of the compiler that made it, or "". It waits until the core is compiled.
func (h *Host) CoreToolchain() string {
	if core, err := h.core.Wait(context.Background()); err == nil {
		return core.Toolchain()
	}
	return ""
}

// actionList is the core's list of actions as a worker told it, once one has.
type actionList struct {
	once  sync.Once // guards known
	known chan struct{}
	list  []byte
}

// tell takes in a list of actions that a worker has told. The first one counts.
func (a *actionList) tell(list []byte) {
	if len(list) == 0 {
		return
	}
	a.once.Do(func() {
		a.list = append([]byte(nil), list...)
		close(a.known)
	})
}

// encodedActions returns the core's list of actions as MessagePack. With Options.NoFallback a worker tells it.
func (h *Host) encodedActions(ctx context.Context) ([]byte, error) {
	if h.options.NoFallback {
		select {
		case <-h.actions.known:
			return h.actions.list, nil
		case <-ctx.Done():
			return nil, ended(ctx, "Actions")
		case <-h.life.Done():
			return nil, shutdownError()
		}
	}
	return h.core.Ask(ctx, "Actions", (*wasm.Instance).Actions)
}
