package serve

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hypertoken/internal/peers"
)

// How a node of a cluster gives a slot to another one.

// quietWithin is for how long a slot that is given away waits for its running lines, and closeWithin
// for how long it then waits for its engines. What takes longer goes on. The store refuses what it
// leaves, so it runs again at the other node.
const (
	quietWithin = 500 * time.Millisecond
	closeWithin = 250 * time.Millisecond
)

// HandOver has the engines of a slot go to another node: give writes that down, and returns the node.
// Meanwhile lines and requests for these engines wait. If give fails, they go on here.
func (s *Server) HandOver(ctx context.Context, slot int, give func(context.Context) (peers.Owner, error)) error {
	empty := s.gates.shut(slot)
	if empty == nil {
		return errors.New("the slot is being given away already")
	}
	var given *peers.Owner
	defer func() { s.gates.open(slot, given) }()
	await(ctx, empty, quietWithin)
	await(ctx, s.engines.closeSlot(slot, s.o.Peers.SlotOf), closeWithin)
	to, err := give(ctx)
	if err != nil {
		return err
	}
	s.o.Peers.Given(slot, to)
	given = &to
	return nil
}

// await waits until a channel is closed, for a time at most.
func await(ctx context.Context, done <-chan struct{}, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// closeSlot begins to close the engines of a slot, and returns a channel that is closed once all are.
// An engine whose line still runs is closed when the line has ended.
func (g *engines) closeSlot(slot int, slotOf func(string) int) <-chan struct{} {
	var all []<-chan struct{}
	g.mu.Lock()
	for name, e := range g.list {
		if e.engine == nil || slotOf(name) != slot {
			continue
		}
		if e.leaving == isStaying {
			g.leaveLocked(name, e, isClosing)
		}
		all = append(all, e.gone)
	}
	g.mu.Unlock()
	closed := make(chan struct{})
	g.background.Go(func() {
		defer close(closed)
		for _, gone := range all {
			<-gone
		}
	})
	return closed
}

// Leave says that the server stops soon: probes say so, and clients are asked to make new connections,
// which are to go to another server. Serve goes on until its context ends.
func (s *Server) Leave() { s.isLeaving.Store(true) }

// sayLeaving has the client make a new connection for its next request if the server stops soon.
func (s *Server) sayLeaving(w http.ResponseWriter) {
	if s.isLeaving.Load() {
		w.Header().Set("Connection", "close")
	}
}
