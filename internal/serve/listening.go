package serve

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hypertoken/host"
	"hypertoken/internal/calls"
	"hypertoken/internal/driver"
	"hypertoken/internal/events"
	"hypertoken/internal/fault"
	"hypertoken/internal/peers"
	"hypertoken/internal/seam"
)

// How an application listens to an engine, wherever it is.

// Listen calls f with the events of an engine of a name, or with all if event is empty, until ctx
// ends. It calls begun whenever it has begun to listen: at first, and each time after the engine
// has gone to another node. What happens between is missed. The last event of an engine is not
// handed on: the engine goes on at another node, or with its next call. It fails if the engine is
// not there.
func (s *Server) Listen(ctx context.Context, name, event string, begun func(), f func(driver.Event)) error {
	for ctx.Err() == nil && s.draining.Err() == nil {
		isGone := false
		_ = s.carry(ctx, trip{name: name, what: "call", isRead: true, within: lineTime,
			here: func() error {
				err := s.listenHere(ctx, name, event, begun, f)
				if isGone = host.CodeOf(err) == codeNotFound; isGone {
					return nil
				}
				return err
			},
			there: func(to peers.Owner) error {
				err := s.listenThere(ctx, to, name, event, begun, f)
				if isGone = errors.Is(err, peers.ErrNoEngine); isGone {
					return nil
				}
				return err
			}})
		if isGone {
			return namedForHosts(name, unknown(name))
		}
		select {
		case <-time.After(lineRetry):
		case <-ctx.Done():
		}
	}
	return fault.Ended(ctx, "Events")
}

// listener returns a listener of an engine that this node has. The caller calls stop.
func (s *Server) listener(ctx context.Context, name, event string) (l *events.Listener[driver.Event], stop func(),
	err error) {
	leave, err := s.enterHere(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	engine, done, err := s.engines.use(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	l = seam.Behind(engine).Listen(event)
	detach := s.engines.attach(name)
	stops := []func() bool{context.AfterFunc(ctx, l.Stop), context.AfterFunc(s.draining, l.Stop)}
	return l, func() {
		for _, stop := range stops {
			stop()
		}
		l.Stop()
		detach()
	}, nil
}

// listenHere hands on the events of an engine that this node has, until the engine is closed or
// ctx ends.
func (s *Server) listenHere(ctx context.Context, name, event string, begun func(), f func(driver.Event)) error {
	l, stop, err := s.listener(ctx, name, event)
	if err != nil {
		return err
	}
	defer stop()
	begun()
	for ev, ok := l.Next(); ok; ev, ok = l.Next() {
		if ev.Name != host.EventShutdown {
			f(ev)
		}
	}
	return nil
}

// listenThere does the same for an engine of another node.
func (s *Server) listenThere(ctx context.Context, to peers.Owner, name, event string, begun func(),
	f func(driver.Event)) error {
	body, end, err := s.o.Peers.Listen(ctx, to, name, event)
	if err != nil {
		return err
	}
	defer end()
	in := calls.NewEventReader(body)
	for {
		ev, err := in.Next()
		switch {
		case err != nil: // the engine is closed there, or the node has gone
			return nil
		case ev.Name == "":
			begun()
		case ev.Name != host.EventShutdown:
			f(ev)
		}
	}
}

// sendEvents sends the events of an engine to another node.
func (s *Server) sendEvents(w http.ResponseWriter, r *http.Request) {
	l, stop, err := s.listener(r.Context(), peers.NameIn(r), r.URL.Query().Get("event"))
	switch {
	case host.CodeOf(err) == codeNotFound:
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil:
		s.o.Peers.Misdirected(w, err)
		return
	}
	defer stop()
	w.Header().Set("Content-Type", "application/msgpack")
	control := http.NewResponseController(w)
	ev := driver.Event{}
	for ok := true; ok; ev, ok = l.Next() {
		if calls.WriteEvent(w, &ev) != nil || control.Flush() != nil {
			return
		}
	}
}
