package integration

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal/disk"
)

// shuffle has an engine shuffle, and adds the digest after each action.
func shuffle(t testing.TB, e *host.Engine, actions int, digests []host.Digest) []host.Digest {
	t.Helper()
	for range actions {
		r, err := e.Dispatch(t.Context(), "stack:shuffle", nil, host.WithDigest())
		if err != nil || !r.HasDigest {
			t.Fatal(r.HasDigest, err)
		}
		digests = append(digests, r.Digest)
	}
	return digests
}

// A store on disk keeps a game from its beginning, over the snapshots that were taken, the ends of
// the host, and the cores that played it.
func TestTheWholePastOfAGameOnDisk(t *testing.T) {
	dir := t.TempDir()
	var digests []host.Digest
	for _, o := range []host.Options{
		{InProcess: true, SnapshotBytes: 10_000},
		{Workers: 1, SnapshotBytes: 10_000},
		{Workers: 1, Core: cores.Example},
	} {
		store, err := disk.Open(dir, disk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Store, o.Logger = store, slog.New(slog.DiscardHandler)
		h, err := host.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		e, err := h.Open(t.Context(), "game", host.EngineOptions{Setup: deck(52)})
		if err != nil {
			t.Fatal(err)
		}
		if e.Newest() == uint64(len(digests)) { // the beginning, or the marker of another core
			d, err := e.Digest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, d)
		}
		digests = shuffle(t, e, 400, digests)
		for at := 0; at < len(digests); at += 61 {
			d, err := e.DigestAt(t.Context(), uint64(at))
			if err != nil || d != digests[at] {
				t.Errorf("at %d: %v, want %v, %v", at, d, digests[at], err)
			}
		}
		if _, err := e.StateAt(t.Context(), uint64(len(digests))); !errors.Is(err, host.ErrBadInput) {
			t.Errorf("beyond the newest: %v", err)
		}
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// How long a state of the past takes of a game of 100,000 actions, on a worker: at sequences all
// over the game, with the options as they are by default.
func BenchmarkStateAt(b *testing.B) {
	const actions = 100_000
	store, err := disk.Open(filepath.Join(b.TempDir(), "store"), disk.Options{Sync: disk.SyncInterval})
	if err != nil {
		b.Fatal(err)
	}
	h, err := host.New(b.Context(), host.Options{Workers: 1, Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = errors.Join(h.Shutdown(context.Background()), store.Close()) })
	e, err := h.Open(b.Context(), "game", host.EngineOptions{Setup: deck(52)})
	if err != nil {
		b.Fatal(err)
	}
	for k := range actions / 1000 {
		var batch []host.Action
		for n := range 1000 {
			name := "stack:draw"
			if (1000*k+n)%53 == 52 {
				name = "stack:reset"
			}
			batch = append(batch, host.Action{Type: name})
		}
		if _, err := e.DispatchBatch(b.Context(), host.BatchIndependent, batch); err != nil {
			b.Fatal(err)
		}
	}
	at, err := e.Position(b.Context())
	if err != nil || at.Sequence != actions {
		b.Fatalf("the game has %d actions, %v", at.Sequence, err)
	}
	var took latencies
	for n := uint64(0); b.Loop(); n++ {
		sequence := n * 7919 % (at.Sequence + 1)
		began := time.Now()
		if _, err := e.StateAt(b.Context(), sequence); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	took.report(b)
}
