package host

import "time"

// supervisorState is where a worker's supervisor is. ARCHITECTURE.md has the table of the transitions.
type supervisorState uint8

const (
	// workerStarting: a process is on its way, up to its readiness.
	workerStarting supervisorState = iota
	// workerReady: it runs requests.
	workerReady
	// workerBackoff: it died; the next one starts in a moment.
	workerBackoff
	// workerGivenUp: too many died. One is tried now and then.
	workerGivenUp
	// workerProbing: that one is on its way.
	workerProbing
	// workerStopped: for good.
	workerStopped
)

func (s supervisorState) String() string {
	return [...]string{"starting", "ready", "backoff", "given_up", "probing", "stopped"}[s]
}

type supervisorEventKind uint8

const (
	// svStart: the first start. svReady: the worker runs requests.
	svStart supervisorEventKind = iota
	svReady
	// svDied: the worker ended; counts says that the restart intensity counts it.
	svDied
	// svTick: time has passed.
	svTick
	// svProbe: try now whether a worker that was given up is back.
	svProbe
	// svTake: a spare's process replaces what this worker lacks. svTaken: it was this spare's, which has now, in state and at, what
	// the worker had.
	svTake
	svTaken
	// svStop: no more workers.
	svStop
)

type supervisorEvent struct {
	kind   supervisorEventKind
	counts bool
	now    time.Duration
	// jitter is from 0 up to 1.
	jitter float64
	// state and at are those of the worker that a spare's process was taken for.
	state supervisorState
	at    time.Duration
}

// supervisorEffect is what an event makes necessary.
type supervisorEffect uint8

const (
	svNothing supervisorEffect = iota
	// svLaunch: start a process. svGiveUp: the worker is given up. svOverdue: it did not get ready in time: kill it.
	svLaunch
	svGiveUp
	svOverdue
)

// supervisor restarts one worker, or one spare: at once, then with exponential backoff, and not more than maxRestarts times in the
// window, as an OTP supervisor counts. It has no lock, no goroutine, no clock and does no I/O: the host's lock guards it.
type supervisor struct {
	state        supervisorState
	maxRestarts  int
	window       time.Duration
	startTimeout time.Duration

	deaths []time.Duration // those in the window that count
	probes int             // that failed since it was given up
	at     time.Duration   // when the next start is due, or the present one overdue
}

const (
	firstBackoff = 50 * time.Millisecond
	mostBackoff  = 5 * time.Second
	firstProbe   = time.Second
	mostProbe    = time.Minute
)

// step takes an event in.
func (s *supervisor) step(ev supervisorEvent) supervisorEffect {
	switch ev.kind {
	case svStart:
		return s.launch(workerStarting, ev.now)
	case svReady:
		if s.state == workerStarting || s.state == workerProbing {
			if s.state == workerProbing {
				s.deaths, s.probes = s.deaths[:0], 0
			}
			s.state, s.at = workerReady, 0
		}
	case svDied:
		return s.died(ev)
	case svTick:
		return s.tick(ev)
	case svProbe:
		if s.state == workerGivenUp {
			return s.launch(workerProbing, ev.now)
		}
	case svTake:
		if s.lacks() {
			s.state, s.at = workerReady, 0
		}
	case svTaken:
		if s.state == workerReady {
			s.state, s.at = ev.state, ev.at
		}
	case svStop:
		s.state, s.at = workerStopped, 0
	}
	return svNothing
}

// lacks reports whether it waits for a process, and a spare's will do. One that was given up, which has processes that die,
// takes none.
func (s *supervisor) lacks() bool { return s.state == workerStarting || s.state == workerBackoff }

func (s *supervisor) launch(state supervisorState, now time.Duration) supervisorEffect {
	s.state, s.at = state, now+s.startTimeout
	return svLaunch
}

func (s *supervisor) died(ev supervisorEvent) supervisorEffect {
	switch s.state {
	case workerStopped, workerBackoff, workerGivenUp:
		return svNothing
	case workerProbing:
		s.state, s.at = workerGivenUp, ev.now+backoff(firstProbe, mostProbe, s.probes, ev.jitter)
		s.probes++
		return svNothing
	}
	if !ev.counts {
		return s.launch(workerStarting, ev.now)
	}
	kept := s.deaths[:0]
	for _, at := range s.deaths {
		if ev.now-at < s.window {
			kept = append(kept, at)
		}
	}
	s.deaths = append(kept, ev.now)
	switch n := len(s.deaths); {
	case n > s.maxRestarts:
		s.state, s.at = workerGivenUp, ev.now+backoff(firstProbe, mostProbe, 0, ev.jitter)
		s.probes = 1
		return svGiveUp
	case n == 1:
		return s.launch(workerStarting, ev.now)
	default:
		s.state, s.at = workerBackoff, ev.now+backoff(firstBackoff, mostBackoff, n-2, ev.jitter)
	}
	return svNothing
}

func (s *supervisor) tick(ev supervisorEvent) supervisorEffect {
	if s.at == 0 || ev.now < s.at {
		return svNothing
	}
	switch s.state {
	case workerBackoff:
		return s.launch(workerStarting, ev.now)
	case workerGivenUp:
		return s.launch(workerProbing, ev.now)
	case workerStarting, workerProbing:
		s.at = 0 // its death says the rest
		return svOverdue
	}
	return svNothing
}

// waits reports whether time has to pass for it before an idle host looks again.
func (s *supervisor) waits(now time.Duration) bool {
	switch s.state {
	case workerStarting, workerBackoff, workerProbing:
		return true
	}
	return s.at > 0 && s.at-now < idleEvery
}

// backoff doubles from first to most, give or take half of it.
func backoff(first, most time.Duration, n int, jitter float64) time.Duration {
	d := most
	if n < 20 {
		d = min(most, first<<n)
	}
	return time.Duration(float64(d) * (0.5 + jitter))
}
