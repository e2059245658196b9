// Package scheduler gives engines their places. Engines ask, package placement decides, and the
// scheduler carries the decisions out: it reserves workers, counts the instances in this process,
// and takes idle engines out for those that wait.
package scheduler

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/clock"
	"hypertoken/internal/fault"
	"hypertoken/internal/fifo"
	"hypertoken/internal/placement"
	"hypertoken/internal/pool"
)

// Engine is an engine, as the scheduler knows it.
type Engine interface {
	// Grant gives the engine the place that it asked for: in w, or in this process if w is nil. If
	// isAlone is set, nothing else runs there. The engine does not ask any more.
	Grant(w *pool.Worker, placement uint64, isAlone bool)
	// NoWorker says that the engine has to wait for a worker, and why there is none.
	NoWorker(why error)
	// Forsake fails the engine's suspects: no worker can run them. The engine does not ask any more.
	Forsake()
	// TakeOut frees the engine's instance, if the engine is idle.
	TakeOut()
	// MoveWhenIdle has the engine leave its place as soon as nothing runs there.
	MoveWhenIdle()

	// The rest may be called with the scheduler's lock held, and takes no lock.

	// Age says in which order engines were opened.
	Age() uint64
	// LastUsed returns when the engine was last dispatched to, on the host's clock.
	LastUsed() time.Duration
	// IsAtRest says that the engine has an instance and nothing to do; IsIdleInProcess that it has
	// that instance in this process, and is not taken out already; IsBeingTakenOut that it is.
	IsAtRest() bool
	IsIdleInProcess() bool
	IsBeingTakenOut() bool
}

// Config is what a scheduler goes by.
type Config struct {
	Pool  *pool.Pool
	Clock *clock.Clock
	Rules placement.Rules
	// MaxInProcess is how many instances there may be in this process.
	MaxInProcess int
	// IdleAfter is how long an engine in this process is idle before it is taken out; negative for
	// never.
	IdleAfter time.Duration
}

// Scheduler places the engines of a host.
type Scheduler struct {
	pool      *pool.Pool
	clock     *clock.Clock
	rules     placement.Rules
	idleAfter time.Duration
	// isStarved says that an engine waits for a place in this process.
	isStarved atomic.Bool
	// sweptAt is when idle residents were looked for. The goroutine that ticks owns it.
	sweptAt time.Duration

	// mu guards what follows. It is taken behind an engine's lock, and before the pool's.
	mu         sync.Mutex
	placements uint64
	asks       fifo.Queue[*ask]
	freed      []*pool.Worker // reservations that were given back: engines that wait there may send again
	// isAssigning says that a goroutine goes through asks, mustAssignAgain that it has to once
	// more.
	isAssigning, mustAssignAgain bool
	slotsFree                    int               // instances that may still be made in this process
	residents                    map[uint64]Engine // the engines that have a place in this process, by its placement
}

// New returns a scheduler.
func New(c Config) *Scheduler {
	return &Scheduler{pool: c.Pool, clock: c.Clock, rules: c.Rules, idleAfter: c.IdleAfter, slotsFree: c.MaxInProcess,
		residents: map[uint64]Engine{}}
}

// ask is an engine that wants a place.
type ask struct {
	engine  Engine
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
	victim Engine
}

// grant is what Assign does next for an engine: it gives it a place, or says why there is none.
type grant struct {
	engine Engine
	tell   func(Engine)
	// isAnswer says that the engine does not ask any more.
	isAnswer bool
}

// placeGrant gives an engine a place in w, or in this process if w is nil.
func placeGrant(e Engine, w *pool.Worker, placement uint64, isAlone bool) grant {
	return grant{engine: e, isAnswer: true, tell: func(e Engine) { e.Grant(w, placement, isAlone) }}
}

// Ask takes note that an engine wants a place; isAlone says that nothing else may run there. The
// engine's lock is held. Assign has to be called afterwards.
func (s *Scheduler) Ask(e Engine, isAlone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks.Push(&ask{engine: e, isAlone: isAlone})
}

// TakeAskBack says that an engine wants no place any more. The engine's lock is held. Assign has to
// be called afterwards.
func (s *Scheduler) TakeAskBack(e Engine) {
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

// endReservationLocked ends a reservation. Assign lets those send that waited for it. The
// scheduler's lock is held.
func (s *Scheduler) endReservationLocked(a *ask) {
	if a.worker != nil {
		a.worker.EndReservation(a.placement)
		s.freed = append(s.freed, a.worker)
		a.worker = nil
	}
}

// Assign gives places to the engines that can have one. No engine's lock is held.
func (s *Scheduler) Assign() {
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
func (s *Scheduler) nextLocked() (grant, bool) {
	if s.asks.Len() == 0 {
		return grant{}, false
	}
	workers := s.pool.Snapshot()
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
func (s *Scheduler) decideLocked(a *ask, workers *placement.Pool) (g grant, ok bool) {
	p := s.pool
	for ; ; *workers = p.Snapshot() {
		if a.worker != nil && a.worker.Number() != workers.Reserved.Number {
			a.worker = nil // it died
		}
		if workers.IsAble {
			a.noneSince = 0
		}
		now := s.clock.Now()
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
			return grant{engine: a.engine, tell: s.sayNoWorker}, isNews
		case placement.Probe:
			a.noneSince = max(now, 1)
			p.Probe()
		case placement.Forsake:
			return grant{engine: a.engine, tell: Engine.Forsake, isAnswer: true}, true
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
func (s *Scheduler) newPlacementLocked() uint64 {
	s.placements++
	return s.placements
}

// placeHereLocked finds a place in this process, and takes the engine out for it that was idle
// longest. The scheduler's lock is held.
func (s *Scheduler) placeHereLocked(a *ask) (g grant, ok bool) {
	if s.slotsFree > 0 {
		s.slotsFree--
		return placeGrant(a.engine, nil, s.newPlacementLocked(), false), true
	}
	if a.victim != nil && a.victim.IsBeingTakenOut() {
		return g, false
	}
	a.victim = nil
	for _, e := range s.residents {
		if e.IsIdleInProcess() && (a.victim == nil || wasIdleLonger(e, a.victim)) {
			a.victim = e
		}
	}
	s.isStarved.Store(true)
	if a.victim == nil {
		return g, false
	}
	return grant{engine: a.victim, tell: Engine.TakeOut}, true
}

// wasIdleLonger reports whether an engine was idle longer than another.
func wasIdleLonger(e, other Engine) bool {
	mine, others := e.LastUsed(), other.LastUsed()
	return mine < others || (mine == others && e.Age() < other.Age())
}

// IsStarved reports whether an engine waits for a place in this process. Then Assign is called
// whenever a resident gets idle. It takes no lock.
func (s *Scheduler) IsStarved() bool { return s.isStarved.Load() }

// AddResident takes note of the engine that has a granted place in this process.
func (s *Scheduler) AddResident(placement uint64, e Engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.residents[placement] = e
}

// FreeSlot gives a granted place in this process back. Another engine gets it from the next Assign.
func (s *Scheduler) FreeSlot(placement uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slotsFree++
	delete(s.residents, placement)
	s.isStarved.Store(s.asks.Len() > 0)
}

// Residents returns how many engines have a place in this process.
func (s *Scheduler) Residents() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.residents)
}

// listResidents returns the engines that have a place in this process, the oldest first.
func (s *Scheduler) listResidents() (list []Engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.residents {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Engine) int { return cmp.Compare(a.Age(), b.Age()) })
	return list
}

// MoveBack has the engines leave this process that run here for want of a worker.
func (s *Scheduler) MoveBack() {
	for _, e := range s.listResidents() {
		e.MoveWhenIdle()
	}
}

// sweepEvery is how often engines in this process are looked at that have nothing to do.
const sweepEvery = time.Second

// TakeIdleOut frees the instances in this process of engines that nobody has dispatched anything to
// for long.
func (s *Scheduler) TakeIdleOut(now time.Duration) {
	if s.idleAfter < 0 || now-s.sweptAt < sweepEvery {
		return
	}
	s.sweptAt = now
	for _, e := range s.listResidents() {
		if e.IsAtRest() && now-e.LastUsed() >= s.idleAfter {
			e.TakeOut()
		}
	}
}

// WhyNoWorker says why engines run in this process, or wait.
func (s *Scheduler) WhyNoWorker() error {
	message := "no worker can run, the engine goes on in this process until one can"
	if s.rules.NoFallback {
		message = "no worker can run, and the engine must not run in this process (NoFallback)"
	}
	if cause := s.pool.Cause(); cause != nil {
		return fault.ErrWorkerUnavailable.Because(cause, "%s: %v", message, cause)
	}
	return fault.ErrWorkerUnavailable.With("%s", message)
}

// sayNoWorker tells an engine that it has to wait for a worker.
func (s *Scheduler) sayNoWorker(e Engine) { e.NoWorker(s.WhyNoWorker()) }
