package peers

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// A line to a node that lives and is not reached by HTTP goes over the servers that keep the journals. Who
// may publish there could send a line, read it, or send it again. So both nodes prove that they know the
// cluster's secret, and do not show it: the sender asks for a token, which is good for one line, and each
// message has a code over the token and what it says.
//
//	sender    askToken
//	receiver  code("token"), token
//	sender    sendLine, code("line"), token, head as JSON, newline, line
//	receiver  code("answer"), head as JSON, newline, answer
//
// A code is the HMAC-SHA256 with the secret over the word, the token, and all that follows the token.

// Messenger takes messages to other nodes in another way than HTTP.
type Messenger interface {
	// Ask sends a message to the node at an address, and returns its answer. It fails with an error that
	// wraps [ErrUnreached] if the node has not got the message, and otherwise once ctx ends.
	Ask(ctx context.Context, address string, message []byte) ([]byte, error)
	// Most returns how many bytes a message may have.
	Most() int
}

// The first byte of a message.
const (
	askToken byte = 1
	sendLine byte = 2
)

const (
	codeSize  = sha256.Size
	tokenSize = 16
	// mostTokens is how many tokens are good at once. If more are asked for, the oldest one is not any more.
	mostTokens = 4096
)

const (
	// tokenTimeout is how long a token is waited for. Nothing was sent until then.
	tokenTimeout = 2 * time.Second
	// messageTimeout is how long the answer to a line is waited for. It may be lost on its way.
	messageTimeout = time.Minute
	// cutFor is for how long HTTP is not tried again at a node that was reached by messages only.
	cutFor = 5 * time.Second
)

// messageHead is what is said of a line, or of an answer.
type messageHead struct {
	Engine string `json:"engine,omitempty"` // escaped, as in a path
	First  int    `json:"first,omitempty"`
	// Status is that of the [Answer]. Moved is set if nothing ran, because another node has the engine.
	// Refused says why nothing ran otherwise.
	Status  int    `json:"status,omitempty"`
	Moved   *Owner `json:"moved,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// code returns the code of a message.
func (p *Peers) code(word string, token, content []byte) []byte {
	h := hmac.New(sha256.New, []byte(p.o.Secret))
	_, _ = h.Write([]byte(word))
	_, _ = h.Write(token)
	_, _ = h.Write(content)
	return h.Sum(nil)
}

// appendContent appends a head and what follows it.
func appendContent(b []byte, head *messageHead, rest []byte) []byte {
	text, err := json.Marshal(head)
	if err != nil {
		panic(err) // strings and numbers
	}
	return append(append(append(b, text...), '\n'), rest...)
}

// readContent reads what appendContent has written.
func readContent(b []byte) (head messageHead, rest []byte, err error) {
	text, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return head, nil, errors.New("a message without a head")
	}
	return head, rest, json.Unmarshal(text, &head)
}

// sendMessage has another node answer a line, over Options.Messenger. With ErrUnreached and a [MovedError]
// nothing ran.
func (p *Peers) sendMessage(ctx context.Context, to Owner, engine string, line []byte, first int) (Answer, error) {
	ctx, end := p.beginSending(ctx, to.Address)
	defer end()
	ctx, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	content := appendContent(nil, &messageHead{Engine: url.PathEscape(engine), First: first}, line)
	if size, most := 1+codeSize+tokenSize+len(content), p.o.Messenger.Most(); size > most {
		return Answer{}, fmt.Errorf("%w: the line takes %d bytes in a message, the servers take %d", ErrUnreached, size, most)
	}
	token, err := p.askForToken(ctx, to.Address)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	message := append([]byte{sendLine}, p.code("line", token, content)...)
	got, err := p.o.Messenger.Ask(ctx, to.Address, append(append(message, token...), content...))
	switch {
	case errors.Is(err, ErrUnreached):
		return Answer{}, err
	case err != nil:
		return Answer{}, fmt.Errorf("%w: %w", ErrLost, err)
	case len(got) < codeSize || !hmac.Equal(got[:codeSize], p.code("answer", token, got[codeSize:])):
		return Answer{}, fmt.Errorf("%w: somebody else has answered", ErrLost)
	}
	head, answer, err := readContent(got[codeSize:])
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("%w: %w", ErrLost, err)
	case head.Moved != nil:
		return Answer{}, p.hasMoved(engine, *head.Moved)
	case head.Refused != "":
		return Answer{}, fmt.Errorf("%w: it says: %s", ErrUnreached, head.Refused)
	}
	return Answer{answer, head.Status}, nil
}

// askForToken asks a node for a token.
func (p *Peers) askForToken(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	got, err := p.o.Messenger.Ask(ctx, address, []byte{askToken})
	switch {
	case err != nil:
		return nil, err
	case len(got) != codeSize+tokenSize || !hmac.Equal(got[:codeSize], p.code("token", got[codeSize:], nil)):
		return nil, errors.New("the secret of the node is another one")
	}
	return got[codeSize:], nil
}

// AnswerMessage returns the answer to a message of another node; nil if it has none. Handler has to be called
// before.
func (p *Peers) AnswerMessage(ctx context.Context, message []byte) []byte {
	switch {
	case len(message) == 1 && message[0] == askToken:
		token := p.tokens.issue()
		return append(p.code("token", token, nil), token...)
	case len(message) < 1+codeSize+tokenSize || message[0] != sendLine:
		return nil
	}
	code, rest := message[1:1+codeSize], message[1+codeSize:]
	token, content := rest[:tokenSize], rest[tokenSize:]
	if !hmac.Equal(code, p.code("line", token, content)) || !p.tokens.take(token) {
		return nil
	}
	head, line := p.runMessage(ctx, content)
	answer := appendContent(nil, head, line)
	return append(p.code("answer", token, answer), answer...)
}

// runMessage answers the line of a message.
func (p *Peers) runMessage(ctx context.Context, content []byte) (head *messageHead, answer []byte) {
	asked, line, err := readContent(content)
	if err != nil {
		return &messageHead{Refused: err.Error()}, nil
	}
	engine, err := url.PathUnescape(asked.Engine)
	switch {
	case err != nil:
		return &messageHead{Refused: err.Error()}, nil
	case int64(len(line)) > p.o.MaxLine:
		return &messageHead{Refused: fmt.Sprintf("the line has %d bytes, want %d at most", len(line), p.o.MaxLine)}, nil
	case asked.First < 1:
		return &messageHead{Refused: "first: want a number from 1"}, nil
	}
	a, err := p.answer(ctx, engine, line, asked.First)
	if err != nil {
		owner, _ := p.ownerOf(err)
		return &messageHead{Moved: &owner}, nil
	}
	return &messageHead{Status: a.Status}, a.Line
}

// tokens are those that were issued and not used.
type tokens struct {
	mu    sync.Mutex // guards what follows
	good  map[[tokenSize]byte]bool
	order [][tokenSize]byte // a ring: the oldest is at next
	next  int
}

// issue returns a new token.
func (t *tokens) issue() []byte {
	var token [tokenSize]byte
	_, _ = rand.Read(token[:]) // it never fails
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.good == nil {
		t.good, t.order = map[[tokenSize]byte]bool{}, make([][tokenSize]byte, mostTokens)
	}
	delete(t.good, t.order[t.next])
	t.order[t.next] = token
	t.next = (t.next + 1) % mostTokens
	t.good[token] = true
	return token[:]
}

// take reports whether a token is good, which it is not afterwards.
func (t *tokens) take(b []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	token := [tokenSize]byte(b)
	isGood := t.good[token]
	delete(t.good, token)
	return isGood
}
