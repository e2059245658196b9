package serve

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hypertoken/internal/peers"
	"hypertoken/journal"
)

var errStays = errors.New("nobody takes the slot")

// toNobody gives nothing away.
func toNobody(context.Context) (peers.Owner, error) { return peers.Owner{}, errStays }

// slowStore is a store in memory whose next append takes until it is let go.
type slowStore struct {
	*elsewhereStore
	asked, goOn chan struct{}
}

func (s *slowStore) Append(name string, o journal.Owner, after uint64, g []journal.Record, done journal.Done) {
	if s.asked == nil {
		s.elsewhereStore.Append(name, o, after, g, done)
		return
	}
	asked := s.asked
	s.asked = nil
	close(asked)
	go func() {
		<-s.goOn
		s.elsewhereStore.Append(name, o, after, g, done)
	}()
}

// While a slot is given away, lines and requests wait. Then they go to the other node, and what ran
// before is answered here.
func TestHandOver(t *testing.T) {
	const draw = `{"type":"stack:draw"}`
	store := &slowStore{&elsewhereStore{Store: journal.NewMemory()}, nil, nil}
	s := startNode(t, store)
	s.want("e", deck, http.StatusOK, `"ok":true`)
	second := newFakeNode(t, says("there"))
	second.isBlind = true
	node := httptest.NewServer(s.NodeHandler())
	defer node.Close()
	third := peers.New(peers.Options{Self: "third", Secret: nodeSecret, SlotOf: func(string) int { return 0 },
		MaxLine: 1 << 20, IsAlive: func(string) bool { return true }})
	defer third.Close()

	asked := make(chan struct{})
	store.asked, store.goOn = asked, make(chan struct{})
	ran := make(chan string, 1)
	go func() { _, b := s.do("POST", "/v1/engines/e", draw); ran <- b }()
	<-asked
	gives, mayGive, gave := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		gave <- s.HandOver(t.Context(), 0, func(context.Context) (peers.Owner, error) {
			close(gives)
			<-mayGive
			store.setFailure(&ownedError{second.owner}, 0)
			return second.owner, nil
		})
	}()
	for !s.gates.isShut(0) {
		<-time.After(time.Millisecond)
	}
	held := make(chan string, 3)
	go func() { _, b := s.do("POST", "/v1/engines/e", draw); held <- b }()
	go func() { _, b := s.do("GET", "/v1/engines/e/state", ""); held <- b }()
	go func() {
		_, err := third.Send(context.Background(), peers.Owner{Address: node.Listener.Addr().String()}, "e",
			[]byte(draw), 1)
		var moved *peers.MovedError
		if !errors.As(err, &moved) || moved.Owner != second.owner {
			t.Errorf("a line of another node: %v", err)
		}
		held <- "there"
	}()
	close(store.goOn)
	if got := <-ran; !strings.Contains(got, `"result":[{"id":"c"}]`) {
		t.Errorf("what ran when the hand-over began: %s", got)
	}
	<-gives
	select {
	case got := <-held:
		t.Errorf("while the slot is given away: %s", got)
	default:
	}
	close(mayGive)
	if err := <-gave; err != nil {
		t.Error(err)
	}
	for range cap(held) {
		if got := <-held; !strings.Contains(got, "there") {
			t.Errorf("what waited: %s", got)
		}
	}
}

// If a slot can't be given away, lines that waited run here.
func TestAHandOverThatFails(t *testing.T) {
	s := startNode(t, &elsewhereStore{Store: journal.NewMemory()})
	s.want("e", deck, http.StatusOK, `"ok":true`)
	held := make(chan string, 1)
	err := s.HandOver(t.Context(), 0, func(context.Context) (peers.Owner, error) {
		if err := s.HandOver(t.Context(), 0, toNobody); err == nil || errors.Is(err, errStays) {
			t.Errorf("a second hand-over of the slot: %v", err)
		}
		go func() { _, b := s.do("POST", "/v1/engines/e", `{"type":"stack:draw"}`); held <- b }()
		return peers.Owner{}, errStays
	})
	if !errors.Is(err, errStays) {
		t.Error(err)
	}
	if got := <-held; !strings.Contains(got, `"result":[{"id":"c"}]`) {
		t.Error(got)
	}
}

// An action that takes longer than a hand-over waits for runs again at the other node, and has no effect
// here.
func TestAHandOverOfWhatStillRuns(t *testing.T) {
	store := &slowStore{&elsewhereStore{Store: journal.NewMemory()}, nil, nil}
	s := startNode(t, store)
	s.want("e", deck, http.StatusOK, `"ok":true`)
	second := newFakeNode(t, says("there"))
	asked := make(chan struct{})
	store.asked, store.goOn = asked, make(chan struct{})
	ran := make(chan string, 1)
	go func() { _, b := s.do("POST", "/v1/engines/e", `{"type":"stack:draw"}`); ran <- b }()
	<-asked
	err := s.HandOver(t.Context(), 0, func(context.Context) (peers.Owner, error) {
		store.setFailure(&ownedError{second.owner}, 0)
		return second.owner, nil
	})
	if err != nil {
		t.Error(err)
	}
	close(store.goOn)
	if got := <-ran; !strings.Contains(got, "there") {
		t.Error(got)
	}
}

// A request whose lines are all answered is complete, also if the server stops meanwhile. One with a further
// line is told why that one is not answered.
func TestARequestThatEndsAsTheServerStops(t *testing.T) {
	const draw = `{"type":"stack:draw"}`
	for _, row := range []struct{ lines, want string }{
		{draw, `{"n":1,"result":[{"id":"c"}]}` + "\n"},
		{draw + "\n", `{"n":1,"result":[{"id":"c"}]}` + "\n"},
		{draw + "\n" + draw, `{"n":1,"result":[{"id":"c"}]}` + "\n" + `{"error":{"code":"shutdown",`},
	} {
		store := &slowStore{&elsewhereStore{Store: journal.NewMemory()}, nil, nil}
		s := startNode(t, store)
		s.want("e", deck, http.StatusOK, `"ok":true`)
		asked := make(chan struct{})
		store.asked, store.goOn = asked, make(chan struct{})
		ran := make(chan string, 1)
		go func() { _, b := s.do("POST", "/v1/engines/e", row.lines); ran <- b }()
		<-asked
		stopped := make(chan error, 1)
		go func() { stopped <- s.stop() }()
		<-s.draining.Done()
		close(store.goOn)
		if got := <-ran; !strings.HasPrefix(got, row.want) || len(row.lines) < 2*len(draw) && got != row.want {
			t.Errorf("%q: got %q, want %q", row.lines, got, row.want)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}

// A node that leaves says so to probes and to clients, and closes WebSockets so that clients know that
// the engine is elsewhere.
func TestLeave(t *testing.T) {
	s := startNode(t, &elsewhereStore{Store: journal.NewMemory()})
	s.want("e", deck, http.StatusOK, `"ok":true`)
	c := s.mustDial("e")
	say(t, c, `{"digest":true}`)
	s.Leave()
	if status, body := s.do("GET", "/readyz", ""); status != http.StatusServiceUnavailable ||
		!strings.Contains(body, "shutting down") {
		t.Errorf("%d %s", status, body)
	}
	w, err := http.Post(s.url+"/v1/engines/e", "", strings.NewReader(`{"type":"stack:draw"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Body.Close()
	if w.StatusCode != http.StatusOK || !w.Close {
		t.Errorf("a line to a node that leaves: %s, the connection closes: %t", w.Status, w.Close)
	}
	say(t, c, `{"digest":true}`)
	closed := make(chan websocket.StatusCode, 1)
	go func() {
		_, _, err := c.Read(t.Context())
		closed <- websocket.CloseStatus(err)
	}()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if got := <-closed; got != websocket.StatusServiceRestart {
		t.Errorf("a WebSocket is closed with %d", got)
	}
}

// isShut reports whether lines of a slot wait.
func (g *gates) isShut(slot int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gateLocked(slot).opened != nil
}

// A line waits at a gate no longer than its client.
func TestGates(t *testing.T) {
	g := gates{list: map[int]*gate{}}
	if err := g.enter(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	empty := g.shut(1)
	select {
	case <-empty:
		t.Error("it is empty while somebody is inside")
	default:
	}
	g.leave(1)
	<-empty
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.enter(ctx, 1); err == nil {
		t.Error("it lets somebody in while it is shut")
	}
	if err := g.enter(ctx, 2); err != nil {
		t.Errorf("another slot: %v", err)
	}
	entered := make(chan error, 1)
	go func() { entered <- g.enter(t.Context(), 1) }()
	g.open(1, nil)
	if err := <-entered; err != nil {
		t.Error(err)
	}
	await(t.Context(), make(chan struct{}), time.Nanosecond)
}
