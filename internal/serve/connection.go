package serve

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// connection is a connection of a client. While a write to it is stuck, it reads ahead what the
// client sends. Otherwise a client that sends all its lines before it reads an answer, and a
// server that waits until the answer is read, would wait for each other.
type connection struct {
	net.Conn
	of      *connections
	address netip.Prefix

	phase phase  // connections.mu guards it
	since uint64 // connections.mu guards it: when the phase began

	writing atomic.Int32 // writes that have not ended
	lost    atomic.Bool  // the client is gone, and has not only closed its sending side

	mu     sync.Mutex // guards the fields below
	calm   *sync.Cond // signals that the read has ended
	reads  bool       // a read is under way
	ahead  [][]byte   // the bytes that were read ahead
	ended  error      // the error with which reading ahead ended
	closed bool
}

const (
	// aheadSize is the size of a piece that is read ahead, in bytes. aheadCost is counted for a
	// piece in addition to its bytes.
	aheadSize = 32 << 10
	aheadCost = 64
	// stuckAfter is how long a write takes before the connection reads ahead.
	stuckAfter = 50 * time.Millisecond
)

func newConnection(c net.Conn, of *connections) *connection {
	own := &connection{Conn: c, of: of, address: addressOf(c.RemoteAddr().String()), phase: silentPhase}
	own.calm = sync.NewCond(&own.mu)
	return own
}

// Read implements [net.Conn].
func (c *connection) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.reads && len(c.ahead) == 0 && c.ended == nil {
		c.calm.Wait()
	}
	switch {
	case len(c.ahead) > 0:
		n := copy(p, c.ahead[0])
		cost := int64(n)
		if c.ahead[0] = c.ahead[0][n:]; len(c.ahead[0]) == 0 {
			c.ahead = c.ahead[1:]
			cost += aheadCost
		}
		c.of.buffers.add(c.address, -cost)
		return n, nil
	case c.ended != nil:
		return 0, c.ended
	}
	return c.readLocked(p)
}

// readLocked reads from the client. The lock mu is held, but not while the client is waited for.
func (c *connection) readLocked(p []byte) (int, error) {
	c.reads = true
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.note(err)
	c.mu.Lock()
	c.reads = false
	c.calm.Broadcast()
	return n, err
}

// note records whether an error means that the client is gone. The end of its sending side does
// not mean that: the client may still read.
func (c *connection) note(err error) {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.lost.Store(true)
	}
}

// Write implements [net.Conn].
func (c *connection) Write(p []byte) (int, error) {
	c.writing.Add(1)
	timer := time.AfterFunc(stuckAfter, c.readAhead)
	n, err := c.Conn.Write(p)
	timer.Stop()
	c.writing.Add(-1)
	if err != nil {
		c.lost.Store(true)
	}
	return n, err
}

// readAhead reads while a write is stuck, as far as there is room in the buffers of all clients.
func (c *connection) readAhead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var space []byte
	for c.writing.Load() > 0 && !c.reads && c.ended == nil && !c.closed {
		if !c.of.buffers.try(c.address, aheadSize+aheadCost) {
			return
		}
		if space == nil {
			space = make([]byte, aheadSize)
		}
		n, err := c.readLocked(space)
		used := int64(0)
		if n > 0 && !c.closed {
			c.ahead = append(c.ahead, bytes.Clone(space[:n]))
			used = int64(n) + aheadCost
		}
		c.of.buffers.add(c.address, used-aheadSize-aheadCost)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			c.ended = err
		}
	}
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.lost.Store(true)
	c.of.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, piece := range c.ahead {
		c.of.buffers.add(c.address, -int64(len(piece)+aheadCost))
	}
	c.ahead = nil
	return err
}

// CloseWrite lets the HTTP server end an answer while the client still sends.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
