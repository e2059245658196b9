package serve

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
	"hypertoken/internal/printable"
)

// problem is a request that was refused.
type problem struct {
	status        int
	code, message string
	retry         time.Duration // when to try again, or 0
}

func refused(status int, code, format string, args ...any) *problem {
	return &problem{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// statuses are those of errors that are why a request is refused, by their code.
var statuses = map[string]int{
	codeNotFound:                   http.StatusNotFound,
	codeExists:                     http.StatusConflict,
	host.ErrBadInput.Code:          http.StatusBadRequest,
	host.ErrPayloadTooLarge.Code:   http.StatusRequestEntityTooLarge,
	host.ErrOverloaded.Code:        http.StatusServiceUnavailable,
	host.ErrTimeout.Code:           http.StatusServiceUnavailable,
	host.ErrCanceled.Code:          http.StatusServiceUnavailable,
	host.ErrShutdown.Code:          http.StatusServiceUnavailable,
	host.ErrBroken.Code:            http.StatusServiceUnavailable,
	host.ErrWorkerUnavailable.Code: http.StatusServiceUnavailable,
	"out_of_memory":                http.StatusServiceUnavailable,
}

// problemOf is an error for which a request is refused; what has no status of its own is what the core said of a setup.
func problemOf(err error) *problem {
	var own *host.Error
	status := http.StatusUnprocessableEntity
	if errors.As(err, &own) {
		if status = statuses[own.Code]; status == 0 {
			status = http.StatusServiceUnavailable
		}
	}
	return &problem{status: status, code: host.CodeOf(err), message: jsonl.Message(err)}
}

// handler answers a request, or says why not.
type handler func(w http.ResponseWriter, r *http.Request) *problem

// route is an address: its handlers by method, and how far it is open.
type route struct {
	pattern string
	methods map[string]handler
	// open routes need no token, and have no rate. talking ones go with engines, and so with a connection. watching ones have a
	// rate of their own, so that who watches sees something when others are busy.
	open, talking, watching bool
}

func (s *Server) routes(registry *prometheus.Registry) (http.Handler, error) {
	exposition := promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
		ErrorLog: textual{s.log, "metrics could not be collected"}.logger()})
	list := []route{
		{pattern: "/healthz", methods: map[string]handler{"GET": s.health}, open: true},
		{pattern: "/readyz", methods: map[string]handler{"GET": s.ready}, open: true},
		{pattern: "/metrics", methods: map[string]handler{"GET": plain(exposition)}, watching: true},
		{pattern: "/openapi.json", methods: map[string]handler{"GET": s.describe}},
		{pattern: "/v1/status", methods: map[string]handler{"GET": s.status}, watching: true},
		{pattern: "/v1/engines", methods: map[string]handler{"GET": s.listEngines}, talking: true},
		{pattern: "/v1/engines/{name}", methods: map[string]handler{"GET": s.getEngine, "POST": s.talk, "DELETE": s.deleteEngine}, talking: true},
		{pattern: "/", methods: nil},
	}
	if s.o.Profiles {
		for path, f := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile,
			"symbol": pprof.Symbol, "trace": pprof.Trace} {
			list = append(list, route{pattern: "/debug/pprof/" + path, methods: map[string]handler{"GET": unhurried(f), "POST": unhurried(f)}})
		}
	}
	if s.o.Demo {
		assets, err := demo()
		if err != nil {
			return nil, err
		}
		for at, a := range assets {
			list = append(list, route{pattern: at, methods: map[string]handler{"GET": a.serve}, open: true})
		}
	}
	mux := http.NewServeMux()
	for _, a := range list {
		mux.Handle(a.pattern, s.serve(a))
	}
	return mux, nil
}

// serve guards a route, answers, and logs what came of it.
func (s *Server) serve(a route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		o := &observed{ResponseWriter: w}
		defer func() { s.logRequest(o, r, began) }()
		control := http.NewResponseController(o)
		_ = control.SetWriteDeadline(began.Add(s.o.WriteTimeout))
		if r.ContentLength != 0 {
			// net/http reads what is left of a body that nobody wants.
			_ = control.SetReadDeadline(began.Add(s.o.IdleTimeout))
		}
		o.Header().Set("X-Content-Type-Options", "nosniff")
		o.Header().Set("Cache-Control", "no-store")
		if excess(r.Context()) {
			// Its client gets a connection of its own once there is room.
			o.Header().Set("Connection", "close")
		}
		p := s.guard(a, r)
		if p == nil {
			p = s.call(a, o, r)
		}
		if p != nil {
			s.refuse(o, p)
		}
	})
}

func (s *Server) call(a route, w http.ResponseWriter, r *http.Request) *problem {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if f := a.methods[method]; f != nil {
		return f(w, r)
	}
	if a.methods == nil {
		return refused(http.StatusNotFound, codeNotFound, "there is nothing at %q: /openapi.json says what there is", clip(r.URL.Path))
	}
	allowed := []string{}
	for m := range a.methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return refused(http.StatusMethodNotAllowed, "method_not_allowed", "%s is not for %s, but %s", clip(r.Method), clip(r.URL.Path), strings.Join(allowed, ", "))
}

func clip(s string) string {
	if len(s) > 128 {
		return s[:128] + "..."
	}
	return s
}

// refuse answers with an error, as lines have them.
func (s *Server) refuse(w http.ResponseWriter, p *problem) {
	switch p.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="hypertoken"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(p.retry.Seconds())))))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_, _ = w.Write(append(jsonl.Error(p.code, p.message), '\n'))
}

// guard says why a request must not come in.
func (s *Server) guard(a route, r *http.Request) *problem {
	if s.o.Token == "" {
		// A page of another site can make its own name resolve to this machine, and would be of the same origin then.
		if !localName(r.Host) {
			return refused(http.StatusForbidden, "forbidden", "the Host %q is not this machine: ask for localhost or 127.0.0.1, or serve with a token", clip(r.Host))
		}
	}
	if a.open {
		return nil
	}
	rates := &s.rates
	if a.watching {
		rates = &s.watchers
	}
	if !rates.of(r.RemoteAddr).Allow() {
		p := refused(http.StatusTooManyRequests, "rate_limited", "more than %d lines and requests a second came from this address (--rate): try again a second later", rates.limit)
		p.retry = time.Second
		return p
	}
	if s.o.Token != "" && !s.authorized(r) {
		return refused(http.StatusUnauthorized, "unauthorized", "this server wants its token: send Authorization: Bearer TOKEN")
	}
	if err := s.sameOrigin(r); err != nil {
		return refused(http.StatusForbidden, "forbidden", "a page of another site may not do this (%v): call from a program, or from the server's own origin", err)
	}
	if !a.talking {
		return nil
	}
	switch {
	case excess(r.Context()):
		return refused(http.StatusServiceUnavailable, host.ErrOverloaded.Code,
			"%d connections are open, as many as --max-connections allows: close some, or try again later", s.o.MaxConnections)
	case s.draining.Err() != nil:
		return stopping()
	}
	return nil
}

func stopping() *problem {
	return refused(http.StatusServiceUnavailable, host.ErrShutdown.Code, "the server is shutting down: try again when it is back")
}

func digest(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// authorized compares digests, so that neither the token's bytes nor its length take time that could be measured.
func (s *Server) authorized(r *http.Request) bool {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	have := digest(strings.TrimSpace(shown))
	return subtle.ConstantTimeCompare(have[:], s.token[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// sameOrigin refuses what a browser sends for the page of another site, where that could have an effect. A WebSocket is opened by
// a GET, which pages of other sites may send.
func (s *Server) sameOrigin(r *http.Request) error {
	if upgrades(r) {
		r = r.Clone(r.Context())
		r.Method = http.MethodPost
	}
	return s.cross.Check(r)
}

// localName reports whether a Host header names this machine.
func localName(hostport string) bool {
	name, _, err := net.SplitHostPort(hostport)
	if err != nil {
		name = strings.Trim(hostport, "[]")
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}

func plain(h http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem { h.ServeHTTP(w, r); return nil }
}

// maxProfile is how long an answer of /debug/pprof may take: profiles are taken over the seconds that are asked for.
const maxProfile = 5 * time.Minute

func unhurried(f http.HandlerFunc) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maxProfile))
		f(w, r)
		return nil
	}
}

func writeJSON(w http.ResponseWriter, v any) *problem {
	w.Header().Set("Content-Type", "application/json")
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)                                    // what is shown here always encodes
	_, _ = w.Write(printable.AppendJSON(nil, b.Bytes())) // a client that is gone needs none
	return nil
}

// engineName returns the name in a request's address.
func engineName(r *http.Request) (string, *problem) {
	name := r.PathValue("name")
	if !nameForm.MatchString(name) {
		return "", refused(http.StatusBadRequest, host.ErrBadInput.Code,
			"the engine's name %q is none: want 1 to 64 letters, digits, dots, dashes or underscores, a letter or a digit first", clip(name))
	}
	return name, nil
}

func (s *Server) listEngines(w http.ResponseWriter, _ *http.Request) *problem {
	return writeJSON(w, map[string]any{"engines": s.engines.all()})
}

func (s *Server) getEngine(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	if upgrades(r) {
		return s.socket(w, r, name)
	}
	info, err := s.engines.get(name)
	if err != nil {
		return problemOf(err)
	}
	return writeJSON(w, info)
}

func (s *Server) deleteEngine(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	if err := s.engines.delete(r.Context(), name); err != nil {
		return problemOf(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
