// Package node makes a process a node of a cluster: it joins, answers the other nodes, and gives
// its slots to them before it ends.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/host"
	"hypertoken/internal/peers"
	"hypertoken/internal/serve"
	"hypertoken/internal/version"
	"hypertoken/journal"
	"hypertoken/journal/jetstream"
	"hypertoken/wasm"
)

// Node is this process as a node of a cluster.
type Node struct {
	address  string
	store    *jetstream.Store
	members  *jetstream.Members
	peers    *peers.Peers
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
	// handOvers has how long it took to give slots to other nodes.
	handOvers prometheus.Histogram
	cores     *cores
}

// JoinPatience is how long a node waits for NATS servers when it starts, and corePatience how long it may
// take until it has its core.
const (
	JoinPatience = 30 * time.Second
	corePatience = 2 * time.Minute
)

// Options configure [Join].
type Options struct {
	// Address is where this node listens for the other nodes, which reach it there. Port 0 takes
	// any free port.
	Address string
	// Client is the URL at which clients reach this node; "" if it has none of its own.
	Client string
	// Secret is what the nodes of the cluster know, and nobody else.
	Secret string
	// TLS is how nodes speak to each other. With nil they use none.
	TLS *peers.TLS
	// MaxLine bounds a line in bytes.
	MaxLine int64
	// Cores are those that it runs.
	Cores CoreOptions
	// Store configures the store. Its Claims are set by Join.
	Store jetstream.Options
	// Way returns where another node is reached instead of its address, for tests; nil is there.
	Way func(address string) string
	// Lease is how long a lease lasts; 0 for 1 s. It is a seam for tests.
	Lease time.Duration
	// Logger gets what the node has to say.
	Logger *slog.Logger
}

// ErrListen is the error of Join if it can't listen for other nodes.
var ErrListen = errors.New("the address for other nodes can't be used")

// Join joins the cluster. The caller calls Leave.
func Join(ctx context.Context, o Options) (*Node, error) {
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	if _, port, _ := net.SplitHostPort(o.Address); port == "0" {
		o.Address = listener.Addr().String()
	}
	n := &Node{address: o.Address, log: o.Logger, handOvers: newHandOvers(), listener: o.TLS.Listen(listener)}
	self := jetstream.MemberOptions{Address: o.Address, Format: 1, ABI: wasm.ABIVersion, Version: version.String(),
		Client: o.Client, Changed: n.membersChanged}
	n.members = jetstream.NewMembers(self)
	if o.Lease > 0 {
		n.members.SetLease(o.Lease)
	}
	n.peers = n.newPeers(&o)
	o.Store.Address = o.Address
	o.Store.Claims = n.members
	if err := n.join(ctx, &o); err != nil {
		_ = n.listener.Close()
		if n.store != nil {
			_ = n.store.Close()
		}
		return nil, err
	}
	return n, nil
}

// join opens the store, finds the core that is in force, and becomes a member.
func (n *Node) join(ctx context.Context, o *Options) (err error) {
	within := func(patience time.Duration, f func(context.Context) error) error {
		bounded, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return f(bounded)
	}
	if err = within(JoinPatience, func(ctx context.Context) error {
		n.store, err = jetstream.Open(ctx, o.Store)
		return err
	}); err != nil {
		return err
	}
	if err = within(corePatience, func(ctx context.Context) error {
		n.cores, err = newCores(ctx, o.Cores, n.store, n.members, o.Logger)
		return err
	}); err != nil {
		return err
	}
	return within(JoinPatience, func(ctx context.Context) error { return n.members.Join(ctx, n.store) })
}

// OpenHost starts a host with the core that is in force.
func (n *Node) OpenHost(ctx context.Context) (*host.Host, error) { return n.cores.open(ctx) }

// ShutdownHosts shuts the hosts of this node down. There are two while it goes over to another core.
func (n *Node) ShutdownHosts(ctx context.Context) { n.cores.shutdown(ctx) }

// Store returns where the journals are.
func (n *Node) Store() journal.Store { return n.store }

// Peers returns the other nodes.
func (n *Node) Peers() *peers.Peers { return n.peers }

// newPeers returns the other nodes, as this one sees them.
func (n *Node) newPeers(o *Options) *peers.Peers {
	return peers.New(peers.Options{Self: o.Address, Secret: o.Secret, SlotOf: jetstream.SlotOf, MaxLine: o.MaxLine,
		TLS: o.TLS, Way: o.Way,
		Messenger: messenger{n},
		OwnerOf: func(err error) (peers.Owner, bool) {
			var moved *jetstream.MovedError
			if !errors.As(err, &moved) {
				return peers.Owner{}, false
			}
			return peers.Owner{Address: moved.Owner.Address, Epoch: moved.Owner.Epoch}, true
		},
		Overview: n.overview,
		Clients:  n.members.Clients,
		Draining: func() (addresses []string) {
			for _, m := range n.members.Living() {
				if m.Draining {
					addresses = append(addresses, m.Address)
				}
			}
			return addresses
		},
		IsAlive: func(address string) bool {
			return slices.ContainsFunc(n.members.Living(), func(m jetstream.Member) bool {
				return m.Address == address
			})
		},
		Ready: func() string {
			if !n.members.HoldsLease() {
				return "no lease: the NATS servers do not answer"
			}
			return ""
		}})
}

// messenger takes lines to other nodes over the servers that keep the journals.
type messenger struct{ node *Node }

// Ask implements [peers.Messenger].
func (m messenger) Ask(ctx context.Context, address string, message []byte) ([]byte, error) {
	id, ok := m.node.members.NodeAt(address)
	if !ok {
		return nil, fmt.Errorf("%w: it is no member", peers.ErrUnreached)
	}
	answer, err := m.node.store.Ask(ctx, id, message)
	if errors.Is(err, jetstream.ErrNobody) {
		return nil, fmt.Errorf("%w: %w", peers.ErrUnreached, err)
	}
	return answer, err
}

// Most implements [peers.Messenger].
func (m messenger) Most() int { return m.node.store.MostMessage() }

// Collectors are those of the node's metrics.
func (n *Node) Collectors() []prometheus.Collector {
	return []prometheus.Collector{jetstream.NewCollector(n.store), jetstream.NewMembersCollector(n.members),
		n.peers.Collector(), n.handOvers}
}

// newHandOvers returns the histogram of hand-overs.
func newHandOvers() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hypertoken_serve_handover_seconds",
		Help:    "How long lines of a slot waited at most until it was given to another node.",
		Buckets: []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56}})
}

// membersChanged is called after a member has come or died.
func (n *Node) membersChanged() { n.peers.MembersChanged() }

// Serve answers the other nodes until StopServing.
func (n *Node) Serve(s *serve.Server) {
	n.server = &http.Server{Handler: s.NodeHandler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)}
	go func() { _ = n.server.Serve(n.listener) }()
	ctx, cancel := context.WithTimeout(context.Background(), listenPatience)
	defer cancel()
	if err := n.store.Listen(ctx, n.peers.AnswerMessage); err != nil {
		n.log.Warn("lines can't come to this node over the NATS servers, if other nodes do not reach it", "error", err)
	}
}

// listenPatience is how long a node that starts waits for the servers to say that it may listen there.
const listenPatience = 5 * time.Second

// UntilDead calls stop if the cluster declares this node dead.
func (n *Node) UntilDead(ctx context.Context, stop func()) {
	select {
	case <-n.members.Ended():
		stop()
	case <-ctx.Done():
	}
}

// IsDead reports whether the cluster has declared this node dead.
func (n *Node) IsDead() bool {
	select {
	case <-n.members.Ended():
		return true
	default:
		return false
	}
}

// StopServing answers the lines that other nodes have sent, and takes no more.
func (n *Node) StopServing(ctx context.Context) {
	if err := n.server.Shutdown(ctx); err != nil {
		n.log.Warn("other nodes are cut off: their lines were not answered in time", "error", err)
		_ = n.server.Close()
	}
}

// Leave gives all slots up. The host is shut down.
func (n *Node) Leave(ctx context.Context) {
	if err := n.store.Close(); err != nil {
		n.log.Warn("the store could not be closed", "error", err)
	}
	if !n.IsDead() {
		if err := n.members.Leave(ctx); err != nil {
			n.log.Warn("the others wait for the end of this node's lease", "error", err)
		}
	}
	_ = n.listener.Close() // if the server could not start, nobody else has it
	if n.server != nil {
		_ = n.server.Close()
	}
	n.peers.Close()
}

// Dead returns a channel that is closed if the cluster declares this node dead.
func (n *Node) Dead() <-chan struct{} { return n.members.Ended() }
