package host

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/semaphore"

	"hypertoken/internal/fault"
)

// queue bounds what a host has taken and not answered.
type queue struct {
	clock                   *clock
	requests, bytes         *semaphore.Weighted
	maxRequests, maxBytes   int64
	inFlight, inFlightBytes atomic.Int64
	waiting                 atomic.Int64 // for room

	draining atomic.Bool // says that somebody waits for drained
	mu       sync.Mutex  // guards drained
	drained  chan struct{}
}

func newQueue(c *clock, requests int, bytes int64) *queue {
	return &queue{clock: c, requests: semaphore.NewWeighted(int64(requests)), bytes: semaphore.NewWeighted(bytes),
		maxRequests: int64(requests), maxBytes: bytes}
}

// take takes room for a future without waiting.
func (q *queue) take(f *Future) error {
	if !q.requests.TryAcquire(1) {
		return ErrOverloaded.With("%s: %d requests are queued (MaxQueue); wait for some, or use Dispatch, which waits",
			f.request.What, q.maxRequests)
	}
	f.size = min(f.size, q.maxBytes)
	if !q.bytes.TryAcquire(f.size) {
		q.requests.Release(1)
		return ErrOverloaded.With("%s: its %d bytes do not fit into the %s that may be queued (MaxQueueBytes); "+
			"wait for some, or use Dispatch, which waits",
			f.request.What, f.size, humanize.IBytes(uint64(q.maxBytes)))
	}
	q.taken(f)
	return nil
}

func (q *queue) taken(f *Future) {
	f.isCharged = true
	q.inFlight.Add(1)
	q.inFlightBytes.Add(f.size)
}

// wait takes room, and waits for it as long as the context and the request's own time let it.
func (q *queue) wait(ctx context.Context, f *Future) error {
	if ctx.Err() != nil {
		return ended(ctx, f.request.What)
	}
	if q.take(f) == nil {
		return nil
	}
	q.waiting.Add(1)
	defer q.waiting.Add(-1)
	if f.request.Allowed > 0 {
		var cancel context.CancelFunc
		began := q.clock.now()
		ctx, cancel = q.clock.limit(ctx, f.request.Allowed, fault.OwnCause{Err: f.request.Late()})
		defer cancel()
		defer func() { f.request.Allowed = max(1, f.request.Allowed-(q.clock.now()-began)) }()
	}
	if err := q.requests.Acquire(ctx, 1); err != nil {
		return waited(ctx, f)
	}
	if err := q.bytes.Acquire(ctx, f.size); err != nil {
		q.requests.Release(1)
		return waited(ctx, f)
	}
	q.taken(f)
	return nil
}

// waited is the error of a request for which there was no room in time.
func waited(ctx context.Context, f *Future) error {
	if own, ok := context.Cause(ctx).(fault.OwnCause); ok {
		return own.Err
	}
	return ended(ctx, f.request.What)
}

func (q *queue) give(size int64) {
	left := q.inFlight.Add(-1)
	q.inFlightBytes.Add(-size)
	q.bytes.Release(size)
	q.requests.Release(1)
	if left == 0 && q.draining.Load() {
		q.tell()
	}
}

// drain waits until nothing is in flight.
func (q *queue) drain(ctx context.Context) error {
	q.mu.Lock()
	if q.drained == nil {
		q.drained = make(chan struct{})
	}
	drained := q.drained
	q.draining.Store(true)
	q.mu.Unlock()
	q.tell()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return ended(ctx, "Drain")
	}
}

// tell lets go who drains, where nothing is in flight.
func (q *queue) tell() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.drained != nil && q.inFlight.Load() == 0 {
		close(q.drained)
		q.drained = nil
		q.draining.Store(false)
	}
}
