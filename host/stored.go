package host

import (
	"context"
	"iter"
	"time"
)

// StoredEngine is what the store tells of an engine without opening it.
type StoredEngine struct {
	// Name is the engine's name.
	Name string
	// Sequence is that of the newest action that is stored.
	Sequence uint64
	// Core is the SHA-256 of the core that runs the engine's actions, in hexadecimal.
	Core string
	// Bytes is about how much the engine takes in the store, its history included.
	Bytes uint64
	// Created is when the engine was created, Updated when something of it was stored last, both by the
	// store's clock. Each is zero if the store does not keep it.
	Created, Updated time.Time
}

// Stored returns the engines that the store knows, open or not, whose names start with prefix and sort
// behind after: limit of them at most, in the order of the names' bytes. To read all, call it again
// with the last name as after until a page has fewer than limit. What is created or deleted meanwhile
// may be missed. It fails with [ErrBadInput] for a limit below 1, and if the store is no
// [journal.Lister].
func (h *Host) Stored(ctx context.Context, prefix, after string, limit int) ([]StoredEngine, error) {
	infos, err := h.engines.Stored(ctx, prefix, after, limit)
	if err != nil {
		return nil, err
	}
	page := make([]StoredEngine, len(infos))
	for k, info := range infos {
		page[k] = StoredEngine(info)
	}
	return page, nil
}

// Get returns the engine of a name if it is open, and nil otherwise.
func (h *Host) Get(name string) *Engine {
	if e := h.engines.Find(name); e != nil {
		return &Engine{host: h, seam: e}
	}
	return nil
}

// Engines iterates over the engines that are open when the iteration begins, oldest first. An engine
// may be closed meanwhile.
func (h *Host) Engines() iter.Seq[*Engine] {
	return func(yield func(*Engine) bool) {
		for _, e := range h.engines.All() {
			if !yield(&Engine{host: h, seam: e}) {
				return
			}
		}
	}
}

// StoreHealth returns nil if the store takes what is to be stored. Otherwise it returns why not: an
// error that wraps [journal.ErrFull], [journal.ErrUnavailable] or [journal.ErrFailed]. A store that is
// no [journal.HealthChecker] is taken for a healthy one.
func (h *Host) StoreHealth() error { return h.engines.StoreHealth() }
