package driver

import (
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/pool"
)

// landlord is the engines of a host, as its pool of workers knows it.
type landlord Engines

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
		(*Driver)(p.Tenant.(*tenant)).placeLost(engine.Place{Worker: loss.Worker, Placement: p.ID}, d)
	}
}

func (l *landlord) HandleFreePlaces() { l.scheduler.Assign() }

func (l *landlord) HandleActions(list []byte) { l.actions.tell(list) }

func (l *landlord) HurryTick() { (*Engines)(l).hurryTick() }

func (l *landlord) Now() time.Duration { return l.clock.Now() }

func (l *landlord) Stamp() time.Duration { return (*Engines)(l).stamp() }

func (l *landlord) IsMeasuring() bool { return (*Engines)(l).measures() }
