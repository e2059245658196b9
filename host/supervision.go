package host

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/histogram"
	"hypertoken/internal/process"
)

// How workers are started, replaced and ended: what the supervisors ask for, and what spares are for.

// slot is one of the host's workers, or of its spares, over all its processes.
type slot struct {
	id         int
	spare      bool
	supervisor supervisor
	worker     *worker // its newest process; nil where a spare has had none
	cause      error   // why its last process ended
	// What is measured of those that have ended.
	past     traffic
	answers  histogram.Histogram
	restarts uint64
	heardAt  time.Duration
}

func (s *slot) kind() string {
	if s.spare {
		return "spare"
	}
	return "worker"
}

// startWorkers starts them. The spares wait until the workers are there.
func (h *Host) startWorkers() {
	if h.options.InProcess {
		return
	}
	h.sayIfUnconfined(process.Offered())
	h.mu.Lock()
	defer h.mu.Unlock()
	o := &h.options
	for id := range o.Workers {
		s := &slot{id: id, supervisor: supervisor{maxRestarts: o.MaxRestarts, window: o.RestartWindow, startTimeout: o.StartTimeout}}
		h.slots = append(h.slots, s)
		h.supervise(s, supervisorEvent{kind: svStart})
	}
	for id := range o.Spares {
		h.spares = append(h.spares, &slot{id: id, spare: true, supervisor: supervisor{maxRestarts: o.MaxRestarts, window: o.RestartWindow,
			startTimeout: o.StartTimeout, state: workerBackoff, at: 1}})
	}
}

// sayIfUnconfined warns of a system that could confine workers, and was built or is run without what that takes.
func (h *Host) sayIfUnconfined(offered process.Confinement) {
	if runtime.GOOS == "linux" && !offered.Seccomp {
		h.log.Warn("workers may do what their user may: this system can't filter system calls", "landlock", offered.Landlock)
	}
}

// supervise steps the supervisor of a worker or a spare. The lock is held.
func (h *Host) supervise(s *slot, ev supervisorEvent) {
	ev.now = h.clock.now()
	ev.jitter = h.jitter()
	effect := s.supervisor.step(ev)
	if ev.kind == svDied && !s.spare && h.takeSpare(s, ev.now, false) {
		return
	}
	switch effect {
	case svLaunch:
		h.workerIDs++
		w := &worker{host: h, slot: s, id: h.workerIDs, name: s.kind() + "-" + strconv.Itoa(s.id),
			log:     h.log.With(s.kind(), s.id, "process", h.workerIDs),
			engines: map[uint64]*Engine{}, ended: make(chan struct{})}
		s.worker = w
		h.startWorker(w)
	case svGiveUp:
		h.log.Error("a "+s.kind()+" is given up: it died too often", s.kind(), s.id, "deaths", len(s.supervisor.deaths),
			"within", h.options.RestartWindow, "next_try", s.supervisor.at-ev.now)
	case svOverdue:
		s.worker.log.Warn("a worker was not ready in time and is killed", "limit", h.options.StartTimeout)
		s.worker.end(overdue)
	}
}

// takeSpare has a spare that is ready replace a worker that has no process, or, where underWay says so, one that is not ready
// yet. What the worker would have had is the spare's then, so spares start no faster than workers restart. One that is given
// up gets none. The lock is held.
func (h *Host) takeSpare(s *slot, now time.Duration, underWay bool) bool {
	at := slices.IndexFunc(h.spares, func(p *slot) bool { return p.supervisor.state == workerReady && p.worker.lives() })
	if at < 0 || !s.supervisor.lacks() {
		return false
	}
	p := h.spares[at]
	given := supervisorEvent{kind: svTaken, state: s.supervisor.state, at: s.supervisor.at}
	if given.state == workerStarting && !underWay {
		given.state, given.at = workerBackoff, max(now, 1) // at the next tick: what waits for the worker comes first
	}
	s.supervisor.step(supervisorEvent{kind: svTake})
	p.supervisor.step(given)
	s.worker, p.worker = p.worker, s.worker
	s.worker.slot, p.worker.slot = s, p
	s.worker.taken = s.worker.heard.Load() + 1
	h.workerCounts.takeovers.Add(1)
	s.worker.log.Info("a spare replaces a worker", "worker", s.id)
	return true
}

// lives reports whether nothing is known of its end.
func (w *worker) lives() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.dead && !w.ending
}

// arrivedDead reports whether nothing was heard from it since it replaced a worker: its death is then a spare's. The host's
// lock is held.
func (w *worker) arrivedDead() bool { return w.taken > 0 && w.heard.Load() < w.taken }

// workerIsBack reports whether one runs requests. An engine that was granted a place here before that, and takes it only
// now, was not among those that were told.
func (h *Host) workerIsBack() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.slots, func(s *slot) bool { return s.supervisor.state == workerReady })
}

// workerReady takes in that a worker, or a spare, runs requests now. A spare replaces a worker at once that is not there.
func (h *Host) workerReady(w *worker) {
	h.mu.Lock()
	s := w.slot
	if s.worker != w {
		h.mu.Unlock()
		return
	}
	fellBack := s.supervisor.state == workerProbing
	h.supervise(s, supervisorEvent{kind: svReady})
	if fellBack {
		w.log.Info("a " + s.kind() + " is back")
	}
	if s.spare {
		at := slices.IndexFunc(h.slots, func(s *slot) bool { return s.supervisor.lacks() })
		if at < 0 || !h.takeSpare(h.slots[at], h.clock.now(), true) {
			h.mu.Unlock()
			return
		}
	}
	h.mu.Unlock()
	h.assign()
	h.moveBack()
}

// moveBack has the engines leave this process that run here for want of a worker.
func (h *Host) moveBack() {
	var here []*Engine
	h.mu.Lock()
	for l := range h.residents {
		here = append(here, l.engine)
	}
	h.mu.Unlock()
	for _, e := range byAge(here) {
		e.step((*engine.Machine).MoveWhenIdle)
	}
}

// workerGone takes in that a worker has ended.
func (h *Host) workerGone(w *worker, why verdict, alone bool, inFlight int, err error) {
	h.workerCounts.restarts[why].Add(1)
	h.workerCounts.inFlightLost.Add(uint64(inFlight))
	if why != stopped {
		w.log.Warn("a worker ended", "reason", why.String(), "error", err, "in_flight", inFlight)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := w.slot; s.worker == w {
		s.fold(w)
		if why != stopped {
			s.restarts++
		}
		counts := why == hungry || (why == byItself && !alone) || !w.configured
		h.supervise(s, supervisorEvent{kind: svDied, counts: counts && !w.arrivedDead()})
		s.cause = err
		h.hurryTick()
	}
}

// stopWorkers ends every worker process and waits for that. They get a moment to end by themselves.
func (h *Host) stopWorkers(ctx context.Context) {
	h.mu.Lock()
	var list []*worker
	for _, s := range slices.Concat(h.slots, h.spares) {
		if s.supervisor.state != workerStopped {
			h.supervise(s, supervisorEvent{kind: svStop})
			if s.worker != nil {
				list = append(list, s.worker)
			}
		}
	}
	h.mu.Unlock()
	for _, w := range list {
		w.hangUp()
	}
	if len(list) == 0 {
		return
	}
	patience, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, w := range list {
		select {
		case <-w.ended:
		case <-patience.Done():
			w.end(stopped)
		}
	}
	h.end() // one that is still starting
	for _, w := range list {
		<-w.ended
	}
}
