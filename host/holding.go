package host

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An engine that costs workers is held back, alone: the engines of others would have to be placed
// again and again. A worker is killed for what runs past its deadline; the engine that it ran is
// charged with that.

// holding is what an engine is charged with.
type holding struct {
	kills  int           // of workers
	last   time.Duration // when the last one was
	until  time.Duration // when it may be placed again, 0 if it is not held back
	length time.Duration
}

const (
	// mostHolds is how often HoldFor is doubled at most.
	mostHolds = 6
	// forgiven is how long after its last kill, and after the end of its hold, an engine starts anew,
	// in holds of HoldFor.
	forgiven = 60
)

// charge takes note that a worker was killed for a request of this engine that ran past its deadline.
func (m *engineMachine) charge() {
	h, first := &m.hold, m.limits.holdFor
	if h.kills > 0 && m.now-max(h.last, h.last+h.length) > forgiven*first {
		h.kills = 0
	}
	h.kills++
	h.last, h.length = m.now, 0
	if h.kills > m.limits.maxKills {
		h.length = first << min(h.kills-m.limits.maxKills-1, mostHolds)
		h.until = m.now + h.length
		m.effect(engineEffect{kind: effHeld, err: m.heldError("the engine")})
	}
}

// isHeld reports whether the engine must not be placed now.
func (m *engineMachine) isHeld() bool { return m.hold.until > 0 && m.now < m.hold.until }

// release ends the hold once its time is up.
func (m *engineMachine) release() {
	if m.hold.until > 0 && m.now >= m.hold.until {
		m.hold.until = 0
		m.need()
	}
}

func (m *engineMachine) heldError(what string) error {
	return &Error{Code: ErrOverloaded.Code, Message: fmt.Sprintf("%s: the engine is held back for %v more: "+
		"%d workers were killed for its actions that ran past their deadline (MaxKills is %d); "+
		"send shorter actions, or give them more time", what, max(m.hold.until-m.now, time.Millisecond).Round(time.Millisecond), m.hold.kills, m.limits.maxKills)}
}

// whileHeld returns why a request has ended in the queue: if its time was up while the engine was held
// back, that is why.
func (m *engineMachine) whileHeld(r *request, err error) error {
	if !m.isHeld() || !errors.Is(err, ErrTimeout) {
		return err
	}
	held := m.heldError(r.what).(*Error)
	held.Err = context.DeadlineExceeded
	return held
}
