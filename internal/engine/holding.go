package engine

import (
	"context"
	"errors"
	"time"

	"hypertoken/internal/fault"
)

// An engine that costs workers is held back, alone: otherwise the engines of others would have to
// be placed again and again. A worker is killed for a request that runs past its deadline, and the
// engine of the request is charged with the kill.

// hold is what an engine is charged with.
type hold struct {
	kills  int           // of workers
	last   time.Duration // when the last kill was
	until  time.Duration // when the engine may be placed again; 0 if it is not held back
	length time.Duration // of the present hold
}

const (
	// mostDoublings is how often HoldFor is doubled at most.
	mostDoublings = 6
	// forgivenAfter is how many times HoldFor have to pass after a kill, and after the end of its hold,
	// until the kills of an engine are forgotten.
	forgivenAfter = 60
)

func (m *Machine) chargeKill() {
	h, first := &m.hold, m.config.HoldFor
	if h.kills > 0 && m.now-max(h.last, h.last+h.length) > forgivenAfter*first {
		h.kills = 0
	}
	h.kills++
	h.last, h.length = m.now, 0
	if h.kills > m.config.MaxKills {
		h.length = first << min(h.kills-m.config.MaxKills-1, mostDoublings)
		h.until = m.now + h.length
		m.emitHeld(m.heldError("the engine"))
	}
}

// isHeld reports whether the engine must not be placed now.
func (m *Machine) isHeld() bool { return m.hold.until > 0 && m.now < m.hold.until }

// endHold ends the hold once its time is up.
func (m *Machine) endHold() {
	if m.hold.until > 0 && m.now >= m.hold.until {
		m.hold.until = 0
		m.askForPlace()
	}
}

func (m *Machine) heldError(what string) *fault.Error {
	left := max(m.hold.until-m.now, time.Millisecond).Round(time.Millisecond)
	return fault.ErrOverloaded.With("%s: the engine is held back for %v more: %d workers were killed for its actions that ran "+
		"past their deadline (MaxKills is %d); send shorter actions, or give them more time",
		what, left, m.hold.kills, m.config.MaxKills)
}

// reasonWhileHeld returns why a request has ended in the queue: if its time was up while the engine
// was held back, that is why.
func (m *Machine) reasonWhileHeld(r *Request, err error) error {
	if !m.isHeld() || !errors.Is(err, fault.ErrTimeout) {
		return err
	}
	held := m.heldError(r.What)
	held.Err = context.DeadlineExceeded
	return held
}
