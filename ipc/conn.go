package ipc

import "sync"

// Window bounds the requests that a host has sent to a worker and that are unanswered: their
// number, and their bytes with headers.
type Window struct {
	Requests int
	Bytes    int
}

// Conn is the host's end of a connection. It numbers requests, keeps the owner of each request
// that is unanswered, and finds the owner again when the answer comes. T is the type of an owner.
// A Conn is safe for use by any number of goroutines, and no method waits for the worker.
type Conn[T any] struct {
	writer *Writer
	window Window

	mu      sync.Mutex // guards what follows
	pending ring[T]
	bytes   int
	closed  bool
	// gathered counts the requests that were appended since the last flush. urgent is true if a
	// Recall or a Close was.
	gathered int
	urgent   bool
	// frames counts all frames that were appended, written their bytes with headers.
	frames, written uint64
	// ping is the ID of the newest ping, 0 if there was none. pings counts them.
	ping, pings uint64
}

// NewConn returns the connection to a worker that reads the bytes which are written to the sink.
func NewConn[T any](sink Sink, window Window) *Conn[T] {
	return &Conn[T]{writer: NewWriter(sink), window: window}
}

// pending is a request that is unanswered.
type pending[T any] struct {
	owner T
	size  int
	live  bool
}

// Send appends a request and returns its ID, which is never used again. Its body is the parts,
// one behind the other. Send returns false if the window has no room or the connection is closed.
// A request that is larger than the whole window is taken if no other is unanswered. The caller
// calls Push or Flush afterwards, which write the request.
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
	// The lock is held, so that requests are in the pipe in the order of their IDs.
	c.writer.Append(Header{Kind: kind, Flags: flags, Request: id, Placement: placement}, parts...)
	return id, true
}

// Ping appends a ping, if no request is unanswered. It returns false otherwise, or if the
// connection is closed. owner is that of the answer. The caller calls Flush afterwards, which
// writes the ping. Requests and Traffic do not count it.
func (c *Conn[T]) Ping(owner T) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.pending.live > 0 {
		return false
	}
	c.ping = c.pending.push(pending[T]{owner, HeaderSize, true})
	c.pings++
	c.bytes += HeaderSize
	c.gathered++
	c.frames++
	c.written += HeaderSize
	c.writer.Append(Header{Kind: Ping, Request: c.ping})
	return true
}

// isPingedLocked reports whether a ping is unanswered. The connection's lock is held.
func (c *Conn[T]) isPingedLocked() bool { return c.pending.at(c.ping) != nil }

// Tell appends a frame that is not answered: Recall or Close.
func (c *Conn[T]) Tell(kind Kind, request, placement uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgent = true
	c.frames++
	c.written += HeaderSize
	c.writer.Append(Header{Kind: kind, Request: request, Placement: placement})
}

// Flush writes the frames that were appended.
func (c *Conn[T]) Flush() {
	c.mu.Lock()
	c.gathered, c.urgent = 0, false
	c.mu.Unlock()
	c.writer.Flush()
}

// mostGathered is how many requests Push gathers at most before it writes them.
const mostGathered = 32

// Push writes the frames that were appended, unless the worker has more than twice as many other
// requests still to answer. Then the frames go out with the next ones, or when an answer is read:
// its reader calls Flush. So no frame waits for a timer, and a burst of requests takes a few
// writes.
func (c *Conn[T]) Push() {
	c.mu.Lock()
	wait := !c.urgent && c.gathered < mostGathered && 2*c.gathered < c.pending.live-c.gathered
	c.mu.Unlock()
	if !wait {
		c.Flush()
	}
}

// Owner returns the owner of an unanswered request, or false if no request of this ID is
// unanswered.
func (c *Conn[T]) Owner(id uint64) (owner T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pending.at(id); p != nil {
		return p.owner, true
	}
	return owner, false
}

// Answered removes a request, which is answered now, and returns its owner. It returns false if
// no request of this ID is unanswered: it was never sent, or was answered before.
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

// Oldest returns the ID of the request that has been unanswered longest, or 0 if there is none.
// It is the one that the worker runs.
func (c *Conn[T]) Oldest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.oldest()
}

// Traffic returns how many frames were appended, their bytes with headers, and how many requests
// were answered or were given up by Close. Pings are frames, and are none of these requests.
func (c *Conn[T]) Traffic() (frames, bytes, answered uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answered = max(c.pending.next, 1) - 1 - uint64(c.pending.live) - c.pings
	if c.isPingedLocked() {
		answered++ // it is among those that are live
	}
	return c.frames, c.written, answered
}

// Requests returns how many requests are unanswered, without a ping.
func (c *Conn[T]) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isPingedLocked() {
		return c.pending.live - 1
	}
	return c.pending.live
}

// IsPinged reports whether a ping is unanswered.
func (c *Conn[T]) IsPinged() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isPingedLocked()
}

// Pending returns how many requests are unanswered, with a ping.
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

// Close returns the owners of all unanswered requests, oldest first, and forgets them. Nothing
// can be sent afterwards, and an answer that still comes has no owner.
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

// ring keeps pending requests by their IDs, which count from 1. Requests are answered nearly in
// order, so the ring has a slot for each ID from the oldest one to the newest one.
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
