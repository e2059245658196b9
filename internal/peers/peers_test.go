package peers

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

const testSecret = "a secret of the tests"

// answerFunc is what a node's handler answers lines with.
type answerFunc func(ctx context.Context, engine string, line []byte, first int) (Answer, error)

// movedTo is an error that names an owner.
type movedTo struct{ Owner }

func (movedTo) Error() string { return "moved" }

func ownerOf(err error) (Owner, bool) {
	var m movedTo
	ok := errors.As(err, &m)
	return m.Owner, ok
}

// newNode returns the peers of a node at an address. All others live as long as isAlive says so.
func newNode(t testing.TB, self, secret string, isAlive func(string) bool) *Peers {
	p := New(Options{Self: self, Secret: secret, OwnerOf: ownerOf, SlotOf: func(string) int { return 0 },
		IsAlive: isAlive, Ready: func() string { return "" }, MaxLine: 64})
	t.Cleanup(p.Close)
	return p
}

func always(string) bool { return true }

// serveNode starts a node that answers lines, and returns it as an owner.
func serveNode(t testing.TB, answer answerFunc) Owner {
	s := httptest.NewServer(newNode(t, "second", testSecret, always).Handler(answer, http.NotFoundHandler()))
	t.Cleanup(s.Close)
	return Owner{Address: s.Listener.Addr().String(), Epoch: 1}
}

func echo(_ context.Context, engine string, line []byte, first int) (Answer, error) {
	return Answer{Line: append([]byte(engine+" "), line...), Status: first}, nil
}

func TestSend(t *testing.T) {
	p := newNode(t, "first", testSecret, always)
	to := serveNode(t, echo)
	for _, engine := range []string{"e", "a/b", "ü ?#%", "..a"} {
		a, err := p.Send(t.Context(), to, engine, []byte("line"), 409)
		if err != nil || string(a.Line) != engine+" line" || a.Status != 409 {
			t.Errorf("%q: %+v %v", engine, a, err)
		}
	}
}

// If nothing ran, the error says so.
func TestSendThatRanNothing(t *testing.T) {
	runs := 0
	to := serveNode(t, func(context.Context, string, []byte, int) (Answer, error) {
		runs++
		return Answer{}, nil
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	redirect := http.RedirectHandler("http://"+to.Address+"/node/lines/e", http.StatusTemporaryRedirect)
	redirecting := httptest.NewServer(redirect)
	defer redirecting.Close()
	for _, row := range []struct {
		name, secret, line string
		to                 string
	}{
		{"another secret", testSecret + "!", "line", to.Address},
		{"no secret", "", "line", to.Address},
		{"a line above MaxLine", testSecret, strings.Repeat("x", 65), to.Address},
		{"nobody listens", testSecret, "line", closed.Addr().String()},
		{"a redirect is not followed", testSecret, "line", redirecting.Listener.Addr().String()},
	} {
		p := newNode(t, "first", row.secret, always)
		_, err := p.Send(t.Context(), Owner{Address: row.to}, "e", []byte(row.line), 1)
		if !errors.Is(err, ErrUnreached) || errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if runs != 0 {
		t.Errorf("%d lines ran", runs)
	}
	// A line of MaxLine bytes is taken.
	longest := bytes.Repeat([]byte("x"), 64)
	if _, err := newNode(t, "first", testSecret, always).Send(t.Context(), to, "e", longest, 1); err != nil {
		t.Error(err)
	}
}

func TestSendToANodeThatHasMoved(t *testing.T) {
	var to Owner
	p := newNode(t, "first", testSecret, always)
	second := serveNode(t, func(context.Context, string, []byte, int) (Answer, error) { return Answer{}, movedTo{to} })
	for _, row := range []struct {
		owner   Owner
		isKnown bool
	}{
		{Owner{"third", 7}, true}, {Owner{}, false}, {Owner{"first", 8}, false},
	} {
		to = row.owner
		_, err := p.Send(t.Context(), second, "e", nil, 1)
		var moved *MovedError
		if !errors.As(err, &moved) || moved.Owner != row.owner {
			t.Errorf("%+v: %v", row, err)
		}
		if got, ok := p.Route("e"); ok != row.isKnown || ok && got != row.owner {
			t.Errorf("%+v: the route is %+v", row, got)
		}
	}
}

// If a node goes away with the answer, the line may have run.
func TestSendWhoseAnswerIsLost(t *testing.T) {
	p := newNode(t, "first", testSecret, always)
	to := serveNode(t, func(context.Context, string, []byte, int) (Answer, error) { panic(http.ErrAbortHandler) })
	if _, err := p.Send(t.Context(), to, "e", nil, 1); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

// A node that stands still answers nothing. Once it is declared dead, lines wait for it no more, and
// none is sent there.
func TestSendToANodeThatDies(t *testing.T) {
	var isDead atomic.Bool
	var to Owner
	p := newNode(t, "first", testSecret, func(string) bool { return !isDead.Load() })
	came, goOn := make(chan struct{}), make(chan struct{})
	to = serveNode(t, func(context.Context, string, []byte, int) (Answer, error) {
		came <- struct{}{}
		<-goOn
		return Answer{}, nil
	})
	defer close(goOn)
	p.Moved("e", movedTo{to})
	ended := make(chan error)
	go func() {
		_, err := p.Send(context.Background(), to, "e", nil, 1)
		ended <- err
	}()
	<-came
	p.MembersChanged() // it lives
	if _, ok := p.Route("e"); !ok {
		t.Error("the route to a living node is forgotten")
	}
	isDead.Store(true)
	p.MembersChanged()
	if err := <-ended; !errors.Is(err, ErrLost) {
		t.Error(err)
	}
	if o, ok := p.Route("e"); ok {
		t.Errorf("the route leads to %+v, which is dead", o)
	}
	if _, err := p.Send(t.Context(), to, "e", nil, 1); !errors.Is(err, ErrUnreached) {
		t.Error(err)
	}
}

// Nobody without the secret runs a line, and a line is within its bounds.
func FuzzHandler(f *testing.F) {
	f.Add("POST", "/node/lines/e", "Bearer "+testSecret, "1", []byte("line"))
	f.Add("POST", "/node/lines/a%2Fb", "Bearer ", "-1", bytes.Repeat([]byte("x"), 65))
	f.Add("GET", "/node/lines/..", "", "99999999999999999999", []byte(nil))
	isKnown, ran := false, false
	second := newNode(f, "second", testSecret, always)
	h := second.Handler(func(_ context.Context, _ string, line []byte, first int) (Answer, error) {
		ran = true
		if !isKnown || len(line) > 64 || first < 1 {
			panic("a line ran that must not")
		}
		if len(line) > 32 {
			return Answer{}, movedTo{Owner{"third", 1}}
		}
		return Answer{Line: line}, nil
	}, http.NotFoundHandler())
	f.Fuzz(func(t *testing.T, method, path, authorization, first string, line []byte) {
		r, err := http.NewRequest(method, "http://node/", bytes.NewReader(line))
		if err != nil {
			return
		}
		if r.URL, err = r.URL.Parse(path); err != nil {
			return
		}
		r.Header["Authorization"], r.Header[headerFirst] = []string{authorization}, []string{first}
		isKnown, ran = authorization == "Bearer "+testSecret, false
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !ran && w.Code == http.StatusOK {
			t.Errorf("%s %q: 200, and nothing ran", method, path)
		}
	})
}
