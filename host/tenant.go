package host

import (
	"time"

	"hypertoken/internal/clock"
	"hypertoken/internal/engine"
	"hypertoken/internal/pool"
	"hypertoken/ipc"
)

// How the pool of workers knows the host, its engines, and what callers wait for. Each is known
// under another type, so that these methods are not among those that applications see.

// tenant is an engine, as the pool of workers knows it.
type tenant driver

var _ pool.Tenant = (*tenant)(nil)

// Name implements pool.Tenant, as all other methods here do.
func (t *tenant) Name() string { return t.name }

func (t *tenant) Age() uint64 { return t.number }

func (t *tenant) Hold() { t.mu.Lock() }

func (t *tenant) Release() { (*driver)(t).unlockAndDeliver(false) }

func (t *tenant) HandleFrame(worker int, f ipc.Frame, body []byte, seen time.Duration) (ran time.Duration) {
	p := engine.Place{Worker: worker, Placement: f.Placement}
	return (*driver)(t).takeFrame(p, f.Kind, f.Flags, f.Request, body, seen)
}

func (t *tenant) HandleRoom(worker int, placement uint64) {
	e := (*driver)(t)
	e.mu.Lock()
	if (e.m.View().Place == engine.Place{Worker: worker, Placement: placement}) {
		e.m.Room(e.now())
		e.perform()
	}
	e.unlockAndDeliver(false)
}

func (t *tenant) HandleOverdueKill() { (*driver)(t).step((*engine.Machine).ChargeKill) }

func (t *tenant) Move(worker int) {
	e := (*driver)(t)
	e.mu.Lock()
	if e.at != nil && e.at.Number() == worker {
		e.m.Move(e.now())
		e.perform()
	}
	e.unlockAndDeliver(false)
}

func (t *tenant) TakeOut() { takeOut((*driver)(t)) }

func (t *tenant) IsIdle() bool { return t.status.Load()&statusIdle != 0 }

func (t *tenant) IsAtRest() bool {
	const wanted = statusIdle | statusLive
	return t.status.Load()&wanted == wanted
}

func (t *tenant) LastUsed() time.Duration { return time.Duration(t.used.Load()) }

// awaited is a future, as the turn to read answers knows it.
type awaited Future

var _ pool.Awaited = (*awaited)(nil)

// IsResolved implements pool.Awaited, as Done does.
func (a *awaited) IsResolved() bool { return a.isResolved.Load() }

func (a *awaited) Done() <-chan struct{} { return (*Future)(a).Done() }

// landlord is the host, as its pool of workers knows it.
type landlord Host

var _ pool.Owner = (*landlord)(nil)

// HandleReady implements pool.Owner, as all other methods here do.
func (l *landlord) HandleReady() {
	l.scheduler.Assign()
	l.scheduler.MoveBack()
}

// HandleLoss makes one death of all that were on a worker that died by itself: until one of them
// is found guilty, each of the requests that were there is suspected of it.
func (l *landlord) HandleLoss(loss pool.Loss) {
	var d *engine.Death
	if loss.IsDeath {
		d = new(engine.Death)
	}
	for _, p := range loss.Placements {
		(*driver)(p.Tenant.(*tenant)).placeLost(engine.Place{Worker: loss.Worker, Placement: p.ID}, d)
	}
}

func (l *landlord) HandleFreePlaces() { l.scheduler.Assign() }

func (l *landlord) HandleActions(list []byte) { l.actions.tell(list) }

func (l *landlord) HurryTick() { (*Host)(l).hurryTick() }

func (l *landlord) Now() time.Duration { return l.clock.Now() }

func (l *landlord) Stamp() time.Duration { return (*Host)(l).stamp() }

func (l *landlord) IsMeasuring() bool { return (*Host)(l).measures() }

// poolConfig returns what the pool of workers goes by.
func (h *Host) poolConfig() pool.Config {
	o := &h.options
	return pool.Config{
		Workers: o.Workers, Spares: o.Spares, WorkerPath: o.WorkerPath, WorkerSHA256: o.WorkerSHA256,
		Core: h.code, CoreHash: h.hash, CacheDir: h.cacheDir, TellActions: o.NoFallback, IsDebug: h.debug,
		MaxEngineMemory: o.MaxEngineMemory, MaxWorkerMemory: o.MaxWorkerMemory, MaxFrame: o.MaxFrame,
		WindowRequests: o.WindowRequests, WindowBytes: o.WindowBytes, PollFor: o.PollFor, BusyAfter: o.BusyAfter,
		KillGrace: o.KillGrace, StallAfter: o.StallAfter, IdleAfter: o.IdleAfter, StartTimeout: o.StartTimeout,
		RestartWindow: o.RestartWindow, MaxRestarts: o.MaxRestarts, IdleTick: clock.IdleTickEvery,
		Log: h.log, Off: h.off, Seams: h.seams,
	}
}
