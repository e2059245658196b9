package pool

import (
	"fmt"
	"time"

	"hypertoken/internal/fast"
	"hypertoken/ipc"
)

// frames takes in the frames that a worker sends. The goroutine that has the turn to read owns it.
type frames struct {
	worker *Worker
	// held is the tenant that is locked by this goroutine, heldFrames for how many frames it was.
	held       Tenant
	heldFrames int
}

// mostHeldFrames is for how many frames a tenant is kept locked at most, since its callers wait.
const mostHeldFrames = 32

// handleAll takes in the frames that are read. An error ends the worker.
func (f *frames) handleAll(from *ipc.Reader) error {
	w := f.worker
	w.heard.Add(1)
	seen := time.Duration(0)
	if owner := w.pool.owner; owner.IsMeasuring() {
		seen = owner.Stamp()
		w.seenAt.Store(int64(seen))
	}
	err := f.handleEach(from, seen)
	f.release()
	if violation := w.violation.Load(); violation != nil && err == nil {
		err = *violation
	}
	if err != nil {
		return err
	}
	from.ReleaseAll()
	w.Unblock()
	w.flow.offerIfDone()
	return nil
}

func (f *frames) handleEach(from *ipc.Reader, seen time.Duration) error {
	w := f.worker
	count, bytes := uint64(0), uint64(0)
	defer func() {
		w.framesReceived.Add(count)
		w.bytesReceived.Add(bytes)
	}()
	for {
		frame, ok, err := from.Next()
		if err != nil || !ok {
			return err
		}
		count++
		bytes += ipc.HeaderSize + uint64(frame.Length)
		body := from.Body(frame)
		if w.handshake.isDone {
			err = f.handle(frame, body, seen)
		} else {
			err = w.handshake.handle(frame, body)
		}
		if err != nil || w.violation.Load() != nil {
			return err
		}
	}
}

// handle takes in a frame of a worker that is ready.
func (f *frames) handle(frame ipc.Frame, body []byte, seen time.Duration) error {
	w := f.worker
	var to sender
	var ok bool
	switch frame.Kind {
	case ipc.Hello:
		return &ipc.MalformedError{Message: "a second hello"}
	case ipc.Chunk:
		to, ok = w.conn.Owner(frame.Request)
	default:
		to, ok = w.conn.Answered(frame.Request)
	}
	if !ok {
		if w.Details().IsDead {
			return nil
		}
		return &ipc.MalformedError{Message: fmt.Sprintf(
			"a frame of %v for request %d, which was not sent or is answered already", frame.Kind, frame.Request)}
	}
	if to.placement != frame.Placement {
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v for request %d names the placement %d, not %d",
			frame.Kind, frame.Request, frame.Placement, to.placement)}
	}
	if to.tenant == nil {
		return handlePong(frame, body)
	}
	f.hold(to.tenant)
	w.busy.Add(int64(to.tenant.HandleFrame(w.number, frame, body, seen)))
	return nil
}

// hold locks a tenant that a frame is for, and keeps it locked for the next ones: what they change
// gets into its journal as one group. release unlocks it.
func (f *frames) hold(t Tenant) {
	if f.held == t && f.heldFrames < mostHeldFrames && !f.worker.pool.config.Off.Has(fast.Group) {
		f.heldFrames++
		return
	}
	f.release()
	t.Hold()
	f.held, f.heldFrames = t, 1
}

// release unlocks the tenant that is held, if one is.
func (f *frames) release() {
	if t := f.held; t != nil {
		f.held = nil
		t.Release()
	}
}
