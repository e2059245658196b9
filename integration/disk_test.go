package integration

import (
	"context"
	"testing"

	"hypertoken/host"
	"hypertoken/journal/disk"
)

// Games go on where they were after the program has ended and was started again.
func TestGamesOutliveTheProgram(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	setup := map[string]any{"stack": []map[string]any{{"id": "ace"}, {"id": "king"}, {"id": "queen"}}}
	var want host.Digest
	for round := range uint64(3) {
		withDisk(t, dir, func(h *host.Host) {
			table, err := h.Open(ctx, "table", host.EngineOptions{Setup: setup})
			if err != nil {
				t.Fatal(err)
			}
			digest, position := state(t, table)
			if round > 0 && digest != want || position != round {
				t.Errorf("start %d: sequence %d, digest %x, want %d and %x", round, position, digest, round, want)
			}
			if _, err := table.Dispatch(ctx, "stack:draw", nil); err != nil {
				t.Fatal(err)
			}
			want, _ = state(t, table)
		})
	}
}

// withDisk runs a host on a directory.
func withDisk(t *testing.T, dir string, use func(h *host.Host)) {
	t.Helper()
	store, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Options{InProcess: true, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	use(h)
	if err := h.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func state(t *testing.T, e *host.Engine) (digest host.Digest, sequence uint64) {
	t.Helper()
	digest, err := e.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return digest, p.Sequence
}
