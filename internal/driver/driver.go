package driver

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/events"
	"hypertoken/internal/fault"
	"hypertoken/internal/inproc"
	"hypertoken/internal/pool"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// Driver runs an engine: it has the lock and the machine of the engine, tells the machine events,
// and carries its effects out.
type Driver struct {
	engines *Engines
	name    string
	number  uint64 // counts a host's engines
	meter   meter
	timeout time.Duration

	listeners events.Listeners[Event]
	closed    chan struct{} // closed with the engine
	lostTo    error         // why it closed itself: another owner has its journal; set before closed is closed
	isOpen    bool          // Open has returned it; Engines.mu guards it
	isPast    bool          // it reads a state of the past: nobody's live engine, and nothing of it is stored

	// status is what others may know without the lock: bits of statusPlaced and the like.
	status atomic.Uint32
	// used is when the engine was last dispatched to, on the host's clock.
	used atomic.Int64
	// heldUntil is until when it is held back, on the host's clock; 0 if it never was.
	heldUntil atomic.Int64

	// mu guards what follows. Its holder calls an event method of the machine, then performLocked, and
	// then unlockAndDeliver. Locks are taken in the order engine, scheduler, pool, worker, and never
	// those of two engines.
	mu    sync.Mutex
	m     engine.Machine
	owner journal.Owner
	keys  engine.Keys[*Call]
	// marker is the newest base, without its data and its keys, if that is a marker; nil otherwise.
	marker    *journal.Base
	gathering gathering
	at        *pool.Worker  // the worker of its place; nil if it has none, or is in this process
	local     *inproc.Place // its place in this process; nil if it has none
	isWatched bool          // the tick looks after it
	// isOpening says that Open has not returned.
	isOpening bool
	work      work
	// appendCall and installCall are the calls of the store whose end counts, loadCall that of the
	// last load.
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
	run    *inproc.Place
}

// Name returns the engine's name.
func (e *Driver) Name() string { return e.name }

// Place returns where the engine is at this moment.
func (e *Driver) Place() Place {
	switch status := e.status.Load(); {
	case status&statusPlaced == 0:
		return Out
	case status&statusLive == 0:
		return Placing
	case status&statusLocal != 0:
		return InProcess
	}
	return OnWorker
}

// now returns the time on the host's clock.
func (e *Driver) now() time.Duration { return e.engines.clock.Now() }

// performLocked carries out what the machine has asked for. The engine's lock is held.
func (e *Driver) performLocked() { e.m.Perform((*performer)(e)) }

// step has the machine take in one event. The engine's lock is free before and after.
func (e *Driver) step(event func(m *engine.Machine, now time.Duration)) {
	e.mu.Lock()
	event(&e.m, e.now())
	e.performLocked()
	e.unlockAndDeliver(false)
}

// takeFrameLocked has the machine take in a frame that came from a place. It returns for how long
// the place ran, if the frame is an answer that says so. The engine's lock is held.
func (e *Driver) takeFrameLocked(p engine.Place, kind ipc.Kind, flags ipc.Flags, id uint64, body []byte,
	seen time.Duration) (ran time.Duration) {
	switch kind {
	case ipc.Chunk:
		e.m.Chunk(e.now(), p, id, body)
	case ipc.Dropped:
		e.m.Dropped(e.now(), p, id)
	default:
		ran = e.m.Answer(e.now(), engine.Answer{Place: p, ID: id, Flags: flags, Body: body, Seen: seen})
	}
	e.performLocked()
	return ran
}

// stop ends the engine at once.
func (e *Driver) stop() {
	e.step(func(m *engine.Machine, now time.Duration) { m.Stop(now, fault.Shutdown()) })
}

// placeLost takes in that the engine's worker has ended. d is nil if the worker did not die by
// itself.
func (e *Driver) placeLost(p engine.Place, d *engine.Death) {
	e.mu.Lock()
	if v := e.m.View(); v.Place == p && v.HasWork {
		e.meter.lostAt = e.engines.stamp()
	}
	e.m.PlaceLost(e.now(), p, d)
	e.performLocked()
	e.unlockAndDeliver(false)
}

// unlockAndDeliver takes in what was posted, tells the others how the engine is, releases the
// engine's lock, and does what waited for that: it writes to pipes, assigns places, and starts what
// runs in this process. mayRun says that this goroutine may run the engine's actions. If more was
// posted meanwhile, it locks the engine again for that.
func (e *Driver) unlockAndDeliver(mayRun bool) {
	for {
		e.mail.handleAll()
		e.publishStatusLocked()
		w := e.work
		e.work = work{}
		e.mu.Unlock()
		w.carryOut(e.engines, mayRun)
		if !e.mail.isFull.Load() || !e.mu.TryLock() {
			return
		}
	}
}

// publishStatusLocked tells the others how the engine is. The engine's lock is held.
func (e *Driver) publishStatusLocked() {
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
	if e.status.Swap(status) != status && v.IsIdle && e.local != nil && e.engines.scheduler.IsStarved() {
		e.work.assign = true
	}
	if !e.isWatched && !v.IsResting {
		e.isWatched = true
		e.engines.watch(e)
	}
}

// carryOut does what waited for the engine's lock to be free.
func (w *work) carryOut(h *Engines, mayRun bool) {
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
		h.scheduler.Assign()
	}
	if w.shed {
		h.shedKeys()
	}
	if w.run != nil {
		w.run.Start(mayRun)
	}
}

// tick lets time pass. It reports whether more has to.
func (e *Driver) tick() bool {
	e.mu.Lock()
	e.m.WithdrawEach(e.now(), func(r *engine.Request) error {
		if r.Context != nil && r.Context.Err() != nil {
			return fault.Ended(r.Context, r.What)
		}
		return nil
	})
	e.performLocked()
	e.gathering.withdrawEnded()
	e.m.EachOverdue(e.now(), e.endWaitLocked)
	e.m.Tick(e.now())
	e.performLocked()
	if e.m.View().IsResting {
		e.isWatched = false
	}
	isWatched := e.isWatched
	e.unlockAndDeliver(false)
	return isWatched
}

// flushToLocked has a worker's pipe written once the lock is free. The engine's lock is held.
func (e *Driver) flushToLocked(w *pool.Worker) {
	if old := e.work.flush; old != nil && old != w {
		old.Flush()
		old.HandOverReading()
	}
	e.work.flush = w
}

// grantPlace takes a place in w, or in this process if w is nil. If w is gone already, it asks for
// another place.
func grantPlace(e *Driver, w *pool.Worker, p engine.Place, alone bool) {
	e.mu.Lock()
	defer e.unlockAndDeliver(false)
	waits := e.m.View().State == engine.Waiting
	switch {
	case w != nil && (!waits || !w.AddTenant((*tenant)(e), p.Placement)):
		w.RemoveTenant(p.Placement)
		e.work.room, e.work.assign = w, true
		if waits {
			e.engines.scheduler.Ask((*applicant)(e), alone)
		}
		return
	case !waits:
		e.engines.scheduler.FreeSlot(p.Placement)
		e.work.assign = true
		return
	case w == nil:
		e.local = newResident(e, p.Placement)
		if e.meter.isFallen = !e.engines.config.Rules.InProcess && !e.isPast; e.meter.isFallen {
			sayFellBackLocked(e)
		}
	}
	e.at = w
	e.m.Grant(e.now(), p, alone)
	e.performLocked()
	if w == nil && e.m.View().Place == p && e.engines.pool.IsAnyReady() {
		e.m.MoveWhenIdle(e.now())
		e.performLocked()
	}
}

// sayFellBackLocked says that the engine goes on in this process. The engine's lock is held.
func sayFellBackLocked(e *Driver) {
	why := e.engines.scheduler.WhyNoWorker()
	e.engines.counts.Fallbacks.Add(1)
	e.engines.log.Warn("an engine goes on in this process", "engine", e.name, "error", why)
	e.reportError(why)
}

// takeOut frees the engine's instance, if the engine is idle.
func takeOut(e *Driver) { e.step((*engine.Machine).TakeOut) }

// enqueueLocked hands a request to the machine. The engine's lock is held.
func (e *Driver) enqueueLocked(r *engine.Request) {
	e.used.Store(int64(e.now()))
	e.m.Dispatch(e.now(), r)
	e.performLocked()
}

// placeName names a place for logs.
func placeName(p engine.Place) string {
	if p.IsLocal() {
		return "this process"
	}
	return fmt.Sprintf("worker %d", p.Worker)
}
