// Package cluster is package host on several machines: programs that embed it, and servers of
// 'hypertoken serve --cluster', are the nodes of a cluster, and play the same games. Open works
// for every name, whether the engine is in this process or on another node, and whatever is called
// on it gives the same values and the same errors.
//
//	func main() {
//		workerproc.Main() // this program is its own worker
//		...
//		h, err := cluster.Join(ctx, cluster.Options{
//			Store:  jetstream.Options{Servers: servers, Address: "10.0.0.5:9465", Sync: jetstream.SyncTrusted},
//			Secret: secret,
//		})
//		...
//		defer h.Shutdown(ctx)
//		e, err := h.Open(ctx, "table-1", host.EngineOptions{Setup: setup})
//		...
//		cards, err := host.As[[]Card](e.Dispatch(ctx, "stack:draw", map[string]any{"count": 5}))
//
// README.md says what is different from a host of one machine. docs/cluster.md says how to run a
// cluster.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/host"
	"hypertoken/internal/calls"
	"hypertoken/internal/fault"
	"hypertoken/internal/node"
	"hypertoken/internal/payload"
	"hypertoken/internal/peers"
	"hypertoken/internal/seam"
	"hypertoken/internal/serve"
	"hypertoken/journal"
	"hypertoken/journal/jetstream"
	"hypertoken/wasm"
)

// Options configure a host that is a node of a cluster.
type Options struct {
	// Store says where the journals are. Servers and Address are needed: this process listens for
	// the other nodes at Address, and they reach it there, such as 10.0.0.5:9465. Claims is set by
	// [Join].
	Store jetstream.Options
	// Secret is what the nodes of the cluster know, and nobody else: the first line of the file of
	// --cluster-secret-file. It has 16 bytes or more.
	Secret string
	// PeerTLS has the files that this node speaks TLS with to the others. The zero value is no
	// TLS.
	PeerTLS PeerTLS
	// Host configures the host of this process. Its Store is set by [Join].
	Host host.Options
	// MaxEngines is how many engines may be open in this process, for all nodes. Those that are
	// not in use are closed to make room. Default 1,024.
	MaxEngines int
	// EngineIdle is after what time an engine that nobody calls is closed; its next call opens it
	// again. Default 5 minutes.
	EngineIdle time.Duration
	// WithoutKeys has calls without a [host.Key] stay without one if they go to another node. Then
	// such a call fails with [host.ErrOutcomeUnknown] if that node dies. By default each gets a
	// key of its own, so that it can be sent again.
	WithoutKeys bool

	lease time.Duration // a seam for tests
}

// PeerTLS names PEM files, as the flags --peer-tls-* of 'hypertoken serve' do.
type PeerTLS struct {
	// Cert and Key are the certificate of this node and its private key.
	Cert, Key string
	// CA has the certificates of the authorities that sign those of nodes.
	CA string
	// Name is what the certificate of each node has to be for. Default the host of each node's
	// address.
	Name string
}

const (
	defaultEngineIdle = 5 * time.Minute
	// giveWithin is how long a host that is shut down gives its engines to other nodes.
	giveWithin = 10 * time.Second
)

// Host is a host that is a node of a cluster. Its engines are those of all nodes. What it says of itself,
// such as its Stats, is about this process.
//
// All nodes of a cluster run the core that is in force in it. The one of Options.Host is run if it is that
// one, or if there is none yet: then it is in force from now on.
type Host struct {
	o      Options
	limits payload.Limits
	node   *node.Node
	server *serve.Server

	// serving ends when the host gives its engines away. served is closed once it has.
	stop      context.CancelFunc
	served    chan struct{}
	mu        sync.Mutex // guards what follows
	isClosing bool
	running   int                // the calls that have no outcome yet
	idle      chan struct{}      // closed once there are none, if somebody waits for that; otherwise nil
	engines   map[string]*engine // those that were opened here and not closed, by name
	shutDown  chan struct{}      // closed once Shutdown has freed everything; nil before it was called
}

// Join starts a host, and makes it a node of the cluster. The caller calls Shutdown. It fails as
// [host.New] does, with [host.ErrBadInput] for other options that can't be meant, and if the NATS
// servers do not answer within 30 s, or are not what the store needs.
func Join(ctx context.Context, o Options) (*Host, error) {
	tls, err := o.check()
	if err != nil {
		return nil, err
	}
	log := cmp.Or(o.Host.Logger, slog.Default())
	o.Store.Logger = cmp.Or(o.Store.Logger, log)
	s := serve.Defaults()
	cores, err := o.cores()
	if err != nil {
		return nil, err
	}
	n, err := node.Join(ctx, node.Options{Address: o.Store.Address, Secret: o.Secret, TLS: tls, MaxLine: s.MaxLine,
		Cores: cores, Store: o.Store, Logger: log, Lease: o.lease})
	switch {
	case errors.Is(err, node.ErrOwnCore):
		return nil, host.ErrBadInput.Because(err, "cluster: %v", err)
	case err != nil:
		return nil, fmt.Errorf("cluster: %w", err)
	}
	h := &Host{o: o, node: n, served: make(chan struct{}), engines: map[string]*engine{}}
	first, err := n.OpenHost(ctx)
	if err != nil {
		n.Leave(context.WithoutCancel(ctx))
		return nil, err
	}
	h.limits = seam.Payloads(first)
	s.Peers, s.Logger, s.IsDurable, s.Rate = n.Peers(), log, true, 0
	s.EngineIdle = cmp.Or(o.EngineIdle, defaultEngineIdle)
	s.MaxEngines = cmp.Or(o.MaxEngines, s.MaxEngines)
	if h.server, err = serve.New(first, s); err != nil {
		n.ShutdownHosts(context.WithoutCancel(ctx))
		n.Leave(context.WithoutCancel(ctx))
		return nil, host.ErrBadInput.Because(err, "cluster: %v", err)
	}
	n.Serve(h.server)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	go n.UntilDead(serving, stop)
	go func() {
		defer close(h.served)
		n.ServeNodes(serving, h.server, giveWithin)
	}()
	return h, nil
}

// cores says which cores this node runs: its own one is that of Options.Host.
func (o *Options) cores() (c node.CoreOptions, err error) {
	own := &o.Host
	switch {
	case own.CorePath != "" && own.Core != nil:
		return c, host.ErrBadInput.With("cluster: Options.Host has a CorePath and a Core: which one is meant?")
	case own.CorePath != "":
		if c.Own, err = os.ReadFile(own.CorePath); err != nil {
			return c, host.ErrBadInput.Because(err, "cluster: Options.Host.CorePath: %v", err)
		}
	case own.Core != nil:
		c.Own = own.Core
	default:
		c.Own = wasm.Builtin()
	}
	if own.CoreSHA256 != "" {
		c.Pins = []string{own.CoreSHA256}
	}
	c.Compile = func(ctx context.Context, code []byte) error {
		core, err := wasm.Compile(ctx, code, wasm.Options{MemoryLimit: uint64(own.MaxEngineMemory),
			CompileOnly: own.NoFallback, Interruptible: !own.NoFallback, FirstInstance: time.Minute})
		if err != nil {
			return err
		}
		return core.Close(context.WithoutCancel(ctx))
	}
	c.Open = func(ctx context.Context, store journal.Store, code []byte) (*host.Host, error) {
		return node.NewHost(ctx, *own, store, code)
	}
	return c, nil
}

// check fails for options that can't be meant.
func (o *Options) check() (*peers.TLS, error) {
	t := peers.TLSFiles(o.PeerTLS)
	switch {
	case o.Host.Store != nil:
		return nil, host.ErrBadInput.With("cluster: Options.Host.Store is set: the journals are where Options.Store says")
	case len(o.Store.Servers) == 0 || o.Store.Address == "":
		return nil, host.ErrBadInput.With("cluster: Options.Store needs Servers, and the Address at which the other nodes " +
			"reach this one")
	case len(o.Secret) < peers.MinSecret:
		return nil, host.ErrBadInput.With("cluster: Options.Secret has %d bytes, want %d or more", len(o.Secret),
			peers.MinSecret)
	case o.MaxEngines < 0 || o.EngineIdle < 0:
		return nil, host.ErrBadInput.With("cluster: Options.MaxEngines is %d and EngineIdle is %v; neither is below 0",
			o.MaxEngines, o.EngineIdle)
	case !t.IsSet():
		return nil, nil //nolint:nilnil // no TLS is no error
	case t.Cert == "" || t.Key == "" || t.CA == "":
		return nil, host.ErrBadInput.With("cluster: Options.PeerTLS needs Cert, Key and CA: nodes prove to each other who " +
			"they are")
	}
	tls, err := peers.LoadTLS(t, o.Store.Address)
	if err != nil {
		return nil, host.ErrBadInput.Because(err, "cluster: Options.PeerTLS: %v", err)
	}
	return tls, nil
}

// Collectors are those of the metrics of the node and its store, for a registry of Prometheus.
func (h *Host) Collectors() []prometheus.Collector { return h.node.Collectors() }

// Unready returns why this process can't have engines at the moment, or "". Calls of engines of
// other nodes go on meanwhile.
func (h *Host) Unready() string { return h.node.Peers().Ready() }

// Dead returns a channel that is closed if the other nodes declare this one dead: it stood still
// for a second, or did not reach the NATS servers. They have its engines then, and nothing that
// was answered is lost. Every further call fails with [host.ErrShutdown]. Call Shutdown, and Join
// again.
func (h *Host) Dead() <-chan struct{} { return h.node.Dead() }

// Open creates the engine of a name, or loads it, on the node that has it or is to have it. It
// does what [host.Host.Open] does. Programs on other nodes may have opened it, too: then they play
// on the same engine. EngineOptions.EnableBatching is not looked at.
func (h *Host) Open(ctx context.Context, name string, o host.EngineOptions) (*host.Engine, error) {
	opening, err := seam.Prepare(h.present(), name, o)
	if err != nil {
		return nil, err
	}
	e := &engine{host: h, name: name, timeout: opening.Timeout, closed: make(chan struct{})}
	e.public = seam.Wrap(h.present(), e).(*host.Engine)
	if err := h.enlist(e); err != nil {
		return nil, err
	}
	a := h.call(ctx, name, &calls.Call{Method: calls.Open, Base: &opening.Base, Opening: opening.Options.Opening,
		What: fmt.Sprintf("open %q", name)})
	if a.Err != nil {
		h.forget(e)
		return nil, a.Err
	}
	return e.public, nil
}

// enlist takes the name of an engine.
func (h *Host) enlist(e *engine) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engines[e.name] != nil {
		return host.ErrBadInput.With("Open: an engine named %q is open; close it first", e.name)
	}
	h.engines[e.name] = e
	return nil
}

// forget gives the name of an engine back.
func (h *Host) forget(e *engine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engines[e.name] == e {
		delete(h.engines, e.name)
	}
}

// begin lets a call in, which is counted until done.
func (h *Host) begin() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.isClosing:
		return fault.Shutdown()
	case h.node.IsDead():
		return host.ErrShutdown.With("the other nodes of the cluster have declared this one dead: shut the host down, and " +
			"join again")
	}
	h.running++
	return nil
}

// done says that a call has its outcome.
func (h *Host) done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running--; h.running == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// wait waits for a moment at which no call is without an outcome. It fails if ctx ends first.
func (h *Host) wait(ctx context.Context, what string) error {
	h.mu.Lock()
	if h.running == 0 {
		h.mu.Unlock()
		return nil
	}
	if h.idle == nil {
		h.idle = make(chan struct{})
	}
	idle := h.idle
	h.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fault.Ended(ctx, what)
	}
}

// call has a call answered by the node that has the engine of a name.
func (h *Host) call(ctx context.Context, name string, c *calls.Call) *calls.Answer {
	if err := h.begin(); err != nil {
		return &calls.Answer{Err: err}
	}
	defer h.done()
	c.Context = ctx
	return h.server.Call(ctx, name, []*calls.Call{c}, h.limits)[0]
}

// present returns the host that runs the engines of this process. The cluster may go over to another
// core, and then it is another one.
func (h *Host) present() *host.Host { return h.server.Host() }

// Actions is [host.Host.Actions], of the core that this process runs at the moment.
func (h *Host) Actions(ctx context.Context) ([]host.ActionInfo, error) {
	return h.present().Actions(ctx)
}

// Records is [host.Host.Records], of the core that this process runs at the moment.
func (h *Host) Records(ctx context.Context) ([]host.RecordInfo, error) {
	return h.present().Records(ctx)
}

// CoreHash is [host.Host.CoreHash]: that of the core that this process runs at the moment.
func (h *Host) CoreHash() string { return h.present().CoreHash() }

// CoreToolchain is [host.Host.CoreToolchain], of the core that this process runs at the moment.
func (h *Host) CoreToolchain() string { return h.present().CoreToolchain() }

// Stats is [host.Host.Stats], of this process. It begins anew when the cluster goes over to another core.
func (h *Host) Stats() host.Stats { return h.present().Stats() }

// Measure is [host.Host.Measure], of this process. It begins anew when the cluster goes over to another
// core.
func (h *Host) Measure() host.Measurements { return h.present().Measure() }

// RecentErrors is [host.Host.RecentErrors], of this process.
func (h *Host) RecentErrors() []host.RecentError { return h.present().RecentErrors() }

// Stored is [host.Host.Stored]: the names that the cluster knows, of all nodes.
func (h *Host) Stored(ctx context.Context, prefix, after string, limit int) ([]host.StoredEngine, error) {
	return h.present().Stored(ctx, prefix, after, limit)
}

// StoreHealth is [host.Host.StoreHealth]: whether this process can store anything.
func (h *Host) StoreHealth() error { return h.present().StoreHealth() }

// Import is [host.Host.Import].
func (h *Host) Import(ctx context.Context, name string, base journal.Base) (*host.Import, error) {
	return h.present().Import(ctx, name, base)
}

// Get returns the engine of a name if it was opened here and not closed, and nil otherwise.
func (h *Host) Get(name string) *host.Engine {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.engines[name]; e != nil {
		return e.public
	}
	return nil
}

// Engines iterates over the engines that were opened here and not closed, by name.
func (h *Host) Engines() iter.Seq[*host.Engine] {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []*host.Engine
	for _, e := range h.engines {
		list = append(list, e.public)
	}
	slices.SortFunc(list, func(a, b *host.Engine) int { return cmp.Compare(a.Name(), b.Name()) })
	return slices.Values(list)
}

// Delete forgets the journal of a name for good, on whatever node it is. It fails with
// [host.ErrBadInput] if the engine is open here. If another program has it open, its calls fail
// with [host.ErrEngineNotFound].
func (h *Host) Delete(ctx context.Context, name string) error {
	if h.Get(name) != nil {
		return host.ErrBadInput.With("Delete: the engine %q is open; close it first", name)
	}
	return h.call(ctx, name, &calls.Call{Method: calls.Delete, What: fmt.Sprintf("delete %q", name)}).Err
}

// Fork is [host.Host.Fork]: the engine that is copied may be on any node, and so may the copy.
func (h *Host) Fork(ctx context.Context, from string, at uint64, name string) (host.Position, error) {
	if name == "" || name[0] == 0 {
		return h.present().Fork(ctx, from, at, name) // which says what is wrong with the name
	}
	a := h.call(ctx, name, &calls.Call{Method: calls.Fork, From: from, Sequence: at,
		What: fmt.Sprintf("Fork %q", name)})
	return host.Position{Sequence: a.Result.Sequence, Digest: host.Digest(a.Result.Digest)}, a.Err
}

// RemoveImports does nothing: the store of a cluster removes what is left of imports.
func (h *Host) RemoveImports(context.Context) (removed int, err error) { return 0, nil }

// Drain waits for a moment at which nothing that was called here is in flight. If ctx ends first,
// it returns [host.ErrTimeout] or [host.ErrCanceled].
func (h *Host) Drain(ctx context.Context) error {
	if err := h.wait(ctx, "Drain"); err != nil {
		return err
	}
	return h.present().Drain(ctx)
}

// Shutdown takes nothing more in, waits for the calls that there are, gives the engines of this
// process to other nodes, which takes 10 s at most, and leaves the cluster. If ctx ends first, it
// waits no longer for calls and other nodes, and returns the context's error; everything is freed
// all the same. What was given away goes on elsewhere. It may be called any number of times.
func (h *Host) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	isFirst := !h.isClosing
	if isFirst {
		h.isClosing, h.shutDown = true, make(chan struct{})
	}
	done := h.shutDown
	open := h.engines
	if isFirst {
		h.engines = map[string]*engine{}
	}
	h.mu.Unlock()
	if !isFirst {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fault.Ended(ctx, "Shutdown")
		}
	}
	defer close(done)
	var errs []error
	if err := h.wait(ctx, "Shutdown"); err != nil {
		errs = append(errs, err)
	}
	for _, e := range open {
		e.end()
	}
	h.stop()
	select {
	case <-h.served:
	case <-ctx.Done():
	}
	h.node.StopServing(ctx)
	h.node.ShutdownHosts(ctx)
	h.server.Wait()
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveWithin)
	defer cancel()
	h.node.Leave(patience)
	<-h.served
	return errors.Join(errs...)
}
