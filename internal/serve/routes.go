package serve

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
	"hypertoken/internal/peers"
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
	codeQuota:                      http.StatusTooManyRequests,
	host.ErrBadInput.Code:          http.StatusBadRequest,
	host.ErrConflict.Code:          http.StatusConflict,
	host.ErrKeyReused.Code:         http.StatusConflict,
	host.ErrEngineExists.Code:      http.StatusConflict,
	host.ErrEngineNotFound.Code:    http.StatusNotFound,
	host.ErrHistoryTrimmed.Code:    http.StatusGone,
	host.ErrPayloadTooLarge.Code:   http.StatusRequestEntityTooLarge,
	host.ErrOverloaded.Code:        http.StatusServiceUnavailable,
	host.ErrTimeout.Code:           http.StatusServiceUnavailable,
	host.ErrCanceled.Code:          http.StatusServiceUnavailable,
	host.ErrShutdown.Code:          http.StatusServiceUnavailable,
	host.ErrBroken.Code:            http.StatusServiceUnavailable,
	host.ErrWorkerUnavailable.Code: http.StatusServiceUnavailable,
	host.ErrMoved.Code:             http.StatusServiceUnavailable,
	"out_of_memory":                http.StatusServiceUnavailable,
}

// problemOf returns the problem for an error for which a request is refused. An error that is not
// from the host is the core's error about a setup.
func problemOf(err error) *problem {
	var own *host.Error
	status := http.StatusUnprocessableEntity
	if errors.As(err, &own) {
		if status = statuses[own.Code]; status == 0 {
			status = http.StatusServiceUnavailable
		}
	}
	p := &problem{status: status, code: host.CodeOf(err), message: jsonl.Message(err)}
	if status == http.StatusTooManyRequests {
		p.retry = time.Second
	}
	return p
}

// handler answers a request, or returns the problem.
type handler func(w http.ResponseWriter, r *http.Request) *problem

// route has the handlers of a pattern of paths, by method, and says how requests are guarded.
type route struct {
	pattern string
	methods map[string]handler
	// An open route needs no token, and has no rate. A talking route uses engines, so its requests
	// need a seat. A watching route has a rate of its own, so that an operator gets answers even
	// if clients have used up theirs.
	open, talking, watching bool
	// A route that is owned is about one engine: in a cluster, the node that has the engine answers.
	// Lines find their way themselves.
	owned bool
}

// maxScrapes is the most pages of metrics that are made at once.
const maxScrapes = 4

func (s *Server) routes(registry *prometheus.Registry) (http.Handler, error) {
	exposition := promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry, EnableOpenMetrics: true,
		MaxRequestsInFlight: cmp.Or(s.o.scrapes, maxScrapes),
		ErrorLog:            textual{s.log, "metrics could not be collected"}.logger()})
	list := []route{
		{pattern: "/healthz", methods: map[string]handler{"GET": s.health}, open: true},
		{pattern: "/readyz", methods: map[string]handler{"GET": s.ready}, open: true},
		{pattern: "/metrics", methods: map[string]handler{"GET": s.scrape(exposition)}, watching: true},
		{pattern: "/openapi.json", methods: map[string]handler{"GET": s.describe}},
		{pattern: "/v1/status", methods: map[string]handler{"GET": s.status}, watching: true},
		{pattern: "/v1/cluster", methods: map[string]handler{"GET": s.cluster}, watching: true},
		{pattern: "/v1/backup", methods: map[string]handler{"POST": s.makeBackup}},
		{pattern: "/v1/engines", methods: map[string]handler{"GET": s.listEngines}, talking: true},
		{pattern: "/v1/engines/{name}", methods: map[string]handler{"GET": s.getEngine, "POST": s.talk, "DELETE": s.deleteEngine}, talking: true},
		{pattern: "/v1/engines/{name}/journal", methods: map[string]handler{"GET": s.getJournal, "PUT": s.putJournal},
			talking: true},
		{pattern: "/v1/engines/{name}/revert", methods: map[string]handler{"POST": s.revertEngine}, talking: true},
		{pattern: "/v1/engines/{name}/fork", methods: map[string]handler{"POST": s.forkEngine}, talking: true},
		{pattern: "/v1/engines/{name}/state", methods: map[string]handler{"GET": s.getState}, talking: true},
		{pattern: "/", methods: nil},
	}
	if s.o.Profiles {
		for path, f := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline,
			"profile": pprof.Profile,
			"symbol":  pprof.Symbol, "trace": pprof.Trace} {
			list = append(list, route{pattern: "/debug/pprof/" + path,
				methods: map[string]handler{"GET": unhurried(f), "POST": unhurried(f)}})
		}
	}
	if s.o.Demo {
		assets, err := s.demo()
		if err != nil {
			return nil, err
		}
		for at, a := range assets {
			list = append(list, route{pattern: at, methods: map[string]handler{"GET": s.serveAsset(a)}, open: true})
		}
	}
	mux, forwarded := http.NewServeMux(), http.NewServeMux()
	for _, a := range list {
		a.owned = strings.Contains(a.pattern, "{name}")
		mux.Handle(a.pattern, s.serve(a))
		if a.owned {
			forwarded.Handle(a.pattern, s.serveForwarded(a))
		}
	}
	forwarded.Handle(copyPattern, s.serveForwarded(route{pattern: copyPattern,
		methods: map[string]handler{"POST": s.copyEngine}, owned: true}))
	forwarded.HandleFunc("POST "+peers.CallPath+"{name}", s.answerCalls)
	forwarded.HandleFunc("DELETE "+peers.WithdrawalPath+"{id}", s.withdrawCall)
	forwarded.HandleFunc("GET "+peers.EventPath+"{name}", s.sendEvents)
	s.forwarded = forwarded
	return straight(mux, s.serve(list[slices.IndexFunc(list, func(a route) bool { return a.methods == nil })])), nil
}

// linger is how long the rest of a refused body is read, so that its sender can read the answer.
const linger = 500 * time.Millisecond

// serve returns the handler of a route. It guards the route, answers, and logs the request.
func (s *Server) serve(a route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		o := &observed{ResponseWriter: w}
		defer func() { s.logRequest(o, r, began) }()
		control := http.NewResponseController(o)
		_ = control.SetWriteDeadline(began.Add(s.o.WriteTimeout))
		if r.ContentLength != 0 {
			// net/http reads the rest of a body that the handler has not read. This bounds the
			// time for it.
			_ = control.SetReadDeadline(began.Add(linger))
		}
		o.Header().Set("X-Content-Type-Options", "nosniff")
		o.Header().Set("Cache-Control", "no-store")
		s.sayLeaving(o)
		c := connectionOf(r.Context())
		if c != nil {
			c.of.enter(c, servedPhase)
		}
		if s.share(a, o, r) {
			return
		}
		if p := s.guard(a, r); p != nil {
			// The connection is closed soon, so that refused clients do not take up connections.
			o.Header().Set("Connection", "close")
			_ = control.SetWriteDeadline(time.Now().Add(min(linger, s.o.WriteTimeout)))
			s.refuse(o, p)
			if c != nil {
				c.of.enter(c, refusedPhase)
			}
			return
		}
		if p := s.call(a, o, r); p != nil {
			// The request may have waited for longer than a write may take.
			_ = control.SetWriteDeadline(time.Now().Add(s.o.WriteTimeout))
			s.refuse(o, p)
		}
	})
}

// allowed returns the methods of a route, sorted.
func (a route) allowed() []string {
	return slices.Sorted(maps.Keys(a.methods))
}

func (s *Server) call(a route, w http.ResponseWriter, r *http.Request) *problem {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if f := a.methods[method]; f != nil {
		if s.isForOwner(a, r) {
			return s.atOwner(w, r, r.PathValue("name"), f)
		}
		return f(w, r)
	}
	if a.methods == nil {
		return refused(http.StatusNotFound, codeNotFound,
			"there is nothing at %q: /openapi.json lists all paths", clip(r.URL.Path))
	}
	allowed := strings.Join(a.allowed(), ", ")
	w.Header().Set("Allow", allowed)
	return refused(http.StatusMethodNotAllowed, "method_not_allowed", "%s is not for %s, but %s", clip(r.Method),
		clip(r.URL.Path), allowed)
}

func clip(s string) string {
	if len(s) > 128 {
		return s[:128] + "..."
	}
	return s
}

// refuse answers with an error, as lines have them.
func (s *Server) refuse(w http.ResponseWriter, p *problem) {
	s.counters.refuses(p.status)
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

// maxProfile is how long an answer of /debug/pprof may take: profiles are taken over the seconds
// that are asked for.
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
	_ = enc.Encode(v)                                    // it can't fail for the types that are used here
	_, _ = w.Write(printable.AppendJSON(nil, b.Bytes())) // if the client is gone, it needs no answer
	return nil
}

// engineName returns the name in a request's address.
func engineName(r *http.Request) (string, *problem) {
	name := r.PathValue("name")
	if !nameForm.MatchString(name) {
		return "", badName(name)
	}
	return name, nil
}

// badName is the problem of a name that no engine may have.
func badName(name string) *problem {
	return refused(http.StatusBadRequest, host.ErrBadInput.Code,
		"%q is no name for an engine: want 1 to 64 letters, digits, dots, dashes or underscores, a letter or a digit first",
		clip(name))
}

// claim gives the connection of a request a seat. If there is no seat, it returns the problem.
func claim(r *http.Request) *problem {
	if c := connectionOf(r.Context()); c != nil {
		return c.of.claim(c)
	}
	return nil
}

// lasting returns the context of a request's lines. It ends if the client is gone, or if the
// server ends. It does not end if the client has only closed its sending side, because it may
// still read answers.
func (s *Server) lasting(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	c := connectionOf(r.Context())
	gone := context.AfterFunc(r.Context(), func() {
		if c == nil || c.lost.Load() {
			cancel()
		}
	})
	ended := context.AfterFunc(s.life, cancel)
	return ctx, func() { gone(); ended(); cancel() }
}

func (s *Server) getEngine(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	if p := claim(r); p != nil {
		return p
	}
	if upgrades(r) {
		return s.socket(w, r, name)
	}
	info, err := s.engines.get(r.Context(), name)
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
	if p := claim(r); p != nil {
		return p
	}
	ctx, cancel := s.lasting(r)
	defer cancel()
	if err := s.engines.delete(ctx, name); err != nil {
		return problemOf(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
