// Package queue bounds the requests that a host has taken in and not answered: by their number, and
// by the bytes that they take.
package queue

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/semaphore"

	"hypertoken/internal/clock"
	"hypertoken/internal/fault"
)

// Queue counts the requests in flight. It holds none of them.
type Queue struct {
	clock                   *clock.Clock
	requests, bytes         *semaphore.Weighted
	maxRequests, maxBytes   int64
	inFlight, inFlightBytes atomic.Int64
	waiting                 atomic.Int64 // for room

	isDraining atomic.Bool // says that somebody waits for drained
	mu         sync.Mutex  // guards drained
	drained    chan struct{}
}

// New returns a queue with room for that many requests of that many bytes together.
func New(c *clock.Clock, requests int, bytes int64) *Queue {
	return &Queue{clock: c, requests: semaphore.NewWeighted(int64(requests)), bytes: semaphore.NewWeighted(bytes),
		maxRequests: int64(requests), maxBytes: bytes}
}

// Room is the room of one request in the queue.
type Room struct {
	// Size is how many bytes the request takes. The queue lowers it to its bound.
	Size    int64
	isTaken bool
}

// Late is a request that may wait for room for some time only.
type Late interface {
	// Late returns the error of a request whose time is over.
	Late() *fault.Error
}

// Take takes room, without waiting. It fails with ErrOverloaded if there is none. what names the
// request. The caller gives the room back.
func (q *Queue) Take(what string, r *Room) error {
	if !q.requests.TryAcquire(1) {
		return fault.ErrOverloaded.With(
			"%s: %d requests are queued (MaxQueue); wait for some, or use Dispatch, which waits", what, q.maxRequests)
	}
	r.Size = min(r.Size, q.maxBytes)
	if !q.bytes.TryAcquire(r.Size) {
		q.requests.Release(1)
		return fault.ErrOverloaded.With("%s: its %d bytes do not fit into the %s that may be queued (MaxQueueBytes); "+
			"wait for some, or use Dispatch, which waits", what, r.Size, humanize.IBytes(uint64(q.maxBytes)))
	}
	q.noteTaken(r)
	return nil
}

func (q *Queue) noteTaken(r *Room) {
	r.isTaken = true
	q.inFlight.Add(1)
	q.inFlightBytes.Add(r.Size)
}

// Wait takes room, and waits for it until ctx ends, or for as long as allowed, if that is not 0. It
// returns for how long it has waited, if allowed bounds that. If there is no room in time, it fails
// with the error of ctx, or with that of the request.
func (q *Queue) Wait(ctx context.Context, what string, r *Room, allowed time.Duration,
	request Late) (waited time.Duration, err error) {
	if ctx.Err() != nil {
		return 0, fault.Ended(ctx, what)
	}
	if q.Take(what, r) == nil {
		return 0, nil
	}
	q.waiting.Add(1)
	defer q.waiting.Add(-1)
	if allowed > 0 {
		var cancel context.CancelFunc
		began := q.clock.Now()
		ctx, cancel = q.clock.Limit(ctx, allowed, fault.OwnCause{Err: request.Late()})
		defer cancel()
		defer func() { waited = q.clock.Now() - began }()
	}
	if err := q.requests.Acquire(ctx, 1); err != nil {
		return 0, noRoom(ctx, what)
	}
	if err := q.bytes.Acquire(ctx, r.Size); err != nil {
		q.requests.Release(1)
		return 0, noRoom(ctx, what)
	}
	q.noteTaken(r)
	return 0, nil
}

// noRoom returns the error of a request for which there was no room in time.
func noRoom(ctx context.Context, what string) error {
	if own, ok := context.Cause(ctx).(fault.OwnCause); ok {
		return own.Err
	}
	return fault.Ended(ctx, what)
}

// Give gives room back. Room that is not taken, or given back already, it leaves as it is.
func (q *Queue) Give(r *Room) {
	if !r.isTaken {
		return
	}
	r.isTaken = false
	left := q.inFlight.Add(-1)
	q.inFlightBytes.Add(-r.Size)
	q.bytes.Release(r.Size)
	q.requests.Release(1)
	if left == 0 && q.isDraining.Load() {
		q.releaseDrained()
	}
}

// Drain waits for a moment at which nothing is in flight. If ctx ends first, it returns the error
// of that.
func (q *Queue) Drain(ctx context.Context) error {
	q.mu.Lock()
	if q.drained == nil {
		q.drained = make(chan struct{})
	}
	drained := q.drained
	q.isDraining.Store(true)
	q.mu.Unlock()
	q.releaseDrained()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return fault.Ended(ctx, "Drain")
	}
}

// releaseDrained wakes the calls of Drain if nothing is in flight.
func (q *Queue) releaseDrained() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.drained != nil && q.inFlight.Load() == 0 {
		close(q.drained)
		q.drained = nil
		q.isDraining.Store(false)
	}
}

// InFlight returns how many requests have room, and how many bytes they take.
func (q *Queue) InFlight() (requests, bytes int64) { return q.inFlight.Load(), q.inFlightBytes.Load() }

// Waiting returns how many requests wait for room.
func (q *Queue) Waiting() int64 { return q.waiting.Load() }

// Bounds returns how many requests, and how many bytes, there is room for.
func (q *Queue) Bounds() (requests, bytes int64) { return q.maxRequests, q.maxBytes }
