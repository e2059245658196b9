package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"hypertoken/host"
	"hypertoken/internal/journals"
	"hypertoken/internal/serve"
	"hypertoken/journal"
	"hypertoken/journal/jetstream"
	"hypertoken/wasm"
)

// How a node comes to run the core that is in force in its cluster. A host has one core, so a node whose
// core changes makes another host, with workers of its own, and the server goes on with that one.

const (
	// LookEvery is how often a node looks whether the target has changed. That costs one question to one
	// replica.
	LookEvery = 500 * time.Millisecond
	// retryEvery is how long a node waits until it tries again what has failed.
	retryEvery = 5 * time.Second
)

// CoreOptions say which cores a node runs, and how.
type CoreOptions struct {
	// Own is the code of the core that the node would run by itself.
	Own []byte
	// Pins are the hashes of the cores that it may run; none for any core.
	Pins []string
	// Compile finds out whether a core can be run.
	Compile func(ctx context.Context, code []byte) error
	// Open starts a host that runs a core.
	Open func(ctx context.Context, store journal.Store, code []byte) (*host.Host, error)
}

// NewHost starts a host with options, but for its store and its core.
func NewHost(ctx context.Context, o host.Options, store journal.Store, code []byte) (*host.Host, error) {
	o.Store, o.CorePath, o.Core, o.CoreSHA256 = store, "", code, wasm.Hash(code)
	if o.CoreSHA256 == wasm.Hash(wasm.Builtin()) {
		o.Core = nil // it is known to run
	}
	return host.New(ctx, o)
}

// ErrOwnCore is the error of [Join] if the node can't or may not run its own core.
var ErrOwnCore = errors.New("the node's own core can't be run")

// cores has the cores of a node, and the host that runs one of them.
type cores struct {
	o       CoreOptions
	store   *jetstream.Store
	members *jetstream.Members
	log     *slog.Logger

	// What follows belongs to the goroutine that starts the node, and then to that of follow.
	own     string            // the hash of the node's own core
	codes   map[string][]byte // of the cores that this node can run, by their hashes
	target  jetstream.Target
	running string    // the hash of the host's core
	retryAt time.Time // nothing that has failed is tried again before

	mu    sync.Mutex // guards hosts
	hosts []*host.Host
}

// newCores finds out which core is in force, and has the node have it. If the cluster has no target
// yet, that is the node's own core.
func newCores(ctx context.Context, o CoreOptions, store *jetstream.Store, members *jetstream.Members,
	log *slog.Logger) (*cores, error) {
	c := &cores{o: o, store: store, members: members, log: log, codes: map[string][]byte{}, own: wasm.Hash(o.Own)}
	if err := c.admit(ctx, c.own, o.Own); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOwnCore, err)
	}
	if err := whileUnavailable(ctx, func() error { return c.findTarget(ctx, o.Own) }); err != nil {
		return nil, err
	}
	c.running = c.target.Present()
	if err := whileUnavailable(ctx, func() error { return c.fetch(ctx, c.running) }); err != nil {
		return nil, fmt.Errorf("the core %s is in force in this cluster, and this node can't run it: %w", c.running, err)
	}
	if c.running != c.own {
		log.Info("another core than this node's own is in force in the cluster", "core", c.running,
			"generation", c.target.Generation, "own", c.own)
	}
	members.SetTarget(c.target)
	c.announceCores()
	return c, nil
}

// findTarget reads the target. If there is none, the node's own core becomes the target. code is that of
// the own core, which the store keeps in any case.
func (c *cores) findTarget(ctx context.Context, code []byte) (err error) {
	if err := KeepCore(ctx, c.store, c.own, code); err != nil {
		return err
	}
	if c.target, err = c.store.Target(ctx); err != nil || c.target.Generation > 0 {
		return err
	}
	c.target, err = c.store.Announce(ctx, c.target, c.own)
	if errors.Is(err, jetstream.ErrTargetChanged) { // another node was the first one
		return nil
	}
	return err
}

// whileUnavailable calls f again as long as the servers do not answer, until ctx ends.
func whileUnavailable(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, journal.ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(LookEvery):
		case <-ctx.Done():
			return err
		}
	}
}

// KeepCore has the store keep the code of a core.
func KeepCore(ctx context.Context, store *jetstream.Store, hash string, code []byte) error {
	_, err := journals.Answer(ctx, func(done func(struct{}, error)) {
		store.KeepCore(hash, code, journal.DoneFunc(func(err error) { done(struct{}{}, err) }))
	})
	return err
}

// admit notes a core as one that this node can run, if that is so: it is pinned, or nothing is, and it
// can be compiled.
func (c *cores) admit(ctx context.Context, hash string, code []byte) error {
	if len(c.o.Pins) > 0 && !slices.Contains(c.o.Pins, hash) {
		return fmt.Errorf("--core-sha256 does not allow the core %s: it allows %s", hash, strings.Join(c.o.Pins, ", "))
	}
	if hash != wasm.Hash(wasm.Builtin()) { // it is known to run
		if err := c.o.Compile(ctx, code); err != nil {
			return fmt.Errorf("the core %s can't be run: %w", hash, err)
		}
	}
	c.codes[hash] = code
	return nil
}

// fetch has this node have a core. It takes the code from the store.
func (c *cores) fetch(ctx context.Context, hash string) error {
	if c.codes[hash] != nil {
		return nil
	}
	code, err := journals.Answer(ctx, func(done func([]byte, error)) { c.store.Core(hash, done) })
	switch {
	case err != nil:
		return err
	case code == nil || wasm.Hash(code) != hash:
		return fmt.Errorf("the store does not have the core %s", hash)
	}
	return c.admit(ctx, hash, code)
}

// announceCores tells the other members which cores this node has.
func (c *cores) announceCores() {
	list := []string{c.running}
	for hash := range c.codes {
		if hash != c.running {
			list = append(list, hash)
		}
	}
	slices.Sort(list[1:])
	c.members.HasCores(list)
}

// open starts a host with the core that is in force.
func (c *cores) open(ctx context.Context) (*host.Host, error) {
	h, err := c.o.Open(ctx, c.store, c.codes[c.running])
	if err == nil {
		c.mu.Lock()
		c.hosts = append(c.hosts, h)
		c.mu.Unlock()
	}
	return h, err
}

// shutdown shuts the hosts of this node down.
func (c *cores) shutdown(ctx context.Context) {
	c.mu.Lock()
	hosts := slices.Clone(c.hosts)
	c.mu.Unlock()
	for _, h := range hosts {
		_ = h.Shutdown(ctx) // an action that is cut off here got an error, or its client is gone
	}
}

// follow has the server run the core that is in force, until ctx ends.
func (c *cores) follow(ctx context.Context, s *serve.Server) {
	ticker := time.NewTicker(LookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		newest, err := c.store.PeekTarget(ctx)
		if err != nil {
			c.log.Debug("the target core could not be read", "error", err)
			continue
		}
		c.note(newest)
		if time.Now().Before(c.retryAt) {
			continue
		}
		if err := c.approach(ctx, s); err != nil && ctx.Err() == nil {
			c.retryAt = time.Now().Add(retryEvery)
			c.log.Warn("this node can't run the target core, so it gets no games once that core is in force",
				"core", c.target.Core, "generation", c.target.Generation, "error", err)
		}
	}
}

// note takes a target in that was read.
func (c *cores) note(t jetstream.Target) {
	if !t.IsNewerThan(c.target) {
		return
	}
	c.target, c.retryAt = t, time.Time{}
	c.members.SetTarget(t)
	c.log.Info("the cluster has another target core", "core", t.Core, "generation", t.Generation, "in_force", t.InForce)
}

// approach takes the next steps towards the target: to have its core, to put it in force once all
// members have it, and to run it.
func (c *cores) approach(ctx context.Context, s *serve.Server) error {
	if c.codes[c.target.Core] == nil {
		if err := c.fetch(ctx, c.target.Core); err != nil {
			return err
		}
		c.announceCores()
	}
	if !c.target.InForce && c.members.HoldsLease() && len(c.members.Lacking(c.target.Core)) == 0 {
		t, err := c.store.PutInForce(ctx, c.target)
		if err != nil && !errors.Is(err, jetstream.ErrTargetChanged) {
			return err
		}
		c.note(t)
	}
	if c.target.InForce && c.codes[c.target.Core] != nil && c.target.Core != c.running {
		return c.change(ctx, s)
	}
	return nil
}

// change has the server go on with a host that has the core that is in force.
func (c *cores) change(ctx context.Context, s *serve.Server) error {
	began, former := time.Now(), c.running
	c.running = c.target.Core
	h, err := c.open(ctx)
	if err != nil {
		c.running = former
		return err
	}
	c.announceCores()
	s.ChangeHost(ctx, h)
	c.mu.Lock()
	left := c.hosts[0]
	c.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err() // shutdown ends both
	}
	if err := left.Shutdown(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.hosts = c.hosts[1:]
	c.mu.Unlock()
	for hash := range c.codes {
		if hash != c.own && hash != c.running {
			delete(c.codes, hash) // the store has it
		}
	}
	c.announceCores()
	c.log.Info("this node has gone over to another core", "core", c.running, "former", former,
		"generation", c.target.Generation, "took", time.Since(began).Round(time.Millisecond))
	return nil
}
