package driver

import (
	"context"
	"time"

	"hypertoken/internal/fault"
)

// Actions that are dispatched within a window of time may be gathered into one batch.

// gathering gathers the actions of an engine. The engine's lock guards it.
type gathering struct {
	driver    *Driver
	isEnabled bool
	window    time.Duration // from the first action on
	mode      Mode

	// members are gathered now, none if there is no window open. size is that of their bodies, in
	// bytes. windows counts the windows, so that a timer that comes late ends no other one.
	members []*Call
	size    int
	windows int
	timer   *time.Timer
}

// maxGathered bounds the members of a gathered batch.
const maxGathered = 4096

// takes reports whether an action may be gathered.
func (g *gathering) takes(c *Call) bool {
	r := &c.request
	return g.isEnabled && c.isAction() && !r.IsRewind && r.Keyed == nil && !r.IsConditional && c.behind == nil
}

// add adds an action to the batch that is gathered.
func (g *gathering) add(c *Call) {
	e := g.driver
	if len(g.members) == maxGathered ||
		(len(g.members) > 0 && g.size+len(c.request.Body) > e.engines.config.Payload.Bytes) {
		g.flush()
	}
	if len(g.members) == 0 {
		g.windows++
		window := g.windows
		g.timer = time.AfterFunc(g.window, func() {
			e.mu.Lock()
			if g.windows == window {
				g.flush()
			}
			e.unlockAndDeliver(false)
		})
	}
	g.members = append(g.members, c)
	g.size += len(c.request.Body)
}

// flush sends what is gathered. Its deadline is its earliest member's.
func (g *gathering) flush() {
	if len(g.members) == 0 {
		return
	}
	e := g.driver
	g.timer.Stop()
	g.withdrawEnded()
	members := g.members
	g.members, g.size = nil, 0
	switch len(members) {
	case 0:
		return
	case 1:
		e.enqueueLocked(&members[0].request)
		return
	}
	b := newBatch(e, g.mode, members)
	b.call.request.IsStep = g.mode == Atomic // otherwise each is its caller's own
	b.members = members
	b.call.times.began, b.call.times.isCounted = members[0].times.began, members[0].times.isCounted
	for _, c := range members {
		r := &c.request
		if r.Deadline > 0 {
			b.endsBy(r.Deadline, r.Allowed, r.Limit)
		}
		if r.Context != nil {
			if at, ok := r.Context.Deadline(); ok {
				left := max(1, time.Until(at))
				b.endsBy(e.now()+left, left, "the deadline of a member's context")
			}
		}
	}
	e.enqueueLocked(&b.call.request)
}

// endsBy gives a batch a deadline, unless it has an earlier one.
func (b *batch) endsBy(deadline, allowed time.Duration, limit string) {
	if r := &b.call.request; r.Deadline == 0 || deadline < r.Deadline {
		r.Deadline, r.Allowed, r.Limit = deadline, allowed, limit
	}
}

// withdrawEnded takes out the members whose context has ended.
func (g *gathering) withdrawEnded() {
	for k := 0; k < len(g.members); {
		if r := &g.members[k].request; r.Context != nil && r.Context.Err() != nil {
			g.remove(k, fault.Ended(r.Context, r.What))
		} else {
			k++
		}
	}
}

// withdraw takes an action out of the batch that is gathered, because ctx has ended. It returns
// false if the action is not there.
func (g *gathering) withdraw(c *Call, ctx context.Context) bool {
	for k := range g.members {
		if g.members[k] == c {
			g.remove(k, fault.Ended(ctx, c.request.What))
			return true
		}
	}
	return false
}

func (g *gathering) remove(k int, err error) {
	c := g.members[k]
	g.members = append(g.members[:k:k], g.members[k+1:]...)
	g.size -= len(c.request.Body)
	c.Complete(&c.request, err)
}
