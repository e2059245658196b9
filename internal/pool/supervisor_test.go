package pool

import (
	"testing"
	"time"
)

// supervised drives a supervisor: its time is what the test says.
type supervised struct {
	supervisor
	t   *testing.T
	now time.Duration
}

func newSupervised(t *testing.T) *supervised {
	fresh := supervisor{maxRestarts: 3, window: 10 * time.Second, startTimeout: 5 * time.Second}
	s := &supervised{t: t, supervisor: fresh}
	s.check(s.supervisor.start(s.now), startProcess, Starting)
	return s
}

// check holds what came of an event against what has to come of it.
func (s *supervised) check(got, want order, state State) {
	s.t.Helper()
	if got != want || s.state != state {
		s.t.Fatalf("after %v: %v and %v, want %v and %v", s.now, got, s.state, want, state)
	}
}

// becomeReady and die are a process's. jitter is 1/2, so that a backoff is as long as it says.
func (s *supervised) becomeReady() {
	s.t.Helper()
	s.supervisor.ready()
	s.check(doNothing, doNothing, Ready)
}

func (s *supervised) die(counts bool, want order, state State) {
	s.t.Helper()
	s.check(s.supervisor.died(s.now, counts, 0.5), want, state)
}

// wait lets time pass: nothing happens before it is over, and then want.
func (s *supervised) wait(d time.Duration, want order, state State) {
	s.t.Helper()
	s.now += d - 1
	s.check(s.supervisor.tick(s.now), doNothing, s.state)
	s.now++
	s.check(s.supervisor.tick(s.now), want, state)
}

// The first death within the window restarts at once, the next ones after a backoff that doubles;
// one more than MaxRestarts gives the worker up.
func TestRestartIntensity(t *testing.T) {
	s := newSupervised(t)
	s.becomeReady()
	s.die(true, startProcess, Starting)
	s.becomeReady()
	s.die(true, doNothing, Backoff)
	s.wait(50*time.Millisecond, startProcess, Starting)
	s.die(true, doNothing, Backoff) // at its start, which counts as well
	s.wait(100*time.Millisecond, startProcess, Starting)
	s.becomeReady()
	s.die(true, reportGivenUp, GivenUp)
}

// A death that is a window ago does not count any more, one that is a moment younger does.
func TestDeathsOutsideTheWindow(t *testing.T) {
	s := newSupervised(t)
	for range 20 {
		s.becomeReady()
		s.die(true, startProcess, Starting)
		s.now += s.window
	}
	s.becomeReady()
	s.die(true, startProcess, Starting)
	s.now += s.window - 1
	s.becomeReady()
	s.die(true, doNothing, Backoff)
}

// What the host kills for a deadline counts for nothing, however often.
func TestKillsThatDoNotCount(t *testing.T) {
	s := newSupervised(t)
	for range 100 {
		s.becomeReady()
		s.die(false, startProcess, Starting)
	}
	s.becomeReady()
	s.die(true, startProcess, Starting)
}

// A worker that was given up is tried again after a second, then after two, up to a minute; once
// one gets ready, its deaths are forgotten.
func TestProbing(t *testing.T) {
	s := newSupervised(t)
	s.maxRestarts = 1
	s.becomeReady()
	s.die(true, startProcess, Starting)
	s.die(true, reportGivenUp, GivenUp)
	for _, after := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		s.wait(after*time.Second, startProcess, Probing)
		s.die(true, doNothing, GivenUp)
	}
	s.check(s.supervisor.probe(s.now), startProcess, Probing) // at once, for a suspect
	s.check(s.supervisor.probe(s.now), doNothing, Probing)
	s.becomeReady()
	s.die(true, startProcess, Starting)
	s.die(true, reportGivenUp, GivenUp)
	s.wait(time.Second, startProcess, Probing)
}

// A host that is idle looks seldom: not before a supervisor that has something due needs it.
func TestWhatASupervisorWaitsFor(t *testing.T) {
	const idle = time.Second
	s := newSupervised(t)
	s.maxRestarts = 1
	waits := func(want bool) {
		t.Helper()
		if got := s.mustTickWithin(idle, s.now); got != want {
			t.Errorf("%v, %v before it is due: %v, want %v", s.state, s.due-s.now, got, want)
		}
	}
	waits(true)
	s.becomeReady()
	waits(false)
	s.die(true, startProcess, Starting)
	s.die(true, reportGivenUp, GivenUp)
	s.wait(firstProbe, startProcess, Probing)
	waits(true)
	s.die(true, doNothing, GivenUp) // for two seconds
	waits(false)
	s.now = s.due - idle
	waits(false)
	s.now++
	waits(true)
}

// A process that does not get ready is killed once, and its death says the rest.
func TestStartTimeout(t *testing.T) {
	s := newSupervised(t)
	s.wait(s.startTimeout, killOverdue, Starting)
	s.now += time.Hour
	s.check(s.supervisor.tick(s.now), doNothing, Starting)
	s.die(true, startProcess, Starting)
	s.becomeReady()
	s.now += time.Hour
	s.check(s.supervisor.tick(s.now), doNothing, Ready)
}

// A spare's process is a worker's that has none, or whose own is not ready. The spare has what the
// worker had: a process on its way, which may be overdue, or when the next one starts. The
// worker's deaths stay its own.
func TestASpareIsTaken(t *testing.T) {
	s, spare := newSupervised(t), newSupervised(t)
	take := func() {
		t.Helper()
		state, due := s.state, s.due
		s.supervisor.take()
		s.check(doNothing, doNothing, Ready)
		spare.taken(state, due)
		spare.check(doNothing, doNothing, state)
	}
	spare.becomeReady()
	take() // instead of one that is starting
	spare.wait(spare.startTimeout, killOverdue, Starting)
	spare.die(true, startProcess, Starting)
	spare.becomeReady()

	s.now = spare.now
	s.die(true, startProcess, Starting)
	s.die(true, doNothing, Backoff)
	take() // instead of one that is due
	spare.wait(50*time.Millisecond, startProcess, Starting)
	spare.becomeReady()
	s.die(true, doNothing, Backoff)
	take()
	s.die(true, reportGivenUp, GivenUp)
	spare.wait(50*time.Millisecond, startProcess, Starting) // 100 after the death
	spare.becomeReady()
	// One that is given up takes none, nor does one that probes, and a spare that is not ready
	// can't be taken.
	s.supervisor.take()
	s.check(doNothing, doNothing, GivenUp)
	s.check(s.supervisor.probe(s.now), startProcess, Probing)
	s.supervisor.take()
	s.check(doNothing, doNothing, Probing)
	spare.die(true, doNothing, Backoff)
	spare.taken(Starting, 1)
	spare.check(doNothing, doNothing, Backoff)
}

// Once stopped, nothing starts a process again.
func TestAStoppedSupervisor(t *testing.T) {
	for name, event := range map[string]func(s *supervised) order{
		"ready": func(s *supervised) order { s.supervisor.ready(); return doNothing },
		"died":  func(s *supervised) order { return s.supervisor.died(s.now, true, 0.5) },
		"tick":  func(s *supervised) order { return s.supervisor.tick(s.now) },
		"probe": func(s *supervised) order { return s.supervisor.probe(s.now) },
		"take":  func(s *supervised) order { s.supervisor.take(); return doNothing },
		"taken": func(s *supervised) order { s.supervisor.taken(Backoff, 1); return doNothing },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSupervised(t)
			s.supervisor.stop()
			for range 3 {
				s.now += time.Hour
				s.check(event(s), doNothing, Stopped)
			}
		})
	}
}

// Jitter spreads a backoff from half of it to one and a half.
func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		n           int
		jitter      float64
		first, most time.Duration
		want        time.Duration
	}{
		{0, 0.5, time.Second, time.Minute, time.Second},
		{0, 0, time.Second, time.Minute, time.Second / 2},
		{1, 0, time.Second, time.Minute, time.Second},
		{5, 0.5, time.Second, time.Minute, 32 * time.Second},
		{6, 0.5, time.Second, time.Minute, time.Minute},
		{1000, 0.5, time.Second, time.Minute, time.Minute},
	} {
		if got := backoff(c.first, c.most, c.n, c.jitter); got != c.want {
			t.Errorf("backoff %d with jitter %v: %v, want %v", c.n, c.jitter, got, c.want)
		}
	}
	if got := backoff(firstBackoff, mostBackoff, 1000, 0.999999); got >= mostBackoff*3/2 || got < mostBackoff {
		t.Errorf("the longest backoff is %v", got)
	}
}
