package disk

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"hypertoken/journal"
)

// A million engines that are stored cost no memory. The test reports how long a start takes, and
// how large the process is.
func TestAMillionStoredEngines(t *testing.T) {
	engines := deep(20_000, 1_000_000)
	dir := t.TempDir()
	fill(t, dir, engines)
	runtime.GC()
	start := time.Now()
	s := openAt(t, dir, Options{})
	opened := time.Since(start)
	c := caller{s}
	stored, err := c.load(fmt.Sprintf("engine%07d", engines/2), journal.Owner{Number: 1})
	if err != nil || stored.Count != 3 {
		t.Fatalf("%+v, %v", stored, err)
	}
	first := time.Since(start)
	s.inUse.Wait()
	st := s.Stats()
	if st.Engines != int64(engines) || st.Owned != 1 {
		t.Errorf("%d engines are counted, %d heads are kept", st.Engines, st.Owned)
	}
	t.Logf("%d engines: opened in %v, the first load after %v, all counted after %v, %d MiB on disk; the process has %s",
		engines, opened, first, time.Since(start), st.UsedBytes>>20, resident())
}

// resident returns what Linux says of the process' memory.
func resident() string {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") {
			return strings.TrimSpace(line)
		}
	}
	return "?"
}
