package serve

import (
	"context"
	"sync"

	"hypertoken/host"
	"hypertoken/internal/peers"
)

// gates hold lines and requests back while the slots of their engines are given to another node. Each
// slot has a gate, which is open most of the time.
type gates struct {
	mu   sync.Mutex // guards the gates, too
	list map[int]*gate
}

// gate is that of one slot.
type gate struct {
	users int // lines and requests that are inside
	// opened is closed once a gate that is shut opens again; it is nil while the gate is open. given is
	// who has the slot then, if another node has.
	opened chan struct{}
	given  *peers.Owner
	// empty is closed once nobody is inside, if somebody waits for that; otherwise it is nil.
	empty chan struct{}
}

// gateLocked returns the gate of a slot. The lock mu is held.
func (g *gates) gateLocked(slot int) *gate {
	e := g.list[slot]
	if e == nil {
		e = &gate{}
		g.list[slot] = e
	}
	return e
}

// enter lets a line or a request in, which calls leave afterwards. If the gate is shut, it waits. If the
// slot was given to another node meanwhile, enter fails with a [peers.MovedError].
func (g *gates) enter(ctx context.Context, slot int) error {
	g.mu.Lock()
	e := g.gateLocked(slot)
	for e.opened != nil {
		opened := e.opened
		g.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return failure(host.ErrCanceled.Code, "the request ended while its engine was on its way to another node")
		}
		g.mu.Lock()
		if e.opened == nil && e.given != nil {
			g.mu.Unlock()
			return &peers.MovedError{Owner: *e.given}
		}
	}
	e.users++
	g.mu.Unlock()
	return nil
}

// leave says that a line or a request has ended that enter let in.
func (g *gates) leave(slot int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.list[slot]
	if e.users--; e.users == 0 && e.empty != nil {
		close(e.empty)
		e.empty = nil
	}
}

// shut shuts the gate of a slot, and returns a channel that is closed once nobody is inside. It returns
// nil if the gate is shut already.
func (g *gates) shut(slot int) (empty <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.gateLocked(slot)
	if e.opened != nil {
		return nil
	}
	e.opened, e.given, e.empty = make(chan struct{}), nil, make(chan struct{})
	empty = e.empty
	if e.users == 0 {
		close(e.empty)
		e.empty = nil
	}
	return empty
}

// open opens the gate of a slot. given is the node that has the slot now, or nil if it is this one.
func (g *gates) open(slot int, given *peers.Owner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.list[slot]
	e.given = given
	close(e.opened)
	e.opened, e.empty = nil, nil
}
