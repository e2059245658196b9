package serve

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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
	defer s.engines.attach(name)()
	t := &talker{server: s, conversation: s.converse(r, name), remote: r.RemoteAddr}
	var err error
	t.conn, err = websocket.Accept(w, r, &websocket.AcceptOptions{
		// The guard has compared the origin already.
		InsecureSkipVerify: true,
		// Compressed messages would let a client fill the memory with little.
		CompressionMode: websocket.CompressionDisabled,
		// The subprotocol that has the token is not repeated in the answer.
		Subprotocols:   []string{subprotocol},
		OnPingReceived: func(context.Context, []byte) bool { return t.allowControl() },
		OnPongReceived: func(context.Context, []byte) { t.allowControl() },
	})
	if err != nil {
		s.log.Warn("a WebSocket could not be opened", "engine", name, "error", err)
		return nil
	}
	defer func() { _ = t.conn.CloseNow() }()
	t.conn.SetReadLimit(-1) // message bounds what it reads, and says by which flag
	c := connectionOf(r.Context())
	if c != nil {
		// The HTTP server does not close it any more.
		defer func() { _ = c.Close() }()
		defer context.AfterFunc(s.life, func() { _ = c.Close() })()
	}
	t.idle = time.AfterFunc(s.o.IdleTimeout, func() {
		t.close(websocket.StatusPolicyViolation,
			fmt.Sprintf("the rest of a message did not come for %v (--idle-timeout)", s.o.IdleTimeout))
	})
	t.idle.Stop()
	defer t.idle.Stop()
	ctx, cancel := context.WithCancel(s.life)
	var pinging sync.WaitGroup
	pinging.Go(func() { t.ping(ctx) })
	defer pinging.Wait()
	defer cancel()
	defer context.AfterFunc(s.draining, func() {
		// The line that runs is answered first.
		t.running.Lock()
		defer t.running.Unlock()
		if c != nil {
			// A client that does not answer the close frame does not delay the end.
			defer time.AfterFunc(closeGrace, func() { _ = c.Close() }).Stop()
		}
		t.refuse(stopping())
	})()
	t.run(s.life)
	return nil
}

// closeGrace is how long a client may take to answer a close frame when the server stops.
const closeGrace = time.Second

// handshake returns the problem if a request to open a WebSocket is incomplete, or nil.
func handshake(r *http.Request) *problem {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	switch {
	case !strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Connection"), ",")), "upgrade"):
		return refused(http.StatusBadRequest, host.ErrBadInput.Code,
			"a WebSocket wants Connection: Upgrade together with Upgrade: websocket")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return refused(http.StatusBadRequest, host.ErrBadInput.Code, "a WebSocket wants Sec-WebSocket-Version: 13")
	case len(key) != 16 || err != nil:
		return refused(http.StatusBadRequest, host.ErrBadInput.Code,
			"a WebSocket wants a Sec-WebSocket-Key of 16 bytes in base64")
	}
	return nil
}

// talker reads a WebSocket and answers.
type talker struct {
	conn         *websocket.Conn
	server       *Server
	conversation *conversation
	remote       string
	idle         *time.Timer  // closes the connection if the rest of a message does not come
	running      sync.Mutex   // held while a line runs and is answered
	turn         atomic.Int64 // counts the turns of the client; odd while it has one
}

// ping pings the client during the client's turns, until ctx ends. It closes the connection if no
// pong comes before the next ping is due. Pongs are read during the client's turn only. So a
// missing pong means that the client is gone only if its turn lasted all the time.
func (t *talker) ping(ctx context.Context) {
	tick := time.NewTicker(t.server.o.PingInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		turn := t.turn.Load()
		if turn%2 == 0 {
			continue
		}
		due, cancel := context.WithTimeout(ctx, t.server.o.PingInterval)
		err := t.conn.Ping(due)
		cancel()
		if err != nil && ctx.Err() == nil && t.turn.Load() == turn {
			t.server.counters.silent.Inc()
			t.server.log.Debug("a WebSocket's client answers no ping and is gone", "engine", t.conversation.name,
				"remote", t.remote)
			_ = t.conn.CloseNow()
			return
		}
	}
}

// allowControl charges a ping or a pong to the rate of its address, and waits until that allows
// it: so the client waits, too. It reports whether a ping is answered.
func (t *talker) allowControl() bool {
	return t.conversation.turn(t.server.life) == nil
}

// maxReason is how long the reason in a close frame may be, in bytes (RFC 6455, section 5.5).
const maxReason = 123

func (t *talker) close(code websocket.StatusCode, reason string) {
	_ = t.conn.Close(code, reason[:min(len(reason), maxReason)])
}

// refuse closes the connection for a problem that concerns more than one line. If the connection
// is closed already, or is being closed, refuse does nothing.
func (t *talker) refuse(p *problem) {
	code := websocket.StatusProtocolError
	isElsewhere := t.server.o.Peers != nil && t.server.draining.Err() != nil
	switch {
	case p.status == http.StatusServiceUnavailable && isElsewhere:
		code = websocket.StatusServiceRestart // other nodes have the engine now
	case p.status == http.StatusServiceUnavailable:
		code = websocket.StatusGoingAway
	case p.status == http.StatusRequestEntityTooLarge:
		code = websocket.StatusMessageTooBig
	}
	t.close(code, p.message)
}

func (t *talker) run(ctx context.Context) {
	var lines *jsonl.Reader
	for {
		t.turn.Add(1)
		kind, message, err := t.conn.Reader(ctx)
		t.turn.Add(1)
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

// message answers the lines of a message. An empty message only shows that the client is alive; it
// counts as one line for the rate.
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
	defer t.conversation.answered()
	writing, cancel := context.WithTimeout(ctx, t.server.o.WriteTimeout)
	defer cancel()
	err = t.conn.Write(writing, websocket.MessageText, answer)
	if err != nil && ctx.Err() == nil && errors.Is(writing.Err(), context.DeadlineExceeded) {
		t.server.unread(t.remote, "WebSocket "+t.conversation.name)
	}
	return err == nil
}
