package serve

import (
	"context"
	"io"
	"net/http"
	"time"

	"hypertoken/cmd/hypertoken/internal/jsonl"
	"hypertoken/host"
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
		var at host.Position
		err := s.engines.adopt(ctx, f.Name, addressOf(r.RemoteAddr), func(ctx context.Context) (err error) {
			at, err = s.engines.host.Fork(ctx, name, f.At, f.Name)
			return err
		})
		if err != nil {
			return beyondProblem(err)
		}
		return writeJSON(w, struct {
			Name     string `json:"name"`
			Sequence uint64 `json:"sequence"`
			Digest   string `json:"digest"`
		}{f.Name, at.Sequence, at.Digest.String()})
	})
}
