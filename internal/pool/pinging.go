package pool

import (
	"fmt"
	"time"

	"hypertoken/ipc"
)

// A worker that has nothing to do is asked for a sign of life now and then. So the pool finds a
// worker that does not run any more before a caller needs it. Worker.heard says already when
// something came last, so neither a request nor its answer costs anything more.

// PingEvery is for how long nothing may be heard of a worker, or of a spare, that owes no answer.
// Then it is sent a ping. If it does not answer that within StallAfter, it is killed.
const PingEvery = 10 * time.Second

// pingIfQuiet sends a ping if nothing was heard of the worker for PingEvery and it owes no answer.
func (c *watch) pingIfQuiet(now time.Duration) {
	w := c.worker
	if heard := w.heard.Load(); heard != c.quietHeard {
		c.quietHeard, c.quietSince = heard, now
	}
	if now-c.quietSince >= w.pool.config.Seams.PingEvery {
		w.ping()
	}
}

// ping sends a ping, if the worker owes no answer. A worker that is reserved for a suspect gets
// none: the suspect runs there alone.
func (w *Worker) ping() {
	w.mu.Lock()
	isSent := w.flow.reserved == 0 && !w.isEnding && w.conn.Ping(sender{})
	w.mu.Unlock()
	if isSent {
		w.Flush()
		w.HandOverReading()
	}
}

// handlePong takes in a frame that has the ID of a ping. An error ends the worker.
func handlePong(f ipc.Frame, body []byte) error {
	if f.Kind != ipc.Answer || f.Flags&ipc.FlagFailed != 0 {
		return &ipc.MalformedError{Message: fmt.Sprintf("a ping gets a frame of %v with the flags %d", f.Kind, f.Flags)}
	}
	o, err := ipc.ReadOutcome(body)
	if err == nil && len(o.Result) > 0 {
		err = &ipc.MalformedError{Message: fmt.Sprintf("a ping gets a result of %d bytes", len(o.Result))}
	}
	return err
}
