package pool

import "time"

// State is where the supervisor of a worker or a spare is. ARCHITECTURE.md has the table of the
// transitions.
type State uint8

const (
	// Starting: a process is on its way, up to its readiness.
	Starting State = iota
	// Ready: the process runs requests.
	Ready
	// Backoff: the process died. The next one starts in a moment.
	Backoff
	// GivenUp: too many processes died. One is tried now and then.
	GivenUp
	// Probing: the one that is tried is on its way.
	Probing
	// Stopped: no process starts any more.
	Stopped
)

// String returns the state's name in lower case.
func (s State) String() string {
	return [...]string{"starting", "ready", "backoff", "given_up", "probing", "stopped"}[s]
}

// order is what the supervisor's owner has to do after an event.
type order uint8

const (
	doNothing order = iota
	// startProcess: start a process.
	startProcess
	// reportGivenUp: say that the worker is given up.
	reportGivenUp
	// killOverdue: the process did not get ready in time. Kill it.
	killOverdue
)

// String returns the name of the order.
func (o order) String() string {
	return [...]string{"do nothing", "start a process", "report it as given up", "kill it as overdue"}[o]
}

// supervisor restarts one worker, or one spare: at once, then with exponential backoff, and not
// more than maxRestarts times in the window, as an OTP supervisor counts. It has no lock, no
// goroutine, no clock and does no I/O: the pool's lock guards it. Each of its events is a method,
// and returns what its owner has to do.
type supervisor struct {
	state        State
	maxRestarts  int
	window       time.Duration
	startTimeout time.Duration

	deaths []time.Duration // those in the window that count
	probes int             // that failed since it was given up
	due    time.Duration   // when the next process starts, or the present one is overdue; 0 if no time is set
}

const (
	firstBackoff = 50 * time.Millisecond
	mostBackoff  = 5 * time.Second
	firstProbe   = time.Second
	mostProbe    = time.Minute
)

// start starts the first process.
func (s *supervisor) start(now time.Duration) order { return s.launch(Starting, now) }

// ready says that the process runs requests.
func (s *supervisor) ready() {
	if s.state != Starting && s.state != Probing {
		return
	}
	if s.state == Probing {
		s.deaths, s.probes = s.deaths[:0], 0
	}
	s.state, s.due = Ready, 0
}

// died says that the process ended. counts says that the restart intensity counts it. jitter is
// from 0 up to 1.
func (s *supervisor) died(now time.Duration, counts bool, jitter float64) order {
	switch s.state {
	case Stopped, Backoff, GivenUp:
		return doNothing
	case Probing:
		s.state, s.due = GivenUp, now+backoff(firstProbe, mostProbe, s.probes, jitter)
		s.probes++
		return doNothing
	}
	if !counts {
		return s.launch(Starting, now)
	}
	kept := s.deaths[:0]
	for _, death := range s.deaths {
		if now-death < s.window {
			kept = append(kept, death)
		}
	}
	s.deaths = append(kept, now)
	switch n := len(s.deaths); {
	case n > s.maxRestarts:
		s.state, s.due = GivenUp, now+backoff(firstProbe, mostProbe, 0, jitter)
		s.probes = 1
		return reportGivenUp
	case n == 1:
		return s.launch(Starting, now)
	default:
		s.state, s.due = Backoff, now+backoff(firstBackoff, mostBackoff, n-2, jitter)
	}
	return doNothing
}

// tick says that time has passed.
func (s *supervisor) tick(now time.Duration) order {
	if s.due == 0 || now < s.due {
		return doNothing
	}
	switch s.state {
	case Backoff:
		return s.launch(Starting, now)
	case GivenUp:
		return s.launch(Probing, now)
	case Starting, Probing:
		s.due = 0 // what follows, its death says
		return killOverdue
	}
	return doNothing
}

// probe tries now whether a worker that was given up is back.
func (s *supervisor) probe(now time.Duration) order {
	if s.state != GivenUp {
		return doNothing
	}
	return s.launch(Probing, now)
}

// take says that the process of a spare replaces what this worker lacks.
func (s *supervisor) take() {
	if s.lacksProcess() {
		s.state, s.due = Ready, 0
	}
}

// taken says that the process of this spare replaces a worker's. The spare has now what the worker
// had: state and due are the worker's.
func (s *supervisor) taken(state State, due time.Duration) {
	if s.state == Ready {
		s.state, s.due = state, due
	}
}

// stop says that no process is to start any more.
func (s *supervisor) stop() { s.state, s.due = Stopped, 0 }

// lacksProcess reports whether it waits for a process, and a spare's will do. One that was given
// up has processes that die, and takes none.
func (s *supervisor) lacksProcess() bool { return s.state == Starting || s.state == Backoff }

func (s *supervisor) launch(state State, now time.Duration) order {
	s.state, s.due = state, now+s.startTimeout
	return startProcess
}

// mustTickWithin reports whether something is due within a time from now, or may happen at any
// moment.
func (s *supervisor) mustTickWithin(d, now time.Duration) bool {
	switch s.state {
	case Starting, Backoff, Probing:
		return true
	}
	return s.due > 0 && s.due-now < d
}

// backoff doubles from first to most, give or take half of it.
func backoff(first, most time.Duration, n int, jitter float64) time.Duration {
	d := most
	if n < 20 {
		d = min(most, first<<n)
	}
	return time.Duration(float64(d) * (0.5 + jitter))
}
