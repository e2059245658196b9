package host_test

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"hypertoken/host"
)

// A host has a worker for each CPU that this process may use at once: a container's limit, not the machine's CPUs.
func TestWorkersFollowGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, n := range []int{1, 3} {
		runtime.GOMAXPROCS(n)
		h, err := host.New(t.Context(), host.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if workers := len(h.Stats().Workers); workers != n {
			t.Errorf("%d workers on %d CPUs", workers, n)
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// There may be more CPUs than workers: the default is within the bounds.
func TestWorkersAreBounded(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct{ cpus, workers int }{{1024, 1024}, {1025, 1024}} {
		runtime.GOMAXPROCS(c.cpus)
		if got, want := host.Descriptors(host.Options{}),
			host.Descriptors(host.Options{Workers: c.workers}); got != want {
			t.Errorf("%d CPUs: the default needs %d descriptors, %d workers need %d", c.cpus, got, c.workers, want)
		}
	}
	runtime.GOMAXPROCS(1)
	for _, n := range []int{-1, 1025} {
		if _, err := host.New(t.Context(), host.Options{Workers: n}); host.CodeOf(err) != "bad_input" {
			t.Error(fmt.Sprint(n, " workers: ", err))
		}
	}
}
