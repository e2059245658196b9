package bench_test

import (
	"regexp"
	"testing"
	"time"

	"hypertoken/cmd/hypertoken/internal/bench"
	"hypertoken/internal/leaks"
)

// A benchmark ends everything that it starts: its children, Node, plugins, hosts.
func TestABenchLeavesNothing(t *testing.T) {
	leaks.Check(t)
	r, err := bench.Run(t.Context(), bench.Config{For: time.Second,
		Only: regexp.MustCompile("roundtrip|bare|(netrpc|grpc|64_callers)|starts/kill")})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"pipe.p50", "go_plugin_netrpc.p50", "go_plugin_grpc.p50", "dispatch_worker.p50",
		"bare_plain.p50", "kill.p50"} {
		if r.Figure(id) == nil {
			t.Errorf("%s is not measured: %v", id, r.Skipped)
		}
	}
}
