package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
)

// upgrades reports whether a request opens a WebSocket.
func upgrades(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// socket answers the lines of a WebSocket's messages, each with a message.
func (s *Server) socket(w http.ResponseWriter, r *http.Request, name string) *problem {
	if problem := handshake(r); problem != nil {
		return problem
	}
	s.sockets.Add(1)
	defer s.sockets.Done()
	// The guard has compared the origin already.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.log.Warn("a WebSocket could not be opened", "engine", name, "error", err)
		return nil
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(-1) // message bounds what it reads, and says by which flag
	if below, ok := r.Context().Value(connectionKey{}).(net.Conn); ok {
		// The HTTP server does not close it any more.
		defer context.AfterFunc(s.life, func() { _ = below.Close() })()
	}
	t := &talker{conn: conn, server: s, conversation: s.converse(r, name)}
	t.idle = time.AfterFunc(s.o.IdleTimeout, func() {
		t.close(websocket.StatusPolicyViolation, fmt.Sprintf("nothing came for %v (--idle-timeout): send sooner, or connect again", s.o.IdleTimeout))
	})
	defer t.idle.Stop()
	defer context.AfterFunc(s.draining, func() {
		// The line that runs is answered first.
		t.running.Lock()
		defer t.running.Unlock()
		t.refuse(stopping())
	})()
	t.run(s.life)
	return nil
}

// handshake says what a WebSocket's first request lacks.
func handshake(r *http.Request) *problem {
	switch {
	case !strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade"):
		return refused(http.StatusBadRequest, host.ErrBadInput.Code, "a WebSocket wants Connection: Upgrade beside Upgrade: websocket")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return refused(http.StatusBadRequest, host.ErrBadInput.Code, "a WebSocket wants Sec-WebSocket-Version: 13")
	case len(r.Header.Get("Sec-WebSocket-Key")) != 24:
		return refused(http.StatusBadRequest, host.ErrBadInput.Code, "a WebSocket wants a Sec-WebSocket-Key of 16 bytes in base64")
	}
	return nil
}

// talker reads a WebSocket and answers.
type talker struct {
	conn         *websocket.Conn
	server       *Server
	conversation *conversation
	idle         *time.Timer // closes the connection, while it is the client's turn
	running      sync.Mutex  // held while a line runs and is answered
}

// maxReason is how long the reason in a close frame may be, in bytes (RFC 6455, section 5.5).
const maxReason = 123

func (t *talker) close(code websocket.StatusCode, reason string) {
	_ = t.conn.Close(code, reason[:min(len(reason), maxReason)])
}

// refuse closes the connection for a problem that is not a line's. Where it is closed already, or is being closed, it stays at that.
func (t *talker) refuse(p *problem) {
	code := websocket.StatusProtocolError
	switch p.status {
	case http.StatusServiceUnavailable:
		code = websocket.StatusGoingAway
	case http.StatusRequestEntityTooLarge:
		code = websocket.StatusMessageTooBig
	}
	t.close(code, p.message)
}

func (t *talker) run(ctx context.Context) {
	var lines *jsonl.Reader
	for {
		t.idle.Reset(t.server.o.IdleTimeout)
		kind, message, err := t.conn.Reader(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			t.close(websocket.StatusUnsupportedData, "a binary message came: send lines of JSON as text")
			return
		}
		message = http.MaxBytesReader(nil, io.NopCloser(message), t.server.o.MaxBody)
		if lines == nil {
			lines = jsonl.NewReader(message, int(t.server.o.MaxLine), "--max-line")
		} else {
			lines.Reset(message)
		}
		if !t.message(ctx, lines) {
			return
		}
	}
}

// message answers the lines of a message. An empty message has none, and counts as a line for the rate.
func (t *talker) message(ctx context.Context, lines *jsonl.Reader) bool {
	for n := 0; ; n++ {
		t.idle.Reset(t.server.o.IdleTimeout)
		line, err := lines.Next()
		t.idle.Stop()
		if errors.Is(err, io.EOF) {
			return n > 0 || t.conversation.turn(ctx) == nil
		}
		if !t.line(ctx, line, err) {
			return false
		}
	}
}

// line answers a line.
func (t *talker) line(ctx context.Context, line jsonl.Line, err error) bool {
	t.running.Lock()
	defer t.running.Unlock()
	if t.server.draining.Err() != nil {
		t.refuse(stopping())
		return false
	}
	answer, p := t.conversation.answer(ctx, line, err)
	if answer == nil {
		t.refuse(p)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, t.server.o.WriteTimeout)
	defer cancel()
	return t.conn.Write(ctx, websocket.MessageText, answer) == nil
}
