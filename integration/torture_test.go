package integration

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"hypertoken/internal/cores"
	"hypertoken/internal/torture"
)

// Callers of engines whose workers are killed, stopped and garbled are told nothing that an engine without faults could
// not have told them. The core has actions that trap, use up the memory and never end. A seed that fails draws the same
// faults again: hypertoken torture --seed.
func TestTorture(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		c := torture.Config{For: 8 * time.Second, Seed: seed, Workers: 2, Engines: 6, Faults: torture.Kinds(), Core: cores.Test,
			Logger: slog.New(slog.DiscardHandler)}
		r, err := torture.Run(t.Context(), c)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var report strings.Builder
		_, _ = r.WriteTo(&report)
		t.Logf("%s", &report)
		if len(r.Violations) > 0 {
			t.Errorf("seed %d: %d violations", seed, len(r.Violations))
		}
		if r.InFlight == 0 || r.Histories < c.Engines {
			t.Errorf("seed %d: %d deaths with requests in flight, %d engines checked", seed, r.InFlight, r.Histories)
		}
	}
}
