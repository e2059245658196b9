// Package serve offers the engines of a host over HTTP and over WebSockets, with JSON Lines in
// both directions. It also serves the host's metrics, and the answers for probes. openapi.json
// describes all of it.
//
// [Options] bound everything that a client can make grow. A client that sends or reads slowly
// takes the room of one line and one answer, for as long as the timeouts allow.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hypertoken/host"
	"hypertoken/internal/calm"
	"hypertoken/internal/peers"
)

// Options configure a server. Start from [Defaults]: a bound of zero does not mean a default, it
// is out of bounds.
type Options struct {
	// Token is the token that clients must send, as "Authorization: Bearer TOKEN", for everything
	// but the probes and the demo. It has at least MinToken bytes. "" is no token, which is
	// allowed on a loopback address only.
	Token string
	// TLS has the certificate if the server speaks TLS; else it is nil.
	TLS *tls.Config
	// Profiles offers /debug/pprof.
	Profiles bool
	// Demo serves a page to play on, the npm package and the core. They need no token: nothing of
	// the host is in them.
	Demo bool
	// InProcess is true if the host runs its engines in this process by configuration. Then this
	// is no fallback.
	InProcess bool

	// MaxEngines bounds the engines that are open, at most 1,048,576.
	MaxEngines int
	// MaxConnections bounds the connections that talk to engines. It is at most 65,536. 128 more
	// connections may ask for metrics and probes, or have sent no request yet.
	// MaxConnectionsPerAddress bounds the connections of one remote address that talk to engines;
	// 0 is seven eighths of MaxConnections, so that one client leaves some to the others. A
	// request on a connection beyond these bounds is refused.
	MaxConnections, MaxConnectionsPerAddress int
	// MaxBody bounds a request's body and a WebSocket's message, MaxLine a line of either, in
	// bytes, at most 1 GiB.
	MaxBody, MaxLine int64
	// MaxBuffered bounds the bytes in memory for all clients, at least 1 MiB and at most 1 TiB:
	// answers that their clients have not read, and lines that clients sent before they read the
	// answers to earlier ones. One address has at most half of it, or a single answer. A line that
	// needs more room than there is waits, for WriteTimeout at most. Then it is refused with
	// overloaded, before it has run. Answers up to 64 KiB are not counted.
	MaxBuffered int64
	// Rate bounds the lines, the requests and the WebSocket pings of one remote address, a second;
	// 0 for no bound. If an address exceeds it by a second's worth, its lines in the middle of a
	// request wait, and its new requests are refused. Requests for metrics and the status are
	// counted separately. So are requests that are refused because of the token or the origin.
	Rate int
	// IsDurable is true if the host's store outlives the server. Then an engine that is not open
	// is opened by its first line, and an engine that is not in use is closed to make room for
	// another one.
	IsDurable bool
	// EngineIdle is how long an engine may be without a line and without a WebSocket, at least 1
	// ms; 0 for ever. After that time it is closed if IsDurable is true, and deleted otherwise.
	EngineIdle time.Duration
	// MaxEnginesPerAddress bounds the open engines that one remote address has made, at most
	// MaxEngines; 0 for no bound.
	MaxEnginesPerAddress int
	// IdleTimeout is how long a connection may send nothing while it is its turn. On a WebSocket
	// that is within a message: between two messages, the client only has to answer pings.
	// WriteTimeout is how long a client may take to read an answer. DrainTimeout is how long
	// running lines may take to end once the server stops. Each is at most a day.
	IdleTimeout, WriteTimeout, DrainTimeout time.Duration
	// PingInterval is how often a WebSocket whose client has its turn is pinged. A client that
	// does not answer before the next ping is due is gone. At most a day.
	PingInterval time.Duration

	// AllowedHosts are the names that clients may use in Host, in addition to those of this
	// machine, such as games.example or games.example:8443; "*" allows any. By default any name is
	// allowed if there is a Token, and no further name otherwise.
	AllowedHosts []string
	// AllowedOrigins are the origins whose pages may use this server, such as
	// https://games.example. Pages of the server's own origin may always use it.
	AllowedOrigins []string

	// Peers are the other nodes, if this server is one of a cluster; nil otherwise. Then a line for an
	// engine that another node has is answered there.
	Peers *peers.Peers

	// Collectors are collectors of further metrics, which /metrics shows beside the host's and the
	// server's own.
	Collectors []prometheus.Collector

	// Backup writes a copy of the host's store under a name that a client gives, and returns the
	// bytes of its files. It is nil if there are no backups. It needs a Token. If its error is
	// [journals.ErrBackupName] or [journals.ErrBackupExists], it is the client's; others are the
	// server's.
	Backup func(name string) (bytes uint64, err error)

	// Logger gets each request at the debug level, and failures of the server as warnings. In the
	// long run it gets at most one warning a second with the same message.
	Logger *slog.Logger

	// StoreFiles is how many files the host's store may have open; 0 if it is in memory. FitFiles
	// may lower it.
	StoreFiles int

	// Seams for FitFiles and tests; 0 for the defaults.
	waitingRoom int // connections without a seat
	scrapes     int // pages of metrics that are made at once
}

// perAddress is the bound of connections of one address that talk to engines.
func (o *Options) perAddress() int {
	if o.MaxConnectionsPerAddress > 0 {
		return o.MaxConnectionsPerAddress
	}
	return o.MaxConnections - o.MaxConnections/8
}

// MinToken is the least length of a token, in bytes. A shorter one could be guessed.
const MinToken = 16

// Bounds that are no options: the size of a request's header, the time for it, and two rates.
const (
	maxHeader     = 16 << 10
	headerTimeout = 10 * time.Second
	watchRate     = 100 // how often a remote address may ask for metrics and the status in a second, at most Rate
	strangerRate  = 100 // how many requests of a remote address are refused one by one in a second, at most Rate
)

// Defaults returns the options of `hypertoken serve`.
func Defaults() Options {
	return Options{MaxEngines: 1024, MaxConnections: 256, MaxBody: 64 << 20, MaxLine: 1 << 20, MaxBuffered: 256 << 20,
		Rate: 10_000, IdleTimeout: 5 * time.Minute, WriteTimeout: 30 * time.Second, DrainTimeout: 10 * time.Second,
		PingInterval: 20 * time.Second}
}

// validate names options by their flags.
func (o *Options) validate() error {
	if o.Token != "" && len(o.Token) < MinToken {
		return fmt.Errorf("the token has %d bytes, want at least %d: `openssl rand -hex 16` makes one", len(o.Token),
			MinToken)
	}
	if o.Backup != nil && o.Token == "" {
		return errors.New("--backup-dir needs a token, also on this machine: name a --token-file")
	}
	for _, f := range []struct {
		flag             string
		value, min, most int64
	}{
		{"--max-engines", int64(o.MaxEngines), 1, 1 << 20},
		{"--max-engines-per-address", int64(o.MaxEnginesPerAddress), 0, int64(o.MaxEngines)},
		{"--max-connections", int64(o.MaxConnections), 1, 1 << 16},
		{"--max-connections-per-address", int64(o.MaxConnectionsPerAddress), 0, int64(o.MaxConnections)},
		{"--max-buffered", o.MaxBuffered, 1 << 20, 1 << 40},
		{"--max-body", o.MaxBody, 1, 1 << 30},
		{"--max-line", o.MaxLine, 1, 1 << 30},
		{"--rate", int64(o.Rate), 0, 1 << 30},
	} {
		if f.value < f.min || f.value > f.most {
			return fmt.Errorf("%s is %d, want %d to %d", f.flag, f.value, f.min, f.most)
		}
	}
	for _, f := range []struct {
		flag  string
		value time.Duration
	}{
		{"--idle-timeout", o.IdleTimeout}, {"--write-timeout", o.WriteTimeout}, {"--drain-timeout", o.DrainTimeout},
		{"--ping-interval", o.PingInterval},
	} {
		if f.value < time.Millisecond || f.value > 24*time.Hour {
			return fmt.Errorf("%s is %v, want 1ms to 24h", f.flag, f.value)
		}
	}
	if o.EngineIdle != 0 && o.EngineIdle < time.Millisecond {
		return fmt.Errorf("--engine-idle is %v, want at least 1ms, or 0 for ever", o.EngineIdle)
	}
	return o.validateNames()
}

// Server serves one host, until it is given another one.
type Server struct {
	o         Options
	handler   http.Handler
	engines   engines
	buffers   *buffers
	rates     rates // of lines, requests and pings
	watchers  rates // of requests for metrics and the status
	strangers rates // of requests that are refused before they are known to be a client's
	counters  counters
	figures   figures
	hosts     hosts
	cross     *http.CrossOriginProtection
	token     [32]byte // the token's SHA-256
	document  []byte
	log       *slog.Logger
	logQueue  *logQueue
	backups   backups
	gates     gates
	isLeaving atomic.Bool   // the server stops soon
	forwarded http.Handler  // answers requests that other nodes of the cluster forward
	imports   chan struct{} // has an element for each import that is under way
	// withdrawals has what withdraws a call that another node has sent, by the call's ID.
	withdrawals sync.Map

	// draining ends once the server stops: each conversation then ends at its next line. life ends
	// when the server has stopped, or when its time for that is over.
	draining context.Context
	drain    context.CancelFunc
	life     context.Context
	end      context.CancelFunc
	// sockets counts the WebSockets, which the HTTP server no longer knows.
	sockets sync.WaitGroup
	// connections are the connections of the listener; nil before Serve.
	connections atomic.Pointer[connections]
}

// New returns a server for a host. The caller shuts the host down. New fails if an option is out
// of bounds.
func New(h *host.Host, o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range o.Collectors {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("serve: registering further metrics: %w", err)
		}
	}
	s := &Server{o: o, buffers: newBuffers(o.MaxBuffered), hosts: newHosts(o),
		cross: http.NewCrossOriginProtection(),
		token: digest(o.Token), imports: make(chan struct{}, maxImports), gates: gates{list: map[int]*gate{}}}
	for _, origin := range o.AllowedOrigins {
		if err := s.cross.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("--allowed-origins: %w", err)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	queued := newQueued(o.Logger.Handler())
	s.log, s.logQueue = slog.New(calm.New(queued)), queued.queue
	s.engines = engines{host: newServed(h), isDurable: o.IsDurable,
		max: o.MaxEngines, perAddress: o.MaxEnginesPerAddress, idle: o.EngineIdle, log: s.log,
		list: map[string]*entry{}, made: map[netip.Prefix]int{}, sockets: map[string]int{}}
	s.rates, s.watchers = newRates(o.Rate), newRates(min(o.Rate, watchRate))
	s.strangers = newRates(min(o.Rate, strangerRate))
	s.figures.change(h)
	if err := errors.Join(registry.Register(&s.figures), s.measure(registry)); err != nil {
		return nil, fmt.Errorf("serve: registering the metrics: %w", err)
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.life, s.end = context.WithCancel(context.Background())
	s.engines.life = s.life
	var err error
	if s.document, err = document(o.Token != ""); err != nil {
		return nil, err
	}
	s.handler, err = s.routes(registry)
	return s, err
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// straight returns a handler that answers 404 for a path such as //healthz, and refuses CONNECT.
// The multiplexer would answer these requests without the guard, and would wait for the body.
func straight(mux *http.ServeMux, nothing http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.URL.EscapedPath()
		clean := path.Clean("/" + sent)
		if clean != "/" && strings.HasSuffix(sent, "/") {
			clean += "/"
		}
		if r.Method == http.MethodConnect || clean != sent && sent != "" {
			nothing.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// ErrNeedsToken is the error of Serve if clients of other machines can connect and there is no
// token.
var ErrNeedsToken = errors.New("clients of other machines can connect, so they need a token")

// Check returns [ErrNeedsToken] for an address that this server must not serve.
func (s *Server) Check(a net.Addr) error {
	if s.o.Token == "" && !loopback(a) {
		return ErrNeedsToken
	}
	return nil
}

// Wait waits until the engines that clients were deleting at the end are deleted, and until a
// backup that is being made is complete. Call it after the host's Shutdown, which ends the actions
// that these deletions wait for, and before the store is closed.
func (s *Server) Wait() {
	s.engines.background.Wait()
	s.backups.running.Wait()
}

// Serve serves a listener, which it closes, until ctx ends. Then it accepts nothing more, lets the
// lines that run end, and returns nil; after DrainTimeout it cuts off what still runs.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer s.logQueue.flush(time.Second)
	defer s.end()
	if err := s.Check(l.Addr()); err != nil {
		_ = l.Close()
		return err
	}
	connections := newConnections(s.o, s.buffers)
	connections.Listener = l
	s.connections.Store(connections)
	l = connections
	if s.o.TLS != nil {
		l = tls.NewListener(l, s.o.TLS)
	}
	// A connection has one request at a time, so that a bound of connections is one of requests.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler: s, Protocols: protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: s.o.IdleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog:    textual{s.log, "the HTTP server had a failure"}.logger(),
		ConnContext: withConnection,
		ConnState: func(c net.Conn, state http.ConnState) {
			if own := below(c); own != nil && state == http.StateIdle {
				connections.enter(own, idlePhase)
			}
		},
	}
	expiring, stop := context.WithCancel(s.draining)
	var expiry sync.WaitGroup
	expiry.Go(func() { s.engines.expire(expiring) })
	defer expiry.Wait()
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		s.drain()
		s.end()
		_ = server.Close()
		s.sockets.Wait()
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.drain()
	connections.drain()
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.DrainTimeout)
	defer cancel()
	defer context.AfterFunc(patience, s.end)()
	if err := server.Shutdown(patience); err != nil {
		s.log.Warn("connections were cut off", "after", s.o.DrainTimeout, "error", err)
		_ = server.Close()
	}
	s.sockets.Wait()
	<-failed
	return nil
}

// ServeNodes has the server be one that has no clients and only answers other nodes, by its NodeHandler, until
// ctx ends. Then it takes nothing more in.
func (s *Server) ServeNodes(ctx context.Context) {
	defer s.logQueue.flush(time.Second)
	defer s.end()
	defer s.drain()
	s.engines.expire(ctx)
	<-ctx.Done()
}

func loopback(a net.Addr) bool {
	at, err := netip.ParseAddrPort(a.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}
