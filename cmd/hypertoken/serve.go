package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/host"
	"hypertoken/internal/journals"
	"hypertoken/internal/node"
	"hypertoken/internal/serve"
	"hypertoken/journal"
	"hypertoken/journal/disk"
)

func newServe() *cobra.Command {
	f := hostFlags{workers: runtime.GOMAXPROCS(0), server: true}
	o := serve.Defaults()
	maxBody, maxLine, maxBuffered := byteSize(o.MaxBody), byteSize(o.MaxLine), byteSize(o.MaxBuffered)
	var listen, tokenFile, certFile, keyFile, backupDir string
	var isCheck bool
	var cl clusterFlags
	c := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Serve engines over HTTP, with metrics and probes",
		Long: `serve offers engines over HTTP, so that programs in any language can play on them:

  POST /v1/engines/NAME     takes JSON Lines, as run does, and answers each with a line at once.
                            An action with a "key" runs once, however often its line comes
  GET, with an upgrade      the same over a WebSocket, with a message for each answer
  GET /v1/engines[/NAME]    the engines, and where they run; ?prefix=&after=&limit= for pages
  GET /v1/engines/NAME/journal
                            its actions as lines that run takes; ?from=0 for all that is kept
  PUT /v1/engines/NAME/journal
                            imports such lines as a new engine, with its history; 409 if the name is
                            taken. Nobody sees the engine before all of it is stored
  GET /v1/engines/NAME/state
                            the whole state with its sequence and its digest; with ?at=N as it was
                            at an earlier sequence
  POST /v1/engines/NAME/revert
                            goes back to the state of a sequence; the body is {"to":N}
  POST /v1/engines/NAME/fork
                            makes another engine of its state; the body is {"name":NEW}, and may have
                            "at", an earlier sequence
  POST /v1/backup           copies all journals to a new directory in --backup-dir; the body is {"name":NAME}
  DELETE /v1/engines/NAME   ends an engine and forgets it
  GET /metrics              metrics for Prometheus
  GET /healthz, /readyz     for probes; /readyz says why the server is not ready
  GET /v1/cluster           with --cluster, the nodes as this one sees them
  GET /v1/status            the figures that 'hypertoken top' shows
  GET /openapi.json         a description of all of this
  GET /debug/pprof/         profiles of this process, with --pprof
  GET /                     with --demo, a page that plays on the browser's own workers, or on this
                            server. Beside it are hypertoken.js, hypertoken.worker.js, core.wasm
                            and client.js in /hypertoken/, for pages of your own

The first line of an engine is its setup, which makes it. If an engine of that name exists, a setup
is refused, because others may be playing on it. N in the answers counts the actions of a request,
or of a WebSocket. If the first line of a request is refused, the whole request is refused, with a
status that says why. Otherwise the status is 200, and every line has its own answer.

Engines end with the server, unless --data names a directory for their journals. Then an answer
means that its action is on the disk: neither a killed server nor a loss of power loses it. Start
the server with the same directory again, and every game goes on. Engines that are not in use are
closed; --max-engines bounds those that are open, and not those that are stored.

With --cluster the server is one node of several. Journals are kept on NATS JetStream servers, which
sync each write; any node answers for every game, and asks the node that has it. If a node dies,
others have its games within two seconds, with everything that was answered. The nodes reach each
other at their --advertise addresses, and know each other by the secret in --cluster-secret-file.
All nodes run one core, which the first one sets, and 'hypertoken cluster core set' afterwards: the
one of --core, or the built-in one, is run only if it is that one.
docs/cluster.md says how to run one.

With --check-upgrade it serves nothing. It replays each game of --data that is with another core, from
its newest snapshot, by that core and by the one of --core (or the built-in one), in this process. A
line names each game that would differ: one that could not be taken over, or whose state or results
would be others. No game is changed. The status is 1 if a game would differ. No server may have the
directory meanwhile: check a copy of it.

With --backup-dir, a client that has the token can have the server copy all journals, as of one
moment, while it goes on serving: 'hypertoken journal backup --server URL NAME' does. Clients choose
the name, and not the place.

The server prints its address once it listens. Clients of other machines need a token, which they
send as 'Authorization: Bearer TOKEN'. It is the first line of --token-file, or the value of the
environment variable ` + tokenVariable + `. Probes need no token. A page sends it with a WebSocket,
as a subprotocol: 'hypertoken.token.' and the token in base64url, beside 'hypertoken'. Behind a
proxy, name the Host that it sends in --allowed-hosts. If pages of other sites may use the server,
name the sites in --allowed-origins.

One client, which is a remote address, can take only so much from the others: see the flags.

INT, TERM, HUP and QUIT let the running lines end; a second signal ends the server at once.

Exit status: 0 after a signal, 1 if serving or a check failed, 2 for wrong usage, 3 if the disk has failed
under --data, or if the other nodes of a cluster have declared this one dead: nothing that was answered
is lost, and a new start goes on.`,
		Example: `  hypertoken serve
  hypertoken serve --data /var/lib/hypertoken
  hypertoken serve --cluster nats://a,nats://b,nats://c --cluster-sync trusted \
    --advertise 10.0.0.5:9465 --cluster-secret-file secret
  hypertoken serve --data copy-of-games --core new.wasm --check-upgrade
  hypertoken serve --demo
  curl --data-binary @examples/blackjack.jsonl http://127.0.0.1:9464/v1/engines/table
  hypertoken serve --listen :9464 --token-file token --tls-cert cert.pem --tls-key key.pem`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if isCheck {
				return checkUpgrade(c, &f)
			}
			o.MaxBody, o.MaxLine, o.MaxBuffered, o.InProcess = int64(maxBody), int64(maxLine), int64(maxBuffered),
				f.inProcess
			var err error
			if o.Token, err = readToken(tokenFile); err != nil {
				return usageError{err}
			}
			if o.TLS, err = readCertificate(certFile, keyFile); err != nil {
				return usageError{err}
			}
			return runServer(c, listen, &f, &cl, backupDir, o)
		},
	}
	f.register(c.Flags())
	flags := c.Flags()
	f.registerData(flags)
	cl.register(flags)
	flags.BoolVar(&isCheck, "check-upgrade", false,
		"serve nothing: replay the games of --data by the core that they are with and by the one of --core, and say "+
			"which would differ")
	flags.StringVar(&backupDir, "backup-dir", "",
		"let clients with the token make backups of --data in this `directory` (default no backups)")
	flags.StringVar(&listen, "listen", "127.0.0.1:9464", "serve at this `address`; port 0 takes any free port")
	flags.StringVar(&tokenFile, "token-file", "",
		"require the token in the first line of this `file`, at least 16 characters")
	flags.StringVar(&certFile, "tls-cert", "", "speak TLS, with the certificates in this PEM `file`")
	flags.StringVar(&keyFile, "tls-key", "", "the private key of --tls-cert, a PEM `file`")
	flags.BoolVar(&o.Profiles, "pprof", false, "serve /debug/pprof")
	flags.BoolVar(&o.Demo, "demo", false, "serve a page to play on in a browser, and the package that it uses")
	flags.IntVar(&o.MaxEngines, "max-engines", o.MaxEngines, "how many engines may be open")
	flags.IntVar(&o.MaxEnginesPerAddress, "max-engines-per-address", 0,
		"how many open engines a remote address may have made; 0 for any number")
	flags.DurationVar(&o.EngineIdle, "engine-idle", 0,
		"delete an engine that had no line and no WebSocket for this `time`, 0 for never; with --data it is closed, "+
			"after 5m by default, and its next line opens it again")
	flags.IntVar(&o.MaxConnections, "max-connections", o.MaxConnections, "how many connections may talk to engines")
	flags.IntVar(&o.MaxConnectionsPerAddress, "max-connections-per-address", 0,
		"how many of these a remote address may have; 0 for seven eighths of --max-connections")
	flags.Var(&maxBody, "max-body", "how large the body of a request, or a message of a WebSocket, may be")
	flags.Var(&maxLine, "max-line", "how long a line may be")
	flags.Var(&maxBuffered, "max-buffered", "how much memory unread answers, and lines sent before them, may take")
	flags.IntVar(&o.Rate, "rate", o.Rate,
		"how many lines, requests and pings a second a remote address may send; 0 for any number")
	flags.StringSliceVar(&o.AllowedHosts, "allowed-hosts", nil,
		"answer requests with these `names` in Host, \"*\" for any; names of this machine are always answered")
	flags.StringSliceVar(&o.AllowedOrigins, "allowed-origins", nil,
		"let pages of these `origins` use the server, such as https://games.example")
	flags.DurationVar(&o.IdleTimeout, "idle-timeout", o.IdleTimeout,
		"how long a connection may send nothing in the middle of a request")
	flags.DurationVar(&o.PingInterval, "ping-interval", o.PingInterval,
		"how often a quiet WebSocket gets a ping; it is closed if no pong comes before the next")
	flags.DurationVar(&o.WriteTimeout, "write-timeout", o.WriteTimeout,
		"how long a client may take to read an answer")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout,
		"how long running lines may take to end when the server stops")
	return c
}

// readCertificate returns the configuration of TLS, or nil if no file is named.
func readCertificate(cert, key string) (*tls.Config, error) {
	if cert == "" && key == "" {
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	if cert == "" || key == "" {
		return nil, errors.New("--tls-cert and --tls-key go together")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}, nil
}

// engineIdle is the default of --engine-idle with --data: closing costs little then.
const engineIdle = 5 * time.Minute

// storeError ends a server whose store has failed for good.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

func runServer(c *cobra.Command, listen string, f *hostFlags, cl *clusterFlags, backupDir string,
	o serve.Options) error {
	if cl.isSet() && f.data != "" {
		return usageError{errors.New("--cluster and --data are two places for journals: give one of them")}
	}
	ctx := c.Context()
	o.Logger = f.logger()
	options, err := f.options()
	if err != nil {
		return err
	}
	if f.data != "" {
		o.StoreFiles = disk.DefaultMaxFiles
	}
	if limit, ok := serve.FileLimit(); ok {
		lowered, err := o.FitFiles(limit, host.Descriptors(options), disk.LeastMaxFiles)
		if err != nil {
			return err
		}
		if lowered != "" {
			o.Logger.Warn(lowered)
		}
	}
	if err := checkBackupDir(backupDir, f.data, o.Token); err != nil {
		return usageError{err}
	}
	store, err := f.openData(o.StoreFiles)
	if err != nil {
		return err
	}
	if backupDir != "" {
		o.Backup = func(name string) (uint64, error) { return journals.Backup(store.disk, backupDir, name) }
	}
	defer store.close(o.Logger)
	var member *node.Node
	if cl.isSet() {
		if member, err = cl.join(ctx, f, o.MaxLine, o.Logger); err != nil {
			return err
		}
		store.Store, o.Peers = member.Store(), member.Peers()
		o.Collectors = append(o.Collectors, member.Collectors()...)
		defer func() {
			patience, cancel := context.WithTimeout(context.Background(), o.DrainTimeout)
			defer cancel()
			member.Leave(patience)
		}()
	}
	h, shutdown, err := f.openServed(ctx, store.Store, member)
	if err != nil {
		return err
	}
	defer shutdown(context.Background())
	if err := removeImports(ctx, h, store, o.Logger); err != nil {
		return err
	}
	if o.IsDurable = store.disk != nil || member != nil; o.IsDurable && !c.Flags().Changed("engine-idle") {
		o.EngineIdle = engineIdle
	}
	if store.disk != nil {
		o.Collectors = append(o.Collectors, disk.NewCollector(store.disk))
	}
	s, err := serve.New(h, o)
	if err != nil {
		return usageError{err}
	}
	defer s.Wait()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	scheme := "http"
	if o.TLS != nil {
		scheme = "https"
	}
	if err := s.Check(l.Addr()); err != nil {
		_ = l.Close()
		return usageError{fmt.Errorf("--listen %s: %w; name a --token-file", listen, err)}
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "listening on %s://%s\n", scheme, l.Addr())
	if err != nil {
		// Nobody needs this line to play. The server writes nothing else to standard output, so
		// the line may be lost.
		o.Logger.Warn("standard output could not be written: this line has the address of the server",
			"address", fmt.Sprint(scheme, "://", l.Addr()), "error", err)
	}
	if !o.IsDurable {
		o.Logger.Info("games end with this server; --data keeps them")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if member != nil {
		member.Serve(s)
		go member.UntilDead(ctx, stop)
		err = member.ServeClients(ctx, s, l, o.DrainTimeout)
	} else {
		err = s.Serve(untilFailed(ctx, stop, store.disk), l)
	}
	patience, cancel := context.WithTimeout(context.Background(), o.DrainTimeout)
	defer cancel()
	if member != nil {
		member.StopServing(patience)
	}
	shutdown(patience)
	if store.disk != nil && store.disk.Err() != nil {
		return storeError{fmt.Errorf("--data: nothing is stored any more, start the server again: %w", store.disk.Err())}
	}
	if member != nil && member.IsDead() {
		return storeError{errors.New("--cluster: the other nodes have declared this one dead, start it again")}
	}
	return err
}

// openServed starts the host of a server: member is the server as a node of a cluster, or nil. The caller
// calls shutdown, as often as it likes, which shuts down whatever host the server has then.
func (f *hostFlags) openServed(ctx context.Context, store journal.Store, member *node.Node) (h *host.Host,
	shutdown func(context.Context), err error) {
	if member != nil {
		if h, err = member.OpenHost(ctx); errors.Is(err, host.ErrBadInput) {
			err = usageError{err}
		}
		return h, member.ShutdownHosts, err
	}
	h, err = f.open(ctx, store)
	// The client of an action that is cut off here got an error, or is gone.
	return h, func(ctx context.Context) { _ = h.Shutdown(ctx) }, err
}

// removeImports removes what imports left in the store of --data when their program was killed. No
// other program has the store.
func removeImports(ctx context.Context, h *host.Host, store data, log *slog.Logger) error {
	if store.disk == nil {
		return nil
	}
	removed, err := h.RemoveImports(ctx)
	if err != nil {
		return fmt.Errorf("--data: what is left of imports can't be removed: %w", err)
	}
	if removed > 0 {
		log.Info("imports that were broken off are removed", "imports", removed)
	}
	return nil
}

// checkBackupDir fails for a --backup-dir that can't be used. It is called before the store is
// opened.
func checkBackupDir(dir, data, token string) error {
	if dir == "" {
		return nil
	}
	switch info, err := os.Stat(dir); {
	case data == "":
		return errors.New("--backup-dir goes with --data: without it there is nothing to back up")
	case token == "":
		return errors.New("--backup-dir needs a token, also on this machine: name a --token-file")
	case err != nil:
		return fmt.Errorf("--backup-dir: %w", err)
	case !info.IsDir():
		return fmt.Errorf("--backup-dir: %s is no directory", dir)
	}
	return nil
}

// untilFailed calls stop if the store fails for good, and returns ctx. The goroutine ends with
// ctx.
func untilFailed(ctx context.Context, stop func(), store *disk.Store) context.Context {
	if store != nil {
		go func() {
			select {
			case <-store.Failed():
				stop()
			case <-ctx.Done():
			}
		}()
	}
	return ctx
}
