package serve

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// queued passes records on from a goroutine of its own. So a log that nobody reads does not delay
// requests. If the queue is full, a record is dropped.
type queued struct {
	next  slog.Handler
	queue *logQueue
}

// maxQueued is the most records that wait for the log.
const maxQueued = 256

type logQueue struct {
	mu      sync.Mutex // guards the fields below
	records []func()
	idle    chan struct{} // closed once all records are passed on; nil if none waits
}

func newQueued(next slog.Handler) *queued { return &queued{next, &logQueue{}} }

// Enabled implements [slog.Handler].
func (q *queued) Enabled(ctx context.Context, level slog.Level) bool {
	return q.next.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (q *queued) Handle(ctx context.Context, r slog.Record) error {
	ctx, r = context.WithoutCancel(ctx), r.Clone()
	l := q.queue
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) >= maxQueued {
		return nil
	}
	l.records = append(l.records, func() { _ = q.next.Handle(ctx, r) })
	if l.idle == nil {
		l.idle = make(chan struct{})
		go l.run()
	}
	return nil
}

// run passes records on until none is left.
func (l *logQueue) run() {
	for {
		l.mu.Lock()
		if len(l.records) == 0 {
			close(l.idle)
			l.idle = nil
			l.mu.Unlock()
			return
		}
		hand := l.records[0]
		l.records = l.records[1:]
		l.mu.Unlock()
		hand()
	}
}

// flush waits until all records are passed on, for at most the given time.
func (l *logQueue) flush(within time.Duration) {
	l.mu.Lock()
	idle := l.idle
	l.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-time.After(within):
	}
}

// WithAttrs implements [slog.Handler].
func (q *queued) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &queued{q.next.WithAttrs(attrs), q.queue}
}

// WithGroup implements [slog.Handler].
func (q *queued) WithGroup(name string) slog.Handler {
	return &queued{q.next.WithGroup(name), q.queue}
}
