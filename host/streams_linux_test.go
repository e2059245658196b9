package host_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hypertoken/host"
)

// A worker whose large state is asked for again and again takes no more memory than for the first times: what streams
// leave behind is collected by their bytes, however few requests they are.
func TestLargeStatesLeaveNothingInTheWorker(t *testing.T) { t.Run(onWorkers, testLargeStates) }

func testLargeStates(t *testing.T) {
	h := newHost(t, host.Options{Workers: 1, NoFallback: true})
	e := open(t, h, "large", nil)
	dispatch(t, e, "game:setProperty", dict{"key": "text", "value": strings.Repeat("x", 10<<20)})
	ask := func(times int) {
		for range times {
			if _, err := e.State(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	peak := func() int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.Stats().Workers[0].PID))
		if err != nil {
			t.Fatal(err)
		}
		kilobytes, err := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)[1]))
		if err != nil {
			t.Fatal(err)
		}
		return kilobytes << 10
	}
	ask(3)
	first := peak()
	ask(40)
	if last := peak(); last > first+64<<20 {
		t.Errorf("the worker has taken %d MiB, and %d MiB after the first states", last>>20, first>>20)
	}
	t.Logf("%d MiB, then %d", first>>20, peak()>>20)
}
