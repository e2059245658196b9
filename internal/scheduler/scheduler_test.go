package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"hypertoken/internal/clock"
	"hypertoken/internal/placement"
	"hypertoken/internal/pool"
	"hypertoken/internal/scheduler"
)

// fake is an engine that notes what it is told.
type fake struct {
	age       uint64
	used      time.Duration
	isIdle    bool
	isGoing   bool
	placement uint64
	told      []string
}

func (f *fake) Grant(w *pool.Worker, placement uint64, _ bool) {
	f.told, f.placement = append(f.told, "grant"), placement
	if w != nil {
		f.told = append(f.told, "on a worker")
	}
}
func (f *fake) NoWorker(error)          { f.told = append(f.told, "no worker") }
func (f *fake) Forsake()                { f.told = append(f.told, "forsake") }
func (f *fake) TakeOut()                { f.told, f.isGoing = append(f.told, "take out"), true }
func (f *fake) MoveWhenIdle()           { f.told = append(f.told, "move") }
func (f *fake) Age() uint64             { return f.age }
func (f *fake) LastUsed() time.Duration { return f.used }
func (f *fake) IsAtRest() bool          { return f.isIdle }
func (f *fake) IsIdleInProcess() bool   { return f.isIdle && !f.isGoing }
func (f *fake) IsBeingTakenOut() bool   { return f.isGoing }

func (f *fake) expect(t *testing.T, told ...string) {
	t.Helper()
	if !slices.Equal(f.told, told) {
		t.Errorf("engine %d was told %v, want %v", f.age, f.told, told)
	}
	f.told = nil
}

// owner is that of a pool that has no workers.
type owner struct {
	pool.Owner
	clock *clock.Clock
}

func (o owner) Now() time.Duration { return o.clock.Now() }

// newScheduler returns a scheduler without workers.
func newScheduler(r placement.Rules, maxInProcess int) (*scheduler.Scheduler, *clock.Clock) {
	c := new(clock.Clock)
	return scheduler.New(scheduler.Config{Pool: pool.New(owner{clock: c}), Clock: c, Rules: r,
		MaxInProcess: maxInProcess, IdleAfter: time.Minute}), c
}

// If there is no room in this process, the engine that was idle longest is taken out.
func TestRoomInThisProcess(t *testing.T) {
	s, _ := newScheduler(placement.Rules{InProcess: true}, 2)
	a, b, late := &fake{age: 1, used: 2}, &fake{age: 2, used: 1}, &fake{age: 3}
	for _, e := range []*fake{a, b} {
		s.Ask(e, false)
		s.Assign()
		e.expect(t, "grant")
		s.AddResident(e.placement, e)
	}
	s.Ask(late, false)
	s.Assign()
	if late.expect(t); !s.IsStarved() {
		t.Error("nobody is asked to go, as all are busy, and the scheduler is not starved")
	}
	a.isIdle, b.isIdle = true, true
	s.Assign()
	s.Assign() // nobody else is taken out meanwhile
	a.expect(t)
	b.expect(t, "take out")
	s.FreeSlot(b.placement)
	s.Assign()
	late.expect(t, "grant")
	if d := s.Details(); d.SlotsFree != 0 || d.Placements != 3 || len(d.Asks) != 0 || s.Residents() != 1 {
		t.Errorf("%+v, %d residents", d, s.Residents())
	}
}

// If no engine may run in this process, an engine without a worker waits, and is told once.
func TestAnEngineThatWaitsForAWorker(t *testing.T) {
	s, _ := newScheduler(placement.Rules{NoFallback: true}, 2)
	e := new(fake)
	s.Ask(e, false)
	s.Assign()
	s.Assign()
	e.expect(t, "no worker")
	s.TakeAskBack(e)
	if d := s.Details(); len(d.Asks) != 0 {
		t.Errorf("%+v", d)
	}
}

// A suspect waits for a worker for some time, and then fails.
func TestASuspectWithoutAWorker(t *testing.T) {
	s, c := newScheduler(placement.Rules{SuspectWait: time.Second}, 2)
	e := new(fake)
	c.Skip(time.Minute)
	s.Ask(e, true)
	s.Assign()
	c.Skip(time.Second - 1)
	s.Assign()
	e.expect(t)
	c.Skip(1)
	s.Assign()
	e.expect(t, "forsake")
}

// Engines in this process are taken out once they were idle for long, and told to move when a
// worker is back.
func TestResidentsGo(t *testing.T) {
	s, _ := newScheduler(placement.Rules{}, 2)
	idle, fresh := &fake{age: 1, isIdle: true}, &fake{age: 2, isIdle: true, used: time.Minute}
	s.AddResident(1, idle)
	s.AddResident(2, fresh)
	s.TakeIdleOut(time.Minute)
	idle.expect(t, "take out")
	fresh.expect(t)
	s.MoveBack()
	idle.expect(t, "move")
	fresh.expect(t, "move")
}
