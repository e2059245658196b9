package integration

import (
	"flag"
	"log/slog"
	"strings"
	"testing"
	"time"

	"hypertoken/internal/cores"
	"hypertoken/internal/torture"
)

var (
	tortureFor  = flag.Duration("torture", 8*time.Second, "how `long` each torture lasts")
	tortureSeed = flag.Uint64("seed", 0, "run the torture of this `seed` only")
)

// Callers of engines whose workers are killed, stopped and garbled are told nothing that an engine without faults could
// not have told them. The core has actions that trap, use up the memory and never end. A seed that fails draws the same
// faults again: go test ./integration -run Torture -seed N.
func TestTorture(t *testing.T) {
	nothingIsLeft(t)
	seeds := []uint64{1, 2}
	if *tortureSeed != 0 {
		seeds = []uint64{*tortureSeed}
	}
	for _, seed := range seeds {
		c := torture.Config{For: *tortureFor, Seed: seed, Workers: 2, Engines: 6, Faults: torture.Kinds(), Core: cores.Test, FailFast: true,
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
