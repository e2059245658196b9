package ipc

import "sync"

// Window bounds what a host keeps in a worker's pipe.
type Window struct {
	Requests int
	Bytes    int
}

// Conn is the host's end of a connection. It numbers requests, keeps who waits for which, and matches answers; T is what
// a caller wants to have back with an answer. It is safe for use by any number of goroutines, and no method waits for
// the worker.
type Conn[T any] struct {
	writer *Writer
	window Window

	mu      sync.Mutex // guards what follows
	pending ring[T]
	bytes   int
	closed  bool
	// gathered are the requests that were sent since the last flush, urgent says that there is a frame beside them.
	gathered int
	urgent   bool
	// frames and written are what was sent, with its headers.
	frames, written uint64
}

// NewConn returns the connection to a worker that reads from the sink.
func NewConn[T any](sink Sink, window Window) *Conn[T] {
	return &Conn[T]{writer: NewWriter(sink), window: window}
}

// pending is a request that is unanswered.
type pending[T any] struct {
	owner T
	size  int
	live  bool
}

// Send appends a request to what is ready and returns its ID, which is never used again. It returns false where the
// window is full or the connection is closed; a request that is larger than the whole window is taken when there is no
// other. Push or Flush sends it.
func (c *Conn[T]) Send(owner T, kind Kind, flags Flags, placement uint64, parts ...[]byte) (id uint64, ok bool) {
	size := HeaderSize
	for _, p := range parts {
		size += len(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || (c.pending.live > 0 && (c.pending.live >= c.window.Requests || c.bytes+size > c.window.Bytes)) {
		return 0, false
	}
	id = c.pending.push(pending[T]{owner, size, true})
	c.bytes += size
	c.gathered++
	c.frames++
	c.written += uint64(size)
	// Under the lock, so that requests lie in the pipe in the order of their IDs.
	c.writer.Append(Header{Kind: kind, Flags: flags, Request: id, Placement: placement}, parts...)
	return id, true
}

// Tell appends a frame that is not answered: Recall or Close.
func (c *Conn[T]) Tell(kind Kind, request, placement uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgent = true
	c.frames++
	c.written += HeaderSize
	c.writer.Append(Header{Kind: kind, Request: request, Placement: placement})
}

// Flush writes what is ready.
func (c *Conn[T]) Flush() {
	c.mu.Lock()
	c.gathered, c.urgent = 0, false
	c.mu.Unlock()
	c.writer.Flush()
}

// mostGathered is how many requests are written without further reason.
const mostGathered = 32

// Push writes what is ready, unless the worker has more than that to do: then it goes out with what comes next, or when an
// answer is read, whose reader calls Flush. So nothing waits for the clock, and a burst is a few writes.
func (c *Conn[T]) Push() {
	c.mu.Lock()
	wait := !c.urgent && c.gathered < mostGathered && 2*c.gathered < c.pending.live-c.gathered
	c.mu.Unlock()
	if !wait {
		c.Flush()
	}
}

// Owner returns who waits for an answer; false where nobody does.
func (c *Conn[T]) Owner(id uint64) (owner T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pending.at(id); p != nil {
		return p.owner, true
	}
	return owner, false
}

// Answered takes a request out and returns who waits for it; false where nobody does: an answer to what was never asked,
// or answered before.
func (c *Conn[T]) Answered(id uint64) (owner T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending.at(id)
	if p == nil {
		return owner, false
	}
	owner = p.owner
	c.bytes -= p.size
	c.pending.remove(id)
	return owner, true
}

// Oldest returns the ID of the request that is unanswered longest, which is the one a worker runs, or 0.
func (c *Conn[T]) Oldest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.oldest()
}

// Traffic returns how many frames were sent, what they took with their headers, in bytes, and how many requests were answered or
// given up by Close.
func (c *Conn[T]) Traffic() (frames, bytes, answered uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answered = max(c.pending.next, 1) - 1 - uint64(c.pending.live)
	return c.frames, c.written, answered
}

// Pending returns how many requests are unanswered.
func (c *Conn[T]) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.live
}

// Room reports whether the window has room for a small request.
func (c *Conn[T]) Room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && (c.pending.live == 0 || (c.pending.live < c.window.Requests && c.bytes < c.window.Bytes))
}

// Close hands over what is unanswered, oldest first. Nothing can be sent afterwards, and answers that still come match
// nothing.
func (c *Conn[T]) Close() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var owners []T
	for id := c.pending.oldest(); id != 0; id = c.pending.oldest() {
		owners = append(owners, c.pending.at(id).owner)
		c.pending.remove(id)
	}
	c.bytes = 0
	return owners
}

// ring keeps what is pending by IDs that count from 1. They are answered nearly in order, so it is a window over them.
type ring[T any] struct {
	slots []pending[T] // a power of two
	// first is the oldest ID that is live, next the one to be given out.
	first, next uint64
	live        int
}

func (r *ring[T]) slot(id uint64) *pending[T] { return &r.slots[id&uint64(len(r.slots)-1)] }

func (r *ring[T]) push(p pending[T]) uint64 {
	if r.next == 0 {
		r.slots, r.first, r.next = make([]pending[T], 64), 1, 1
	}
	if r.next-r.first == uint64(len(r.slots)) {
		old := *r
		r.slots = make([]pending[T], 2*len(old.slots))
		for id := old.first; id < old.next; id++ {
			*r.slot(id) = *old.slot(id)
		}
	}
	id := r.next
	*r.slot(id) = p
	r.next++
	r.live++
	return id
}

func (r *ring[T]) at(id uint64) *pending[T] {
	if id < r.first || id >= r.next || !r.slot(id).live {
		return nil
	}
	return r.slot(id)
}

func (r *ring[T]) remove(id uint64) {
	*r.slot(id) = pending[T]{}
	r.live--
	for r.first < r.next && !r.slot(r.first).live {
		r.first++
	}
}

func (r *ring[T]) oldest() uint64 {
	if r.live == 0 {
		return 0
	}
	return r.first
}
