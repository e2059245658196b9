package peers

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// A node that is about to end may close a connection at any time. A line that such a node has not asked
// for has not run, so it can be sent again.
func TestSendToANodeThatDrains(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	came := make(chan string)
	go func() { // takes a request, and closes the connection without an answer
		for {
			c, err := l.Accept()
			if err != nil {
				close(came)
				return
			}
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			came <- string(b[:n])
			_ = c.Close()
		}
	}()
	isDraining := true
	p := New(Options{Self: "first", Secret: testSecret, OwnerOf: ownerOf, SlotOf: func(string) int { return 0 },
		IsAlive: always, MaxLine: 64, Draining: func() []string {
			if isDraining {
				return []string{address}
			}
			return nil
		}})
	defer p.Close()
	ended := make(chan error, 1)
	send := func() {
		_, err := p.Send(context.Background(), Owner{Address: address}, "e", []byte("a line"), 1)
		ended <- err
	}
	p.MembersChanged()
	go send()
	if sent := <-came; strings.Contains(sent, "a line") {
		t.Errorf("the line is sent unasked: %s", sent)
	}
	if err := <-ended; !errors.Is(err, ErrUnreached) {
		t.Errorf("a line that was not asked for: %v", err)
	}
	isDraining = false
	p.MembersChanged()
	go send()
	<-came
	if err := <-ended; !errors.Is(err, ErrLost) {
		t.Errorf("a line to a node that lives: %v", err)
	}
	// A node that drains and still answers does so.
	to := serveNode(t, echo)
	address, isDraining = to.Address, true
	p.MembersChanged()
	if a, err := p.Send(t.Context(), to, "e", []byte("line"), 1); err != nil || string(a.Line) != "e line" {
		t.Errorf("%s %v", a.Line, err)
	}
}

// proxied sends a request through a node, and returns the answer and how Proxy failed.
func proxied(t *testing.T, p *Peers, to Owner, method, body string) (answer string, failed error) {
	t.Helper()
	ended := make(chan error, 1)
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended <- p.Proxy(w, r, to, "e")
	}))
	defer first.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, first.URL+"/v1/engines/e/state", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	w, err := first.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), <-ended
}

// Proxy says whether a request that it passed on, and that was not answered, may have run.
func TestProxy(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	read := func(r *http.Request) { _, _ = io.ReadAll(r.Body) }
	for _, row := range []struct {
		name, body string
		answer     http.HandlerFunc // nil if nobody listens
		want       error
		isSpent    bool
	}{
		{"an answer", "body", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, nil, false},
		{"nobody listens", "", nil, ErrUnreached, false},
		{"nobody listens to a body", "body", nil, ErrUnreached, false},
		{"the engine is not there", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(421) }, ErrUnreached,
			false},
		{"the engine is not there, and the body stays", "body",
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(421) }, ErrUnreached, false},
		{"the engine is not there, and the body is sent", "body",
			func(w http.ResponseWriter, r *http.Request) { read(r); w.WriteHeader(421) }, ErrUnreached, true},
		{"the answer is lost", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrLost, false},
		{"the answer to a body is lost", "body",
			func(_ http.ResponseWriter, r *http.Request) { read(r); panic(http.ErrAbortHandler) }, ErrLost, true},
	} {
		to := Owner{Address: closed.Addr().String()}
		if row.answer != nil {
			second := httptest.NewServer(row.answer)
			to.Address = second.Listener.Addr().String()
			defer second.Close()
		}
		p := newNode(t, "first", testSecret, always)
		p.Given(0, to)
		answer, failed := proxied(t, p, to, http.MethodPost, row.body)
		_, isKnown := p.Route("e")
		switch {
		case row.want == nil && (failed != nil || answer != row.body || !isKnown):
			t.Errorf("%s: %q %v", row.name, answer, failed)
		case row.want != nil && (!errors.Is(failed, row.want) || errors.Is(failed, ErrSpent) != row.isSpent || isKnown):
			t.Errorf("%s: %v, the route is known: %t", row.name, failed, isKnown)
		}
	}
}

// A request to a node that is declared dead is not waited for any more.
func TestProxyToANodeThatDies(t *testing.T) {
	var isDead atomic.Bool
	came, goOn := make(chan struct{}), make(chan struct{})
	second := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(came)
		<-goOn
	}))
	defer second.Close()
	defer close(goOn)
	p := newNode(t, "first", testSecret, func(string) bool { return !isDead.Load() })
	to := Owner{Address: second.Listener.Addr().String()}
	p.MembersChanged()
	go func() {
		<-came
		isDead.Store(true)
		p.MembersChanged()
	}()
	if _, failed := proxied(t, p, to, http.MethodGet, ""); !errors.Is(failed, ErrLost) {
		t.Error(failed)
	}
	if _, failed := proxied(t, p, to, http.MethodGet, ""); !errors.Is(failed, ErrUnreached) {
		t.Errorf("a request to a dead node: %v", failed)
	}
}
