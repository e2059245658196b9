package host

import (
	"fmt"
	"hypertoken/internal/engine"
	"hypertoken/internal/fifo"
	"time"
)

// scheduler places engines. The host's lock guards it.
type scheduler struct {
	slots      []*slot
	spares     []*slot // idle, until one replaces a worker
	workerIDs  int
	placements uint64
	asks       fifo.Queue[*ask]
	freed      []*worker // reservations that were given back: who waits there may send again
	assigning  bool      // somebody goes through asks
	again      bool      // and has to once more
	slotsFree  int       // instances that may still be made in this process
	cores      int       // how many workers run at the same time
	residents  map[*local]struct{}
	sampledAt  time.Duration
	jitter     func() float64
}

// ask is an engine that wants a place.
type ask struct {
	engine *Engine
	alone  bool
	// worker and placement are what is reserved for it, until nothing else runs there.
	worker    *worker
	placement uint64
	// noneSince is since when no worker can run, 0 where one can.
	noneSince time.Duration
	// toldUnable says that the engine knows that no worker can run, and that it has to wait for one.
	toldUnable bool
	// victim is the engine that is taken out for it.
	victim *Engine
}

// grant is what assign does next for an engine: it gives it a place, or says why there is none.
type grant struct {
	engine *Engine
	tell   func(*Engine)
	// isAnswer says that the engine does not ask any more.
	isAnswer bool
}

// placeGrant gives an engine a place in w, or in this process if w is nil.
func placeGrant(e *Engine, w *worker, placement uint64, alone bool) grant {
	p := engine.Place{Placement: placement}
	if w != nil {
		p.Worker = w.id
	}
	return grant{engine: e, isAnswer: true, tell: func(e *Engine) { e.granted(w, p, alone) }}
}

// ask takes note that an engine wants a place. Its lock is held.
func (h *Host) ask(e *Engine, alone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asks.Push(&ask{engine: e, alone: alone})
}

// unask takes that back.
func (h *Host) unask(e *Engine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, a := range h.asks.All() {
		if a.engine == e {
			h.giveBack(a)
			h.asks.Remove(k)
			return
		}
	}
}

// giveBack ends a reservation. assign lets those send that waited for it. The lock is held.
func (h *Host) giveBack(a *ask) {
	if a.worker != nil {
		a.worker.release(a.placement)
		h.freed = append(h.freed, a.worker)
		a.worker = nil
	}
}

// assign gives places to those that can have one. No engine's lock is held.
func (h *Host) assign() {
	h.mu.Lock()
	if h.assigning {
		h.again = true
		h.mu.Unlock()
		return
	}
	h.assigning = true
	for {
		g, ok := h.next()
		freed := h.freed
		h.freed = nil
		if !ok && !h.again && len(freed) == 0 {
			break
		}
		h.again = false
		h.mu.Unlock()
		for _, w := range freed {
			w.unblock()
		}
		if !ok {
			h.mu.Lock()
			continue
		}
		g.tell(g.engine)
		h.mu.Lock()
	}
	h.assigning = false
	h.mu.Unlock()
}

// next returns what can be done now.
func (h *Host) next() (grant, bool) {
	if h.asks.Len() == 0 {
		return grant{}, false
	}
	ready, able, reserved := h.ready()
	for k, a := range h.asks.All() {
		var g grant
		var ok bool
		if a.alone && !h.options.InProcess {
			before := a.worker
			if g, ok = h.forSuspect(a, ready, able, reserved); !ok && a.worker != before {
				ready, able, reserved = h.ready()
			}
		} else if w := leastLoaded(h.mayTake(ready)); w != nil {
			g, ok = placeGrant(a.engine, w, h.placement(), false), true
		} else if !able && h.options.NoFallback {
			if !a.toldUnable {
				a.toldUnable = true
				g, ok = grant{engine: a.engine, tell: (*Engine).sayNoWorker}, true
			}
		} else if !able {
			g, ok = h.forLocal(a)
		}
		if !ok {
			continue
		}
		if g.isAnswer {
			h.asks.Remove(k)
		}
		return g, true
	}
	return grant{}, false
}

// forsake fails the engine's suspects: no worker can run them.
func (e *Engine) forsake() { e.step((*engine.Machine).Forsake) }

// takeOut frees the engine's instance, if the engine is idle.
func (e *Engine) takeOut() { e.step((*engine.Machine).TakeOut) }

// sayNoWorker tells the engine that it has to wait for a worker, and why there is none.
func (e *Engine) sayNoWorker() {
	why := e.host.whyNoWorker()
	e.step(func(m *engine.Machine, now time.Duration) { m.NoWorker(now, why) })
}

// candidate is a worker that runs requests.
type candidate struct {
	*worker
	pending, engines int
	laden            bool
}

// ready returns the workers that take engines, whether any worker runs or soon will, and the one that is reserved.
func (h *Host) ready() (list []candidate, able bool, reserved *worker) {
	for _, s := range h.slots {
		switch s.supervisor.state {
		case workerStarting, workerBackoff:
			able = true
		case workerReady:
			w := s.worker
			w.mu.Lock()
			dead, r := w.dead || w.ending, w.reserved != 0
			c := candidate{w, w.conn.Pending(), len(w.engines), w.laden(h.clock.now())}
			w.mu.Unlock()
			able = true
			if r && !dead {
				reserved = w
			} else if !dead {
				list = append(list, c)
			}
		}
	}
	return list, able, reserved
}

// mayTake returns the workers that take engines: no more than there are cores, since processes that take turns on a core lose
// more than they gain. Those that have some come first. One that is laden leaves its place to the next.
func (h *Host) mayTake(ready []candidate) []candidate {
	var list []candidate
	for _, having := range []bool{true, false} {
		for _, c := range ready {
			if !c.laden && c.engines > 0 == having && len(list) < h.cores {
				list = append(list, c)
			}
		}
	}
	if len(list) == 0 {
		return ready
	}
	return list
}

// laden reports whether a worker runs a long action, or has half of the memory it may have. Its lock is held.
func (w *worker) laden(now time.Duration) bool {
	o := &w.host.options
	return w.resident > uint64(o.MaxWorkerMemory)/2 || (w.oldest != 0 && now-w.since >= o.BusyAfter && w.conn.Oldest() == w.oldest)
}

func leastLoaded(list []candidate) *worker {
	if len(list) == 0 {
		return nil
	}
	best := list[0]
	for _, c := range list[1:] {
		if c.pending < best.pending || (c.pending == best.pending && c.engines < best.engines) {
			best = c
		}
	}
	return best.worker
}

// forSuspect finds a worker where nothing else runs: one suspect at a time. Where all are busy, one is reserved, and
// granted once it has nothing more to do.
func (h *Host) forSuspect(a *ask, ready []candidate, able bool, reserved *worker) (g grant, ok bool) {
	if a.worker != nil && a.worker != reserved {
		a.worker = nil // it died
	}
	if reserved != nil && a.worker == nil {
		return g, false
	}
	w := a.worker
	if w == nil || w.conn.Pending() > 0 {
		if best := leastLoaded(ready); best != nil && (w == nil || best.conn.Pending() == 0) {
			h.giveBack(a)
			w = best
			a.worker, a.placement = w, h.placement()
			w.reserve(a.placement)
		}
	}
	switch {
	case w == nil && able:
		a.noneSince = 0
	case w == nil:
		now := h.clock.now()
		if a.noneSince == 0 {
			a.noneSince = max(now, 1)
			h.probe()
		}
		if now-a.noneSince >= h.options.SuspectWait {
			return grant{engine: a.engine, tell: (*Engine).forsake, isAnswer: true}, true
		}
	case w.conn.Pending() == 0:
		w.grantAlone(a.placement)
		return placeGrant(a.engine, w, a.placement, true), true
	}
	return g, false
}

// placement returns the ID of a new placement.
func (h *Host) placement() uint64 {
	h.placements++
	return h.placements
}

// probe tries now to bring a worker back that was given up: a suspect needs one, and what it does to it does not count.
func (h *Host) probe() {
	for _, s := range h.slots {
		if s.supervisor.state == workerGivenUp {
			h.supervise(s, supervisorEvent{kind: svProbe})
			return
		}
	}
}

// forLocal finds a place in this process, and takes the engine out for it that was idle longest.
func (h *Host) forLocal(a *ask) (g grant, ok bool) {
	if h.slotsFree > 0 {
		h.slotsFree--
		return placeGrant(a.engine, nil, h.placement(), false), true
	}
	if a.victim != nil && a.victim.status.Load()&statusTaking != 0 {
		return g, false
	}
	a.victim = nil
	const wanted = statusLive | statusIdle | statusLocal
	for l := range h.residents {
		if e := l.engine; e.status.Load()&(wanted|statusTaking) == wanted && (a.victim == nil || e.idler(a.victim)) {
			a.victim = e
		}
	}
	h.starved.Store(true)
	if a.victim == nil {
		return g, false
	}
	return grant{engine: a.victim, tell: (*Engine).takeOut}, true
}

// idler reports whether an engine was idle longer than another.
func (e *Engine) idler(other *Engine) bool {
	mine, others := e.used.Load(), other.used.Load()
	return mine < others || (mine == others && e.number < other.number)
}

// freeSlot gives the right to an instance in this process back.
func (h *Host) freeSlot(l *local) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slotsFree++
	delete(h.residents, l)
	h.starved.Store(h.asks.Len() > 0)
}

func (h *Host) settleIn(l *local) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.residents == nil {
		h.residents = map[*local]struct{}{}
	}
	h.residents[l] = struct{}{}
}

// reserve lets nobody else send here.
func (w *worker) reserve(placement uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reserved, w.alone = placement, false
}

func (w *worker) grantAlone(placement uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reserved == placement {
		w.alone = true
	}
}

// idleWorker lets a suspect have a worker that has nothing more to do.
func (h *Host) idleWorker(w *worker) {
	w.mu.Lock()
	waiting := w.reserved != 0 && !w.alone
	w.mu.Unlock()
	if waiting && w.conn.Pending() == 0 {
		h.assign()
	}
}

// whyNoWorker says why engines run in this process, or wait.
func (h *Host) whyNoWorker() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	message := "no worker can run, the engine goes on in this process until one can"
	if h.options.NoFallback {
		message = "no worker can run, and the engine must not run in this process (NoFallback)"
	}
	for _, s := range h.slots {
		if s.cause != nil {
			return &Error{Code: ErrWorkerUnavailable.Code, Err: s.cause, Message: fmt.Sprintf("%s: %v", message, s.cause)}
		}
	}
	return &Error{Code: ErrWorkerUnavailable.Code, Message: message}
}

const (
	sampleEvery = time.Second
	stallEvery  = 100 * time.Millisecond
)

// tickWorkers looks after the workers.
func (h *Host) tickWorkers(now time.Duration) (busy bool) {
	h.mu.Lock()
	var list, spares []*worker
	starting := false
	for _, s := range h.slots {
		h.supervise(s, supervisorEvent{kind: svTick})
		if s.supervisor.state == workerReady {
			list = append(list, s.worker)
		}
		starting = starting || s.supervisor.state == workerStarting
		busy = busy || s.supervisor.waits(now)
	}
	for _, s := range h.spares {
		if !starting || s.supervisor.state != workerBackoff { // the workers come first
			h.supervise(s, supervisorEvent{kind: svTick})
		}
		if s.supervisor.state == workerReady {
			spares = append(spares, s.worker)
		}
		busy = busy || s.supervisor.waits(now)
	}
	sample := now-h.sampledAt >= sampleEvery
	if sample {
		h.sampledAt = now
	}
	h.mu.Unlock()
	for _, w := range list {
		w.peek()
		oldest, ran := w.tick(now)
		busy = busy || oldest != 0
		if oldest != 0 && ran >= h.options.BusyAfter {
			h.relieve(w, oldest, list)
		}
		if oldest != 0 && ran >= stallEvery {
			w.watchCPU(now)
		}
		if sample {
			h.sampleMemory(w)
		}
	}
	if sample {
		for _, w := range spares {
			h.sampleMemory(w)
		}
		h.takeIdleOut(now, list)
	}
	return busy
}

// relieve moves the engines that wait behind a long action, where another worker is free.
func (h *Host) relieve(w *worker, oldest uint64, list []*worker) {
	free := false
	for _, other := range list {
		if other != w && other.free() {
			free = true
		}
	}
	if !free {
		return
	}
	runs, _ := w.conn.Owner(oldest)
	var behind []*Engine
	w.mu.Lock()
	for placement, e := range w.engines {
		if placement != runs.placement && placement != w.reserved && e.status.Load()&statusIdle == 0 {
			behind = append(behind, e)
		}
	}
	w.mu.Unlock()
	for _, e := range byAge(behind) {
		e.mu.Lock()
		if e.at == w {
			e.m.Move(e.now())
			e.perform()
		}
		e.unlockAndDeliver(false)
	}
}

func (w *worker) free() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.dead && !w.ending && w.reserved == 0 && w.conn.Pending() == 0
}

// watchCPU kills a worker that owes an answer while its CPU time stands still and nothing comes from it. One that waits for
// room in a pipe, because this host is slow to read a stream, does run.
func (w *worker) watchCPU(now time.Duration) {
	w.mu.Lock()
	due, first, used := now-w.cpuAt >= stallEvery, w.cpuAt == 0, w.cpu
	w.mu.Unlock()
	if !first && !due {
		return
	}
	cpu, err := w.host.cpu(w.link.pid())
	if err != nil {
		return
	}
	heard := w.heard.Load()
	w.mu.Lock()
	if first || cpu != used || heard != w.heardThen {
		w.cpu, w.heardThen, w.cpuAt = cpu, heard, now
		w.mu.Unlock()
		return
	}
	stood := now - w.cpuAt
	w.mu.Unlock()
	if stood >= w.host.options.StallAfter {
		w.log.Warn("a worker owes an answer and does not run, and is killed", "for", stood.Round(time.Millisecond))
		w.end(stalled)
	}
}

// sampleMemory replaces a worker that takes too much, after it has let go what it can.
func (h *Host) sampleMemory(w *worker) {
	resident, err := h.memory(w.link.pid())
	if err != nil {
		return
	}
	w.mu.Lock()
	w.resident = resident
	var idle []*Engine
	limit := uint64(h.options.MaxWorkerMemory)
	if resident > limit/5*4 {
		for _, e := range w.engines {
			if e.rests() {
				idle = append(idle, e)
			}
		}
	}
	w.mu.Unlock()
	if resident > limit {
		w.log.Warn("a worker is over its memory and is replaced", "resident", resident, "limit", limit)
		w.end(hungry)
		return
	}
	takeOut(idle)
}

// rests reports whether an engine has an instance and nothing to do.
func (e *Engine) rests() bool {
	const wanted = statusIdle | statusLive
	return e.status.Load()&wanted == wanted
}

// takeOut takes idle engines out.
func takeOut(idle []*Engine) {
	for _, e := range byAge(idle) {
		e.takeOut()
	}
}

// takeIdleOut frees the instances of engines that nobody asked anything for long. It looks at those that have one: there may be
// any number of others.
func (h *Host) takeIdleOut(now time.Duration, workers []*worker) {
	after := h.options.IdleAfter
	if after < 0 {
		return
	}
	var idle []*Engine
	look := func(e *Engine) {
		if e.rests() && now-time.Duration(e.used.Load()) >= after {
			idle = append(idle, e)
		}
	}
	for _, w := range workers {
		w.mu.Lock()
		for _, e := range w.engines {
			look(e)
		}
		w.mu.Unlock()
	}
	h.mu.Lock()
	for l := range h.residents {
		look(l.engine)
	}
	h.mu.Unlock()
	takeOut(idle)
}
