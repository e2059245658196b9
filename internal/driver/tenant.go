package driver

import (
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/pool"
	"hypertoken/ipc"
)

// How the pool of workers knows an engine, and the calls that wait for its answers. Each is known
// under another type, so that these methods are not among its own.

// tenant is an engine, as the pool of workers knows it.
type tenant Driver

var _ pool.Tenant = (*tenant)(nil)

// Name implements pool.Tenant, as all other methods here do.
func (t *tenant) Name() string { return t.name }

func (t *tenant) Age() uint64 { return t.number }

func (t *tenant) Hold() { t.mu.Lock() }

func (t *tenant) Release() { (*Driver)(t).unlockAndDeliver(false) }

func (t *tenant) HandleFrame(worker int, f ipc.Frame, body []byte, seen time.Duration) (ran time.Duration) {
	p := engine.Place{Worker: worker, Placement: f.Placement}
	return (*Driver)(t).takeFrameLocked(p, f.Kind, f.Flags, f.Request, body, seen)
}

func (t *tenant) HandleRoom(worker int, placement uint64) {
	e := (*Driver)(t)
	e.mu.Lock()
	if (e.m.View().Place == engine.Place{Worker: worker, Placement: placement}) {
		e.m.Room(e.now())
		e.performLocked()
	}
	e.unlockAndDeliver(false)
}

func (t *tenant) HandleOverdueKill() { (*Driver)(t).step((*engine.Machine).ChargeKill) }

func (t *tenant) Move(worker int) {
	e := (*Driver)(t)
	e.mu.Lock()
	if e.at != nil && e.at.Number() == worker {
		e.m.Move(e.now())
		e.performLocked()
	}
	e.unlockAndDeliver(false)
}

func (t *tenant) TakeOut() { takeOut((*Driver)(t)) }

func (t *tenant) IsIdle() bool { return t.status.Load()&statusIdle != 0 }

func (t *tenant) IsAtRest() bool {
	const wanted = statusIdle | statusLive
	return t.status.Load()&wanted == wanted
}

func (t *tenant) LastUsed() time.Duration { return time.Duration(t.used.Load()) }

// awaited is a call, as the turn to read answers knows it.
type awaited Call

var _ pool.Awaited = (*awaited)(nil)

// IsResolved implements pool.Awaited, as Done does.
func (a *awaited) IsResolved() bool { return a.isResolved.Load() }

func (a *awaited) Done() <-chan struct{} { return (*Call)(a).Done() }
