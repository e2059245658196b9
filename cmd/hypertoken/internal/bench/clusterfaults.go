package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hypertoken/journal/jetstream"
)

// The probes here measure what callers notice when a node of a cluster is killed, or stopped.

// killedEngines is how many engines are called after the death of a node: those of them that it had.
const killedEngines = 64

// openClusterKill measures the time from the SIGKILL of a node to the next answers of its engines. Nodes are
// killed in turn, each once all of them are ready again.
func openClusterKill(ctx context.Context, r *room) (slice, error) {
	c, err := r.cluster(ctx)
	if err == nil {
		err = c.startNodes(ctx)
	}
	if err != nil {
		return nil, err
	}
	games := r.newGames(killedEngines)
	if err := forEach(games, func(g *clusterGame) error { return c.begin(ctx, g, c.Nodes()) }); err != nil {
		return nil, err
	}
	turn := 0
	return func(ctx context.Context, d time.Duration, s *sample) error {
		kills := 0
		for until := time.Now().Add(d); kills == 0 || time.Now().Before(until); turn++ {
			nodes := rotated(c.Nodes(), turn)
			waits, err := c.kill(ctx, games, nodes[0], nodes[1:])
			if err != nil {
				return err
			}
			for _, w := range waits {
				s.lap(w)
			}
			kills += min(len(waits), 1)
		}
		s.value("worst", "us", float64(slices.Max(s.laps))/1e3)
		s.value("kills", "kills", float64(kills))
		return nil
	}, nil
}

// kill kills a node, and returns how long the games that it had were without an answer. There is none if it
// had no game.
func (c *testCluster) kill(ctx context.Context, games []*clusterGame, victim string, others []string) ([]time.Duration,
	error) {
	if err := c.startNodes(ctx); err != nil {
		return nil, err
	}
	if err := forEach(games, func(g *clusterGame) error { return c.play(ctx, g, others) }); err != nil {
		return nil, err
	}
	open, err := c.openAt(ctx, victim)
	if err != nil {
		return nil, err
	}
	theirs := slices.DeleteFunc(slices.Clone(games), func(g *clusterGame) bool { return !open[g.name] })
	began := time.Now()
	if err := c.Kill(victim); err != nil {
		return nil, err
	}
	waits := make([]time.Duration, len(theirs))
	failed := make([]error, len(theirs))
	var calling sync.WaitGroup
	for k, g := range theirs {
		calling.Go(func() {
			failed[k] = c.play(ctx, g, rotated(others, k))
			waits[k] = time.Since(began)
		})
	}
	calling.Wait()
	return waits, firstOf(failed)
}

const (
	// stoppedEngines are active at a node that is stopped, if there is the time to begin as many, and
	// leastStopped in any case.
	stoppedEngines, leastStopped = 1000, 30
	// actsEvery is how often each of them is called.
	actsEvery = time.Second
)

// openClusterStop measures what callers wait while a node is stopped by SIGTERM whose engines are active: each
// has a caller that plays an action a second, over HTTP, at any node. A caller goes to another node when its
// node asks for a new connection, or takes none.
func openClusterStop(ctx context.Context, r *room) (slice, error) {
	c, err := r.cluster(ctx)
	if err == nil {
		err = c.startNodes(ctx)
	}
	if err != nil {
		return nil, err
	}
	// Each node gets a third of them.
	var mu sync.Mutex // guards games
	var games []*clusterGame
	until := time.Now().Add(r.time / 8)
	err = forEach(r.newGames(clusterSize*stoppedEngines*11/10), func(g *clusterGame) error {
		mu.Lock()
		isEnough := len(games) >= clusterSize*leastStopped && time.Now().After(until)
		mu.Unlock()
		if isEnough {
			return nil
		}
		if err := c.begin(ctx, g, c.Nodes()); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		games = append(games, g)
		return nil
	})
	if err != nil {
		return nil, err
	}
	turn := 0
	return func(ctx context.Context, d time.Duration, s *sample) error {
		all := stopWaits{}
		stops, least := 0, stoppedEngines
		for until := time.Now().Add(d); stops == 0 || time.Now().Before(until); turn++ {
			victim := c.Nodes()[turn%clusterSize]
			theirs, err := c.gamesOf(ctx, games, victim)
			if err != nil {
				return err
			}
			if len(theirs) == 0 {
				continue
			}
			w, err := c.stopUnderLoad(ctx, theirs, victim)
			if err != nil {
				return err
			}
			all.add(&w)
			stops++
			least = min(least, len(theirs))
		}
		for _, w := range all.meanwhile {
			s.lap(w)
		}
		s.value("longest", "us", longest(all.meanwhile))
		s.value("longest_before", "us", longest(all.before))
		s.value("errors", "errors", float64(len(all.failed)))
		s.value("engines", "engines", float64(least))
		s.value("stops", "stops", float64(stops))
		return nil
	}, nil
}

func longest(waits []time.Duration) float64 {
	if len(waits) == 0 {
		return 0
	}
	return float64(slices.Max(waits).Microseconds())
}

// gamesOf returns those of the games that a node has, as many as are to be active. Each is open.
func (c *testCluster) gamesOf(ctx context.Context, games []*clusterGame, node string) ([]*clusterGame, error) {
	if err := c.startNodes(ctx); err != nil {
		return nil, err
	}
	if err := forEach(games, func(g *clusterGame) error { return c.play(ctx, g, c.Nodes()) }); err != nil {
		return nil, err
	}
	slots, err := c.slotsOf(ctx, node)
	if err != nil {
		return nil, err
	}
	theirs := slices.DeleteFunc(slices.Clone(games), func(g *clusterGame) bool {
		return !slots[jetstream.SlotOf(g.name)]
	})
	return theirs[:min(len(theirs), stoppedEngines)], nil
}

// stopWaits is what callers waited for answers before a node was stopped, and from then on, and the errors
// that they got.
type stopWaits struct {
	before, meanwhile []time.Duration
	failed            []error
}

func (w *stopWaits) add(o *stopWaits) {
	w.before, w.meanwhile = append(w.before, o.before...), append(w.meanwhile, o.meanwhile...)
	w.failed = append(w.failed, o.failed...)
}

// stopUnderLoad has callers play games for a while, stops a node, and has them play on until some time after
// its end.
func (c *testCluster) stopUnderLoad(ctx context.Context, games []*clusterGame, victim string) (stopWaits, error) {
	stopped, ended := make(chan struct{}), make(chan struct{})
	waits := make([]stopWaits, len(games))
	failed := make([]error, len(games))
	var calling sync.WaitGroup
	for k, g := range games {
		calling.Go(func() {
			p := &stopCaller{cluster: c, game: g, nodes: rotated(c.Nodes(), k), waits: &waits[k]}
			failed[k] = p.run(ctx, stopped, ended)
		})
	}
	err := sleep(ctx, 2*actsEvery)
	close(stopped)
	if err == nil {
		err = c.Shut(victim, patience)
	}
	err = errors.Join(err, sleep(ctx, actsEvery))
	close(ended)
	calling.Wait()
	all := stopWaits{}
	for k := range waits {
		all.add(&waits[k])
	}
	return all, errors.Join(err, firstOf(failed))
}

// stopCaller is the caller of a game whose node is stopped.
type stopCaller struct {
	cluster *testCluster
	game    *clusterGame
	nodes   []string // the one that it talks to first
	waits   *stopWaits
}

// run plays an action each second until ended is closed. It notes each wait.
func (p *stopCaller) run(ctx context.Context, stopped, ended <-chan struct{}) error {
	if err := sleep(ctx, rand.N(actsEvery)); err != nil {
		return err
	}
	ticker := time.NewTicker(actsEvery)
	defer ticker.Stop()
	for {
		began := time.Now()
		if err := p.play(ctx); err != nil {
			return err
		}
		list := &p.waits.meanwhile
		select {
		case <-stopped:
		default:
			list = &p.waits.before
		}
		*list = append(*list, time.Since(began))
		select {
		case <-ticker.C:
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// play plays the next action until it is answered. An error counts, unless nothing was sent.
func (p *stopCaller) play(ctx context.Context) error {
	defer func() { p.game.played++ }()
	for until := time.Now().Add(patience); ; {
		isLeaving, err := p.cluster.send(ctx, p.nodes[0], p.game.name, p.game.line())
		if isLeaving || err != nil {
			p.nodes = rotated(p.nodes, 1)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.Is(err, errUnreached):
		default:
			p.waits.failed = append(p.waits.failed, err)
		}
		if time.Now().After(until) || !passes(err) {
			return fmt.Errorf("the game %s: %w", p.game.name, err)
		}
		if err := sleep(ctx, lookAgain); err != nil {
			return err
		}
	}
}
