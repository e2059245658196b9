package driver

import (
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/inproc"
	"hypertoken/ipc"
)

// resident is an engine, as its place in this process knows it.
type resident Driver

var _ inproc.Tenant = (*resident)(nil)

// newResident returns a place in this process for an engine, which was granted. The engine's lock
// is held.
func newResident(e *Driver, placement uint64) *inproc.Place {
	h := e.engines
	h.residents.Add(1)
	h.scheduler.AddResident(placement, (*applicant)(e))
	return inproc.New(&h.places, (*resident)(e), placement)
}

// Hold implements inproc.Tenant, as all other methods here do.
func (r *resident) Hold() { r.mu.Lock() }

func (r *resident) Release(placement uint64, hasRoom bool) {
	e := (*Driver)(r)
	if hasRoom && (e.m.View().Place == engine.Place{Placement: placement}) {
		e.m.Room(e.now())
		e.performLocked()
	}
	e.unlockAndDeliver(false)
}

func (r *resident) HandleFrame(placement uint64, h ipc.Header, body []byte, seen time.Duration) {
	(*Driver)(r).takeFrameLocked(engine.Place{Placement: placement}, h.Kind, h.Flags, h.Request, body, seen)
}

func (r *resident) HandleFree(placement uint64, isHeld bool) {
	r.engines.scheduler.FreeSlot(placement)
	r.engines.residents.Done()
	if !isHeld {
		r.engines.scheduler.Assign()
	}
}

func (r *resident) Stamp() time.Duration {
	if r.engines.measures() {
		return r.engines.stamp()
	}
	return 0
}
