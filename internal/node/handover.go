package node

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"hypertoken/internal/peers"
	"hypertoken/internal/serve"
	"hypertoken/journal"
)

// How a node gives its slots to other nodes: all of them before it ends, and those that other members
// should have while it runs.

const (
	// stableFor is for how long no member may have come, changed or died before slots move to where
	// they should be.
	stableFor = 5 * time.Second
	// balanceEvery is how often a node looks for such slots, and balanceMost how many move at a time. The
	// node serves meanwhile.
	balanceEvery = 500 * time.Millisecond
	balanceMost  = 4
	// giveMost is how many slots a node gives away at a time that ends.
	giveMost = 16
	// leaveFor is how long a node still takes requests once it has no slots: other nodes, load balancers
	// and clients take notice that it ends.
	leaveFor = time.Second
	// giveWithin bounds the wait for calls of the store that are under way.
	giveWithin = 2 * time.Second
)

// ServeClients serves clients until ctx ends. Then it gives all slots away, while it still serves, and
// returns once what clients have sent is answered. within bounds the time for giving.
func (n *Node) ServeClients(ctx context.Context, s *serve.Server, l net.Listener, within time.Duration) error {
	return n.serveUntil(ctx, s, within, func(ctx context.Context) error { return s.Serve(ctx, l) })
}

// ServeNodes is ServeClients for a node without clients.
func (n *Node) ServeNodes(ctx context.Context, s *serve.Server, within time.Duration) {
	_ = n.serveUntil(ctx, s, within, func(ctx context.Context) error {
		s.ServeNodes(ctx)
		return nil
	})
}

// serveUntil calls serve with a context that ends once ctx has ended and all slots are given away.
func (n *Node) serveUntil(ctx context.Context, s *serve.Server, within time.Duration,
	serve func(context.Context) error) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan struct{})
	var giving sync.WaitGroup
	giving.Go(func() {
		following, stopFollowing := context.WithCancel(ctx)
		var cores sync.WaitGroup
		cores.Go(func() { n.cores.follow(following, s) })
		n.balance(ctx, s, ended)
		stopFollowing()
		cores.Wait()
		if ctx.Err() == nil {
			return // the server has failed
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
		n.giveAll(bounded, s)
		stop()
	})
	err := serve(serving)
	close(ended)
	giving.Wait()
	return err
}

// giveAll gives all slots away, 16 at a time, until the cluster declares this node dead or ctx ends.
func (n *Node) giveAll(ctx context.Context, s *serve.Server) {
	if n.IsDead() {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go n.UntilDead(ctx, cancel)
	began := time.Now()
	n.members.Drain()
	s.Leave()
	total := 0
	for ctx.Err() == nil {
		slots, err := n.store.Named(ctx)
		if err != nil {
			n.log.Warn("this node's slots could not be found", "error", err)
			break
		}
		given := n.giveSlots(ctx, s, slots, giveMost, 0)
		if total += given; given == 0 {
			break
		}
	}
	if total > 0 {
		n.log.Info("the slots of this node have gone to other nodes", "slots", total,
			"took", time.Since(began).Round(time.Millisecond))
	}
	select {
	case <-time.After(leaveFor):
	case <-ctx.Done():
	}
}

// balance gives slots to the members that should have them, until ctx ends or ended is closed.
func (n *Node) balance(ctx context.Context, s *serve.Server, ended <-chan struct{}) {
	ticker := time.NewTicker(balanceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case <-ticker.C:
		}
		if given := n.giveSlots(ctx, s, n.members.Owned(), balanceMost, stableFor); given > 0 {
			n.log.Info("slots have gone to the members that should have them", "slots", given)
		}
	}
}

// giveSlots gives those of some slots to other members that these should have, so many at a time, and
// returns how many it gave.
func (n *Node) giveSlots(ctx context.Context, s *serve.Server, slots []int, most int,
	stable time.Duration) (given int) {
	var mu sync.Mutex // guards given
	var giving sync.WaitGroup
	room := make(chan struct{}, most)
	for _, slot := range slots {
		if _, ok := n.members.Heir(slot, stable); !ok {
			continue
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		giving.Go(func() {
			defer func() { <-room }()
			if n.giveSlot(ctx, s, slot, stable) {
				mu.Lock()
				given++
				mu.Unlock()
			}
		})
	}
	giving.Wait()
	return given
}

// giveSlot gives a slot to the member that should have it.
func (n *Node) giveSlot(ctx context.Context, s *serve.Server, slot int, stable time.Duration) bool {
	began := time.Now()
	err := s.HandOver(ctx, slot, func(ctx context.Context) (peers.Owner, error) {
		heir, ok := n.members.Heir(slot, stable)
		if !ok {
			return peers.Owner{}, errNoHeir
		}
		bounded, cancel := context.WithTimeout(ctx, giveWithin)
		defer cancel()
		given, err := n.store.Give(bounded, slot, heir)
		return peers.Owner{Address: given.Address, Epoch: given.Epoch}, err
	})
	switch {
	case err == nil:
		n.handOvers.Observe(time.Since(began).Seconds())
		return true
	case !errors.Is(err, journal.ErrNotOwner) && !errors.Is(err, errNoHeir) && ctx.Err() == nil:
		n.log.Warn("a slot could not be given to another node", "slot", slot, "error", err)
	}
	return false
}

var errNoHeir = errors.New("no other member should have the slot")
