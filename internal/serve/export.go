package serve

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
)

// getJournal answers with the journal of an engine, as lines that `hypertoken run` takes. An error
// after the first line is the last line.
func (s *Server) getJournal(w http.ResponseWriter, r *http.Request) *problem {
	name, p := engineName(r)
	if p != nil {
		return p
	}
	var span jsonl.Span
	if span.From, span.HasFrom, p = sequenceOf(r.URL.Query(), "from"); p != nil {
		return p
	}
	if span.After, span.HasAfter, p = sequenceOf(r.URL.Query(), "after"); p != nil {
		return p
	}
	if span.To, span.HasTo, p = sequenceOf(r.URL.Query(), "to"); p != nil {
		return p
	}
	if span.HasFrom && span.HasAfter {
		return refused(http.StatusUnprocessableEntity, host.ErrBadInput.Code, "from and after exclude each other")
	}
	return s.withEngine(r, name, func(ctx context.Context, engine *host.Engine) *problem {
		c := s.converse(r, name)
		size := stateGauge // the base is a state
		if span.HasAfter {
			size = ""
		}
		var err error
		if c.room, err = c.reserve(ctx, s.engines.gauge(name, size)); err != nil {
			return problemOf(err)
		}
		defer c.answered()
		lines := &lineWriter{server: s, w: w, control: http.NewResponseController(w), request: r}
		err = jsonl.Export(ctx, engine, span, func(line []byte) error {
			if !lines.hasBegun {
				c.room.settle(cap(line))
			}
			return lines.write(line)
		})
		if !lines.hasBegun { // an error, or there is no line
			c.room.settle(0)
		}
		switch {
		case err == nil:
			lines.begin()
			lines.flush()
		case !lines.hasBegun:
			return beyondProblem(err)
		case lines.err == nil:
			p := problemOf(err)
			_ = lines.write(jsonl.Error(p.code, p.message))
			lines.flush()
		}
		return nil
	})
}

// lineWriter writes lines that a client must read within WriteTimeout.
type lineWriter struct {
	server   *Server
	w        http.ResponseWriter
	control  *http.ResponseController
	request  *http.Request
	hasBegun bool
	err      error // why nothing more can be written
}

// write writes a line, which has no newline.
func (l *lineWriter) write(line []byte) error {
	l.begin()
	_ = l.control.SetWriteDeadline(time.Now().Add(l.server.o.WriteTimeout))
	if _, l.err = l.w.Write(line); l.err == nil {
		_, l.err = l.w.Write([]byte("\n"))
	}
	l.note()
	return l.err
}

// begin sends the status, unless it was sent.
func (l *lineWriter) begin() {
	if !l.hasBegun {
		l.hasBegun = true
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.w.WriteHeader(http.StatusOK)
	}
}

// flush sends what net/http still holds.
func (l *lineWriter) flush() {
	l.err = l.control.Flush()
	l.note()
}

// note tells of a client that does not read.
func (l *lineWriter) note() {
	if errors.Is(l.err, os.ErrDeadlineExceeded) {
		l.server.unread(l.request.RemoteAddr, l.request.URL.Path)
	}
}
