package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// wire is a Messenger between nodes of one process, by their addresses.
type wire struct {
	mu    sync.Mutex // guards what follows
	nodes map[string]*Peers
	most  int
	// change changes an answer on its way; nil if none is changed.
	change func(message, answer []byte) []byte
	sent   [][]byte
}

func (w *wire) Ask(ctx context.Context, address string, message []byte) ([]byte, error) {
	w.mu.Lock()
	to, change := w.nodes[address], w.change
	w.sent = append(w.sent, bytes.Clone(message))
	w.mu.Unlock()
	if to == nil {
		return nil, fmt.Errorf("%w: nobody listens", ErrUnreached)
	}
	answer := to.AnswerMessage(ctx, message)
	if change != nil {
		answer = change(message, answer)
	}
	if answer == nil {
		return nil, errors.New("no answer")
	}
	return answer, nil
}

func (w *wire) Most() int { return w.most }

// cutNode returns a node that HTTP does not reach, and the messages that reach it.
func cutNode(t *testing.T, answer answerFunc) (Owner, *wire) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	second := newNode(t, "second", testSecret, always)
	second.Handler(answer, http.NotFoundHandler())
	address := closed.Addr().String()
	return Owner{Address: address, Epoch: 1}, &wire{nodes: map[string]*Peers{address: second}, most: 1 << 10}
}

// wired returns a node that sends messages if HTTP does not reach another one.
func wired(t *testing.T, w *wire, secret string, isAlive func(string) bool) *Peers {
	p := newNode(t, "first", secret, isAlive)
	p.o.Messenger = w
	return p
}

// A line to a node that lives, and that HTTP does not reach, is answered all the same, with the same meaning.
func TestSendByMessage(t *testing.T) {
	to, w := cutNode(t, func(ctx context.Context, engine string, line []byte, first int) (Answer, error) {
		if engine == "elsewhere" {
			return Answer{}, movedTo{Owner{"third", 7}}
		}
		return echo(ctx, engine, line, first)
	})
	p := wired(t, w, testSecret, always)
	for _, engine := range []string{"e", "a/b", "ü ?#%", "\xff\n"} {
		a, err := p.Send(t.Context(), to, engine, []byte("line\nline"), 409)
		if err != nil || string(a.Line) != engine+" line\nline" || a.Status != 409 {
			t.Errorf("%q: %+v %v", engine, a, err)
		}
	}
	_, err := p.Send(t.Context(), to, "elsewhere", []byte("line"), 1)
	var moved *MovedError
	if !errors.As(err, &moved) || moved.Owner != (Owner{"third", 7}) {
		t.Errorf("a node that has moved: %v", err)
	}
	if got, ok := p.Route("elsewhere"); !ok || got != moved.Owner {
		t.Errorf("the route is %+v", got)
	}
	for outcome, want := range map[string]float64{"answered_by_message": 4, "moved": 1, "answered": 0, "unreached": 0} {
		if got := testutil.ToFloat64(p.lines.WithLabelValues(outcome)); got != want {
			t.Errorf("%s: %v, want %v", outcome, got, want)
		}
	}
}

// If nothing ran, the error says so, with both reasons.
func TestSendByMessageThatRanNothing(t *testing.T) {
	runs := 0
	to, w := cutNode(t, func(context.Context, string, []byte, int) (Answer, error) {
		runs++
		return Answer{}, nil
	})
	for _, row := range []struct {
		name, secret, line, says string
		to                       string
		isAlive                  bool
	}{
		{"another secret", testSecret + "!", "line", "the secret of the node is another one", to.Address, true},
		{"above MaxLine", testSecret, strings.Repeat("x", 65), "want 64 at most", to.Address, true},
		{"above what the servers take", testSecret, strings.Repeat("x", 1024), "the servers take 1024", to.Address, true},
		{"nobody listens", testSecret, "line", "nobody listens", "127.0.0.1:1", true},
		{"a dead node", testSecret, "line", "the node was not reached", to.Address, false},
	} {
		p := wired(t, w, row.secret, func(string) bool { return row.isAlive })
		_, err := p.Send(t.Context(), Owner{Address: row.to}, "e", []byte(row.line), 1)
		if !errors.Is(err, ErrUnreached) || errors.Is(err, ErrLost) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if runs != 0 {
		t.Errorf("%d lines ran", runs)
	}
	// A node that HTTP reaches and that refuses is asked by no message.
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	w.nodes[refusing.Listener.Addr().String()] = w.nodes[to.Address]
	_, err := wired(t, w, testSecret, always).Send(t.Context(), Owner{Address: refusing.Listener.Addr().String()}, "e",
		nil, 1)
	if !errors.Is(err, ErrUnreached) || runs != 0 {
		t.Errorf("%v, %d lines ran", err, runs)
	}
}

// An answer that is lost, or that somebody else has made, says nothing: the line may have run. A message that
// is sent again runs nothing.
func TestMessagesOfOthers(t *testing.T) {
	runs := 0
	to, w := cutNode(t, func(context.Context, string, []byte, int) (Answer, error) {
		runs++
		return Answer{Line: []byte("answer")}, nil
	})
	p := wired(t, w, testSecret, always)
	changeAnswer := func(change func([]byte) []byte) func(message, answer []byte) []byte {
		return func(message, answer []byte) []byte {
			if message[0] == sendLine {
				return change(answer)
			}
			return answer
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"lost":    func([]byte) []byte { return nil },
		"changed": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"short":   func(b []byte) []byte { return b[:3] },
	} {
		w.change = changeAnswer(change)
		if _, err := p.Send(t.Context(), to, "e", []byte("line"), 1); !errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if runs != 3 {
		t.Fatalf("%d lines ran, want 3", runs)
	}
	second := w.nodes[to.Address]
	for _, message := range w.sent {
		if message[0] != sendLine {
			continue
		}
		if a := second.AnswerMessage(t.Context(), message); a != nil {
			t.Errorf("a message that is sent again is answered with %q", a)
		}
		message[len(message)-1] ^= 1
		if a := second.AnswerMessage(t.Context(), message); a != nil {
			t.Errorf("a message with another line is answered with %q", a)
		}
	}
	if runs != 3 {
		t.Errorf("%d lines ran, want 3", runs)
	}
}

// Tokens are good once, and old ones end when there are many.
func TestTokens(t *testing.T) {
	var all tokens
	first := all.issue()
	second := all.issue()
	if !all.take(second) || all.take(second) {
		t.Error("a token is not good once")
	}
	for range mostTokens - 1 {
		all.issue()
	}
	if all.take(first) {
		t.Error("an old token is good")
	}
	if n := len(all.good); n > mostTokens {
		t.Errorf("%d tokens are kept", n)
	}
}

// HTTP is cut while a line runs. The wait for its answer ends, because nothing reaches the node any more.
func TestSendWhoseConnectionIsCut(t *testing.T) {
	p := newNode(t, "first", testSecret, always)
	p.prober.after = 10 * time.Millisecond
	came, goOn := make(chan struct{}), make(chan struct{})
	second := newNode(t, "second", testSecret, always)
	s := httptest.NewServer(second.Handler(func(context.Context, string, []byte, int) (Answer, error) {
		close(came)
		<-goOn
		return Answer{}, nil
	}, http.NotFoundHandler()))
	defer s.Close()
	defer close(goOn)
	to := Owner{Address: s.Listener.Addr().String()}
	ended := make(chan error, 1)
	go func() {
		_, err := p.Send(context.Background(), to, "e", []byte("line"), 1)
		ended <- err
	}()
	<-came
	if !p.isReached(t.Context(), to.Address) {
		t.Error("the node is not reached")
	}
	_ = s.Listener.Close() // what is connected stays so
	if err := <-ended; !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

// Nobody without the secret runs a line.
func FuzzMessage(f *testing.F) {
	ran := false
	p := newNode(f, "second", testSecret, always)
	p.Handler(func(context.Context, string, []byte, int) (Answer, error) { ran = true; return Answer{}, nil },
		http.NotFoundHandler())
	f.Add([]byte{askToken})
	f.Add(bytes.Repeat([]byte{sendLine}, 100))
	f.Fuzz(func(t *testing.T, message []byte) {
		_ = p.AnswerMessage(t.Context(), message)
		if ran {
			t.Fatalf("%q runs a line", message)
		}
	})
}
