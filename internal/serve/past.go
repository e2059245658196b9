package serve

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
)

// The state of an engine, now or at a sequence of its past.

// getState answers with the state of an engine, its sequence and its digest.
func (s *Server) getState(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	q := &jsonl.Request{Kind: jsonl.State, Options: []host.DispatchOption{host.WithDigest()}}
	if q.At, q.HasAt, p = sequenceOf(r.URL.Query(), "at"); p != nil {
		return p
	}
	return s.withEngine(r, name, func(ctx context.Context, engine *host.Engine) *problem {
		c := s.converse(r, name)
		var err error
		if c.room, err = c.reserve(ctx, s.engines.gauge(name, stateGauge)); err != nil {
			return problemOf(err)
		}
		defer c.answered()
		answer, err := jsonl.StateObject(ctx, engine, q)
		c.room.settle(cap(answer))
		if err != nil {
			return beyondProblem(err)
		}
		return s.writeAnswer(w, answer)
	})
}

// withEngine gives the request's connection a seat, and calls answer with the engine of a name. The
// engine is in use meanwhile, so it is neither closed nor deleted.
func (s *Server) withEngine(
	r *http.Request, name string, answer func(ctx context.Context, engine *host.Engine) *problem,
) *problem {
	if p := claim(r); p != nil {
		return p
	}
	ctx, cancel := s.lasting(r)
	defer cancel()
	engine, done, err := s.engines.use(ctx, name)
	if err != nil {
		return problemOf(err)
	}
	defer done()
	return answer(ctx, engine)
}

// writeAnswer answers with a JSON object.
func (s *Server) writeAnswer(w http.ResponseWriter, answer []byte) *problem {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.o.WriteTimeout))
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(answer); err == nil { // if the client is gone, it needs no answer
		_, _ = w.Write([]byte("\n"))
	}
	return nil
}

// beyondProblem is problemOf for a question about sequences: the request is well formed, but the
// engine may not have them.
func beyondProblem(err error) *problem {
	p := problemOf(err)
	if p.status == http.StatusBadRequest {
		p.status = http.StatusUnprocessableEntity
	}
	return p
}

// sequenceOf reads a parameter that is a sequence. has is false if the request does not have it.
func sequenceOf(query url.Values, name string) (sequence uint64, has bool, p *problem) {
	if !query.Has(name) {
		return 0, false, nil
	}
	sequence, err := strconv.ParseUint(query.Get(name), 10, 64)
	if err != nil {
		return 0, false, refused(http.StatusBadRequest, host.ErrBadInput.Code,
			"%s is %q, want a whole number from 0", name, clip(query.Get(name)))
	}
	return sequence, true, nil
}
