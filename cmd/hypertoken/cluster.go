package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"hypertoken/cmd/hypertoken/internal/peers"
	"hypertoken/cmd/hypertoken/internal/serve"
	"hypertoken/internal/version"
	"hypertoken/journal/jetstream"
	"hypertoken/wasm"
)

// clusterFlags are the flags of a server that is one node of a cluster.
type clusterFlags struct {
	servers                     []string
	name, advertise, secretFile string
	creds, systemCreds          string
	tlsCA, tlsCert, tlsKey      string
	sync, reads                 string
	replicas                    int
	peerTLS                     peers.TLSFiles
}

// registerServers adds the flags that say which cluster it is, and how to reach its NATS servers.
func (f *clusterFlags) registerServers(flags *pflag.FlagSet, servers string) {
	flags.StringSliceVar(&f.servers, "cluster", nil, servers)
	flags.StringVar(&f.name, "cluster-name", jetstream.DefaultName, "the `name` of the cluster on these servers")
	flags.StringVar(&f.creds, "cluster-creds", "", "the NATS credentials `file` of this node")
	flags.StringVar(&f.tlsCA, "cluster-tls-ca", "", "trust NATS servers with certificates of this PEM `file`")
	flags.StringVar(&f.tlsCert, "cluster-tls-cert", "", "the certificate of this node for NATS servers, a PEM `file`")
	flags.StringVar(&f.tlsKey, "cluster-tls-key", "", "the private key of --cluster-tls-cert, a PEM `file`")
	flags.IntVar(&f.replicas, "cluster-replicas", jetstream.DefaultReplicas,
		"how many servers have a copy of each journal: 1, 3 or 5; with 1 the loss of a machine loses its journals")
}

func (f *clusterFlags) register(flags *pflag.FlagSet) {
	f.registerServers(flags,
		"keep the journals on these NATS `servers`, such as nats://a,nats://b,nats://c, together with other nodes")
	flags.StringVar(&f.advertise, "advertise", "",
		"listen at this `address` for the other nodes, which reach it there, such as 10.0.0.5:9465")
	flags.StringVar(&f.secretFile, "cluster-secret-file", "",
		"the secret of the nodes is in the first line of this `file`, at least 16 characters")
	flags.StringVar(&f.systemCreds, "cluster-system-creds", "",
		"the NATS credentials `file` of a user of the system account, for --cluster-sync checked")
	flags.StringVar(&f.peerTLS.Cert, "peer-tls-cert", "",
		"speak TLS with the other nodes, and show them the certificate in this PEM `file`")
	flags.StringVar(&f.peerTLS.Key, "peer-tls-key", "", "the private key of --peer-tls-cert, a PEM `file`")
	flags.StringVar(&f.peerTLS.CA, "peer-tls-ca", "",
		"take for a node who has a certificate of the authorities in this PEM `file`")
	flags.StringVar(&f.peerTLS.Name, "peer-tls-name", "",
		"the `name` that the certificates of all nodes are for (default the host of each one's --advertise)")
	flags.StringVar(&f.sync, "cluster-sync", "checked",
		"checked: ask all servers whether they sync always; trusted: rely on it; given-up: accept that a loss of power of "+
			"several servers at once loses what was answered")
	flags.StringVar(&f.reads, "reads", "lease",
		"lease: answer questions from memory while the lease holds; log: ask the log each time, for machines that may be "+
			"paused as a whole")
}

func (f *clusterFlags) isSet() bool { return len(f.servers) > 0 }

// options returns the options of the store.
func (f *clusterFlags) options(log *slog.Logger) (o jetstream.Options, err error) {
	syncs := map[string]jetstream.Sync{"checked": jetstream.SyncChecked, "trusted": jetstream.SyncTrusted,
		"given-up": jetstream.SyncGivenUp}
	sync, ok := syncs[f.sync]
	switch {
	case !ok:
		return o, fmt.Errorf("--cluster-sync is %q, want checked, trusted or given-up", f.sync)
	case f.reads != "lease" && f.reads != "log":
		return o, fmt.Errorf("--reads is %q, want lease or log", f.reads)
	case f.advertise == "":
		return o, errors.New("--cluster needs --advertise: the address at which the other nodes reach this one")
	case sync == jetstream.SyncChecked && f.systemCreds == "":
		return o, errors.New("--cluster-sync checked needs --cluster-system-creds, because only the system account sees " +
			"sync_interval; if the servers have sync_interval: always, use --cluster-sync trusted")
	}
	o, err = f.connection()
	o.Sync, o.ReadsLog, o.Address, o.Logger = sync, f.reads == "log", f.advertise, log
	return o, err
}

// connection returns the options of a store that say where the cluster is. The store trusts the servers
// to sync.
func (f *clusterFlags) connection() (o jetstream.Options, err error) {
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return o, errors.New("--cluster-tls-cert and --cluster-tls-key go together")
	}
	o = jetstream.Options{Servers: f.servers, Sync: jetstream.SyncTrusted, Name: f.name, Replicas: f.replicas}
	var tls []nats.Option
	if f.tlsCA != "" {
		tls = append(tls, nats.RootCAs(f.tlsCA))
	}
	if f.tlsCert != "" {
		tls = append(tls, nats.ClientCert(f.tlsCert, f.tlsKey))
	}
	o.Connect = tls
	if f.creds != "" {
		o.Connect = append(slices.Clone(tls), nats.UserCredentials(f.creds))
	}
	if f.systemCreds != "" {
		o.System = append(slices.Clone(tls), nats.UserCredentials(f.systemCreds))
	}
	return o, nil
}

// clusterNode is this server as a node of a cluster.
type clusterNode struct {
	address  string
	store    *jetstream.Store
	members  *jetstream.Members
	peers    *peers.Peers
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
	// handOvers has how long it took to give slots to other nodes.
	handOvers prometheus.Histogram
	cores     *nodeCores
}

// joinPatience is how long a node waits for NATS servers when it starts, and corePatience how long it may
// take until it has its core.
const (
	joinPatience = 30 * time.Second
	corePatience = 2 * time.Minute
)

// open joins the cluster. The caller closes the node.
func (f *clusterFlags) open(ctx context.Context, hostFlags *hostFlags, maxLine int64,
	log *slog.Logger) (*clusterNode, error) {
	o, err := f.options(log)
	if err != nil {
		return nil, usageError{err}
	}
	secret, err := f.secret()
	if err != nil {
		return nil, usageError{err}
	}
	tls, err := f.loadPeerTLS()
	if err != nil {
		return nil, usageError{err}
	}
	n := &clusterNode{address: f.advertise, log: log, handOvers: newHandOvers()}
	self := jetstream.MemberOptions{Address: f.advertise, Format: 1, ABI: wasm.ABIVersion, Version: version.String(),
		Changed: n.membersChanged}
	n.members = jetstream.NewMembers(self)
	n.peers = n.newPeers(f.advertise, secret, maxLine, tls)
	if n.listener, err = net.Listen("tcp", f.advertise); err != nil {
		return nil, fmt.Errorf("--advertise: %w", err)
	}
	n.listener = tls.Listen(n.listener)
	o.Claims = n.members
	whole := ctx
	ctx, cancel := context.WithTimeout(whole, joinPatience)
	defer cancel()
	if n.store, err = jetstream.Open(ctx, o); err != nil {
		_ = n.listener.Close()
		return nil, fmt.Errorf("--cluster: %w", err)
	}
	starting, stop := context.WithTimeout(whole, corePatience)
	defer stop()
	n.cores, err = newNodeCores(starting, hostFlags, n.store, n.members, log)
	if err == nil {
		joining, cancel := context.WithTimeout(whole, joinPatience)
		defer cancel()
		err = n.members.Join(joining, n.store)
	}
	var usage usageError
	if errors.As(err, &usage) {
		_ = n.listener.Close()
		_ = n.store.Close()
		return nil, err
	}
	if err != nil {
		_ = n.listener.Close()
		_ = n.store.Close()
		return nil, fmt.Errorf("--cluster: %w", err)
	}
	return n, nil
}

// newPeers returns the other nodes, as this one sees them.
func (n *clusterNode) newPeers(self, secret string, maxLine int64, tls *peers.TLS) *peers.Peers {
	return peers.New(peers.Options{Self: self, Secret: secret, SlotOf: jetstream.SlotOf, MaxLine: maxLine, TLS: tls,
		OwnerOf: func(err error) (peers.Owner, bool) {
			var moved *jetstream.MovedError
			if !errors.As(err, &moved) {
				return peers.Owner{}, false
			}
			return peers.Owner{Address: moved.Owner.Address, Epoch: moved.Owner.Epoch}, true
		},
		Overview: n.overview,
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

// collectors are those of the node's metrics.
func (n *clusterNode) collectors() []prometheus.Collector {
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
func (n *clusterNode) membersChanged() { n.peers.MembersChanged() }

// secret returns the secret of --cluster-secret-file.
func (f *clusterFlags) secret() (string, error) {
	const flag = "--cluster-secret-file"
	if f.secretFile == "" {
		return "", errors.New("--cluster needs " + flag + ": the nodes know each other by it")
	}
	secret, err := readSecret(flag, "secret", f.secretFile)
	if err == nil && len(secret) < peers.MinSecret {
		err = fmt.Errorf("%s: the secret has %d characters, want %d or more", flag, len(secret), peers.MinSecret)
	}
	return secret, err
}

// loadPeerTLS returns how this node speaks to the others: nil without TLS.
func (f *clusterFlags) loadPeerTLS() (*peers.TLS, error) {
	t := f.peerTLS
	switch {
	case !t.IsSet():
		return nil, nil //nolint:nilnil // no TLS is no error
	case t.Cert == "" || t.Key == "" || t.CA == "":
		return nil, errors.New("--peer-tls-cert, --peer-tls-key and --peer-tls-ca go together: " +
			"nodes prove to each other who they are")
	}
	tls, err := peers.LoadTLS(t, f.advertise)
	if err != nil {
		return nil, fmt.Errorf("--peer-tls: %w", err)
	}
	return tls, nil
}

// serve answers the other nodes until close.
func (n *clusterNode) serve(s *serve.Server) {
	n.server = &http.Server{Handler: s.NodeHandler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)}
	go func() { _ = n.server.Serve(n.listener) }()
}

// untilDead calls stop if the cluster declares this node dead.
func (n *clusterNode) untilDead(ctx context.Context, stop func()) {
	select {
	case <-n.members.Ended():
		stop()
	case <-ctx.Done():
	}
}

// isDead reports whether the cluster has declared this node dead.
func (n *clusterNode) isDead() bool {
	select {
	case <-n.members.Ended():
		return true
	default:
		return false
	}
}

// stopServing answers the lines that other nodes have sent, and takes no more.
func (n *clusterNode) stopServing(ctx context.Context) {
	if err := n.server.Shutdown(ctx); err != nil {
		n.log.Warn("other nodes are cut off: their lines were not answered in time", "error", err)
		_ = n.server.Close()
	}
}

// leave gives all slots up. The host is shut down.
func (n *clusterNode) leave(ctx context.Context) {
	if err := n.store.Close(); err != nil {
		n.log.Warn("the store could not be closed", "error", err)
	}
	if !n.isDead() {
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
