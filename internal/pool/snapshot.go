package pool

import (
	"slices"
	"time"

	"hypertoken/internal/placement"
)

// Snapshot returns how the workers are, for package placement. What it says may be out of date at
// once; HandleFreePlaces or HandleReady follows each change that makes more possible.
func (p *Pool) Snapshot() (s placement.Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.owner.Now()
	for _, slot := range p.workers {
		switch slot.supervisor.state {
		case Starting, Backoff:
			s.IsAble = true
		case Ready:
			s.IsAble = true
			w := slot.worker
			w.mu.Lock()
			mayRun, isReserved := !w.isDead && !w.isEnding, w.flow.reserved != 0
			as := placement.Worker{Number: w.number, Pending: w.conn.Pending(), Engines: len(w.tenants),
				IsLaden: w.watch.isLadenLocked(now)}
			w.mu.Unlock()
			switch {
			case mayRun && isReserved:
				s.Reserved = as
			case mayRun:
				s.Workers = append(s.Workers, as)
			}
		}
	}
	return s
}

// Worker returns the worker whose process has a number, nil if no slot has it any more.
func (p *Pool) Worker(number int) *Worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.workers {
		if s.worker != nil && s.worker.number == number {
			return s.worker
		}
	}
	return nil
}

// IsAnyReady reports whether a worker runs requests.
func (p *Pool) IsAnyReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.workers, func(s *slot) bool { return s.supervisor.state == Ready })
}

// Cause returns why a process of a worker ended last, nil if none has.
func (p *Pool) Cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.workers {
		if s.cause != nil {
			return s.cause
		}
	}
	return nil
}

// WorkerDetails is how a worker is, in full: for tests, and for reports of what hangs.
type WorkerDetails struct {
	Number int
	// IsDead says that its end is taken in, IsEnding that it is to end, Reason why.
	IsDead, IsEnding bool
	Reason           Reason
	// Reserved is the placement that it is reserved for, 0 if it is not. IsAlone says that an
	// engine has got that place.
	Reserved uint64
	IsAlone  bool
	// Blocked counts those that wait for room, Turn is the placement of the one that may send now.
	Blocked int
	Turn    uint64
	// Engines counts those that are placed there, Pending the requests that are unanswered, of
	// which Oldest is the oldest. IsPinged says that one of them is a ping.
	Engines, Pending int
	Oldest           uint64
	IsPinged         bool
}

// Details returns how the worker is, in full.
func (w *Worker) Details() WorkerDetails {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := WorkerDetails{Number: w.number, IsDead: w.isDead, IsEnding: w.isEnding, Reason: w.reason,
		Reserved: w.flow.reserved, IsAlone: w.flow.isAlone, Blocked: w.flow.blocked.Len(), Turn: w.flow.turn,
		Engines: len(w.tenants)}
	if w.conn != nil {
		d.Pending, d.Oldest, d.IsPinged = w.conn.Pending(), w.conn.Oldest(), w.conn.IsPinged()
	}
	return d
}

// SlotDetails is how a worker or a spare is, over all its processes: for tests, and for reports of
// what hangs.
type SlotDetails struct {
	ID      int
	IsSpare bool
	State   State
	// LacksProcess says that it waits for a process, and a spare's will do.
	LacksProcess bool
	// Deaths counts those that count for the restart intensity. Due is when something is to
	// happen, 0 if no time is set.
	Deaths int
	Due    time.Duration
	// Worker is its newest process, nil if a spare has had none.
	Worker *Worker
}

// Details returns how the workers and the spares are, in full, and how many processes were
// started.
func (p *Pool) Details() (workers, spares []SlotDetails, processes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return detailsLocked(p.workers), detailsLocked(p.spares), p.processes
}

// detailsLocked returns how slots are. The pool's lock is held.
func detailsLocked(slots []*slot) []SlotDetails {
	list := make([]SlotDetails, len(slots))
	for k, s := range slots {
		list[k] = SlotDetails{ID: s.id, IsSpare: s.isSpare, State: s.supervisor.state,
			LacksProcess: s.supervisor.lacksProcess(), Deaths: len(s.supervisor.deaths), Due: s.supervisor.due,
			Worker: s.worker}
	}
	return list
}
