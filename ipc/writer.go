package ipc

import "sync"

// Sink is where bytes go: a pipe, or its like in memory.
type Sink interface {
	// TryWrite writes what fits without waiting, which may be nothing.
	TryWrite(b []byte) (int, error)
	// WriteAll writes everything, waiting for the other side, and calls done when it has. It returns at once; b is not
	// touched until done.
	WriteAll(b []byte, done func(error))
}

// Writer gathers frames and writes all that is ready at once. No method waits for the other side: what does not fit into
// the pipe follows when it does. It is safe for use by any number of goroutines.
type Writer struct {
	sink Sink

	mu      sync.Mutex // guards what follows
	moved   sync.Cond  // signals that a write has ended
	ready   []byte     // frames that wait
	sending []byte     // what is being written
	writing bool
	err     error
}

// NewWriter returns a writer to a sink.
func NewWriter(sink Sink) *Writer {
	w := &Writer{sink: sink}
	w.moved.L = &w.mu
	return w
}

// Append adds a frame whose body is the parts one after the other. It returns how many bytes wait now.
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

// Waiting returns how many bytes have not been handed to the sink.
func (w *Writer) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ready)
}

// Flush writes what is ready. Where a write is under way, that one takes it along.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.writing {
		w.writing = true
		w.write()
	}
}

// Drain flushes, and waits while more than limit bytes have not been handed to the sink. It is for streams of any length,
// which would otherwise be gathered here whole; the other side must be reading.
func (w *Writer) Drain(limit int) {
	w.Flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && len(w.ready) > limit {
		w.moved.Wait()
	}
}

// write runs with mu held and writing set.
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

// written goes on after a write that had to wait.
func (w *Writer) written(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(err)
	w.write()
}

// end takes note of an error, and gives back a buffer that is larger than a piece of a stream takes.
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
