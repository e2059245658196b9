package serve

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"hypertoken/host"
)

// buffers bounds the bytes that the server holds in memory for clients: answers that they have not
// read, and lines that were read ahead. The size of an answer is known only once it exists. So it
// is estimated from earlier answers, and a line waits until its estimate fits. One address has at
// most half of the room, unless a single answer needs more.
type buffers struct {
	max int64

	mu        sync.Mutex // guards the fields below, and every gauge
	held      int64
	shares    map[netip.Prefix]int64
	waiting   []*reservation
	measuring int // questions about states whose size is not known
}

// gauge estimates the size of one kind of answer of an engine. The lock buffers.mu guards it.
type gauge struct {
	size  int64 // the estimate, from the last answers
	known bool  // whether there has been an answer
	state bool  // whether it is for the engine's state, which is asked for once at a time
	busy  int   // the number of answers under way
}

// reservation is the room of one answer.
type reservation struct {
	of       *buffers
	address  netip.Prefix
	gauge    *gauge
	granted  chan struct{} // closed once it has its room
	size     int64         // the bytes that it takes of the room
	measures bool          // it counts as measuring
}

const (
	// smallAnswer is the size up to which answers are not counted, in bytes. There is at most one
	// for each connection, so they need no bound.
	smallAnswer = 64 << 10
	// firstState is the estimate for the state of an engine that was never asked for its state, in
	// bytes. maxMeasuring is the most such questions at once.
	firstState   = 1 << 20
	maxMeasuring = 4
)

func newBuffers(most int64) *buffers {
	return &buffers{max: most, shares: map[netip.Prefix]int64{}}
}

// try takes room without waiting, and reports whether there was any.
func (b *buffers) try(address netip.Prefix, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.max || b.shares[address]+n > b.max/2 {
		return false
	}
	b.addLocked(address, n)
	return true
}

// add takes room that is used already, or gives some back if n is negative.
func (b *buffers) add(address netip.Prefix, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addLocked(address, n)
	b.grantLocked()
}

func (b *buffers) addLocked(address netip.Prefix, n int64) {
	b.held += n
	if b.shares[address] += n; b.shares[address] == 0 {
		delete(b.shares, address)
	}
}

// foreseen returns an estimate of the room that the next answer takes.
func (g *gauge) foreseen() int64 {
	if g.state && !g.known {
		return firstState
	}
	return g.size
}

// counted returns the room that an answer of a size takes.
func counted(size int64) int64 {
	if size <= smallAnswer {
		return 0
	}
	return size
}

// exclusive reports whether the next answer waits for the one on its way. It does if its size is
// unknown or large, and if it is a state.
func (g *gauge) exclusive() bool { return !g.known || g.state || g.size > smallAnswer }

// fitsLocked reports whether an answer can be asked for now. The lock mu is held.
func (b *buffers) fitsLocked(r *reservation) bool {
	g := r.gauge
	n := g.foreseen()
	switch {
	case g.busy > 0 && g.exclusive():
		return false
	case n <= smallAnswer:
		return true
	case g.state && !g.known && b.measuring >= maxMeasuring:
		return false
	case b.held > 0 && b.held+n > b.max:
		return false
	}
	share := b.shares[r.address]
	return share == 0 || share+n <= b.max/2
}

// takeLocked takes the room of an answer that fits. The lock mu is held.
func (b *buffers) takeLocked(r *reservation) {
	r.size = counted(r.gauge.foreseen())
	r.gauge.busy++
	if r.measures = r.gauge.state && !r.gauge.known; r.measures {
		b.measuring++
	}
	b.addLocked(r.address, r.size)
	close(r.granted)
}

// grantLocked lets the reservations go on that fit. The caller holds mu.
func (b *buffers) grantLocked() {
	b.waiting = slices.DeleteFunc(b.waiting, func(r *reservation) bool {
		fits := b.fitsLocked(r)
		if fits {
			b.takeLocked(r)
		}
		return fits
	})
}

// reserve waits until there is room for an answer. The caller asks for the answer, calls settle,
// and calls free once the client has the answer. It fails with overloaded if there is no room
// within a time.
func (b *buffers) reserve(ctx context.Context, address netip.Prefix, g *gauge,
	within time.Duration,
) (*reservation, error) {
	r := &reservation{of: b, address: address, gauge: g, granted: make(chan struct{})}
	b.mu.Lock()
	if b.fitsLocked(r) {
		b.takeLocked(r)
		b.mu.Unlock()
		return r, nil
	}
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	var err error
	select {
	case <-r.granted:
		return r, nil
	case <-ctx.Done():
		err = failure(host.ErrCanceled.Code, "the request ended before there was room for its answer")
	case <-timer.C:
		err = failure(host.ErrOverloaded.Code, "answers wait for their clients to read them, and there was no "+
			"room for this one within %v "+
			"(--max-buffered %s, at most half of it for one address): read the answers before it, or try again",
			within, humanize.IBytes(uint64(b.max)))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-r.granted: // at the same time
		r.settleLocked(0, false)
	default:
		b.waiting = slices.DeleteFunc(b.waiting, func(other *reservation) bool { return other == r })
	}
	return nil, err
}

// settle notes how large the answer is.
func (r *reservation) settle(size int) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.settleLocked(int64(size), true)
}

func (r *reservation) settleLocked(size int64, isAnswer bool) {
	g := r.gauge
	if r.measures {
		r.of.measuring--
	}
	g.busy--
	if isAnswer {
		g.known, g.size = true, max(size, g.size/2)
	}
	r.of.addLocked(r.address, counted(size)-r.size)
	r.size = counted(size)
	r.of.grantLocked()
}

// free gives the room back.
func (r *reservation) free() {
	if r != nil {
		r.of.add(r.address, -r.size)
		r.size = 0
	}
}

// String describes the buffers, for the messages of tests.
func (b *buffers) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("%d of %d bytes are held, %d answers wait", b.held, b.max, len(b.waiting))
}

// bytes returns how many bytes are held.
func (b *buffers) bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}
