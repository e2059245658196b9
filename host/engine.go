package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/fast"
	"hypertoken/ipc"
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

	// mu guards what follows. Its holder steps the machine, does what that asks for, and calls unlock. Whoever holds it
	// takes the host's lock or a worker's after it, never another engine's.
	mu     sync.Mutex
	m      engineMachine
	owner  Owner
	keys   keyTable
	window *window
	local  *local // its place, where that is this process
	listed bool   // the host's tick knows it
	// fallen says that its last place was this process, for want of a worker. lostAt is when it lost a worker that it had something
	// to do for, on the clock of measurements, until it is placed again.
	fallen bool
	lostAt time.Duration
	// opening says that Open has not returned.
	opening bool
	work    work
	read    []posted // memory for the inbox
	// appendCall and installCall are the calls of the store whose end counts, loadCall that of the last load.
	calls, appendCall, installCall, loadCall uint64

	// What happens while the lock may be held by the same goroutine, such as a store that answers at once, is posted.
	inboxMu sync.Mutex // guards inbox
	inbox   []posted
	mail    atomic.Bool
}

// posted is an event for the machine; call is the store's call that it ends, or 0.
type posted struct {
	event engineEvent
	call  uint64
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
	flush  *worker
	led    *worker // whose answers this goroutine is about to read
	room   *worker
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

// Place returns where the engine is at this moment: "worker", "in_process", "placing", or "out" where it has no instance.
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

// step takes an event in. The lock is held.
func (e *Engine) step(ev engineEvent) {
	e.at(ev)
	e.effects()
}

// at steps the machine only: it is in the middle of effects.
func (e *Engine) at(ev engineEvent) {
	ev.now = e.host.clock.now()
	e.m.step(ev)
}

// effects does what the machine has asked for.
func (e *Engine) effects() {
	for k := 0; k < len(e.m.effects); k++ {
		e.do(&e.m.effects[k])
	}
	clear(e.m.effects)
	e.m.effects = e.m.effects[:0]
}

// lockStep takes an event in. The lock is free before and after.
func (e *Engine) lockStep(ev engineEvent) {
	e.mu.Lock()
	e.step(ev)
	e.unlock(false)
}

// lost takes in that the engine's worker has ended.
func (e *Engine) lost(ev engineEvent) {
	e.mu.Lock()
	if e.m.place == ev.place && (e.m.sent.len() > 0 || e.m.queued.len() > 0) {
		e.lostAt = e.host.stamp()
	}
	e.step(ev)
	e.unlock(false)
}

// post hands an event over without taking the lock, which its holder may be the one to call.
func (e *Engine) post(ev engineEvent, call uint64) {
	e.inboxMu.Lock()
	e.inbox = append(e.inbox, posted{ev, call})
	e.mail.Store(true)
	e.inboxMu.Unlock()
	if e.mu.TryLock() {
		e.unlock(false)
	}
}

// takeMail steps what was posted.
func (e *Engine) takeMail() {
	for e.mail.Load() {
		e.inboxMu.Lock()
		list := e.inbox
		e.inbox, e.read = e.read[:0], nil
		e.mail.Store(false)
		e.inboxMu.Unlock()
		for k := range list {
			p := &list[k]
			switch p.event.kind {
			case evLoaded:
				if p.call != e.loadCall {
					continue
				}
				if s := p.event.stored; s != nil {
					p.event.foreign = s.Owner.Host != e.owner.Host
					e.keys.load(s)
					e.work.shed = e.work.shed || e.host.keyBytes.Load() > e.host.options.MaxKeyBytes
				}
			case evAppended:
				if p.call != e.appendCall {
					continue
				}
				if p.event.err == nil {
					e.appended()
				}
			case evInstalled:
				if p.call != e.installCall {
					continue
				}
				if p.event.err == nil {
					e.installed()
				}
			}
			e.step(p.event)
		}
		clear(list)
		e.read = list[:0]
	}
}

// unlock frees the engine and does what waited for that. inline says that this goroutine may run the engine's actions.
func (e *Engine) unlock(inline bool) {
	for {
		e.takeMail()
		e.settle()
		w := e.work
		e.work = work{}
		e.mu.Unlock()
		w.do(e.host, inline)
		if !e.mail.Load() || !e.mu.TryLock() {
			return
		}
	}
}

// settle tells the others how the engine is.
func (e *Engine) settle() {
	status := uint32(0)
	idle := e.m.idle()
	if idle {
		status |= statusIdle
	}
	if e.m.state == engineLive || e.m.state == enginePlacing {
		status |= statusPlaced
		if e.m.state == engineLive {
			status |= statusLive
		}
		if e.local != nil {
			status |= statusLocal
		}
	}
	if e.m.taking {
		status |= statusTaking
	}
	if e.status.Swap(status) != status && idle && e.local != nil && e.host.starved.Load() {
		e.work.assign = true
	}
	if !e.listed && !e.resting() {
		e.listed = true
		e.host.watch(e)
	}
}

// resting reports whether no time has to pass for the engine.
func (e *Engine) resting() bool {
	return e.m.idle() && e.m.state != engineLoading && e.m.state != enginePlacing && e.m.snapshot == nil
}

func (w *work) do(h *Host, inline bool) {
	if w.flush != nil {
		if h.off.Has(fast.Gather) {
			w.flush.conn.Flush()
		} else {
			w.flush.conn.Push()
		}
		if w.flush != w.led {
			w.flush.rest()
		}
	}
	if w.room != nil {
		w.room.unblock()
	}
	if w.assign {
		h.assign()
	}
	if w.shed {
		h.shedKeys()
	}
	if w.run != nil {
		w.run.start(inline)
	}
}

// tick lets time pass. It returns whether more has to.
func (e *Engine) tick() bool {
	e.mu.Lock()
	e.withdrawEnded()
	e.step(engineEvent{kind: evTick})
	if e.resting() {
		e.listed = false
	}
	again := e.listed
	e.unlock(false)
	return again
}

// withdrawEnded withdraws the requests whose context has ended.
func (e *Engine) withdrawEnded() {
	for again := true; again; {
		again = false
		for _, q := range []*fifo[*request]{&e.m.queued, &e.m.sent, &e.m.answered} {
			for _, r := range q.all() {
				if r.ctx != nil && !r.withdrawn && r.ctx.Err() != nil {
					e.step(engineEvent{kind: evWithdraw, req: r, err: ended(r.ctx, r.what)})
					again = true
					break
				}
			}
		}
	}
	if e.window != nil {
		e.window.withdrawEnded()
	}
}

// do does one thing that the machine asks for.
func (e *Engine) do(f *engineEffect) {
	h, w := e.host, f.place.worker
	switch f.kind {
	case effSend:
		e.send(f)
	case effRecall:
		switch {
		case w != nil:
			w.conn.Tell(ipc.Recall, f.id, 0)
			e.flushTo(w)
		case e.local != nil && e.local.recall(f.id):
			e.post(engineEvent{kind: evDropped, place: f.place, id: f.id}, 0)
			e.post(engineEvent{kind: evRoom}, 0)
		}
	case effAbandon:
		switch {
		case w != nil:
			w.conn.Tell(ipc.Close, 0, f.place.id)
			e.flushTo(w)
			e.left(w, f.place)
		case !e.leftHere(f.place):
			h.freeSlot(nil)
			e.work.assign = true
		}
	case effLost:
		if w != nil {
			e.left(w, f.place)
		} else {
			e.leftHere(f.place)
		}
	case effRelease:
		if w != nil {
			w.release(f.place.id)
			e.work.room = w
		}
		e.work.assign = true
	case effOverdue:
		if w != nil && w.condemn(f.id) {
			return
		}
		if w != nil {
			w.conn.Tell(ipc.Close, 0, f.place.id)
			e.flushTo(w)
		}
		e.post(engineEvent{kind: evLost, place: f.place}, 0)
	case effViolation:
		w.violated(f.err)
	case effAsk:
		h.ask(e, f.alone)
		e.work.assign = true
	case effUnask:
		h.unask(e)
		e.work.assign = true
	case effLoad:
		if f.alone {
			e.owner.Number = h.owners.Add(1)
		}
		e.calls++
		call := e.calls
		e.loadCall = call
		h.options.Store.Load(e.name, e.owner, func(s *Stored, err error) {
			e.post(engineEvent{kind: evLoaded, stored: s, err: err}, call)
		})
	case effAppend:
		e.calls++
		e.appendCall = e.calls
		h.options.Store.Append(e.name, e.owner, f.id, e.m.records, Done{e, e.calls << 1})
	case effInstall:
		e.calls++
		e.installCall = e.calls
		h.log.Debug("snapshot taken", "engine", e.name, "sequence", f.id, "bytes", len(f.req.data))
		base := Base{Sequence: f.id, Snapshot: true, Data: f.req.data, Core: h.hash}
		base.Keys, base.KeyNumber = e.keys.upTo(f.id)
		h.options.Store.Install(e.name, e.owner, base, Done{e, e.calls<<1 | 1})
	case effResolve:
		if f.req.to != nil {
			f.req.to.complete(f.req, f.err)
		} else if f.err != nil && !errors.Is(f.err, ErrShutdown) {
			h.log.Warn("no snapshot could be stored", "engine", e.name, "error", f.err)
		}
	case effPlaced:
		h.counts.placed.Add(1)
		e.placed(f.place, f.id)
		if h.debug {
			h.log.Debug("engine placed", "engine", e.name, "at", f.place.String(), "sequence", e.m.sequence)
		}
	case effBroken:
		if !e.opening { // who opens it is told
			h.log.Error("an engine is broken", "engine", e.name, "error", f.err)
		}
		e.failed(f.err)
	case effHeld:
		h.counts.holds.Add(1)
		e.heldUntil.Store(int64(e.m.hold.until))
		h.log.Warn("an engine is held back: workers are killed for its actions", "engine", e.name, "kills", e.m.hold.kills, "for", e.m.hold.length)
		e.failed(f.err)
	case effClosed:
		e.heldUntil.Store(0)
		e.keys.clear()
		h.forget(e)
		e.emit(Event{Name: EventShutdown})
		e.listeners.end()
		close(e.closed)
	}
}

// left takes the engine off a worker.
func (e *Engine) left(w *worker, p place) {
	w.left(p.id)
	e.work.room, e.work.assign = w, true
}

// leftHere frees the engine's place in this process; false where it does not have that one.
func (e *Engine) leftHere(p place) bool {
	if e.local == nil || e.local.place != p {
		return false
	}
	e.local.close()
	e.local = nil
	return true
}

// stored is told how a call of the store ended.
func (e *Engine) stored(id uint64, err error) {
	kind := evAppended
	if id&1 == 1 {
		kind = evInstalled
	}
	e.post(engineEvent{kind: kind, err: err}, id>>1)
}

// send sends a request, or the next piece of a placing.
func (e *Engine) send(f *engineEffect) {
	if f.place != e.m.place {
		return
	}
	kind, flags, body := ipc.Kind(0), ipc.Flags(0), []byte(nil)
	if f.req == nil {
		if e.m.state != enginePlacing || e.m.cursor.stage == 0 {
			return
		}
		kind, body = e.m.piece(nil)
	} else {
		if e.m.queued.len() == 0 || e.m.queued.all()[0] != f.req {
			return
		}
		kind, flags, body = f.req.kind, f.req.flags, f.req.body
	}
	id, ok := uint64(0), false
	if w := f.place.worker; w != nil {
		if id, ok = w.send(e, kind, flags, f.place.id, body); ok {
			if f.req != nil {
				f.req.at.Store(w)
				e.sent(f.req)
			}
			e.flushTo(w)
		}
	} else if e.local != nil {
		if id, ok = e.local.put(kind, flags, body); ok {
			e.work.run = e.local
			if f.req != nil {
				if f.req.at.Load() != nil {
					f.req.at.Store(nil)
				}
				e.sent(f.req)
			}
		}
	}
	if ok {
		e.at(engineEvent{kind: evSent, id: id})
	} else {
		e.at(engineEvent{kind: evFull})
	}
}

// flushTo has a worker's pipe written once the lock is free.
func (e *Engine) flushTo(w *worker) {
	if old := e.work.flush; old != nil && old != w {
		old.conn.Flush()
		old.rest()
	}
	e.work.flush = w
}

// granted takes a place, or asks for another one where it is gone already.
func (e *Engine) granted(p place, alone bool) {
	e.mu.Lock()
	defer e.unlock(false)
	waits := e.m.state == engineWaiting
	if p.worker != nil && !p.worker.add(e, p.id) {
		if waits {
			e.host.ask(e, alone)
		}
		return
	}
	if p.worker == nil && waits {
		e.local = e.host.newLocal(e, p)
		if e.fallen = !e.host.options.InProcess; e.fallen {
			e.fellBack()
		}
	}
	e.step(engineEvent{kind: evPlace, place: p, alone: alone})
	if p.worker == nil && e.m.place == p && e.host.workerIsBack() {
		e.step(engineEvent{kind: evMove, later: true})
	}
}

// fellBack says that the engine goes on in this process.
func (e *Engine) fellBack() {
	why := e.host.whyNoWorker()
	e.host.counts.fallbacks.Add(1)
	e.host.log.Warn("an engine goes on in this process", "engine", e.name, "error", why)
	e.failed(why)
}

// enqueue hands a request to the machine, unless the engine is at its end.
func (e *Engine) enqueue(r *request) {
	e.used.Store(int64(e.host.clock.now()))
	e.step(engineEvent{kind: evDispatch, req: r})
}

// withdraw ends a request whose context has ended, if it still can be.
func (e *Engine) withdraw(f *Future, ctx context.Context) {
	e.mu.Lock()
	if !e.withdrawMember(f, ctx) {
		e.step(engineEvent{kind: evWithdraw, req: &f.request, err: ended(ctx, f.what)})
		e.withdrawDigest(f, ctx)
	}
	e.unlock(false)
}

// withdrawDigest ends the question behind an action whose context has ended.
func (e *Engine) withdrawDigest(f *Future, ctx context.Context) {
	if f.behind != nil {
		e.step(engineEvent{kind: evWithdraw, req: &f.behind.request, err: ended(ctx, f.what)})
	}
}

// await waits for the truth about a request; where ctx ends, it withdraws it first.
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

// discharge gives back what a request took of the queue.
func (e *Engine) discharge(f *Future) {
	if f.charged {
		f.charged = false
		e.host.queue.give(f.size)
	}
}

// String names a place for logs.
func (p place) String() string {
	if p.worker == nil {
		return "this process"
	}
	return fmt.Sprintf("worker %d", p.worker.id)
}
