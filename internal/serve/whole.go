package serve

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"hypertoken/host"
	"hypertoken/internal/peers"
)

// How a whole request, and not a line, comes to the node of the cluster that has its engine.

// isForwarded is the key of a context whose request another node has forwarded.
type isForwarded struct{}

// serveForwarded answers a request for a route that another node has forwarded. That node has guarded
// it.
func (s *Server) serveForwarded(a route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), isForwarded{}, true))
		leave, err := s.enterHere(r.Context(), r.PathValue("name"))
		if err != nil {
			w.WriteHeader(http.StatusMisdirectedRequest)
			return
		}
		defer leave()
		if p := s.call(a, w, r); p != nil {
			s.refuse(w, p)
		}
	})
}

// enterHere lets a request in if this node has its engine, until leave is called. It fails if another
// node has the engine, or if nobody can have it now.
func (s *Server) enterHere(ctx context.Context, name string) (leave func(), err error) {
	if s.draining.Err() != nil {
		return nil, failure(host.ErrShutdown.Code, "the node is stopping")
	}
	slot := s.o.Peers.SlotOf(name)
	if err := s.gates.enter(ctx, slot); err != nil {
		return nil, err
	}
	leave = func() { s.gates.leave(slot) }
	_, done, err := s.engines.use(ctx, name)
	if err == nil {
		done()
	} else if err = elsewhereOf(err); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// isForOwner reports whether a request is to be answered by the node that has its engine.
func (s *Server) isForOwner(a route, r *http.Request) bool {
	hasLines := r.Method == http.MethodPost && strings.HasSuffix(a.pattern, "{name}")
	return s.o.Peers != nil && a.owned && !hasLines && !upgrades(r) && r.Context().Value(isForwarded{}) == nil &&
		nameForm.MatchString(r.PathValue("name"))
}

// atOwner has the node answer a request that has the engine of a name, or would have it: f answers it
// here. While nobody has the engine, the request waits, for lineTime at most, unless something of it may
// have run.
func (s *Server) atOwner(w http.ResponseWriter, r *http.Request, name string, f handler) *problem {
	if p := claim(r); p != nil {
		return p
	}
	nodes := s.o.Peers
	control := http.NewResponseController(w)
	until := time.Now().Add(lineTime)
	for {
		_ = control.SetWriteDeadline(time.Now().Add(s.o.WriteTimeout))
		owner, isElsewhere := nodes.Route(name)
		var err error // why nobody has answered
		if !isElsewhere {
			var leave func()
			if leave, err = s.enterHere(r.Context(), name); err == nil {
				defer leave()
				return f(w, r)
			}
			owner, isElsewhere = nodes.Moved(name, err)
		}
		if isElsewhere {
			err = nodes.Proxy(w, s.unhurriedBody(r, control), owner, name)
			isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
			if err == nil {
				return nil
			}
			switch {
			case errors.Is(err, peers.ErrLost) && !isRead:
				return problemOf(failure(host.ErrOutcomeUnknown.Code,
					"the node that had the engine went away, and it is not known whether it did what was asked: %v", err))
			case errors.Is(err, peers.ErrSpent):
				return refused(http.StatusServiceUnavailable, host.ErrMoved.Code,
					"the engine is on its way to another node, and nothing was done, try again: %v", err)
			}
		}
		if time.Now().After(until) {
			return refused(http.StatusServiceUnavailable, host.ErrMoved.Code,
				"no node could answer for %v, and nothing was done, try again: %v", lineTime, err)
		}
		select {
		case <-time.After(lineRetry):
		case <-r.Context().Done():
			return problemOf(failure(host.ErrCanceled.Code, "the request ended before the engine's node was found"))
		}
	}
}

// unhurriedBody returns the request with a body that may take IdleTimeout for each of its reads.
func (s *Server) unhurriedBody(r *http.Request, control *http.ResponseController) *http.Request {
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	r = r.WithContext(r.Context())
	r.Body = &unhurriedBody{r.Body, control, s.o.IdleTimeout}
	return r
}

type unhurriedBody struct {
	io.ReadCloser
	control *http.ResponseController
	within  time.Duration
}

// Read implements io.Reader.
func (b *unhurriedBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(b.within))
	n, err := b.ReadCloser.Read(p)
	_ = b.control.SetReadDeadline(time.Now().Add(linger)) // for the rest that nobody reads
	return n, err
}
