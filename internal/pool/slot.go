package pool

import (
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"time"

	"hypertoken/internal/histogram"
	"hypertoken/internal/process"
)

// How processes are started and replaced: what supervisors ask for, and what spares are for.

// slot is one of the workers, or of the spares, over all its processes. The pool's lock guards it.
type slot struct {
	id         int
	isSpare    bool
	supervisor supervisor
	worker     *Worker // its newest process; nil if a spare has had none
	cause      error   // why its last process ended
	// What is measured of the processes that have ended.
	past     Traffic
	answers  histogram.Histogram
	restarts uint64
	heardAt  time.Duration
}

func (s *slot) kind() string {
	if s.isSpare {
		return "spare"
	}
	return "worker"
}

// sayIfUnconfined warns of a system that could confine workers, and was built or is run without
// what that takes.
func sayIfUnconfined(log *slog.Logger, offered process.Confinement) {
	if runtime.GOOS == "linux" && !offered.Seccomp {
		log.Warn("workers may do what their user may: this system can't filter system calls",
			"landlock", offered.Landlock)
	}
}

// carryOutLocked does what the supervisor of a slot has asked for. The pool's lock is held.
func (p *Pool) carryOutLocked(s *slot, o order) {
	switch o {
	case startProcess:
		p.processes++
		s.worker = newWorker(p, s, p.processes, s.kind()+"-"+strconv.Itoa(s.id))
		p.config.Seams.Start(s.worker)
	case reportGivenUp:
		p.log.Error("a "+s.kind()+" is given up: it died too often", s.kind(), s.id, "deaths", len(s.supervisor.deaths),
			"within", p.config.RestartWindow, "next_try", s.supervisor.due-p.owner.Now())
	case killOverdue:
		s.worker.log.Warn("a worker was not ready in time and is killed", "limit", p.config.StartTimeout)
		s.worker.kill(Overdue)
	}
}

// takeSpareLocked has a spare that is ready replace a worker that has no process. If isUnderWay is
// set, it may also replace one whose process is not ready yet. The spare then has what the worker
// would have had, so spares start no faster than workers restart. A worker that is given up gets
// no spare. It reports whether it did. The pool's lock is held.
func (p *Pool) takeSpareLocked(s *slot, now time.Duration, isUnderWay bool) bool {
	k := slices.IndexFunc(p.spares, func(spare *slot) bool {
		return spare.supervisor.state == Ready && spare.worker.isAlive()
	})
	if k < 0 || !s.supervisor.lacksProcess() {
		return false
	}
	spare := p.spares[k]
	state, due := s.supervisor.state, s.supervisor.due
	if state == Starting && !isUnderWay {
		state, due = Backoff, max(now, 1) // at the next tick: what waits for the worker comes first
	}
	s.supervisor.take()
	spare.supervisor.taken(state, due)
	s.worker, spare.worker = spare.worker, s.worker
	s.worker.slot, spare.worker.slot = s, spare
	s.worker.heardAtTakeover = s.worker.heard.Load() + 1
	p.counts.takeovers.Add(1)
	s.worker.log.Info("a spare replaces a worker", "worker", s.id)
	return true
}

// handleReady takes in that a worker, or a spare, runs requests now. A spare replaces at once a
// worker that is not there.
func (p *Pool) handleReady(w *Worker) {
	if p.becomeReady(w) {
		p.owner.HandleReady()
	}
}

// becomeReady tells the supervisor that its process is ready. It reports whether there is one more
// worker now.
func (p *Pool) becomeReady(w *Worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := w.slot
	if s.worker != w {
		return false
	}
	isBack := s.supervisor.state == Probing
	s.supervisor.ready()
	if isBack {
		w.log.Info("a " + s.kind() + " is back")
	}
	if !s.isSpare {
		return true
	}
	k := slices.IndexFunc(p.workers, func(s *slot) bool { return s.supervisor.lacksProcess() })
	return k >= 0 && p.takeSpareLocked(p.workers[k], p.owner.Now(), true)
}

// handleExit takes in that the process of a worker has ended. wasAlone says that a suspect ran
// there, alone.
func (p *Pool) handleExit(w *Worker, reason Reason, wasAlone bool, inFlight int, err error) {
	p.counts.ends[reason].Add(1)
	p.counts.inFlight.Add(uint64(inFlight))
	if reason != Shutdown {
		w.log.Warn("a worker ended", "reason", reason.String(), "error", err, "in_flight", inFlight)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := w.slot
	if s.worker != w {
		return
	}
	s.foldLocked(w)
	if reason != Shutdown {
		s.restarts++
	}
	counts := reason == OverMemory || (reason == Died && !wasAlone) || !w.handshake.isDone
	p.superviseExitLocked(s, counts && !w.wasDeadAtTakeoverLocked())
	s.cause = err
	p.owner.HurryTick()
}

// superviseExitLocked has a spare replace the process that has ended, or another process started.
// The pool's lock is held.
func (p *Pool) superviseExitLocked(s *slot, counts bool) {
	now := p.owner.Now()
	o := s.supervisor.died(now, counts, p.config.Seams.Jitter())
	if s.isSpare || !p.takeSpareLocked(s, now, false) {
		p.carryOutLocked(s, o)
	}
}

// Probe tries now to bring back a worker that was given up: a suspect needs one, and what the
// suspect does to it does not count.
func (p *Pool) Probe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.workers {
		if s.supervisor.state == GivenUp {
			p.carryOutLocked(s, s.supervisor.probe(p.owner.Now()))
			return
		}
	}
}

// tickSupervisors lets time pass for the supervisors. It returns the workers and the spares that
// are ready, and whether time has to pass soon again.
func (p *Pool) tickSupervisors(now time.Duration) (workers, spares []*Worker, isBusy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	isStarting := false
	for _, s := range p.workers {
		p.carryOutLocked(s, s.supervisor.tick(p.owner.Now()))
		if s.supervisor.state == Ready {
			workers = append(workers, s.worker)
		}
		isStarting = isStarting || s.supervisor.state == Starting
		isBusy = isBusy || s.supervisor.mustTickWithin(p.config.IdleTick, now)
	}
	for _, s := range p.spares {
		if !isStarting || s.supervisor.state != Backoff { // the workers come first
			p.carryOutLocked(s, s.supervisor.tick(p.owner.Now()))
		}
		if s.supervisor.state == Ready {
			spares = append(spares, s.worker)
		}
		isBusy = isBusy || s.supervisor.mustTickWithin(p.config.IdleTick, now)
	}
	return workers, spares, isBusy
}
