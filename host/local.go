package host

import (
	"context"
	"sync"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/executor"
	"hypertoken/ipc"
)

// local is an engine's place in this process: an instance, and one request at a time, run by whoever comes first.
type local struct {
	host   *Host
	engine *driver
	place  engine.Place
	run    *executor.Engine
	ctx    context.Context
	cancel context.CancelFunc

	// answers are what the request under way has answered, their bodies lie in bodies; its runner owns them.
	answers []localFrame
	bodies  []byte

	mu      sync.Mutex // guards what follows; a leaf
	next    uint64
	waiting localRequest // none where its header has no request
	request uint64       // what runs, or ran last
	running bool
	closed  bool
}

type localRequest struct {
	header ipc.Header
	body   []byte
}

func (r *localRequest) none() bool { return r.header.Request == 0 }

// localFrame is an answer whose body ends there in the bodies, and begins where the one before it ends.
type localFrame struct {
	ipc.Header
	end int
}

// keptBodies is how large the memory for answers may stay, in bytes.
const keptBodies = 64 << 10

func newLocal(h *Host, e *driver, p engine.Place) *local {
	l := &local{host: h, engine: e, place: p}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.run = executor.New(h.instantiate, l, h.options.MaxFrame).Engine(p.Placement)
	h.locals.Add(1)
	h.scheduler.AddResident(p.Placement, (*applicant)(e))
	return l
}

// put takes a request to run next; false where one waits already.
func (l *local) put(kind ipc.Kind, flags ipc.Flags, body []byte) (id uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.waiting.none() || l.closed {
		return 0, false
	}
	l.next++
	l.waiting = localRequest{ipc.Header{Kind: kind, Flags: flags, Request: l.next, Placement: l.place.Placement}, body}
	return l.next, true
}

// recall takes a request back, or interrupts it, which costs the instance. It reports whether it had not begun.
func (l *local) recall(id uint64) (dropped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.waiting.none() && l.waiting.header.Request == id {
		l.waiting = localRequest{}
		return true
	}
	if l.request == id {
		l.cancel()
	}
	return false
}

// close frees the instance and its slot: now, or when what runs has ended.
func (l *local) close() {
	l.cancel()
	l.mu.Lock()
	l.closed, l.waiting = true, localRequest{}
	running := l.running
	l.mu.Unlock()
	if !running {
		l.free()
	}
}

func (l *local) free() {
	l.run.Close()
	l.host.scheduler.FreeSlot(l.place.Placement)
	l.host.locals.Done()
}

// start runs what waits: here, if mayRun says so, and what comes after it in a goroutine.
func (l *local) start(mayRun bool) {
	l.mu.Lock()
	begin := !l.waiting.none() && !l.running && !l.closed
	if begin {
		l.running = true
	}
	l.mu.Unlock()
	if !begin {
		return
	}
	if mayRun {
		l.once()
		if !l.more() {
			return
		}
	}
	l.host.runLocal(func() {
		for l.once(); l.more(); {
			l.once()
		}
	})
}

// more reports whether another request waits. Where none does, nobody runs any more.
func (l *local) more() bool {
	l.mu.Lock()
	if !l.waiting.none() && !l.closed {
		l.mu.Unlock()
		return true
	}
	l.running = false
	closed := l.closed
	l.mu.Unlock()
	if closed {
		l.free()
		l.host.scheduler.Assign()
	}
	return false
}

// once runs a request and hands on its answer.
func (l *local) once() {
	l.mu.Lock()
	r := l.waiting
	if r.none() {
		l.mu.Unlock()
		return
	}
	l.waiting, l.request = localRequest{}, r.header.Request
	l.mu.Unlock()
	if err := l.run.Run(l.ctx, r.header, r.body); err != nil {
		f := ipc.Failure{Code: ipc.CodeNotPlaced, Message: err.Error(), Index: -1}
		l.Append(ipc.Header{Kind: ipc.Answer, Flags: ipc.FlagFailed | ipc.FlagLost, Request: r.header.Request},
			f.Append(nil))
	}
	l.hand(true)
}

// hand hands on what was answered.
func (l *local) hand(end bool) {
	e := l.engine
	seen := time.Duration(0)
	if l.host.measures() {
		seen = l.host.stamp()
	}
	e.mu.Lock()
	from := 0
	for k := range l.answers {
		f := &l.answers[k]
		e.takeFrame(l.place, f.Kind, f.Flags, f.Request, l.bodies[from:f.end:f.end], seen)
		from = f.end
	}
	l.answers, l.bodies = l.answers[:0], l.bodies[:0]
	if cap(l.bodies) > keptBodies {
		l.bodies = nil
	}
	if end && e.m.View().Place == l.place {
		e.m.Room(e.now())
		e.perform()
	}
	e.unlockAndDeliver(false)
}

// Append takes an answer of the executor. It is copied: the request's bytes are used again.
func (l *local) Append(h ipc.Header, parts ...[]byte) int {
	from := len(l.bodies)
	for _, p := range parts {
		l.bodies = append(l.bodies, p...)
	}
	l.answers = append(l.answers, localFrame{h, len(l.bodies)})
	return len(l.bodies) - from
}

func (l *local) Flush() {}

// Drain hands the chunks of a stream on as they come.
func (l *local) Drain(int) { l.hand(false) }
