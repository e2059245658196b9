package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// silence is how long a server may be silent before the line goes to the next one. A line that
	// takes longer is no harm: the repetition waits for the outcome of the first.
	silence = 5 * time.Second
	// Between two tries, a client waits so long, twice as long each time, and half of it by chance.
	firstPause, lastPause = 50 * time.Millisecond, 2 * time.Second
	// knownFor is how long the nodes of a cluster count as known, askPatience how long a server may take
	// to name them.
	knownFor, askPatience = 30 * time.Second, 2 * time.Second
)

// Line is a line for an engine: docs/guide.md has the members.
type Line map[string]json.RawMessage

// Client sends lines to an engine, and repeats those that got no answer, by the rules of
// docs/clients.md. Any of its servers has the engine. Its methods may be called concurrently; lines
// go one after the other.
type Client struct {
	// Lost is told why a connection was lost, or could not be made, unless it is nil.
	Lost func(error)
	// Discover says that a server is asked for the other nodes of its cluster. They are servers, too.
	Discover bool

	given         []string  // the servers that New was called with
	servers       []string  // these, and those that a server has named
	askedAt       time.Time // when a server was asked for the others last
	engine, token string
	session       string // makes the keys of this client its own
	mu            sync.Mutex
	conn          *websocket.Conn
	server, keys  int
}

// New returns a client for an engine of servers, which are named by their URLs. An empty token is
// none. It connects with the first line.
func New(servers []string, engine, token string) *Client {
	return &Client{given: servers, servers: servers, engine: engine, token: token, session: rand.Text()}
}

// Send sends a line and returns the answer. A line that changes the engine gets a key, unless it
// has one: so it runs once, however often it is sent. Send fails if ctx ends, and then it is unknown
// whether the line runs. It also fails if the server refuses the client.
func (c *Client) Send(ctx context.Context, line Line) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, isSetup := line["setup"]
	if _, ok := line["key"]; !ok && takesKey(line) {
		c.keys++
		line = maps.Clone(line)
		line["key"] = json.RawMessage(fmt.Sprintf("%q", fmt.Sprint(c.session, "-", c.keys)))
	}
	text, err := json.Marshal(line)
	if err != nil {
		return nil, err
	}
	for pause, tries := firstPause, 0; ; pause, tries = min(2*pause, lastPause), tries+1 {
		answer, err := c.try(ctx, text)
		var refused *refusedError
		switch code := codeOf(answer); {
		case errors.As(err, &refused):
			return nil, err
		case slices.Contains(refusals, websocket.CloseStatus(err)):
			return nil, err
		case err != nil:
		case isSetup && tries > 0 && code == "exists":
			return []byte(`{"ok":true}`), nil // of an earlier try
		case slices.Contains(again, code):
			err = errors.New(code)
		default:
			return answer, nil
		}
		c.drop(err)
		select {
		case <-time.After(pause/2 + mathrand.N(pause/2)):
		case <-ctx.Done():
			return nil, fmt.Errorf("no answer, and it is unknown whether the line runs: %w, after: %w", context.Cause(ctx), err)
		}
	}
}

// again has the codes of answers after which the same line is sent again, to another server: the
// server is stopping, or the outcome is not known there.
var again = []string{"shutdown", "outcome_unknown"}

// refusals has the statuses with which a server closes a connection because of what came: it would
// do so again.
var refusals = []websocket.StatusCode{
	websocket.StatusProtocolError, websocket.StatusUnsupportedData, websocket.StatusMessageTooBig,
}

// takesKey reports whether a line may have a key.
func takesKey(line Line) bool {
	return slices.ContainsFunc([]string{"type", "batch", "revert", "undo", "redo"}, func(member string) bool {
		_, ok := line[member]
		return ok
	})
}

// try sends a line once.
func (c *Client) try(ctx context.Context, text []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, silence, fmt.Errorf("it was silent for %v", silence))
	defer cancel()
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return nil, err
		}
	}
	if c.Discover && time.Since(c.askedAt) > knownFor {
		c.askedAt = time.Now()
		_ = c.discover(ctx) // without an answer, the servers stay as they are
	}
	if err := c.conn.Write(ctx, websocket.MessageText, text); err != nil {
		return nil, err
	}
	_, answer, err := c.conn.Read(ctx)
	return answer, err
}

func (c *Client) connect(ctx context.Context) error {
	address, err := url.JoinPath(c.servers[c.server%len(c.servers)], "v1/engines", url.PathEscape(c.engine))
	if err != nil {
		return &refusedError{err}
	}
	o := &websocket.DialOptions{HTTPHeader: http.Header{}}
	if c.token != "" {
		o.HTTPHeader.Set("Authorization", "Bearer "+c.token)
	}
	conn, response, err := websocket.Dial(ctx, address, o)
	if err != nil {
		// Too many requests, and a server that is not ready, are worth another try.
		if response != nil && response.StatusCode/100 == 4 && response.StatusCode != http.StatusTooManyRequests {
			said, _ := io.ReadAll(response.Body) // its first bytes
			return &refusedError{fmt.Errorf("%w: %s", err, bytes.TrimSpace(said))}
		}
		return err
	}
	conn.SetReadLimit(-1) // an answer may be a whole state
	c.conn, c.askedAt = conn, time.Time{}
	return nil
}

// member is a node of a cluster. Client is where clients reach it; "" if it does not say so.
type member struct {
	Client string `json:"client"`
}

// discover asks the server that the client is connected to for the nodes of its cluster, and adds those
// that say where clients reach them. A server that is no node of a cluster answers with 404.
func (c *Client) discover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	address, err := url.JoinPath(c.servers[c.server%len(c.servers)], "v1/cluster")
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var cluster struct {
		Members []member `json:"members"`
	}
	if err := json.NewDecoder(response.Body).Decode(&cluster); err != nil {
		return err
	}
	present := c.servers[c.server%len(c.servers)]
	servers := slices.Clone(c.given)
	for _, m := range append(cluster.Members, member{present}) {
		if m.Client != "" && !slices.Contains(servers, m.Client) {
			servers = append(servers, m.Client)
		}
	}
	c.servers, c.server = servers, slices.Index(servers, present)
	return nil
}

// drop ends a connection that is no good any more. The next line goes to the next server.
func (c *Client) drop(why error) {
	if c.Lost != nil {
		c.Lost(fmt.Errorf("%s: %w", c.servers[c.server%len(c.servers)], why))
	}
	c.Close()
	c.server++
}

// Close ends the connection. The client may be used again.
func (c *Client) Close() {
	if c.conn != nil {
		_ = c.conn.CloseNow()
		c.conn = nil
	}
}

// refusedError says that a server does not take this client: it would not take it later, either.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// codeOf returns the code of an answer that is an error, or "".
func codeOf(answer []byte) string {
	var a struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(answer, &a) != nil {
		return ""
	}
	return strings.TrimSpace(a.Error.Code)
}
