package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
)

// Going back to a state of the past, and copies of one.

const (
	// maxSmallBody bounds the body of a request that is one small object, in bytes.
	maxSmallBody = 4096
	// smallBodyTime is how long such a body may take to arrive.
	smallBodyTime = 10 * time.Second
)

// smallBody reads the body of a request that is one small object. form says how it looks, for errors.
func smallBody(w http.ResponseWriter, r *http.Request, form string) ([]byte, *problem) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(smallBodyTime))
	text, err := io.ReadAll(io.LimitReader(r.Body, maxSmallBody+1))
	switch {
	case err != nil:
		return nil, refused(http.StatusBadRequest, host.ErrBadInput.Code, "the body could not be read: %v", err)
	case len(text) > maxSmallBody:
		return nil, refused(http.StatusRequestEntityTooLarge, host.ErrPayloadTooLarge.Code,
			"the body has more than %d bytes: send %s", maxSmallBody, form)
	}
	return text, nil
}

// badBody is the problem of a body that can't be used.
func badBody(err error) *problem {
	return refused(http.StatusBadRequest, host.ErrBadInput.Code, "%v", err)
}

// revertEngine sets an engine to a state that it had.
func (s *Server) revertEngine(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	text, p := smallBody(w, r, `{"to":N}`)
	if p != nil {
		return p
	}
	q, err := jsonl.ParseRevert(text)
	if err != nil {
		return badBody(err)
	}
	return s.withEngine(r, name, func(ctx context.Context, engine *host.Engine) *problem {
		at, err := engine.Revert(ctx, q.To, q.Options...)
		if err != nil {
			return beyondProblem(err)
		}
		return s.writeAnswer(w, jsonl.PositionObject(at))
	})
}

// forkEngine makes an engine of a state that another one has, or had.
func (s *Server) forkEngine(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	text, p := smallBody(w, r, `{"name":NEW}`)
	if p != nil {
		return p
	}
	f, err := jsonl.ParseFork(text)
	if err != nil {
		return badBody(err)
	}
	if !nameForm.MatchString(f.Name) {
		return badName(f.Name)
	}
	return s.withEngine(r, name, func(ctx context.Context, engine *host.Engine) *problem {
		if !f.HasAt {
			f.At = engine.Newest()
		}
		here := func(w http.ResponseWriter, _ *http.Request) *problem {
			return s.makeFork(ctx, w, r, name, f.At, f.Name)
		}
		if s.o.Peers == nil {
			return here(w, r)
		}
		return s.atOwner(w, copyRequest(ctx, r, name, f), f.Name, here)
	})
}

// makeFork makes the engine of a name, here, from the state that another one had at a sequence. The
// other one may be another node's.
func (s *Server) makeFork(ctx context.Context, w http.ResponseWriter, r *http.Request, from string, at uint64,
	name string) *problem {
	var position host.Position
	err := s.engines.adopt(ctx, name, addressOf(r.RemoteAddr), func(ctx context.Context) error {
		return s.engines.onHost(ctx, func(h *host.Host) (err error) {
			position, err = h.Fork(ctx, from, at, name)
			return err
		})
	})
	if err != nil {
		return beyondProblem(err)
	}
	return writeJSON(w, struct {
		Name     string `json:"name"`
		Sequence uint64 `json:"sequence"`
		Digest   string `json:"digest"`
	}{name, position.Sequence, position.Digest.String()})
}

// copyPattern is the path of a request that only nodes send to each other: the node that has the engine
// of the name {name}, or would have it, makes it as a copy of another node's engine.
const copyPattern = "/v1/engines/{name}/copy"

// copyOrder is the body of such a request.
type copyOrder struct {
	From string `json:"from"`
	At   uint64 `json:"at"`
}

// copyRequest returns the request that has another node make a copy. r is the client's request.
func copyRequest(ctx context.Context, r *http.Request, from string, f jsonl.ForkRequest) *http.Request {
	body, err := json.Marshal(copyOrder{from, f.At})
	if err != nil {
		panic(err) // a string and a number
	}
	q := r.Clone(ctx)
	q.Method, q.URL = http.MethodPost, &url.URL{Path: strings.Replace(copyPattern, "{name}", f.Name, 1)}
	q.Body, q.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return q
}

// copyEngine answers the request of another node for a copy. The state lies in the store, which is read
// without being its owner.
func (s *Server) copyEngine(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	text, p := smallBody(w, r, `{"from":NAME,"at":N}`)
	if p != nil {
		return p
	}
	var order copyOrder
	if err := json.Unmarshal(text, &order); err != nil {
		return badBody(err)
	}
	ctx, cancel := s.lasting(r)
	defer cancel()
	return s.makeFork(ctx, w, r, order.From, order.At, name)
}
