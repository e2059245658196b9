package torture

import (
	"io"
	"sync"

	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// tracker finds the frames in a stream of bytes that comes in pieces.
type tracker struct {
	head   [ipc.HeaderSize]byte
	have   int // bytes of the header
	left   int // bytes of the body
	header ipc.Header
}

// next takes in bytes up to the end of a frame. It returns how many bytes it took, and whether the
// frame has ended.
func (t *tracker) next(b []byte) (n int, ended bool) {
	if t.have < len(t.head) {
		n = copy(t.head[t.have:], b)
		if t.have += n; t.have < len(t.head) {
			return n, false
		}
		t.header, _ = ipc.ReadHeader(t.head[:]) // the reader of the frame reports an error
		t.left = int(t.header.Length)
	}
	k := min(t.left, len(b)-n)
	n += k
	if t.left -= k; t.left > 0 {
		return n, false
	}
	t.have = 0
	return n, true
}

// wire stands between a host and a worker process.
type wire struct {
	injector *injector
	process  tap.Process
	buffer   []byte

	// The host's lock for writing guards sending. The goroutine that has the turn to read owns the
	// other three.
	sending tracker
	arrived tracker
	ready   []byte // bytes that were read, and not passed on yet
	cut     bool   // whether no more bytes are passed on

	mu      sync.Mutex // guards the fields below
	pending map[uint64]struct{}
	struck  *strike
}

// calls reports whether a caller waits for a request of the kind.
func calls(k ipc.Kind) bool {
	return k == ipc.Dispatch || k == ipc.Batch || k == ipc.State || k == ipc.Digest
}

// note records the unanswered requests, and returns how many there are.
func (w *wire) note(h *ipc.Header) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case calls(h.Kind):
		w.pending[h.Request] = struct{}{}
	case h.Kind == ipc.Answer || h.Kind == ipc.Dropped:
		delete(w.pending, h.Request)
	}
	return len(w.pending)
}

func (w *wire) unanswered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

// TryWrite passes frames on to the worker, up to the point at which a fault strikes.
func (w *wire) TryWrite(b []byte) (int, error) {
	limit, f := w.look(b)
	if f != nil && f.kind == Exit {
		// After a whole frame, bytes follow that are no frame. They end the session.
		n, err := w.process.In.TryWrite(b[:limit])
		if err == nil && n == limit {
			_, _ = w.process.In.TryWrite(garbage)
		}
		w.injector.strike(w, f)
		return n, err
	}
	n, err := w.process.In.TryWrite(b[:limit])
	if f != nil {
		w.injector.strike(w, f)
	}
	w.wrote(b[:n])
	return n, err
}

// WriteAll passes on the frames that did not fit. Faults strike while it does.
func (w *wire) WriteAll(b []byte, done func(error)) {
	_, f := w.look(b)
	w.wrote(b)
	w.process.In.WriteAll(b, func(err error) {
		if f != nil {
			w.injector.strike(w, f)
		}
		done(err)
	})
}

// look returns the offset in b at which a fault strikes, and the fault. If none strikes, it
// returns the length of b and nil.
func (w *wire) look(b []byte) (limit int, f *fault) {
	t := w.sending
	for at := 0; at < len(b); {
		n, ended := t.next(b[at:])
		if f = w.injector.reach(halfSent); f != nil {
			return at + part(n, f.share), f
		}
		at += n
		if !ended {
			continue
		}
		m := sent
		switch t.header.Kind {
		case ipc.Batch:
			m = batch
		case ipc.Open, ipc.Feed, ipc.Ready:
			m = placing
		case ipc.Replay:
			m = replay
		case ipc.Snapshot:
			m = snapshot
		}
		if f = w.injector.reach(m); f != nil {
			return at, f
		}
	}
	return len(b), nil
}

// wrote notes the requests in bytes that the worker has got.
func (w *wire) wrote(b []byte) {
	for len(b) > 0 {
		n, ended := w.sending.next(b)
		if b = b[n:]; ended {
			w.note(&w.sending.header)
		}
	}
}

// part returns an offset within n bytes: the given share of them, and never all of them.
func part(n int, share float64) int { return min(n-1, int(share*float64(n))) }

// garbage is no frame: its length is beyond every bound.
var garbage = func() []byte {
	b := make([]byte, 2*ipc.HeaderSize)
	for k := range b {
		b[k] = byte(0xa5 ^ k)
	}
	return b
}()

// Read passes on the bytes that the worker has written, up to the place where a fault strikes.
func (w *wire) Read(b []byte) (int, error) {
	for {
		if n, err := w.read(b, w.process.Out.Read); n > 0 || err != nil {
			return n, err
		}
	}
}

// TryRead does the same as Read, without waiting.
func (w *wire) TryRead(b []byte) (int, error) { return w.read(b, w.process.Out.TryRead) }

func (w *wire) read(b []byte, from func([]byte) (int, error)) (int, error) {
	if len(w.ready) == 0 {
		if w.cut {
			w.injector.ended(w)
			return 0, io.EOF
		}
		n, err := from(w.buffer)
		if w.came(w.buffer[:n]); err != nil {
			w.cut = true
		}
	}
	n := copy(b, w.ready)
	w.ready = w.ready[n:]
	return n, nil
}

// came takes in the bytes that the worker has written.
func (w *wire) came(b []byte) {
	w.ready = w.ready[:0]
	for len(b) > 0 && !w.cut {
		n, ended := w.arrived.next(b)
		frame := b[:n]
		answer := ended && n == ipc.HeaderSize+int(w.arrived.header.Length) && w.arrived.header.Kind == ipc.Answer
		b = b[n:]
		var f *fault
		if answer {
			f = w.injector.reach(unread)
		}
		if f != nil {
			switch f.kind {
			case Garbage:
				w.ready = append(w.ready, garbage...)
			case Repeat:
				w.ready = append(w.ready, frame...)
			case Kill:
				w.cut = true
			}
			w.injector.strike(w, f)
			if w.cut {
				return
			}
		} else if f = w.injector.reach(halfRead); f != nil {
			if f.kind == Kill || f.kind == Truncate {
				frame, w.cut = frame[:part(n, f.share)], true
			}
			w.injector.strike(w, f)
		} else if w.arrived.header.Kind == ipc.Chunk {
			if f = w.injector.reach(chunk); f != nil {
				w.injector.strike(w, f)
			}
		}
		w.ready = append(w.ready, frame...)
		if ended && w.note(&w.arrived.header) == 0 {
			if f := w.injector.reach(idle); f != nil {
				w.injector.strike(w, f)
			}
		}
	}
}
