package host

import (
	"context"
	"time"
)

// Actions that are dispatched within a window of time may be gathered into one batch.

// gathering gathers the actions of an engine. The engine's lock guards it.
type gathering struct {
	driver    *driver
	isEnabled bool
	window    time.Duration // from the first action on
	mode      BatchMode

	// members are gathered now, none if there is no window open. size is that of their bodies, in
	// bytes. windows counts the windows, so that a timer that comes late ends no other one.
	members []*Future
	size    int
	windows int
	timer   *time.Timer
}

// maxGathered bounds the members of a gathered batch.
const maxGathered = 4096

// takes reports whether an action may be gathered.
func (g *gathering) takes(f *Future) bool {
	r := &f.request
	return g.isEnabled && f.isAction() && r.Keyed == nil && !r.IsConditional && f.behind == nil
}

// add adds an action to the batch that is gathered.
func (g *gathering) add(f *Future) {
	e := g.driver
	if len(g.members) == maxGathered ||
		(len(g.members) > 0 && g.size+len(f.request.Body) > e.host.options.MaxPayload) {
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
	g.members = append(g.members, f)
	g.size += len(f.request.Body)
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
		e.enqueue(&members[0].request)
		return
	}
	b := newBatch(e, g.mode, members)
	b.members = members
	b.future.call.began, b.future.call.isCounted = members[0].call.began, members[0].call.isCounted
	for _, f := range members {
		r := &f.request
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
	e.enqueue(&b.future.request)
}

// endsBy gives a batch a deadline, unless it has an earlier one.
func (b *batch) endsBy(deadline, allowed time.Duration, limit string) {
	if r := &b.future.request; r.Deadline == 0 || deadline < r.Deadline {
		r.Deadline, r.Allowed, r.Limit = deadline, allowed, limit
	}
}

// withdrawEnded takes out the members whose context has ended.
func (g *gathering) withdrawEnded() {
	for k := 0; k < len(g.members); {
		if r := &g.members[k].request; r.Context != nil && r.Context.Err() != nil {
			g.remove(k, ended(r.Context, r.What))
		} else {
			k++
		}
	}
}

// withdraw takes an action out of the batch that is gathered, because ctx has ended. It returns false
// if the action is not there.
func (g *gathering) withdraw(f *Future, ctx context.Context) bool {
	for k := range g.members {
		if g.members[k] == f {
			g.remove(k, ended(ctx, f.request.What))
			return true
		}
	}
	return false
}

func (g *gathering) remove(k int, err error) {
	f := g.members[k]
	g.members = append(g.members[:k:k], g.members[k+1:]...)
	g.size -= len(f.request.Body)
	f.Complete(&f.request, err)
}
