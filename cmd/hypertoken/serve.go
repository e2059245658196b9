package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/serve"
	"hypertoken/host"
)

func newServe() *cobra.Command {
	f := hostFlags{workers: runtime.GOMAXPROCS(0), server: true}
	o := serve.Defaults()
	maxBody, maxLine, maxBuffered := byteSize(o.MaxBody), byteSize(o.MaxLine), byteSize(o.MaxBuffered)
	var listen, tokenFile, certFile, keyFile string
	c := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Serve engines over HTTP, with metrics and probes",
		Long: `serve offers engines over HTTP, so that programs in any language can play on them:

  POST /v1/engines/NAME     JSON Lines as run takes them, each answered by a line at once;
                            a line's "key" makes its action run once, however often it comes
  GET, with an upgrade      the same over a WebSocket, a message for each answer
  GET /v1/engines[/NAME]    the engines and where they run
  DELETE /v1/engines/NAME   ends an engine and forgets it
  GET /metrics              for Prometheus
  GET /healthz, /readyz     for probes; /readyz says why it is not ready
  GET /v1/status            what 'hypertoken top' shows
  GET /openapi.json         all of this, described
  GET /debug/pprof/         profiles of this process, with --pprof
  GET /                     with --demo, a page that plays on the browser's own workers; beside it
                            are /hypertoken/hypertoken.js, /workers/hypertoken.worker.js and
                            /wasm/core.wasm, for pages of your own

An engine is made by its first line, a setup. A setup for one that is there is refused: others may
be playing on it. N in the answers counts the actions of a request, or of a WebSocket. A request
whose first line is refused is refused as a whole, with a status that says so; from then on
every line has its answer, and the status is 200. Engines end with the server.

It prints where it listens once it does. Other addresses than those of this machine want a
token, which clients send as 'Authorization: Bearer TOKEN': the first line of --token-file, or
what the environment variable ` + tokenVariable + ` holds. Probes need none. A page shows it with a
WebSocket as a subprotocol: 'hypertoken.token.' and the token in base64url, beside 'hypertoken'.
Behind a proxy, name what it sends as Host in --allowed-hosts, and other sites whose pages may
use the server in --allowed-origins.

One client, which is a remote address, can take only so much from the others: see the flags.

INT, TERM, HUP and QUIT let the lines that run end; a second signal ends it at once.

Exit status: 0 after a signal, 1 if serving failed, 2 for wrong usage.`,
		Example: `  hypertoken serve
  hypertoken serve --demo
  curl --data-binary @examples/blackjack.jsonl http://127.0.0.1:9464/v1/engines/table
  hypertoken serve --listen :9464 --token-file token --tls-cert cert.pem --tls-key key.pem`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o.MaxBody, o.MaxLine, o.MaxBuffered, o.InProcess = int64(maxBody), int64(maxLine), int64(maxBuffered), f.inProcess
			var err error
			if o.Token, err = readToken(tokenFile); err != nil {
				return usageError{err}
			}
			if o.TLS, err = readCertificate(certFile, keyFile); err != nil {
				return usageError{err}
			}
			return runServer(c, listen, &f, o)
		},
	}
	f.register(c.Flags())
	flags := c.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:9464", "serve at this `address`; port 0 takes one that is free")
	flags.StringVar(&tokenFile, "token-file", "", "want the token in the first line of this `file`, at least 16 characters")
	flags.StringVar(&certFile, "tls-cert", "", "speak TLS, with the certificates in this PEM `file`")
	flags.StringVar(&keyFile, "tls-key", "", "the private key of --tls-cert, a PEM `file`")
	flags.BoolVar(&o.Profiles, "pprof", false, "serve /debug/pprof")
	flags.BoolVar(&o.Demo, "demo", false, "serve a page to play on in a browser, and the package that it is made with")
	flags.IntVar(&o.MaxEngines, "max-engines", o.MaxEngines, "bound of the engines that are open")
	flags.IntVar(&o.MaxEnginesPerAddress, "max-engines-per-address", 0,
		"bound of the open engines that a remote address has made; 0 for none")
	flags.DurationVar(&o.EngineIdle, "engine-idle", 0, "delete an engine without a line and a WebSocket for this `time`; 0 for never")
	flags.IntVar(&o.MaxConnections, "max-connections", o.MaxConnections, "bound of the connections that talk to engines")
	flags.IntVar(&o.MaxConnectionsPerAddress, "max-connections-per-address", 0,
		"bound of those of a remote address; 0 for seven eighths of --max-connections")
	flags.Var(&maxBody, "max-body", "bound of a request's body, and of a WebSocket's message")
	flags.Var(&maxLine, "max-line", "bound of a line")
	flags.Var(&maxBuffered, "max-buffered", "bound of answers that clients have not read, and of lines sent before that, in memory")
	flags.IntVar(&o.Rate, "rate", o.Rate, "bound of the lines, requests and pings of a remote address, a second; 0 for none")
	flags.StringSliceVar(&o.AllowedHosts, "allowed-hosts", nil,
		"answer to these `names` in Host, \"*\" for any; this machine's always")
	flags.StringSliceVar(&o.AllowedOrigins, "allowed-origins", nil,
		"let pages of these `origins` use it, such as https://games.example")
	flags.DurationVar(&o.IdleTimeout, "idle-timeout", o.IdleTimeout,
		"how long a connection may send nothing in the middle of a request")
	flags.DurationVar(&o.PingInterval, "ping-interval", o.PingInterval,
		"how often a quiet WebSocket is pinged; without a pong until the next it is closed")
	flags.DurationVar(&o.WriteTimeout, "write-timeout", o.WriteTimeout, "how long a client may take to read an answer")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long what is in flight may take to end, at the end")
	return c
}

// readCertificate returns what TLS needs, or nil without files.
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

func runServer(c *cobra.Command, listen string, f *hostFlags, o serve.Options) error {
	ctx := c.Context()
	o.Logger = f.logger()
	options, err := f.options()
	if err != nil {
		return err
	}
	if limit, ok := serve.FileLimit(); ok {
		lowered, err := o.FitFiles(limit, host.Descriptors(options))
		if err != nil {
			return err
		}
		if lowered != "" {
			o.Logger.Warn(lowered)
		}
	}
	h, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
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
		// Nothing but this goes there: players do not need it.
		o.Logger.Warn("standard output could not be written: where the server listens is said here",
			"address", fmt.Sprint(scheme, "://", l.Addr()), "error", err)
	}
	err = s.Serve(ctx, l)
	patience, cancel := context.WithTimeout(context.Background(), o.DrainTimeout)
	defer cancel()
	// What is cut off then has said so to its client, or has none any more.
	_ = h.Shutdown(patience)
	return err
}
