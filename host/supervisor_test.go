package host

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
	s := &supervised{t: t, supervisor: supervisor{maxRestarts: 3, window: 10 * time.Second, startTimeout: 5 * time.Second}}
	s.want(supervisorEvent{kind: svStart}, svLaunch, workerStarting)
	return s
}

// want steps it and says what has to come of it.
func (s *supervised) want(ev supervisorEvent, effect supervisorEffect, state supervisorState) {
	s.t.Helper()
	ev.now = s.now
	if got := s.step(ev); got != effect || s.state != state {
		s.t.Fatalf("at %v: effect %d and %v, want %d and %v", s.now, got, s.state, effect, state)
	}
}

// ready and die are a process's; jitter is 1/2, so that a backoff is as long as it says.
func (s *supervised) ready() {
	s.t.Helper()
	s.want(supervisorEvent{kind: svReady}, svNothing, workerReady)
}

func (s *supervised) die(counts bool, effect supervisorEffect, state supervisorState) {
	s.t.Helper()
	s.want(supervisorEvent{kind: svDied, counts: counts, jitter: 0.5}, effect, state)
}

// wait lets time pass: nothing happens before it is over, and then effect.
func (s *supervised) wait(d time.Duration, effect supervisorEffect, state supervisorState) {
	s.t.Helper()
	s.now += d - 1
	s.want(supervisorEvent{kind: svTick}, svNothing, s.state)
	s.now++
	s.want(supervisorEvent{kind: svTick}, effect, state)
}

// The first death within the window restarts at once, the next ones after a backoff that doubles; one more than
// MaxRestarts gives the worker up.
func TestRestartIntensity(t *testing.T) {
	s := newSupervised(t)
	s.ready()
	s.die(true, svLaunch, workerStarting)
	s.ready()
	s.die(true, svNothing, workerBackoff)
	s.wait(50*time.Millisecond, svLaunch, workerStarting)
	s.die(true, svNothing, workerBackoff) // at its start, which counts as well
	s.wait(100*time.Millisecond, svLaunch, workerStarting)
	s.ready()
	s.die(true, svGiveUp, workerGivenUp)
}

// A death that is a window ago does not count any more, one that is a moment younger does.
func TestDeathsOutsideTheWindow(t *testing.T) {
	s := newSupervised(t)
	for range 20 {
		s.ready()
		s.die(true, svLaunch, workerStarting)
		s.now += s.window
	}
	s.ready()
	s.die(true, svLaunch, workerStarting)
	s.now += s.window - 1
	s.ready()
	s.die(true, svNothing, workerBackoff)
}

// What the host kills for a deadline counts for nothing, however often.
func TestKillsThatDoNotCount(t *testing.T) {
	s := newSupervised(t)
	for range 100 {
		s.ready()
		s.die(false, svLaunch, workerStarting)
	}
	s.ready()
	s.die(true, svLaunch, workerStarting)
}

// A worker that was given up is tried again after a second, then after two, up to a minute; once one gets ready, its
// deaths are forgotten.
func TestProbing(t *testing.T) {
	s := newSupervised(t)
	s.maxRestarts = 1
	s.ready()
	s.die(true, svLaunch, workerStarting)
	s.die(true, svGiveUp, workerGivenUp)
	for _, after := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		s.wait(after*time.Second, svLaunch, workerProbing)
		s.die(true, svNothing, workerGivenUp)
	}
	s.want(supervisorEvent{kind: svProbe}, svLaunch, workerProbing) // at once, for a suspect
	s.ready()
	s.die(true, svLaunch, workerStarting)
	s.die(true, svGiveUp, workerGivenUp)
	s.wait(time.Second, svLaunch, workerProbing)
}

// A host that is idle looks seldom: not before a supervisor that has something due needs it.
func TestWhatASupervisorWaitsFor(t *testing.T) {
	s := newSupervised(t)
	s.maxRestarts = 1
	waits := func(want bool) {
		t.Helper()
		if got := s.waits(s.now); got != want {
			t.Errorf("%v, %v before it is due: %v, want %v", s.state, s.at-s.now, got, want)
		}
	}
	waits(true)
	s.ready()
	waits(false)
	s.die(true, svLaunch, workerStarting)
	s.die(true, svGiveUp, workerGivenUp)
	s.wait(firstProbe, svLaunch, workerProbing)
	waits(true)
	s.die(true, svNothing, workerGivenUp) // for two seconds
	waits(false)
	s.now = s.at - idleEvery
	waits(false)
	s.now++
	waits(true)
}

// A process that does not get ready is killed once, and its death says the rest.
func TestStartTimeout(t *testing.T) {
	s := newSupervised(t)
	s.wait(s.startTimeout, svOverdue, workerStarting)
	s.now += time.Hour
	s.want(supervisorEvent{kind: svTick}, svNothing, workerStarting)
	s.die(true, svLaunch, workerStarting)
	s.ready()
	s.now += time.Hour
	s.want(supervisorEvent{kind: svTick}, svNothing, workerReady)
}

// A spare's process is a worker's that has none, or whose own is not ready. The spare has what the worker had: a process on its
// way, which may be overdue, or when the next one starts. The worker's deaths stay its own.
func TestASpareIsTaken(t *testing.T) {
	s, spare := newSupervised(t), newSupervised(t)
	take := func() {
		t.Helper()
		given := supervisorEvent{kind: svTaken, state: s.state, at: s.at}
		s.want(supervisorEvent{kind: svTake}, svNothing, workerReady)
		spare.want(given, svNothing, given.state)
	}
	spare.ready()
	take() // instead of one that is starting
	spare.wait(spare.startTimeout, svOverdue, workerStarting)
	spare.die(true, svLaunch, workerStarting)
	spare.ready()

	s.now = spare.now
	s.die(true, svLaunch, workerStarting)
	s.die(true, svNothing, workerBackoff)
	take() // instead of one that is due
	spare.wait(50*time.Millisecond, svLaunch, workerStarting)
	spare.ready()
	s.die(true, svNothing, workerBackoff)
	take()
	s.die(true, svGiveUp, workerGivenUp)
	spare.wait(50*time.Millisecond, svLaunch, workerStarting) // 100 after the death
	spare.ready()
	// One that is given up takes none, nor does one that probes, and a spare that is not ready can't be taken.
	s.want(supervisorEvent{kind: svTake}, svNothing, workerGivenUp)
	s.want(supervisorEvent{kind: svProbe}, svLaunch, workerProbing)
	s.want(supervisorEvent{kind: svTake}, svNothing, workerProbing)
	spare.die(true, svNothing, workerBackoff)
	spare.want(supervisorEvent{kind: svTaken, state: workerStarting, at: 1}, svNothing, workerBackoff)
}

// Once stopped, nothing starts a process again.
func TestAStoppedSupervisor(t *testing.T) {
	s := newSupervised(t)
	s.want(supervisorEvent{kind: svStop}, svNothing, workerStopped)
	for _, kind := range []supervisorEventKind{svReady, svDied, svTick, svProbe, svTake, svTaken} {
		s.now += time.Hour
		s.want(supervisorEvent{kind: kind, counts: true}, svNothing, workerStopped)
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
