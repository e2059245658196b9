// Package inproc runs engines in the host's own process: it compiles the core here, and a [Place]
// has an instance of it for one engine. The executor runs the same requests as in a worker.
package inproc

import (
	"context"
	"sync"
	"time"

	"hypertoken/internal/executor"
	"hypertoken/ipc"
)

// Tenant is the engine that has a place, as the place knows it.
type Tenant interface {
	// Hold locks the engine, so that several frames in a row reach it. Release unlocks it, and does
	// what waited for that. hasRoom says that the place takes the next request.
	Hold()
	Release(placement uint64, hasRoom bool)
	// HandleFrame takes in an answer, or a chunk of one. body is valid until HandleFrame returns; seen
	// is when it was there, as Stamp returned it. It is called between Hold and Release.
	HandleFrame(placement uint64, h ipc.Header, body []byte, seen time.Duration)
	// HandleFree says that the instance of a place that was closed is freed. isHeld says that this
	// happens in Close, which the engine calls with its lock held.
	HandleFree(placement uint64, isHeld bool)
	// Stamp returns the time on the clock of measurements, 0 if nothing is measured.
	Stamp() time.Duration
}

// Config is what all places of a host have in common.
type Config struct {
	// Instantiate makes an instance of the core.
	Instantiate func(context.Context) (executor.Instance, error)
	// MaxFrame bounds an answer, in bytes.
	MaxFrame int
	// Spawn runs a function in a goroutine of its own. A simulation runs it later.
	Spawn func(func())
}

// Place is an engine's place in this process: an instance, and one request at a time. The goroutine
// that comes first runs it.
type Place struct {
	config    *Config
	tenant    Tenant
	placement uint64
	run       *executor.Engine
	ctx       context.Context
	cancel    context.CancelFunc

	// answers are what the request under way has answered, their bodies lie in bodies. The goroutine
	// that runs the request owns both.
	answers []frame
	bodies  []byte

	mu        sync.Mutex // guards what follows; a leaf
	next      uint64
	waiting   request // none if its header has no request
	current   uint64  // the ID of the request that runs, or ran last
	isRunning bool
	isClosed  bool
}

// request is a request of the engine.
type request struct {
	header ipc.Header
	body   []byte
}

func (r *request) isNone() bool { return r.header.Request == 0 }

// frame is an answer. Its body begins in the bodies where the body before it ends, and ends at end.
type frame struct {
	ipc.Header
	end int
}

// keptBodies is how large the memory for answers may stay, in bytes.
const keptBodies = 64 << 10

// New returns a place for an engine. The instance is made by the first request. The engine calls
// Close.
func New(c *Config, t Tenant, placement uint64) *Place {
	p := &Place{config: c, tenant: t, placement: placement}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.run = executor.New(c.Instantiate, p, c.MaxFrame).Engine(placement)
	return p
}

// Placement returns the ID of the placement.
func (p *Place) Placement() uint64 { return p.placement }

// Put takes a request in, which Start runs. It returns its ID; ok is false if another one waits, or
// the place is closed.
func (p *Place) Put(kind ipc.Kind, flags ipc.Flags, body []byte) (id uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waiting.isNone() || p.isClosed {
		return 0, false
	}
	p.next++
	p.waiting = request{ipc.Header{Kind: kind, Flags: flags, Request: p.next, Placement: p.placement}, body}
	return p.next, true
}

// Recall takes a request back, or interrupts it, which costs the instance. It reports whether the
// request had not begun.
func (p *Place) Recall(id uint64) (wasDropped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waiting.isNone() && p.waiting.header.Request == id {
		p.waiting = request{}
		return true
	}
	if p.current == id {
		p.cancel()
	}
	return false
}

// Close frees the instance: now, or when the request that runs has ended. The engine's lock is
// held.
func (p *Place) Close() {
	p.cancel()
	p.mu.Lock()
	p.isClosed, p.waiting = true, request{}
	isRunning := p.isRunning
	p.mu.Unlock()
	if !isRunning {
		p.free(true)
	}
}

func (p *Place) free(isHeld bool) {
	p.run.Close()
	p.tenant.HandleFree(p.placement, isHeld)
}

// Start runs the request that waits: in this goroutine, if mayRun is set. The requests that come
// after it are run in a goroutine of their own. The engine's lock is not held.
func (p *Place) Start(mayRun bool) {
	p.mu.Lock()
	begins := !p.waiting.isNone() && !p.isRunning && !p.isClosed
	if begins {
		p.isRunning = true
	}
	p.mu.Unlock()
	if !begins {
		return
	}
	if mayRun {
		p.runOne()
		if !p.hasMore() {
			return
		}
	}
	p.config.Spawn(func() {
		for p.runOne(); p.hasMore(); {
			p.runOne()
		}
	})
}

// hasMore reports whether another request waits. If none does, this goroutine runs no request any
// more.
func (p *Place) hasMore() bool {
	p.mu.Lock()
	if !p.waiting.isNone() && !p.isClosed {
		p.mu.Unlock()
		return true
	}
	p.isRunning = false
	isClosed := p.isClosed
	p.mu.Unlock()
	if isClosed {
		p.free(false)
	}
	return false
}

// runOne runs the request that waits, and hands on its answer.
func (p *Place) runOne() {
	p.mu.Lock()
	r := p.waiting
	if r.isNone() {
		p.mu.Unlock()
		return
	}
	p.waiting, p.current = request{}, r.header.Request
	p.mu.Unlock()
	if err := p.run.Run(p.ctx, r.header, r.body); err != nil {
		f := ipc.Failure{Code: ipc.CodeNotPlaced, Message: err.Error(), Index: -1}
		p.Append(ipc.Header{Kind: ipc.Answer, Flags: ipc.FlagFailed | ipc.FlagLost, Request: r.header.Request},
			f.Append(nil))
	}
	p.handOn(true)
}

// handOn hands on what was answered.
func (p *Place) handOn(hasRoom bool) {
	seen := p.tenant.Stamp()
	p.tenant.Hold()
	from := 0
	for k := range p.answers {
		f := &p.answers[k]
		p.tenant.HandleFrame(p.placement, f.Header, p.bodies[from:f.end:f.end], seen)
		from = f.end
	}
	p.answers, p.bodies = p.answers[:0], p.bodies[:0]
	if cap(p.bodies) > keptBodies {
		p.bodies = nil
	}
	p.tenant.Release(p.placement, hasRoom)
}

// Append implements executor.Out: it takes an answer in. The parts are copied, since their memory
// is used again.
func (p *Place) Append(h ipc.Header, parts ...[]byte) int {
	from := len(p.bodies)
	for _, part := range parts {
		p.bodies = append(p.bodies, part...)
	}
	p.answers = append(p.answers, frame{h, len(p.bodies)})
	return len(p.bodies) - from
}

// Flush implements executor.Out. Answers are handed on once the request has ended.
func (p *Place) Flush() {}

// Drain implements executor.Out: it hands the chunks of a stream on as they come.
func (p *Place) Drain(int) { p.handOn(false) }
