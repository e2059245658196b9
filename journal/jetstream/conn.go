package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// conn is a connection with one inbox for all answers.
type conn struct {
	nc    *nats.Conn
	inbox string

	// seam is for tests: it is called instead of nc.PublishMsg.
	seam atomic.Pointer[func(*nats.Msg) error]

	mu      sync.Mutex // guards what follows
	next    uint64
	waiting map[uint64]func(*nats.Msg) (isLast bool)
}

func newConn(nc *nats.Conn) (*conn, error) {
	c := &conn{nc: nc, inbox: nc.NewInbox() + ".", waiting: map[uint64]func(*nats.Msg) bool{}}
	s, err := nc.Subscribe(c.inbox+"*", c.take)
	if err != nil {
		return nil, err
	}
	return c, s.SetPendingLimits(-1, -1)
}

// take hands an answer to the function that waits for it. It runs on the subscription's goroutine.
func (c *conn) take(m *nats.Msg) {
	id, err := strconv.ParseUint(m.Subject[len(c.inbox):], 36, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	handle := c.waiting[id]
	c.mu.Unlock()
	if handle != nil && handle(m) {
		c.forget(id)
	}
}

// expect has handle called for each answer until it returns true. handle must not wait for anything.
// It may still be called for a moment after forget.
func (c *conn) expect(handle func(*nats.Msg) (isLast bool)) (id uint64, reply string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	c.waiting[c.next] = handle
	return c.next, c.inbox + strconv.FormatUint(c.next, 36)
}

// publish hands a message to the connection.
func (c *conn) publish(m *nats.Msg) error {
	if seam := c.seam.Load(); seam != nil {
		return (*seam)(m)
	}
	return c.nc.PublishMsg(m)
}

func (c *conn) forget(id uint64) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
}

// ask publishes a message and waits for one answer.
func (c *conn) ask(ctx context.Context, m *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	answer := make(chan *nats.Msg, 1)
	id, reply := c.expect(func(m *nats.Msg) bool {
		select {
		case answer <- m:
		default:
		}
		return true
	})
	defer c.forget(id)
	m.Reply = reply
	if err := c.publish(m); err != nil {
		return nil, errors.Join(errNoResponders, err) // nothing was sent
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case m := <-answer:
		return m, nil
	case <-timer.C:
		return nil, errNoAnswer
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// write publishes a message to a stream and waits until it is stored. It returns the stream sequence.
func (c *conn) write(ctx context.Context, m *nats.Msg, timeout time.Duration) (uint64, error) {
	answer, err := c.ask(ctx, m, timeout)
	if err != nil {
		return 0, err
	}
	return readAck(answer)
}

// request asks JetStream for something, with JSON in both directions.
func (c *conn) request(ctx context.Context, subject string, in, out any, timeout time.Duration) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := c.ask(ctx, &nats.Msg{Subject: subject, Data: data}, timeout)
	if err != nil {
		return err
	}
	if answer.Header.Get("Status") == "503" {
		return errNoResponders
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &failed); err == nil && failed.Error != nil {
		return failed.Error
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Data, out)
}

// message is a message of a stream.
type message struct {
	subject string
	at      uint64 // its stream sequence
	data    []byte
}

// query asks a replica of a stream for messages.
type query struct {
	// Seq and Next: the messages of the subject Next from the stream sequence Seq on.
	Seq  uint64 `json:"seq,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
	// Last: the last message of each of these subjects.
	Last     []string `json:"multi_last,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	MaxBytes int      `json:"max_bytes,omitempty"`
}

// queryBytes is about how much a replica sends for one query.
const queryBytes = 4 << 20

// queryBatch is how many messages a replica sends for one query.
const queryBatch = 10000

// errTooMany says that a query asks for the last messages of more subjects than a replica answers at once.
var errTooMany = errors.New("a replica does not send so many messages at once")

// read returns messages that one replica has, any one. It may be behind. If the query asks for the
// last messages, upTo is the newest stream sequence that the replica had then.
func (c *conn) read(ctx context.Context, stream string, q query, silence time.Duration) ([]message, uint64, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return nil, 0, err
	}
	ended, isAlive := make(chan error, 1), make(chan struct{}, 1)
	end := func(err error) bool {
		select {
		case ended <- err:
		default:
		}
		return true
	}
	var list []message // until the end is told, this belongs to the subscription's goroutine, as upTo does
	var upTo uint64
	id, reply := c.expect(func(m *nats.Msg) bool {
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204":
			upTo, _ = strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
			return end(nil)
		case "404":
			return end(nil)
		case "503":
			return end(errNoResponders)
		case "413":
			return end(errTooMany)
		default:
			return end(fmt.Errorf("a replica answered %s %s", status, m.Header.Get("Description")))
		}
		at, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return end(fmt.Errorf("a replica sent a message without a sequence: %w", err))
		}
		list = append(list, message{m.Header.Get("Nats-Subject"), at, m.Data})
		select {
		case isAlive <- struct{}{}:
		default:
		}
		return false
	})
	defer c.forget(id)
	m := &nats.Msg{Subject: "$JS.API.DIRECT.GET." + stream, Data: data, Reply: reply}
	if err := c.publish(m); err != nil {
		return nil, 0, errors.Join(errNoResponders, err)
	}
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return nil, 0, err
			}
			return list, upTo, nil
		case <-isAlive:
			timer.Reset(silence)
		case <-timer.C:
			return nil, 0, errNoAnswer
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// lastAtLeader returns the last message of a subject as the stream's leader has it; nil if there is
// none.
func (c *conn) lastAtLeader(ctx context.Context, stream, subject string, timeout time.Duration) (*message, error) {
	var out struct {
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	in := map[string]string{"last_by_subj": subject}
	err := c.request(ctx, "$JS.API.STREAM.MSG.GET."+stream, in, &out, timeout)
	var api *apiError
	if errors.As(err, &api) && api.ErrCode == codeNoMessage {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &message{out.Message.Subject, out.Message.Seq, out.Message.Data}, nil
}

// purge removes the messages of a filter whose stream sequence is below before; all if before is 0.
func (c *conn) purge(ctx context.Context, stream, filter string, before uint64, timeout time.Duration) error {
	in := map[string]any{"filter": filter}
	if before > 0 {
		in["seq"] = before
	}
	return c.request(ctx, "$JS.API.STREAM.PURGE."+stream, in, nil, timeout)
}

// randomHex returns n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}
