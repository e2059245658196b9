// Package driver runs engines on this machine.
//
// [Engines] are the engines of one host, with what they share: the clock, the queue, the pool of
// workers, the scheduler, the counters. A [Driver] runs one engine: it has the engine's lock and
// its machine (package engine), tells the machine events and carries its effects out. A [Call] is
// an action, a batch or a question on its way to its outcome.
//
// The lock of an engine is Driver.mu. Its holder calls an event method of the machine, then
// performLocked, and then unlockAndDeliver, which releases the lock and does what must not be done
// with it held. Locks are taken in the order driver, engines, scheduler, pool, worker, and never those
// of two engines.
package driver

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/clock"
	"hypertoken/internal/entropy"
	"hypertoken/internal/fault"
	"hypertoken/internal/inproc"
	"hypertoken/internal/measure"
	"hypertoken/internal/migration"
	"hypertoken/internal/pool"
	"hypertoken/internal/queue"
	"hypertoken/internal/scheduler"
	"hypertoken/journal"
)

// Engines are the engines of a host, and what they share.
type Engines struct {
	config   Config
	log      *slog.Logger
	id       [16]byte // of the host, for stores
	clock    clock.Clock
	queue    *queue.Queue
	verifier journal.OwnerVerifier // the store, if it is one; nil otherwise
	counts   measure.Counts
	measure  atomic.Pointer[measure.Recorder]
	learning learning
	owners   atomic.Uint64 // numbers the owners of journals, and so the engines
	keyBytes atomic.Int64  // what the keys of open engines take
	entropy  entropy.Source
	started  time.Time

	// pool has the workers, scheduler places engines on them. places is what the places in this
	// process go by, core is the core there. actions are those that a worker has told.
	pool      *pool.Pool
	scheduler *scheduler.Scheduler
	places    inproc.Config
	core      *inproc.Core
	cores     oldCores
	actions   toldActions

	// life ends with the host. goroutines are those that Shutdown waits for then. residents counts
	// what uses the core in this process: places, and calls that ask the core.
	life       context.Context
	end        context.CancelFunc
	goroutines sync.WaitGroup
	residents  sync.WaitGroup
	closed     chan struct{}
	// impatience ends, by hurry, with the first context of a call of Shutdown.
	impatience context.Context
	hurry      context.CancelFunc
	wake       chan struct{} // ends the wait for the next tick

	mu        sync.Mutex // guards what follows; it is taken behind an engine's lock
	isClosing bool
	drivers   map[string]*Driver // by name
	pasts     map[*Driver]bool   // those that read states of the past
	watched   []*Driver          // those for which time has to pass
}

// New returns engines of which there are none yet. The caller calls Start, and Shutdown in any
// case.
func New(c Config) *Engines {
	h := &Engines{
		config:  c,
		log:     c.Log,
		started: time.Now(),
		actions: toldActions{areKnown: make(chan struct{})},
		closed:  make(chan struct{}),
		wake:    make(chan struct{}, 1),
		drivers: map[string]*Driver{},
		pasts:   map[*Driver]bool{},
	}
	h.verifier, h.config.Machine.HasBarrier = c.Store.(journal.OwnerVerifier)
	h.queue = queue.New(&h.clock, c.MaxQueue, c.MaxQueueBytes)
	_, _ = crand.Read(h.id[:]) // never fails
	h.life, h.end = context.WithCancel(context.Background())
	h.impatience, h.hurry = context.WithCancel(context.Background())
	h.core = inproc.NewCore(h.life, c.Core)
	h.cores.compiled = migration.NewCores(c.CoreHash, c.Cores, c.Core.MemoryLimit)
	h.places = c.Places
	h.places.MaxFrame = c.Pool.MaxFrame
	if h.places.Instantiate == nil {
		h.places.Instantiate = h.core.Instantiate
	}
	if h.places.Spawn == nil {
		h.places.Spawn = h.spawn
	}
	h.pool = pool.New((*landlord)(h))
	h.scheduler = scheduler.New(scheduler.Config{Pool: h.pool, Clock: &h.clock, Rules: c.Rules,
		MaxInProcess: c.MaxInProcess, IdleAfter: c.IdleAfter})
	return h
}

// Start starts the workers, in the background, and the clock.
func (h *Engines) Start() {
	h.clock.Advance()
	if !h.config.Rules.InProcess {
		h.pool.Start(h.config.Pool)
	}
	h.spawn(h.tickUntilEnd)
}

// spawn runs f in a goroutine that Shutdown waits for.
func (h *Engines) spawn(f func()) { h.goroutines.Go(f) }

// tickUntilEnd lets time pass.
func (h *Engines) tickUntilEnd() {
	timer := time.NewTimer(clock.TickEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-h.wake:
		case <-h.life.Done():
			return
		}
		now := h.clock.Advance()
		isBusy := h.tick(now)
		h.clock.SetIdle(!isBusy)
		every := clock.TickEvery
		if !isBusy {
			every = clock.IdleTickEvery
		}
		timer.Reset(every)
	}
}

// tick lets time pass for the workers and for the engines that wait for something. It reports
// whether any does.
func (h *Engines) tick(now time.Duration) (isBusy bool) {
	isBusy = h.pool.Tick(now)
	h.scheduler.TakeIdleOut(now)
	h.mu.Lock()
	watched := h.watched
	h.watched = nil
	h.mu.Unlock()
	kept := watched[:0]
	for _, e := range watched {
		if e.tick() {
			kept = append(kept, e)
		}
	}
	h.mu.Lock()
	h.watched = append(h.watched, kept...)
	isBusy = isBusy || len(h.watched) > 0
	h.mu.Unlock()
	h.scheduler.Assign()
	return isBusy
}

// watch has the tick look after an engine. The engine's lock is held.
func (h *Engines) watch(e *Driver) {
	h.mu.Lock()
	h.watched = append(h.watched, e)
	h.mu.Unlock()
	h.hurryTick()
}

// hurryTick has time pass now, if the tick is slow because nothing has waited for it.
func (h *Engines) hurryTick() {
	if h.clock.IsIdle() {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// Drain waits for a moment at which nothing is in flight: each request has its outcome.
func (h *Engines) Drain(ctx context.Context) error {
	if err := h.queue.Drain(ctx); err != nil {
		return err
	}
	// A request gives its room back just before it is resolved, both with the engine's lock held.
	h.mu.Lock()
	drivers := h.driversLocked()
	h.mu.Unlock()
	for _, e := range drivers {
		e.mu.Lock()
		e.unlockAndDeliver(false)
	}
	return nil
}

// Shutdown takes nothing more in, waits for the requests that there are, closes every engine, ends
// the workers and frees everything. If ctx ends first, the requests that run are interrupted. It
// may be called any number of times: the context that ends first counts.
func (h *Engines) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	isFirst := !h.isClosing
	h.isClosing = true
	drivers := h.driversLocked()
	h.mu.Unlock()
	if !isFirst {
		select {
		case <-h.closed:
			return nil
		case <-ctx.Done():
		}
		// A call with more patience waits for the same end.
		h.hurry()
		<-h.closed
		return fault.Ended(ctx, "Shutdown")
	}
	defer context.AfterFunc(ctx, h.hurry)()
	for _, e := range drivers {
		e.beginClose()
	}
	var errs []error
	for _, e := range drivers {
		select {
		case <-e.closed:
			continue
		case <-h.impatience.Done():
		}
		e.stop()
		<-e.closed
	}
	if ctx.Err() != nil {
		errs = append(errs, fault.Ended(ctx, "Shutdown"))
	}
	h.pool.Stop(h.impatience)
	h.end()
	h.residents.Wait()
	h.goroutines.Wait()
	errs = append(errs, h.core.Close(context.WithoutCancel(ctx)), h.cores.compiled.Close(context.WithoutCancel(ctx)))
	close(h.closed)
	return errors.Join(errs...)
}

// driversLocked returns all drivers, those that read the past too, oldest first. The lock mu is
// held.
func (h *Engines) driversLocked() []*Driver {
	return byAge(slices.AppendSeq(slices.Collect(maps.Values(h.drivers)), maps.Keys(h.pasts)))
}

// byAge sorts engines, so that what is done to each of them is done in the same order each time.
func byAge(list []*Driver) []*Driver {
	slices.SortFunc(list, func(a, b *Driver) int { return cmp.Compare(a.number, b.number) })
	return list
}

// forget takes a closed engine off. The engine's lock is held.
func (h *Engines) forget(e *Driver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.drivers[e.name] == e {
		delete(h.drivers, e.name)
	}
	delete(h.pasts, e)
}
