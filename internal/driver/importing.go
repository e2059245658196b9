package driver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"hypertoken/internal/fault"
	"hypertoken/journal"
)

// Journals that get their name once they are complete.

// CanImport fails if the name of an import is taken, and with ErrBadInput if the store can't rename.
func (h *Engines) CanImport(ctx context.Context, name string) error {
	what := fmt.Sprintf("import %q", name)
	if _, canRename := h.config.Store.(journal.Renamer); !canRename {
		return badInput("%s: the store can't rename: it is no journal.Renamer", what)
	}
	historian, err := h.historian(what)
	if err != nil {
		return err
	}
	ctx, cancel := h.limitOpening(ctx)
	defer cancel()
	_, err = storeAnswer(ctx, what, func(done func(journal.Part, error)) { historian.Range(name, 1, 1, done) })
	switch {
	case errors.Is(err, fault.ErrMoved):
		return err
	case err == nil || errors.Is(err, journal.ErrTrimmed):
		return taken(what)
	case errors.Is(err, journal.ErrRefused):
		return nil
	}
	return err
}

// mostImportNames is how many random names are drawn until the store keeps one together with the name of
// an import.
const mostImportNames = 1 << 20

// ImportName returns a new name that begins with a prefix, and that the store can rename to the name
// of an import.
func (h *Engines) ImportName(prefix, name string) (string, error) {
	divider, isDivider := h.config.Store.(journal.Divider)
	for range mostImportNames {
		var random [16]byte
		_, _ = rand.Read(random[:]) // never fails
		hidden := prefix + hex.EncodeToString(random[:])
		if !isDivider || divider.KeepsTogether(hidden, name) {
			return hidden, nil
		}
	}
	return "", badInput("import %q: the store keeps no name together with this one", name)
}

func taken(what string) error {
	return fault.ErrEngineExists.With("%s: the store knows an engine of that name already", what)
}

// Rename gives the journal of an engine that is not open another name, which must be free.
func (h *Engines) Rename(ctx context.Context, from, to string) error {
	what := fmt.Sprintf("import %q", to)
	h.mu.Lock()
	isOpen := h.drivers[to] != nil
	h.mu.Unlock()
	renamer, canRename := h.config.Store.(journal.Renamer)
	switch {
	case !canRename:
		return badInput("%s: the store can't rename: it is no journal.Renamer", what)
	case isOpen:
		return taken(what)
	}
	owner := journal.Owner{Host: h.id, Number: h.owners.Add(1)}
	if _, err := storeAnswer(ctx, what, func(done func(*journal.Stored, error)) {
		h.config.Store.Load(from, owner, done)
	}); err != nil {
		return err
	}
	err := storeCall(ctx, what, func(done journal.Done) { renamer.Rename(from, to, owner, done) })
	if errors.Is(err, journal.ErrExists) {
		return taken(what)
	}
	if r, canRelease := h.config.Store.(journal.Releaser); canRelease && err == nil {
		r.Release(to, owner, journal.Done{})
	}
	return err
}
