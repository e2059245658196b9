package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/time/rate"

	"hypertoken/host"
	"hypertoken/internal/calls"
	"hypertoken/internal/jsonl"
)

// conversation answers the lines of one request or one WebSocket, in turn.
type conversation struct {
	server  *Server
	name    string
	address netip.Prefix
	limiter *rate.Limiter
	room    *reservation // of the last answer, until the client has it
	n       int          // actions so far
	lines   int
}

func (s *Server) converse(r *http.Request, name string) *conversation {
	return &conversation{server: s, name: name, address: addressOf(r.RemoteAddr), limiter: s.rates.of(r.RemoteAddr)}
}

// answered gives back the room of the last answer. The caller calls it once the client has that
// answer, or can't get it.
func (c *conversation) answered() {
	c.room.free()
	c.room = nil
}

// answer answers a line and its error, as [jsonl.Reader.Next] returned them. If nothing of the
// line ran, it returns the problem. If the problem concerns the whole conversation, and not only
// the line, the answer is nil.
func (c *conversation) answer(ctx context.Context, line jsonl.Line, err error) ([]byte, *problem) {
	if err != nil && !errors.Is(err, jsonl.ErrLine) {
		return nil, c.server.unreadable(err)
	}
	// The first line was let in with the request.
	if c.lines++; c.lines > 1 {
		if p := c.turn(ctx); p != nil {
			return nil, p
		}
	}
	q, err := jsonl.Parse(line, err)
	var bad *jsonl.LineError
	if errors.As(err, &bad) {
		p := refused(http.StatusBadRequest, host.ErrBadInput.Code, "line %d: %v", line.Number, err)
		if bad.Long {
			p.status = http.StatusRequestEntityTooLarge
		}
		return jsonl.BadLine(line.Number, err), p
	}
	for range q.Actions() - 1 { // each action of a batch counts as a line does
		if p := c.turn(ctx); p != nil {
			return nil, p
		}
	}
	first := c.n + 1
	c.n += q.Actions()
	return c.routed(ctx, line, q, first)
}

// local answers a line here. If elsewhere is not nil, nothing of the line ran, because another owner has
// the engine's journal, or because the store can't be used at the moment: the caller may try again.
func (c *conversation) local(ctx context.Context, q *jsonl.Request, first int) (answer []byte, p *problem,
	elsewhere error) {
	if q.Kind == jsonl.Setup {
		return c.setup(ctx, q)
	}
	engine, done, err := c.server.engines.use(ctx, c.name)
	if err != nil {
		answer, p = c.refused(q, first, err)
		return answer, p, elsewhereOf(err)
	}
	defer done()
	if q.Kind != jsonl.Digest {
		action := q.Action
		if q.Kind == jsonl.State {
			action = stateGauge
		}
		g := c.server.engines.gauge(c.name, action)
		if c.room, err = c.reserve(ctx, g); err != nil {
			answer, p = c.refused(q, first, err)
			return answer, p, nil
		}
	}
	answer, err = jsonl.Answer(ctx, engine, q, first)
	if err != nil {
		// The core's result is no value. The answer has this error.
		c.server.log.Warn("a result is no JSON", "engine", c.name, "error", err)
	}
	if c.room != nil {
		c.room.settle(cap(answer))
	}
	if c.server.o.Peers != nil {
		elsewhere = c.whyElsewhere(ctx, engine, q, answer)
	}
	return answer, nil, elsewhere
}

// whyElsewhere returns why an answer says that nothing of its line ran, if another node may be able to
// run it, or this one a little later; otherwise nil. It reopens an engine that is broken because its
// journal could not be loaded while the store could not be used.
func (c *conversation) whyElsewhere(ctx context.Context, engine *host.Engine, q *jsonl.Request, answer []byte) error {
	code := jsonl.CodeOfFailure(answer, host.ErrMoved.Code, host.ErrBroken.Code)
	if code == "" {
		return nil
	}
	_, err := engine.Digest(ctx) // an engine that has closed itself, or is broken, says why
	err = elsewhereOf(err)
	if err != nil && code == host.ErrBroken.Code {
		bounded, cancel := q.Bounded(ctx)
		defer cancel()
		_ = engine.Reopen(bounded) // if it fails, the next attempt says so
	}
	return err
}

// elsewhereOf returns the error if it says that another owner has the journal, or that the store can't be
// used at the moment; otherwise nil.
func elsewhereOf(err error) error {
	if calls.IsElsewhere(err) {
		return err
	}
	return nil
}

// reserve waits for the room of an answer. A line that still waits when the server stops does not
// run.
func (c *conversation) reserve(ctx context.Context, g *gauge) (*reservation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.server.draining, cancel)()
	room, err := c.server.buffers.reserve(ctx, c.address, g, c.server.o.WriteTimeout)
	if err != nil && c.server.draining.Err() != nil {
		p := stopping()
		return nil, failure(p.code, "%s", p.message)
	}
	return room, err
}

// refused is the answer to a line that did not run. first is the number of its action.
func (c *conversation) refused(q *jsonl.Request, first int, err error) ([]byte, *problem) {
	p := problemOf(err)
	if q.Kind != jsonl.Action {
		return jsonl.Failure(err), p
	}
	line, _ := jsonl.Outcome(first, host.Result{}, err) // an error always has a line
	return line, p
}

// setup makes the engine.
func (c *conversation) setup(ctx context.Context, q *jsonl.Request) (answer []byte, p *problem, elsewhere error) {
	bounded, cancel := q.Bounded(ctx)
	defer cancel()
	err := q.ValueError
	if err == nil && ctx.Err() == nil && bounded.Err() != nil { // create may not notice that the time is over
		err = failure(host.ErrTimeout.Code, "not done after %v (timeout)", q.Timeout)
	}
	if err == nil {
		err = c.server.engines.create(bounded, c.name, q.Value, c.address)
	}
	if err != nil {
		p := problemOf(err)
		if q.Timeout > 0 && p.code == host.ErrTimeout.Code {
			p.status = http.StatusUnprocessableEntity // the client gave it too little time
		}
		p.message = fmt.Sprintf("line %d: setup: %s", q.Line, p.message)
		return jsonl.BadSetup(q.Line, err), p, elsewhereOf(err)
	}
	engine, done, err := c.server.engines.use(ctx, c.name)
	if err != nil { // somebody has deleted it already
		return jsonl.Failure(err), problemOf(err), nil
	}
	defer done()
	return jsonl.Taken(ctx, engine, q), nil, nil
}

// turn counts a line against the rate of its address. If the rate is used up, it waits.
func (c *conversation) turn(ctx context.Context) *problem {
	if c.limiter.Allow() {
		return nil
	}
	return c.wait(ctx)
}

// wait waits until the address may send a line again.
func (c *conversation) wait(ctx context.Context) *problem {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.server.draining, cancel)()
	err := c.limiter.Wait(ctx)
	switch {
	case err == nil:
		return nil
	case c.server.draining.Err() != nil:
		return stopping()
	}
	return problemOf(failure(host.ErrCanceled.Code, "the request ended while it waited for its turn (--rate %d)",
		c.server.o.Rate))
}

// unreadable returns the problem for a body or a message that could not be read to its end.
func (s *Server) unreadable(err error) *problem {
	var large *http.MaxBytesError
	switch {
	case s.draining.Err() != nil:
		return stopping()
	case errors.As(err, &large):
		return s.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refused(http.StatusRequestTimeout, host.ErrTimeout.Code,
			"nothing came for %v (--idle-timeout): send sooner, or in several requests", s.o.IdleTimeout)
	}
	return refused(http.StatusBadRequest, host.ErrBadInput.Code, "%v", err)
}

func (s *Server) tooLarge() *problem {
	return refused(http.StatusRequestEntityTooLarge, host.ErrPayloadTooLarge.Code,
		"a body or a message is longer than %s (--max-body): send the lines in several",
		humanize.IBytes(uint64(s.o.MaxBody)))
}

// unread notes that a client was cut off because it did not read.
func (s *Server) unread(remote, path string) {
	s.counters.unread.Inc()
	s.log.Warn("a client does not read its answers and is cut off: it has to read while it sends, or to send less at once",
		"remote", remote, "path", clip(path), "after", s.o.WriteTimeout)
}

// body notes whether the request's body has been read to its end.
type body struct {
	io.ReadCloser
	ended bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

// exchange is a request whose lines are answered while it comes.
type exchange struct {
	server  *Server
	request *http.Request
	w       http.ResponseWriter
	control *http.ResponseController
	body    *body
	begun   bool // the status is sent
}

// talk answers the lines of a body. As long as nothing has run, the request is refused as a whole;
// from then on there is a line for each, and the status is 200.
func (s *Server) talk(w http.ResponseWriter, r *http.Request) *problem {
	x := &exchange{server: s, request: r, w: w, control: http.NewResponseController(w), body: &body{ReadCloser: r.Body}}
	defer func() {
		if !x.body.ended {
			_ = x.control.SetReadDeadline(time.Now().Add(linger))
		}
	}()
	p := x.run(r)
	if p != nil && x.begun {
		x.send(jsonl.Error(p.code, p.message))
		return nil
	}
	if p != nil && !x.body.ended {
		w.Header().Set("Connection", "close")
	}
	return p
}

// run answers lines until their end. It returns nil there, or the reason why it ended before.
func (x *exchange) run(r *http.Request) *problem {
	s := x.server
	name, p := engineName(r)
	if p != nil {
		return p
	}
	if r.ContentLength > s.o.MaxBody {
		return s.tooLarge()
	}
	ctx, cancel := s.lasting(r)
	defer cancel()
	// A request that waits for a line when the server stops waits no longer.
	defer context.AfterFunc(s.draining, func() { _ = x.control.SetReadDeadline(time.Unix(1, 0)) })()
	c := s.converse(r, name)
	lines := jsonl.NewReader(http.MaxBytesReader(unobserved(x.w), x.body, s.o.MaxBody), int(s.o.MaxLine), "--max-line")
	for {
		_ = x.control.SetReadDeadline(time.Now().Add(s.o.IdleTimeout))
		// A request that has no further line is complete: its client need not know that the server stops.
		isOver := s.draining.Err() != nil
		if isOver && !(x.begun && x.body.ended) {
			return stopping()
		}
		line, err := lines.Next()
		// While an action runs, the HTTP server reads to notice that the client is gone. It would
		// take the end of a deadline for that.
		_ = x.control.SetReadDeadline(time.Time{})
		if errors.Is(err, io.EOF) {
			if !x.begun {
				return refused(http.StatusBadRequest, host.ErrBadInput.Code,
					"the body is empty: send at least one line of JSON")
			}
			return nil
		}
		if isOver {
			return stopping()
		}
		if c.lines == 0 {
			// A connection gets a seat once a line has come, so a client without a line takes no
			// seat.
			if p := claim(r); p != nil {
				return p
			}
		}
		answer, p := c.answer(ctx, line, err)
		if p != nil && (!x.begun || answer == nil) {
			return p
		}
		sent := x.send(answer)
		c.answered()
		if !sent {
			return nil
		}
	}
}

// send writes a line. The client must read it within WriteTimeout. It reports whether the client
// did.
func (x *exchange) send(answer []byte) bool {
	if !x.begun {
		x.begun = true
		x.w.Header().Set("Content-Type", "application/x-ndjson")
		if !x.body.ended {
			// The rest of the body comes while answers are sent. The connection can't be used
			// again: if some of the body is left when the answer is complete, net/http can't find
			// the body's end.
			_ = x.control.EnableFullDuplex() // only a test's recorder can't
			x.w.Header().Set("Connection", "close")
		}
		x.server.sayLeaving(x.w)
		x.w.WriteHeader(http.StatusOK)
	}
	_ = x.control.SetWriteDeadline(time.Now().Add(x.server.o.WriteTimeout))
	// The newline is written by itself, so that the answer need not be copied.
	_, err := x.w.Write(answer)
	if err == nil {
		_, err = x.w.Write([]byte("\n"))
	}
	if err == nil {
		err = x.control.Flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		x.server.unread(x.request.RemoteAddr, x.request.URL.Path)
	}
	return err == nil
}
