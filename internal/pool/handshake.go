package pool

import (
	"fmt"

	"hypertoken/ipc"
)

// handshake is what comes before a worker runs requests: it says hello, is configured, and gets
// the core if it has another one. The goroutine that has the turn to read owns it.
type handshake struct {
	worker   *Worker
	hasHello bool
	isDone   bool
	core     []byte // what is still to be sent of it
}

// handle takes in a frame. An error ends the worker.
func (h *handshake) handle(f ipc.Frame, body []byte) error {
	switch {
	case !h.hasHello:
		return h.handleHello(f, body)
	case f.Kind != ipc.Answer:
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v before the worker is configured", f.Kind)}
	default:
		return h.handleAnswer(f, body)
	}
}

func (h *handshake) handleHello(f ipc.Frame, body []byte) error {
	var hello ipc.HelloBody
	if f.Kind != ipc.Hello {
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v before hello", f.Kind)}
	}
	if err := ipc.Decode(body, &hello); err != nil {
		return err
	}
	if hello.Protocol != ipc.Version {
		return fmt.Errorf("it speaks version %d of the protocol (%s), this host %d: update WorkerPath",
			hello.Protocol, hello.Build, ipc.Version)
	}
	h.hasHello = true
	h.configure(hello.Core)
	h.worker.log.Debug("worker started", "pid", hello.PID, "build", hello.Build)
	return nil
}

func (h *handshake) handleAnswer(f ipc.Frame, body []byte) error {
	w := h.worker
	if _, ok := w.conn.Answered(f.Request); !ok {
		return &ipc.MalformedError{Message: fmt.Sprintf("an answer to request %d, which was not sent", f.Request)}
	}
	if f.Flags&ipc.FlagFailed != 0 {
		failure, err := ipc.ReadFailure(body)
		if err != nil {
			return err
		}
		return fmt.Errorf("it can't run the core: %s", failure.Message)
	}
	h.sendCore()
	if w.conn.Pending() > 0 {
		return nil
	}
	if outcome, err := ipc.ReadOutcome(body); err == nil && w.pool.config.TellActions {
		w.pool.owner.HandleActions(outcome.Result)
	}
	h.isDone = true
	w.pool.handleReady(w)
	return nil
}

// configure answers the worker's hello. The core follows if the worker has another one.
func (h *handshake) configure(has string) {
	w, c := h.worker, &h.worker.pool.config
	body := ipc.ConfigureBody{Core: c.CoreHash, EngineMemory: c.MaxEngineMemory, WorkerMemory: c.MaxWorkerMemory,
		MaxFrame: c.MaxFrame, CacheDir: c.CacheDir, PollFor: int64(max(c.PollFor, 0)), Actions: c.TellActions,
		Debug: c.IsDebug}
	if has != c.CoreHash {
		h.core = c.Core
	}
	body.CoreBytes = len(h.core)
	w.conn.Send(sender{}, ipc.Configure, 0, 0, ipc.Encode(body))
	w.conn.Flush()
}

// sendCore sends the next piece of the core.
func (h *handshake) sendCore() {
	if len(h.core) > 0 {
		piece := h.core[:min(ipc.ChunkSize, len(h.core))]
		h.core = h.core[len(piece):]
		h.worker.conn.Send(sender{}, ipc.Core, 0, 0, ipc.AppendBytes(nil, len(piece)), piece)
		h.worker.conn.Flush()
	}
}
