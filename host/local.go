package host

import (
	"context"
	"sync"

	"hypertoken/internal/executor"
	"hypertoken/ipc"
)

// local is an engine's place in this process: an instance, and one request at a time, run by whoever comes first.
type local struct {
	host   *Host
	engine *Engine
	place  place
	run    *executor.Engine
	ctx    context.Context
	cancel context.CancelFunc

	// answers are what the request under way has answered; its runner owns them.
	answers []localFrame

	mu      sync.Mutex // guards what follows; a leaf
	next    uint64
	waiting *localRequest
	request uint64 // what runs, or ran last
	running bool
	closed  bool
}

type localRequest struct {
	header ipc.Header
	body   []byte
}

type localFrame struct {
	ipc.Header
	body []byte
}

func (h *Host) newLocal(e *Engine, p place) *local {
	l := &local{host: h, engine: e, place: p}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.run = executor.New(h.instantiate, l, h.options.MaxFrame).Engine(p.id)
	h.locals.Add(1)
	h.settleIn(l)
	return l
}

// put takes a request to run next; false where one waits already.
func (l *local) put(kind ipc.Kind, flags ipc.Flags, body []byte) (id uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != nil || l.closed {
		return 0, false
	}
	l.next++
	l.waiting = &localRequest{ipc.Header{Kind: kind, Flags: flags, Request: l.next, Placement: l.place.id}, body}
	return l.next, true
}

// recall takes a request back, or interrupts it, which costs the instance. It reports whether it had not begun.
func (l *local) recall(id uint64) (dropped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != nil && l.waiting.header.Request == id {
		l.waiting = nil
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
	l.closed, l.waiting = true, nil
	running := l.running
	l.mu.Unlock()
	if !running {
		l.free()
	}
}

func (l *local) free() {
	l.run.Close()
	l.host.freeSlot(l)
	l.host.locals.Done()
}

// start runs what waits: here, where inline says so, and what comes after it in a goroutine.
func (l *local) start(inline bool) {
	l.mu.Lock()
	begin := l.waiting != nil && !l.running && !l.closed
	if begin {
		l.running = true
	}
	l.mu.Unlock()
	if !begin {
		return
	}
	if inline {
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
	if l.waiting != nil && !l.closed {
		l.mu.Unlock()
		return true
	}
	l.running = false
	closed := l.closed
	l.mu.Unlock()
	if closed {
		l.free()
		l.host.assign()
	}
	return false
}

// once runs a request and hands on its answer.
func (l *local) once() {
	l.mu.Lock()
	r := l.waiting
	if r == nil {
		l.mu.Unlock()
		return
	}
	l.waiting, l.request = nil, r.header.Request
	l.mu.Unlock()
	if err := l.run.Run(l.ctx, r.header, r.body); err != nil {
		f := ipc.Failure{Code: ipc.CodeNotPlaced, Message: err.Error(), Index: -1}
		l.Append(ipc.Header{Kind: ipc.Answer, Flags: ipc.FlagFailed | ipc.FlagLost, Request: r.header.Request}, f.Append(nil))
	}
	l.hand(true)
}

// hand hands on what was answered.
func (l *local) hand(end bool) {
	e := l.engine
	e.mu.Lock()
	for k := range l.answers {
		f := &l.answers[k]
		e.step(engineEvent{kind: eventOf[f.Kind-ipc.Hello], place: l.place, id: f.Request, flags: f.Flags, body: f.body})
	}
	clear(l.answers)
	l.answers = l.answers[:0]
	if end && e.m.place == l.place {
		e.step(engineEvent{kind: evRoom})
	}
	e.unlock(false)
}

// Append takes an answer of the executor. It is copied: the request's bytes are used again.
func (l *local) Append(h ipc.Header, parts ...[]byte) int {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	body := make([]byte, 0, n)
	for _, p := range parts {
		body = append(body, p...)
	}
	l.answers = append(l.answers, localFrame{h, body})
	return n
}

func (l *local) Flush() {}

// Drain hands the chunks of a stream on as they come.
func (l *local) Drain(int) { l.hand(false) }
