package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"hypertoken/cmd/hypertoken/internal/clusterdev"
	"hypertoken/internal/node"
	"hypertoken/internal/peers"
	"hypertoken/journal/jetstream"
)

// clusterFlags are the flags of a server that is one node of a cluster.
type clusterFlags struct {
	servers                     []string
	name, advertise, secretFile string
	advertiseClient             string
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
	flags.StringVar(&f.advertiseClient, "advertise-client", "",
		"tell clients of the cluster that they reach this node at this `URL`, such as https://a.example (default none: "+
			"clients use the addresses that they know)")
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
	if f.advertiseClient != "" {
		if _, err := peers.OriginOf(f.advertiseClient); err != nil {
			return o, fmt.Errorf("--advertise-client: %w", err)
		}
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

// join joins the cluster. The caller calls Leave.
func (f *clusterFlags) join(ctx context.Context, h *hostFlags, maxLine int64, log *slog.Logger) (*node.Node, error) {
	o := node.Options{Address: f.advertise, Client: f.advertiseClient, MaxLine: maxLine, Way: clusterdev.Way,
		Logger: log}
	var err error
	if o.Store, err = f.options(log); err != nil {
		return nil, usageError{err}
	}
	o.Store.History = h.history.History
	if o.Secret, err = f.secret(); err != nil {
		return nil, usageError{err}
	}
	if o.TLS, err = f.loadPeerTLS(); err != nil {
		return nil, usageError{err}
	}
	if o.Cores, err = h.cores(); err != nil {
		return nil, usageError{err}
	}
	n, err := node.Join(ctx, o)
	switch {
	case errors.Is(err, node.ErrListen):
		return nil, fmt.Errorf("--advertise: %w", err)
	case errors.Is(err, node.ErrOwnCore):
		return nil, usageError{err}
	case err != nil:
		return nil, fmt.Errorf("--cluster: %w", err)
	}
	return n, nil
}

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
