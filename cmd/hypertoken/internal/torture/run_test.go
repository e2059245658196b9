package torture_test

import (
	"flag"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"hypertoken/cmd/hypertoken/internal/torture"
	"hypertoken/internal/cores"
	"hypertoken/internal/fast"
	"hypertoken/internal/leaks"
	"hypertoken/internal/require"
	"hypertoken/workerproc"
)

var (
	tortureFor  = flag.Duration("torture", 0, "how `long` each torture lasts, however many deaths it sees")
	tortureSeed = flag.Uint64("seed", 0, "run the torture of this `seed` only")
)

func TestMain(m *testing.M) {
	workerproc.Main()
	torture.Main()
	os.Exit(m.Run())
}

// Callers of engines whose workers are killed, stopped and garbled are told nothing that an engine
// without faults could not have told them. The core has actions that trap, use up the memory and
// never end. A seed that fails draws the same faults again: go test
// ./cmd/hypertoken/internal/torture -run Torture -seed N.
func TestTorture(t *testing.T) {
	leaks.Check(t)
	seeds := require.Sample(2, []uint64{1, 2})
	if *tortureSeed != 0 {
		seeds = []uint64{*tortureSeed}
	}
	for _, seed := range seeds {
		tortured(t, torture.Config{Deaths: require.Rounds(3, 25), Seed: seed})
	}
}

// No guarantee depends on an optimization of the host.
func TestTortureWithoutWhatIsFast(t *testing.T) {
	leaks.Check(t)
	for _, ways := range require.Sample(5, append([]string{"all"}, strings.Split(fast.Names(), ",")...)) {
		without, err := fast.Parse(ways)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(ways, func(t *testing.T) {
			tortured(t, torture.Config{Deaths: require.Rounds(1, 8), Seed: 3, Without: without})
		})
	}
}

// tortured tortures a host with all faults. It ends after enough deaths of workers with unanswered
// requests, or after the time of the flag.
func tortured(t *testing.T, c torture.Config) {
	t.Helper()
	if c.For = 5 * time.Minute; *tortureFor > 0 {
		c.For, c.Deaths = *tortureFor, 0
	}
	c.Workers, c.Engines, c.Faults, c.Core, c.FailFast, c.Logger = 2, 6, torture.Kinds(), cores.Test, true,
		slog.New(slog.DiscardHandler)
	r, err := torture.Run(t.Context(), c)
	if err != nil {
		t.Fatalf("seed %d: %v", c.Seed, err)
	}
	var report strings.Builder
	_, _ = r.WriteTo(&report)
	t.Logf("%s", &report)
	if len(r.Violations) > 0 {
		t.Errorf("seed %d: %d violations", c.Seed, len(r.Violations))
	}
	if r.InFlight < max(c.Deaths, 1) || r.Histories < c.Engines {
		t.Errorf("seed %d: %d deaths with requests in flight, %d engines checked", c.Seed, r.InFlight, r.Histories)
	}
}

// A host that is killed at any moment, and started again on the same directory, loses nothing that
// a caller was told, and runs nothing twice.
func TestHostTorture(t *testing.T) {
	leaks.Check(t)
	seeds := require.Sample(3, []uint64{1, 2, 3})
	if *tortureSeed != 0 {
		seeds = []uint64{*tortureSeed}
	}
	for _, seed := range seeds {
		c := torture.HostConfig{For: 10 * time.Minute, Deaths: require.Rounds(4, 60), Seed: seed, Workers: 2,
			Engines: 6, Core: cores.Test, FailFast: true}
		if *tortureFor > 0 {
			c.For, c.Deaths = *tortureFor, 0
		}
		r, err := torture.RunHost(t.Context(), c)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var report strings.Builder
		_, _ = r.WriteTo(&report)
		t.Logf("%s", &report)
		if len(r.Violations) > 0 {
			t.Errorf("seed %d: %d violations", seed, len(r.Violations))
		}
		if r.Killed < max(c.Deaths, 1) || r.Histories < c.Engines {
			t.Errorf("seed %d: %d hosts were killed, %d engines checked", seed, r.Killed, r.Histories)
		}
	}
}
