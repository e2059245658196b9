package ipc

import "sync"

// Sink takes the bytes that a [Writer] writes: a pipe, or a stand-in for one in a test.
type Sink interface {
	// TryWrite writes as much of b as fits without waiting, which may be nothing, and returns how
	// many bytes it wrote.
	TryWrite(b []byte) (int, error)
	// WriteAll returns at once, writes all of b in the background, and then calls done. The
	// caller does not change b before that.
	WriteAll(b []byte, done func(error))
}

// Writer gathers frames and writes them together. Only Drain waits for the other side: what does
// not fit into the pipe is written later, in the background. A Writer is safe for use by any
// number of goroutines.
type Writer struct {
	sink Sink

	mu      sync.Mutex // guards what follows
	moved   sync.Cond  // signals that a write has ended
	ready   []byte     // frames that wait for the next write
	sending []byte     // frames that are being written
	writing bool
	err     error
}

// NewWriter returns a writer to a sink.
func NewWriter(sink Sink) *Writer {
	w := &Writer{sink: sink}
	w.moved.L = &w.mu
	return w
}

// Append adds a frame whose body is the parts, one behind the other, and sets its length. It
// returns how many bytes wait to be written now. After an error it adds nothing.
func (w *Writer) Append(h Header, parts ...[]byte) int {
	h.Length = 0
	for _, p := range parts {
		h.Length += uint32(len(p))
	}
	var header [HeaderSize]byte
	h.put(header[:])
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0
	}
	w.ready = append(w.ready, header[:]...)
	for _, p := range parts {
		w.ready = append(w.ready, p...)
	}
	return len(w.ready)
}

// Waiting returns how many bytes wait for the next write.
func (w *Writer) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ready)
}

// Flush writes the frames that wait. If a write is under way, they follow it.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.writing {
		w.writing = true
		w.write()
	}
}

// Drain flushes, and then waits while more than limit bytes wait to be written. It is for
// streams, which would otherwise be gathered here as a whole. The other side has to read, or
// Drain does not return.
func (w *Writer) Drain(limit int) {
	w.Flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && len(w.ready) > limit {
		w.moved.Wait()
	}
}

// write writes until no frame waits. The caller holds mu and has set writing. It gives mu back
// while it writes.
func (w *Writer) write() {
	for w.err == nil && len(w.ready) > 0 {
		w.sending, w.ready = w.ready, w.sending[:0]
		w.mu.Unlock()
		n, err := w.sink.TryWrite(w.sending)
		if err == nil && n < len(w.sending) {
			w.sink.WriteAll(w.sending[n:], w.written)
			w.mu.Lock()
			return
		}
		w.mu.Lock()
		w.end(err)
	}
	w.writing = false
}

// written is called when a write of WriteAll has ended. It writes the frames that were appended
// since.
func (w *Writer) written(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(err)
	w.write()
}

// end is called after each write, with mu held. It keeps the first error, and drops a buffer that
// is larger than a piece of a stream needs.
func (w *Writer) end(err error) {
	const kept = ChunkSize + 128<<10
	if cap(w.sending) > kept {
		w.sending = nil
	}
	if err != nil && w.err == nil {
		w.err, w.ready = err, nil
	}
	w.moved.Broadcast()
}

// Err returns why nothing can be written any more, or nil.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
