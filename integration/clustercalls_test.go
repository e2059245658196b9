package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// clusterCall is one line that a caller of a cluster sent, and what became of it. An action that has a
// key is one call, however often it was sent.
type clusterCall struct {
	engine string
	// id is the number of an action, which no other one has; 0 for a read.
	id           int
	hasKey       bool
	began, ended time.Duration
	outcome      callOutcome
	// sequence is that of the answer, and code the code of a failure.
	sequence uint64
	code     string
	sendings int
	node     int // the last one that it was sent to
}

type callOutcome int

const (
	wasAnswered callOutcome = iota
	hadNoEffect
	isUnknown
)

// clusterCallers send lines to the nodes of a cluster, until stop, and note what became of them.
type clusterCallers struct {
	urls  []string
	seed  uint64
	began time.Time
	// patience is the time after which a line without an answer has hung.
	patience time.Duration
	client   *http.Client

	mu    sync.Mutex // guards what follows
	calls []clusterCall
	ids   int
	hung  []string
	// answers counts calls that were answered. Once it is goal, reached is closed.
	answers, goal int
	reached       chan struct{}
}

func newClusterCallers(urls []string, seed uint64) *clusterCallers {
	return &clusterCallers{urls: urls, seed: seed, began: time.Now(), patience: time.Minute,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
}

func (c *clusterCallers) now() time.Duration { return time.Since(c.began) }

func (c *clusterCallers) nextID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids++
	return c.ids
}

func (c *clusterCallers) note(call clusterCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
	if call.outcome == wasAnswered {
		if c.answers++; c.answers == c.goal {
			close(c.reached)
		}
	}
}

// untilAnswers waits until the callers have got n more answers.
func (c *clusterCallers) untilAnswers(t *testing.T, n int) {
	t.Helper()
	reached := make(chan struct{})
	c.mu.Lock()
	c.goal, c.reached = c.answers+n, reached
	c.mu.Unlock()
	select {
	case <-reached:
	case <-time.After(2 * c.patience):
		t.Errorf("after %v the callers have not got %d more answers", 2*c.patience, n)
	}
}

// think is the pause of a caller before it sends a line, as people make one: the machine is to be busy
// with faults.
func think(r *rand.Rand) <-chan time.Time {
	return time.After(time.Duration(r.IntN(40)) * time.Millisecond)
}

// run plays on an engine until stop. The number of the caller says how: every third one talks over a
// WebSocket.
func (c *clusterCallers) run(engine string, number int, stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(c.seed, uint64(number)))
	var way lineSender = &overHTTP{c}
	if number%3 == 0 {
		way = &overWebSocket{c: c}
	}
	defer way.close()
	for {
		select {
		case <-stop:
			return
		case <-think(r):
		}
		if r.IntN(4) == 0 {
			c.send(way, r, engine, 0, false)
		} else {
			c.send(way, r, engine, c.nextID(), r.IntN(2) == 0)
		}
	}
}

// send sends an action, or a read if its id is 0, and notes what became of it. What has a key, or
// changes nothing, is sent again until there is an answer.
func (c *clusterCallers) send(way lineSender, r *rand.Rand, engine string, id int, hasKey bool) clusterCall {
	line := `{"digest":true,"want":["sequence"]}`
	if id != 0 {
		key := ""
		if hasKey {
			key = fmt.Sprintf(`"key":"k%d",`, id)
		}
		line = fmt.Sprintf(`{"type":"game:setProperty",%s"payload":{"key":"n","value":%d},"want":["sequence"]}`, key, id)
	}
	call := clusterCall{engine: engine, id: id, hasKey: hasKey, began: c.now()}
	for {
		call.node = r.IntN(len(c.urls))
		call.sendings++
		began := c.now()
		answer, err := way.send(call.node, engine, line)
		c.judge(&call, answer, err)
		call.ended = c.now()
		if took := call.ended - began; took >= c.patience {
			c.mu.Lock()
			c.hung = append(c.hung, fmt.Sprintf("%s at %v: no answer of node %d to %s for %v", engine, began, call.node,
				line, took))
			c.mu.Unlock()
		}
		mayRepeat := hasKey || id == 0
		if call.outcome == wasAnswered || !mayRepeat || call.ended-call.began > 2*c.patience {
			c.note(call)
			return call
		}
		<-think(r) // a node that refuses at once is not asked all the time
	}
}

// judge says what an answer means. A key that was sent before may have had an effect, whatever the
// last answer is.
func (c *clusterCallers) judge(call *clusterCall, answer []byte, err error) {
	wasUnknown := call.outcome == isUnknown
	var a struct {
		Sequence uint64
		Error    *struct{ Code, Message string }
	}
	switch {
	case errors.Is(err, errNotSent):
		call.outcome, call.code = hadNoEffect, "not sent"
	case err != nil:
		call.outcome, call.code = isUnknown, "no answer: "+err.Error()
	case json.Unmarshal(answer, &a) != nil:
		call.outcome, call.code = isUnknown, fmt.Sprintf("no JSON: %q", answer)
	case a.Error == nil:
		call.outcome, call.sequence, call.code = wasAnswered, a.Sequence, ""
		return
	case a.Error.Code == "outcome_unknown":
		call.outcome, call.code = isUnknown, a.Error.Code
	default:
		call.outcome, call.code = hadNoEffect, a.Error.Code+": "+a.Error.Message
	}
	if wasUnknown {
		call.outcome = isUnknown
	}
}

// errNotSent says that a node was not reached: what was to be sent has no effect.
var errNotSent = errors.New("the node was not reached")

// lineSender sends a line to a node and returns the answer.
type lineSender interface {
	send(node int, engine, line string) ([]byte, error)
	close()
}

type overHTTP struct{ c *clusterCallers }

func (o *overHTTP) close() {}

func (o *overHTTP) send(node int, engine, line string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.c.patience)
	defer cancel()
	url := o.c.urls[node] + "/v1/engines/" + engine
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	w, err := o.c.client.Do(r)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if err != nil {
		return nil, err
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	// A second line says that the server is stopping.
	first, _, _ := bytes.Cut(b, []byte("\n"))
	return first, err
}

// overWebSocket keeps its connection as long as it can, and so stays at one node.
type overWebSocket struct {
	c    *clusterCallers
	conn *websocket.Conn
}

func (o *overWebSocket) close() {
	if o.conn != nil {
		_ = o.conn.CloseNow()
		o.conn = nil
	}
}

func (o *overWebSocket) send(node int, engine, line string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.c.patience)
	defer cancel()
	if o.conn == nil {
		conn, _, err := websocket.Dial(ctx, o.c.urls[node]+"/v1/engines/"+engine, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotSent, err)
		}
		o.conn = conn
	}
	err := o.conn.Write(ctx, websocket.MessageText, []byte(line))
	var b []byte
	if err == nil {
		_, b, err = o.conn.Read(ctx)
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return bytes.TrimSpace(b), nil
}

// journalOf returns the numbers of an engine's actions in the order of its journal, from whichever node
// has it.
func (c *clusterCallers) journalOf(engine string) (ids []int, err error) {
	for until := time.Now().Add(c.patience); time.Now().Before(until); {
		for _, url := range c.urls {
			if ids, err = c.exported(url + "/v1/engines/" + engine + "/journal?from=0"); err == nil {
				return ids, nil
			}
		}
	}
	return nil, err
}

func (c *clusterCallers) exported(url string) (ids []int, err error) {
	w, err := c.client.Get(url)
	if err != nil {
		return nil, err
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil || w.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %w", w.Status, b, err)
	}
	for line := range bytes.Lines(b) {
		var a struct {
			Type    string
			Payload struct{ Value int }
			Error   *struct{ Code, Message string }
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		if a.Error != nil {
			return nil, fmt.Errorf("%s", line)
		}
		if a.Type != "" {
			ids = append(ids, a.Payload.Value)
		}
	}
	return ids, nil
}
