//go:build unix

package host_test

import (
	"runtime"
	"syscall"
	"testing"

	"hypertoken/host"
)

// A worker that is killed is replaced by the process of the spare, and its engines go on there;
// then there is another spare.
func TestASpareTakesOver(t *testing.T) { t.Run(onWorkers, testASpareTakesOver) }

func testASpareTakesOver(t *testing.T) {
	h := newHost(t, host.Options{Workers: 1, Spares: 1})
	e := open(t, h, "e", deck(52))
	for round := range 3 {
		var stats host.Stats
		for stats = h.Stats(); stats.Spares[0].State != host.WorkerReady ||
			stats.Workers[0].State != host.WorkerReady; stats = h.Stats() {
			runtime.Gosched()
		}
		dispatch(t, e, "stack:draw", nil)
		before := digest(t, e)
		if err := syscall.Kill(stats.Workers[0].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for h.Stats().Takeovers == uint64(round) {
			runtime.Gosched()
		}
		if digest(t, e) != before || size(t, e) != 51-round {
			t.Errorf("the engine has another state, or %d tokens", size(t, e))
		}
		if w := h.Stats().Workers[0]; w.PID != stats.Spares[0].PID || w.Process != stats.Spares[0].Process ||
			w.Engines != 1 {
			t.Errorf("the worker is %+v, the spare was %+v", w, stats.Spares[0])
		}
	}
}
