package pool

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/histogram"
	"hypertoken/ipc"
)

// Link is a worker process as its [Worker] sees it: where frames go, and how it ends.
type Link interface {
	ipc.Sink
	// PID returns the number that the system gives the process.
	PID() int
	// Kill ends it at once, HangUp lets it end by itself. Both return at once.
	Kill()
	HangUp()
}

// Reason is why a worker ended, or is to end.
type Reason uint8

const (
	// Died: it crashed, exited, or broke the protocol. What it owed is suspected.
	Died Reason = iota
	// Overdue: it owed an answer past a deadline, or was not ready in time.
	Overdue
	// Stalled: it owed an answer and did not run, or did not answer a ping.
	Stalled
	// OverMemory: it took more memory than it may have.
	OverMemory
	// Shutdown: the host ends.
	Shutdown
)

// String returns the reason as metrics and logs have it.
func (r Reason) String() string {
	return [...]string{"died", "deadline", "stalled", "memory", "shutdown"}[r]
}

// Worker is one worker process, from its start to its end. It begins as a process that has said
// nothing yet.
type Worker struct {
	pool   *Pool
	number int
	name   string // of the process: that of the slot it was started for
	log    *slog.Logger
	ended  chan struct{} // closed when nothing is left of it

	// The pool's lock guards these three. heardAtTakeover is the value of heard at the moment this
	// process, as a spare's, replaced a worker's, plus one; 0 if it never did. isFolded says that
	// its slot has what was measured of it.
	slot            *slot
	heardAtTakeover uint64
	isFolded        bool

	// conn and reading are there once there is a process.
	conn      *ipc.Conn[sender]
	link      Link
	reading   *reading
	handshake handshake

	// violation is the first thing by which the process broke the protocol: nothing that comes
	// after it is read.
	violation atomic.Pointer[error]
	// heard counts what was read from the process.
	heard atomic.Uint64

	// What is measured of the process: seenAt is when something was read last, startedAt when it
	// was started, busy for how long it ran what it has answered, in nanoseconds.
	seenAt, startedAt, busy       atomic.Int64
	framesReceived, bytesReceived atomic.Uint64
	answers                       histogram.Histogram

	mu sync.Mutex // guards what follows; behind it only those of conn are taken
	// tenants are the engines that are placed here, by their placement.
	tenants  map[uint64]Tenant
	flow     flow
	watch    watch
	reason   Reason
	isEnding bool
	isDead   bool
}

func newWorker(p *Pool, s *slot, number int, name string) *Worker {
	w := &Worker{pool: p, slot: s, number: number, name: name, log: p.log.With(s.kind(), s.id, "process", number),
		tenants: map[uint64]Tenant{}, ended: make(chan struct{})}
	w.handshake.worker, w.flow.worker, w.watch.worker = w, w, w
	return w
}

// Number returns the number of the process. It is never used twice in a host, and never 0.
func (w *Worker) Number() int { return w.number }

// Attach takes note of the process, and of where to read what it writes. It returns false if the
// worker is not wanted any more; then the caller ends the process.
func (w *Worker) Attach(l Link, from ipc.Source) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isEnding {
		return false
	}
	c := &w.pool.config
	w.startedAt.Store(int64(w.pool.owner.Stamp()))
	w.link, w.conn = l, ipc.NewConn[sender](l, ipc.Window{Requests: c.WindowRequests, Bytes: c.WindowBytes})
	w.reading = newReading(w, from)
	return true
}

// kill ends the process at once, for a reason. Only the first reason counts.
func (w *Worker) kill(reason Reason) {
	w.mu.Lock()
	if (w.isEnding && w.reason != Shutdown) || w.isDead {
		w.mu.Unlock()
		return
	}
	w.isEnding, w.reason = true, reason
	l := w.link
	w.mu.Unlock()
	if l != nil {
		l.Kill()
	}
}

// hangUp lets the process end by itself.
func (w *Worker) hangUp() {
	w.mu.Lock()
	w.isEnding, w.reason = true, Shutdown
	l := w.link
	w.mu.Unlock()
	if l != nil {
		l.HangUp()
	}
}

// EndForViolation ends a process that broke the protocol, or can't be used. It counts as one that
// died by itself.
func (w *Worker) EndForViolation(err error) {
	if w.violation.CompareAndSwap(nil, &err) {
		message := "a worker can't be used and is replaced"
		if malformed := new(ipc.MalformedError); errors.As(err, &malformed) {
			message = "a worker broke the protocol and is replaced"
		}
		w.log.Error(message, "error", err)
	}
	w.kill(Died)
}

// HandleEnd takes in that the process has ended, and all that it wrote is read. err says why. Its
// engines go elsewhere.
func (w *Worker) HandleEnd(err error) {
	w.mu.Lock()
	if w.isDead {
		w.mu.Unlock()
		return
	}
	w.isDead = true
	reason, tenants, wasAlone := w.reason, w.tenants, w.flow.reserved != 0 && w.flow.isAlone
	w.tenants = nil
	w.mu.Unlock()
	inFlight := 0
	if w.conn != nil {
		for _, of := range w.conn.Close() {
			if of.tenant != nil { // a ping is nobody's
				inFlight++
			}
		}
	}
	w.pool.handleExit(w, reason, wasAlone, inFlight, err)
	loss := Loss{Worker: w.number, IsDeath: reason == Died}
	for _, id := range slices.Sorted(maps.Keys(tenants)) {
		loss.Placements = append(loss.Placements, Placement{id, tenants[id]})
	}
	w.pool.owner.HandleLoss(loss)
	w.pool.owner.HandleFreePlaces()
	close(w.ended)
}

// isAlive reports whether nothing is known of its end.
func (w *Worker) isAlive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.isDead && !w.isEnding
}

// wasDeadAtTakeoverLocked reports whether nothing was heard from it since it replaced a worker:
// its death is then that of a spare. The pool's lock is held.
func (w *Worker) wasDeadAtTakeoverLocked() bool {
	return w.heardAtTakeover > 0 && w.heard.Load() < w.heardAtTakeover
}

// Recall asks the process to drop a request, or to interrupt it. Write sends it.
func (w *Worker) Recall(id uint64) { w.conn.Tell(ipc.Recall, id, 0) }

// Abandon closes a placement in the process. Write sends it.
func (w *Worker) Abandon(placement uint64) { w.conn.Tell(ipc.Close, 0, placement) }

// ObserveAnswer adds to the measurements how long an answer took from the pipe on.
func (w *Worker) ObserveAnswer(took time.Duration) { w.answers.Observe(took) }
