package host

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/pool"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// Engine is one game. Its actions run one after the other, in the order in which they were dispatched.
type Engine struct {
	host    *Host
	name    string
	number  uint64 // counts a host's engines
	shard   int    // of the host's counts
	batches batchOptions
	timeout time.Duration

	listeners listeners
	closed    chan struct{} // closed with the engine

	// status is what others may know without the lock: bits of statusPlaced and the like.
	status atomic.Uint32
	// used is when the engine was last dispatched to, on the host's clock.
	used atomic.Int64
	// heldUntil is until when it is held back, on the host's clock; 0 if it never was.
	heldUntil atomic.Int64

	// mu guards what follows. Its holder calls an event method of the machine, then perform, and then
	// unlockAndDeliver. Locks are taken in the order engine, scheduler, pool, worker, and never those
	// of two engines.
	mu     sync.Mutex
	m      engine.Machine
	owner  journal.Owner
	keys   engine.Keys[*Future]
	window *window
	at     *pool.Worker // the worker of its place; nil if it has none, or is in this process
	local  *local       // its place in this process; nil if it has none
	listed bool         // the host's tick knows it
	// fallen says that its last place was this process, for want of a worker. lostAt is when it lost a
	// worker that it had something to do for, on the clock of measurements, until it is placed again.
	fallen bool
	lostAt time.Duration
	// isOpening says that Open has not returned.
	isOpening bool
	work      work
	// appendCall and installCall are the calls of the store whose end counts, loadCall that of the last load.
	calls, appendCall, installCall, loadCall uint64

	mail mailbox
}

// The bits of status.
const (
	statusPlaced = 1 << iota
	statusLive
	statusLocal
	statusIdle
	statusTaking
)

// work is what is to be done once the engine's lock is free.
type work struct {
	flush  *pool.Worker
	led    *pool.Worker // whose answers this goroutine is about to read
	room   *pool.Worker
	assign bool
	shed   bool // keys take too much
	run    *local
}

// byAge sorts engines, so that what is done to each of them is done in the same order each time.
func byAge(list []*Engine) []*Engine {
	slices.SortFunc(list, func(a, b *Engine) int { return cmp.Compare(a.number, b.number) })
	return list
}

// Name returns the engine's name.
func (e *Engine) Name() string { return e.name }

// Place returns where the engine is at this moment: "worker", "in_process", "placing", or "out" if it has no instance.
func (e *Engine) Place() string {
	switch status := e.status.Load(); {
	case status&statusPlaced == 0:
		return "out"
	case status&statusLive == 0:
		return "placing"
	case status&statusLocal != 0:
		return "in_process"
	}
	return "worker"
}

// now returns the time on the host's clock.
func (e *Engine) now() time.Duration { return e.host.clock.now() }

// perform carries out what the machine has asked for. The engine's lock is held.
func (e *Engine) perform() { e.m.Perform((*performer)(e)) }

// step has the machine take in one event. The engine's lock is free before and after.
func (e *Engine) step(event func(m *engine.Machine, now time.Duration)) {
	e.mu.Lock()
	event(&e.m, e.now())
	e.perform()
	e.unlockAndDeliver(false)
}

// takeFrame has the machine take in a frame that came from a place. It returns for how long the
// place ran, if the frame is an answer that says so. The engine's lock is held.
func (e *Engine) takeFrame(p engine.Place, kind ipc.Kind, flags ipc.Flags, id uint64, body []byte,
	seen time.Duration) (ran time.Duration) {
	switch kind {
	case ipc.Chunk:
		e.m.Chunk(e.now(), p, id, body)
	case ipc.Dropped:
		e.m.Dropped(e.now(), p, id)
	default:
		ran = e.m.Answer(e.now(), engine.Answer{Place: p, ID: id, Flags: flags, Body: body, Seen: seen})
	}
	e.perform()
	return ran
}

// stop ends the engine at once.
func (e *Engine) stop() {
	e.step(func(m *engine.Machine, now time.Duration) { m.Stop(now, shutdownError()) })
}

// placeLost takes in that the engine's worker has ended. d is nil if the worker did not die by itself.
func (e *Engine) placeLost(p engine.Place, d *engine.Death) {
	e.mu.Lock()
	if v := e.m.View(); v.Place == p && v.HasWork {
		e.lostAt = e.host.stamp()
	}
	e.m.PlaceLost(e.now(), p, d)
	e.perform()
	e.unlockAndDeliver(false)
}

// mailbox is for what happens while the lock may be held by the same goroutine, such as a store
// that answers at once. What is posted is taken in before the engine's lock is released.
type mailbox struct {
	mu sync.Mutex // guards what follows; a leaf
	// appends are the ends of appends: there is one for nearly every action. events are all others.
	appends []callEnd
	events  []func()
	isFull  atomic.Bool
	read    []callEnd // memory for appends; the engine's lock guards it
}

// callEnd is how a call of the store ended.
type callEnd struct {
	call uint64
	err  error
}

// post hands over an event without taking the lock, which may be held by the caller. It calls an event method of the
// machine, later, with the lock held.
func (e *Engine) post(event func()) {
	e.mail.mu.Lock()
	e.mail.events = append(e.mail.events, event)
	e.mail.isFull.Store(true)
	e.mail.mu.Unlock()
	if e.mu.TryLock() {
		e.unlockAndDeliver(false)
	}
}

// postAppendEnd hands over the end of an append, without taking the lock and without an allocation.
func (e *Engine) postAppendEnd(call uint64, err error) {
	e.mail.mu.Lock()
	e.mail.appends = append(e.mail.appends, callEnd{call, err})
	e.mail.isFull.Store(true)
	e.mail.mu.Unlock()
	if e.mu.TryLock() {
		e.unlockAndDeliver(false)
	}
}

// takeMail has the machine take in what was posted. The engine's lock is held.
func (e *Engine) takeMail() {
	for e.mail.isFull.Load() {
		e.mail.mu.Lock()
		appends, events := e.mail.appends, e.mail.events
		e.mail.appends, e.mail.events, e.mail.read = e.mail.read[:0], nil, nil
		e.mail.isFull.Store(false)
		e.mail.mu.Unlock()
		for _, end := range appends {
			if end.call == e.appendCall {
				e.m.Appended(e.now(), end.err)
				e.perform()
			}
		}
		for _, event := range events {
			event()
			e.perform()
		}
		clear(appends)
		e.mail.read = appends[:0]
	}
}

// unlockAndDeliver takes in what was posted, tells the others how the engine is, releases the
// engine's lock, and does what waited for that: it writes to pipes, assigns places, and starts what
// runs in this process. mayRun says that this goroutine may run the engine's actions. If more was
// posted meanwhile, it locks the engine again for that.
func (e *Engine) unlockAndDeliver(mayRun bool) {
	for {
		e.takeMail()
		e.publishStatus()
		w := e.work
		e.work = work{}
		e.mu.Unlock()
		w.do(e.host, mayRun)
		if !e.mail.isFull.Load() || !e.mu.TryLock() {
			return
		}
	}
}

// publishStatus tells the others how the engine is. The engine's lock is held.
func (e *Engine) publishStatus() {
	v := e.m.View()
	status := uint32(0)
	if v.IsIdle {
		status |= statusIdle
	}
	if v.State == engine.Live || v.State == engine.Placing {
		status |= statusPlaced
		if v.State == engine.Live {
			status |= statusLive
		}
		if e.local != nil {
			status |= statusLocal
		}
	}
	if v.IsTakingOut {
		status |= statusTaking
	}
	if e.status.Swap(status) != status && v.IsIdle && e.local != nil && e.host.scheduler.isStarved.Load() {
		e.work.assign = true
	}
	if !e.listed && !v.IsResting {
		e.listed = true
		e.host.watch(e)
	}
}

func (w *work) do(h *Host, mayRun bool) {
	if w.flush != nil {
		w.flush.Write()
		if w.flush != w.led {
			w.flush.HandOverReading()
		}
	}
	if w.room != nil {
		w.room.Unblock()
	}
	if w.assign {
		h.scheduler.assign()
	}
	if w.shed {
		h.shedKeys()
	}
	if w.run != nil {
		w.run.start(mayRun)
	}
}

// tick lets time pass. It returns whether more has to.
func (e *Engine) tick() bool {
	e.mu.Lock()
	e.m.WithdrawEach(e.now(), func(r *engine.Request) error {
		if r.Context != nil && r.Context.Err() != nil {
			return ended(r.Context, r.What)
		}
		return nil
	})
	e.perform()
	if e.window != nil {
		e.window.withdrawEnded()
	}
	e.m.Tick(e.now())
	e.perform()
	if e.m.View().IsResting {
		e.listed = false
	}
	again := e.listed
	e.unlockAndDeliver(false)
	return again
}

// flushTo has a worker's pipe written once the lock is free. The engine's lock is held.
func (e *Engine) flushTo(w *pool.Worker) {
	if old := e.work.flush; old != nil && old != w {
		old.Flush()
		old.HandOverReading()
	}
	e.work.flush = w
}

// granted takes a place in w, or in this process if w is nil. If w is gone already, it asks for another place.
func (e *Engine) granted(w *pool.Worker, p engine.Place, alone bool) {
	e.mu.Lock()
	defer e.unlockAndDeliver(false)
	waits := e.m.View().State == engine.Waiting
	switch {
	case w != nil && (!waits || !w.AddTenant((*tenant)(e), p.Placement)):
		w.RemoveTenant(p.Placement)
		e.work.room, e.work.assign = w, true
		if waits {
			e.host.scheduler.ask(e, alone)
		}
		return
	case !waits:
		e.host.scheduler.freeSlot(nil)
		e.work.assign = true
		return
	case w == nil:
		e.local = e.host.newLocal(e, p)
		if e.fallen = !e.host.options.InProcess; e.fallen {
			e.fellBack()
		}
	}
	e.at = w
	e.m.Grant(e.now(), p, alone)
	e.perform()
	if w == nil && e.m.View().Place == p && e.host.pool.IsAnyReady() {
		e.m.MoveWhenIdle(e.now())
		e.perform()
	}
}

// fellBack says that the engine goes on in this process. The engine's lock is held.
func (e *Engine) fellBack() {
	why := e.host.scheduler.whyNoWorker()
	e.host.counts.Fallbacks.Add(1)
	e.host.log.Warn("an engine goes on in this process", "engine", e.name, "error", why)
	e.reportError(why)
}

// enqueue hands a request to the machine. The engine's lock is held.
func (e *Engine) enqueue(r *engine.Request) {
	e.used.Store(int64(e.now()))
	e.m.Dispatch(e.now(), r)
	e.perform()
}

// withdraw ends a request whose context has ended, if it still can be.
func (e *Engine) withdraw(f *Future, ctx context.Context) {
	e.mu.Lock()
	if !e.withdrawMember(f, ctx) {
		e.m.Withdraw(e.now(), &f.request, ended(ctx, f.request.What))
		e.perform()
		e.withdrawDigest(f, ctx)
	}
	e.unlockAndDeliver(false)
}

// withdrawDigest ends the question behind an action whose context has ended. The engine's lock is held.
func (e *Engine) withdrawDigest(f *Future, ctx context.Context) {
	if f.behind != nil {
		e.m.Withdraw(e.now(), &f.behind.request, ended(ctx, f.request.What))
		e.perform()
	}
}

// await waits for the truth about a request. If ctx ends, it withdraws the request first.
func (e *Engine) await(ctx context.Context, f *Future) (Result, error) {
	if r, err, ok := f.Result(); ok {
		return r, err
	}
	f.wait(ctx)
	r, err, ok := f.Result()
	if !ok {
		e.withdraw(f, ctx)
		<-f.Done()
		r, err, _ = f.Result()
	}
	return r, err
}

// discharge gives back what a request took of the queue. The engine's lock is held.
func (e *Engine) discharge(f *Future) {
	if f.isCharged {
		f.isCharged = false
		e.host.queue.give(f.size)
	}
}

// placeName names a place for logs.
func placeName(p engine.Place) string {
	if p.IsLocal() {
		return "this process"
	}
	return fmt.Sprintf("worker %d", p.Worker)
}
