package serve

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/dustin/go-humanize"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
)

// maxImports bounds the imports at a time. Each may have a line of --max-body in memory.
const maxImports = 4

// putJournal makes an engine of the lines of an export. Nobody sees the engine before all lines are
// stored. If the client goes away before that, nothing is left.
func (s *Server) putJournal(w http.ResponseWriter, r *http.Request) *problem {
	body := &body{ReadCloser: r.Body}
	control := http.NewResponseController(w)
	p := s.importBody(w, r, body, control)
	if p != nil && !body.ended {
		_ = control.SetReadDeadline(time.Now().Add(linger))
		w.Header().Set("Connection", "close")
	}
	return p
}

func (s *Server) importBody(
	w http.ResponseWriter, r *http.Request, body *body, control *http.ResponseController,
) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	if r.ContentLength > s.o.MaxBody {
		return s.exportTooLarge()
	}
	if p := claim(r); p != nil {
		return p
	}
	select {
	case s.imports <- struct{}{}:
		defer func() { <-s.imports }()
	default:
		return refused(http.StatusServiceUnavailable, host.ErrOverloaded.Code,
			"%d imports are under way, as many as there may be at a time: try again when one is done", maxImports)
	}
	ctx, cancel := s.lasting(r)
	defer cancel()
	// A request that waits for a line when the server stops waits no longer.
	defer context.AfterFunc(s.draining, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })()
	_ = control.SetWriteDeadline(time.Time{}) // nobody knows how long the import takes
	c := s.converse(r, name)
	lines := jsonl.NewReader(http.MaxBytesReader(unobserved(w), body, s.o.MaxBody), int(s.o.MaxBody), "--max-body")
	var unusable *problem // why the rest can't be read
	next := func() (jsonl.Line, error) {
		if s.draining.Err() != nil {
			unusable = stopping()
			return jsonl.Line{}, errors.New(unusable.message)
		}
		// An action counts as a line of a conversation does.
		if c.lines++; c.lines > 1 {
			if unusable = c.turn(ctx); unusable != nil {
				return jsonl.Line{}, errors.New(unusable.message)
			}
		}
		_ = control.SetReadDeadline(time.Now().Add(s.o.IdleTimeout))
		line, err := lines.Next()
		_ = control.SetReadDeadline(time.Time{})
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			unusable = s.exportTooLarge()
		} else if err != nil && !body.ended && !errors.Is(err, jsonl.ErrLine) {
			unusable = s.unreadable(err)
		}
		return line, err
	}
	on := s.engines.acquire()
	defer on.users.Done()
	imported, err := jsonl.Import(ctx, on.Host, name, next, func() {})
	if unusable != nil {
		return unusable
	}
	var at host.Position
	if err == nil {
		err = s.engines.adopt(ctx, name, addressOf(r.RemoteAddr), func(ctx context.Context) (err error) {
			at, err = imported.Commit(ctx)
			return err
		})
		err = errors.Join(err, imported.Abort(context.WithoutCancel(ctx))) // nothing to do after Commit
	}
	switch {
	case errors.Is(err, host.ErrEngineExists):
		return problemOf(alreadyExists(name))
	case err != nil:
		return importProblem(err)
	}
	return s.writeAnswer(w, jsonl.PositionObject(at))
}

// importProblem is problemOf for an export whose lines can't be used, or can't be played.
func importProblem(err error) *problem {
	p := problemOf(err)
	switch p.code {
	case host.ErrBadInput.Code, host.ErrDiverged.Code, host.ErrCoreMismatch.Code, host.ErrBroken.Code:
		p.status = http.StatusUnprocessableEntity
	}
	return p
}

// exportTooLarge is the problem of an export above MaxBody.
func (s *Server) exportTooLarge() *problem {
	return refused(http.StatusRequestEntityTooLarge, host.ErrPayloadTooLarge.Code,
		"the export is longer than %s (--max-body): export the newest snapshot and what follows, or raise the bound",
		humanize.IBytes(uint64(s.o.MaxBody)))
}
