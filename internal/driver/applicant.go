package driver

import (
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/pool"
	"hypertoken/internal/scheduler"
)

// applicant is an engine, as the scheduler knows it: one that may want a place.
type applicant Driver

var _ scheduler.Engine = (*applicant)(nil)

// Grant implements scheduler.Engine, as all other methods here do. If w is gone already, the engine
// asks for another place.
func (a *applicant) Grant(w *pool.Worker, placement uint64, isAlone bool) {
	p := engine.Place{Placement: placement}
	if w != nil {
		p.Worker = w.Number()
	}
	grantPlace((*Driver)(a), w, p, isAlone)
}

func (a *applicant) NoWorker(why error) {
	(*Driver)(a).step(func(m *engine.Machine, now time.Duration) { m.NoWorker(now, why) })
}

func (a *applicant) Forsake() { (*Driver)(a).step((*engine.Machine).Forsake) }

func (a *applicant) TakeOut() { takeOut((*Driver)(a)) }

func (a *applicant) MoveWhenIdle() { (*Driver)(a).step((*engine.Machine).MoveWhenIdle) }

func (a *applicant) Age() uint64 { return a.number }

func (a *applicant) LastUsed() time.Duration { return time.Duration(a.used.Load()) }

func (a *applicant) IsAtRest() bool {
	const wanted = statusIdle | statusLive
	return a.status.Load()&wanted == wanted
}

func (a *applicant) IsIdleInProcess() bool {
	const wanted = statusLive | statusIdle | statusLocal
	return a.status.Load()&(wanted|statusTaking) == wanted
}

func (a *applicant) IsBeingTakenOut() bool { return a.status.Load()&statusTaking != 0 }
