package host

import (
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/fifo"
	"hypertoken/internal/placement"
	"hypertoken/internal/pool"
)

// scheduler gives engines their places. Engines ask, package placement decides, and the scheduler
// carries the decisions out.
type scheduler struct {
	host  *Host
	rules placement.Rules
	// isStarved says that an engine waits for a place in this process.
	isStarved atomic.Bool

	// mu guards what follows. It is taken behind an engine's lock, and before the pool's.
	mu         sync.Mutex
	placements uint64
	asks       fifo.Queue[*ask]
	freed      []*pool.Worker // reservations that were given back: engines that wait there may send again
	// isAssigning says that a goroutine goes through asks, mustAssignAgain that it has to once
	// more.
	isAssigning, mustAssignAgain bool
	slotsFree                    int // instances that may still be made in this process
	residents                    map[*local]struct{}
	sweptAt                      time.Duration // when residents that are idle were looked for
}

// ask is an engine that wants a place.
type ask struct {
	engine  *driver
	isAlone bool
	// worker is reserved for it, with placement; nil if none is.
	worker    *pool.Worker
	placement uint64
	// noneSince is since when no worker can run, 0 if one can.
	noneSince time.Duration
	// isToldUnable says that the engine knows that no worker can run, and that it has to wait for
	// one.
	isToldUnable bool
	// victim is the engine that is taken out for it.
	victim *driver
}

// grant is what assign does next for an engine: it gives it a place, or says why there is none.
type grant struct {
	engine *driver
	tell   func(*driver)
	// isAnswer says that the engine does not ask any more.
	isAnswer bool
}

// placeGrant gives an engine a place in w, or in this process if w is nil.
func placeGrant(e *driver, w *pool.Worker, placement uint64, alone bool) grant {
	p := engine.Place{Placement: placement}
	if w != nil {
		p.Worker = w.Number()
	}
	return grant{engine: e, isAnswer: true, tell: func(e *driver) { grantPlace(e, w, p, alone) }}
}

// ask takes note that an engine wants a place. The engine's lock is held.
func (s *scheduler) ask(e *driver, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks.Push(&ask{engine: e, isAlone: alone})
}

// takeAskBack says that an engine wants no place any more. The engine's lock is held.
func (s *scheduler) takeAskBack(e *driver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, a := range s.asks.All() {
		if a.engine == e {
			s.endReservationLocked(a)
			s.asks.Remove(k)
			return
		}
	}
}

// endReservationLocked ends a reservation. assign lets those send that waited for it. The
// scheduler's lock is held.
func (s *scheduler) endReservationLocked(a *ask) {
	if a.worker != nil {
		a.worker.EndReservation(a.placement)
		s.freed = append(s.freed, a.worker)
		a.worker = nil
	}
}

// assign gives places to the engines that can have one. No engine's lock is held.
func (s *scheduler) assign() {
	s.mu.Lock()
	if s.isAssigning {
		s.mustAssignAgain = true
		s.mu.Unlock()
		return
	}
	s.isAssigning = true
	for {
		g, ok := s.nextLocked()
		freed := s.freed
		s.freed = nil
		if !ok && !s.mustAssignAgain && len(freed) == 0 {
			break
		}
		s.mustAssignAgain = false
		s.mu.Unlock()
		for _, w := range freed {
			w.Unblock()
		}
		if ok {
			g.tell(g.engine)
		}
		s.mu.Lock()
	}
	s.isAssigning = false
	s.mu.Unlock()
}

// nextLocked returns what can be done now. The scheduler's lock is held.
func (s *scheduler) nextLocked() (grant, bool) {
	if s.asks.Len() == 0 {
		return grant{}, false
	}
	workers := s.host.pool.Snapshot()
	for k, a := range s.asks.All() {
		if g, ok := s.decideLocked(a, &workers); ok {
			if g.isAnswer {
				s.asks.Remove(k)
			}
			return g, true
		}
	}
	return grant{}, false
}

// decideLocked decides what can be done now for an engine. It reserves a worker, or has one tried,
// if that is decided; then it takes a new snapshot of the workers and decides again. The
// scheduler's lock is held.
func (s *scheduler) decideLocked(a *ask, workers *placement.Pool) (g grant, ok bool) {
	p := s.host.pool
	for ; ; *workers = p.Snapshot() {
		if a.worker != nil && a.worker.Number() != workers.Reserved.Number {
			a.worker = nil // it died
		}
		if workers.IsAble {
			a.noneSince = 0
		}
		now := s.host.clock.Now()
		d := placement.Decide(workers, &s.rules, a.wish(), now)
		switch d.Verdict {
		case placement.Wait:
			return g, false
		case placement.OnWorker:
			if w := p.Worker(d.Worker); w != nil {
				return placeGrant(a.engine, w, s.newPlacementLocked(), false), true
			}
		case placement.Alone:
			a.worker.GrantAlone(a.placement)
			return placeGrant(a.engine, a.worker, a.placement, true), true
		case placement.Reserve:
			s.endReservationLocked(a)
			if w := p.Worker(d.Worker); w != nil {
				a.worker, a.placement = w, s.newPlacementLocked()
				w.Reserve(a.placement)
			}
		case placement.InProcess:
			return s.placeHereLocked(a)
		case placement.NoWorker:
			isNews := !a.isToldUnable
			a.isToldUnable = true
			return grant{engine: a.engine, tell: sayNoWorker}, isNews
		case placement.Probe:
			a.noneSince = max(now, 1)
			p.Probe()
		case placement.Forsake:
			return grant{engine: a.engine, tell: forsake, isAnswer: true}, true
		}
	}
}

// wish returns what an engine asks for, for package placement.
func (a *ask) wish() placement.Ask {
	w := placement.Ask{IsAlone: a.isAlone, NoneSince: a.noneSince}
	if a.worker != nil {
		w.Reserved = a.worker.Number()
	}
	return w
}

// newPlacementLocked returns the ID of a new placement. The scheduler's lock is held.
func (s *scheduler) newPlacementLocked() uint64 {
	s.placements++
	return s.placements
}

// placeHereLocked finds a place in this process, and takes the engine out for it that was idle
// longest. The scheduler's lock is held.
func (s *scheduler) placeHereLocked(a *ask) (g grant, ok bool) {
	if s.slotsFree > 0 {
		s.slotsFree--
		return placeGrant(a.engine, nil, s.newPlacementLocked(), false), true
	}
	if a.victim != nil && a.victim.status.Load()&statusTaking != 0 {
		return g, false
	}
	a.victim = nil
	const wanted = statusLive | statusIdle | statusLocal
	for l := range s.residents {
		if e := l.engine; e.status.Load()&(wanted|statusTaking) == wanted &&
			(a.victim == nil || wasIdleLonger(e, a.victim)) {
			a.victim = e
		}
	}
	s.isStarved.Store(true)
	if a.victim == nil {
		return g, false
	}
	return grant{engine: a.victim, tell: takeOut}, true
}

// wasIdleLonger reports whether an engine was idle longer than another.
func wasIdleLonger(e *driver, other *driver) bool {
	mine, others := e.used.Load(), other.used.Load()
	return mine < others || (mine == others && e.number < other.number)
}

// freeSlot gives the right to an instance in this process back. l is the place that had it, nil if
// there was none.
func (s *scheduler) freeSlot(l *local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slotsFree++
	delete(s.residents, l)
	s.isStarved.Store(s.asks.Len() > 0)
}

// addResident takes note of an engine's place in this process.
func (s *scheduler) addResident(l *local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.residents == nil {
		s.residents = map[*local]struct{}{}
	}
	s.residents[l] = struct{}{}
}

// residentEngines returns the engines that have a place in this process, the oldest first.
func (s *scheduler) residentEngines() (list []*driver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.residents {
		list = append(list, l.engine)
	}
	return byAge(list)
}

// moveBack has the engines leave this process that run here for want of a worker.
func (s *scheduler) moveBack() {
	for _, e := range s.residentEngines() {
		e.step((*engine.Machine).MoveWhenIdle)
	}
}

// sweepEvery is how often engines in this process are looked at that have nothing to do.
const sweepEvery = time.Second

// takeIdleOut frees the instances in this process of engines that nobody has dispatched anything
// to for long.
func (s *scheduler) takeIdleOut(now time.Duration) {
	after := s.host.options.IdleAfter
	if after < 0 || now-s.sweptAt < sweepEvery {
		return
	}
	s.sweptAt = now
	for _, e := range s.residentEngines() {
		if (*tenant)(e).IsAtRest() && now-(*tenant)(e).LastUsed() >= after {
			takeOut(e)
		}
	}
}

// whyNoWorker says why engines run in this process, or wait.
func (s *scheduler) whyNoWorker() error {
	message := "no worker can run, the engine goes on in this process until one can"
	if s.rules.NoFallback {
		message = "no worker can run, and the engine must not run in this process (NoFallback)"
	}
	if cause := s.host.pool.Cause(); cause != nil {
		return ErrWorkerUnavailable.Because(cause, "%s: %v", message, cause)
	}
	return ErrWorkerUnavailable.With("%s", message)
}

// forsake fails the engine's suspects: no worker can run them.
func forsake(e *driver) { e.step((*engine.Machine).Forsake) }

// takeOut frees the engine's instance, if the engine is idle.
func takeOut(e *driver) { e.step((*engine.Machine).TakeOut) }

// sayNoWorker tells the engine that it has to wait for a worker, and why there is none.
func sayNoWorker(e *driver) {
	why := e.host.scheduler.whyNoWorker()
	e.step(func(m *engine.Machine, now time.Duration) { m.NoWorker(now, why) })
}
