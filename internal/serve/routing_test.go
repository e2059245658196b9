package serve

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/peers"
	"hypertoken/journal"
)

// elsewhereStore is a store in memory that fails with an error while one is set.
type elsewhereStore struct {
	journal.Store
	mu   sync.Mutex // guards what follows
	fail error
	// failures is how often the error is returned before it goes, if it is positive.
	failures int
}

// setFailure has the next calls fail. failures says how many; 0 means all.
func (s *elsewhereStore) setFailure(err error, failures int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.failures = err, failures
}

func (s *elsewhereStore) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.fail
	if s.failures > 0 {
		if s.failures--; s.failures == 0 {
			s.fail = nil
		}
	}
	return err
}

func (s *elsewhereStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	if err := s.failure(); err != nil {
		done(nil, err)
		return
	}
	s.Store.Load(name, owner, done)
}

func (s *elsewhereStore) Append(name string, o journal.Owner, after uint64, g []journal.Record, done journal.Done) {
	if err := s.failure(); err != nil {
		done.Report(err)
		return
	}
	s.Store.Append(name, o, after, g, done)
}

// ownedError says that another node has an engine.
type ownedError struct{ owner peers.Owner }

func (e *ownedError) Error() string { return "the slot belongs to " + e.owner.Address }
func (e *ownedError) Unwrap() error { return journal.ErrNotOwner }

const nodeSecret = "a secret of the tests"

// fakeNode is another node of a cluster. answer gets the lines that come there.
type fakeNode struct {
	owner peers.Owner
	// isBlind says that it leaves reading to answers.
	isBlind bool
	mu      sync.Mutex // guards what follows
	lines   []string
	// answers are taken one after the other, and the last one again and again.
	answers []http.HandlerFunc
}

func newFakeNode(t *testing.T, answers ...http.HandlerFunc) *fakeNode {
	n := &fakeNode{answers: answers}
	s := httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(s.Close)
	n.owner = peers.Owner{Address: s.Listener.Addr().String(), Epoch: 2}
	return n
}

func (n *fakeNode) serve(w http.ResponseWriter, r *http.Request) {
	b := new(strings.Builder)
	if !n.isBlind {
		_ = r.Write(b) // with its header and body
	}
	n.mu.Lock()
	n.lines = append(n.lines, b.String())
	answer := n.answers[0]
	if len(n.answers) > 1 {
		n.answers = n.answers[1:]
	}
	n.mu.Unlock()
	answer(w, r)
}

func (n *fakeNode) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.lines)
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func loses(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func refuses(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusMisdirectedRequest)
	_, _ = w.Write([]byte(`{"address":"","epoch":0}`))
}

// startNode starts a server that is a node of a cluster.
func startNode(t *testing.T, store journal.Store) *server {
	p := peers.New(peers.Options{Self: "here", Secret: nodeSecret, SlotOf: func(string) int { return 0 },
		MaxLine: 1 << 20, IsAlive: func(string) bool { return true }, Ready: func() string { return "" },
		OwnerOf: func(err error) (peers.Owner, bool) {
			var owned *ownedError
			if !errors.As(err, &owned) {
				return peers.Owner{}, false
			}
			return owned.owner, true
		}})
	s := start(t, host.Options{InProcess: true, Store: store}, func(o *Options) { o.IsDurable, o.Peers = true, p })
	t.Cleanup(p.Close)
	return s
}

// How a line comes to the node that has its engine, and what a client is told if it can't.
func TestRouting(t *testing.T) {
	const (
		draw    = `{"type":"stack:draw"}`
		keyed   = `{"type":"stack:draw","key":"k"}`
		read    = `{"digest":true}`
		there   = `{"n":1,"result":"there"}`
		here    = `{"n":1,"result":[{"id":"c"}]}`
		unknown = `"code":"outcome_unknown"`
	)
	for _, row := range []struct {
		name, line string
		answers    []http.HandlerFunc
		// isBack says that after one failure the engine is here again.
		isBack bool
		status int
		want   string
		sent   int
	}{
		{"the owner answers", draw, []http.HandlerFunc{says(there)}, false, 200, there, 1},
		{"it refuses at first", draw, []http.HandlerFunc{refuses, refuses, says(there)}, false, 200, there, 3},
		{"the answer is lost", draw, []http.HandlerFunc{loses, says(there)}, false, 503, unknown, 1},
		{"the answer to a key is lost", keyed, []http.HandlerFunc{loses, says(there)}, false, 200, there, 2},
		{"the answer to a read is lost", read, []http.HandlerFunc{says(there), loses, says(there)}, false, 200, there, 2},
		{"the engine comes back", draw, []http.HandlerFunc{refuses}, true, 200, here, 1},
		{"time is over", `{"type":"stack:draw","timeout":200}`, []http.HandlerFunc{refuses}, false, 503,
			"nothing of it ran", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			second := newFakeNode(t, row.answers...)
			store := &elsewhereStore{Store: journal.NewMemory()}
			s := startNode(t, store)
			s.want("e", deck, http.StatusOK, `"ok":true`)
			failures := 0
			if row.isBack {
				failures = 1
			}
			store.setFailure(&ownedError{second.owner}, failures)
			if row.line == read {
				// A read of an engine that is open would ask the store for nothing: an action closes it.
				s.want("e", draw, 200, there)
				row.sent++
			}
			s.want("e", row.line, row.status, row.want)
			if got := second.count(); row.sent != 0 && got != row.sent {
				t.Errorf("the other node got %d lines, want %d: %q", got, row.sent, second.lines)
			}
		})
	}
}

// While nobody may have an engine, lines wait.
func TestALineWaitsForTheStore(t *testing.T) {
	store := &elsewhereStore{Store: journal.NewMemory()}
	s := startNode(t, store)
	s.want("e", deck, http.StatusOK, `"ok":true`)
	store.setFailure(errElsewhere, 1) // closes the engine
	s.want("e", `{"type":"stack:draw"}`, http.StatusOK, `{"n":1,"result":[{"id":"c"}]}`)
	store.setFailure(errElsewhere, 1)
	s.want("e", `{"type":"stack:draw","if_sequence":7}`, http.StatusOK, `conflict`)
	store.setFailure(journal.ErrUnavailable, 3)
	s.want("e", `{"type":"stack:draw"}`, http.StatusOK, `{"n":1,"result":[{"id":"b"}]}`)
	store.setFailure(journal.ErrUnavailable, 0)
	s.want("f", `{"setup":{},"timeout":100}`, http.StatusServiceUnavailable, `"timeout"`)
}

// What another node sends is answered here, or refused with the owner.
func TestNodeHandler(t *testing.T) {
	store := &elsewhereStore{Store: journal.NewMemory()}
	s := startNode(t, store)
	s.want("e", deck, http.StatusOK, `"ok":true`)
	node := httptest.NewServer(s.NodeHandler())
	defer node.Close()
	first := peers.New(peers.Options{Self: "first", Secret: nodeSecret, SlotOf: func(string) int { return 0 },
		MaxLine: 1 << 20, IsAlive: func(string) bool { return true }})
	defer first.Close()
	send := func(line string) (peers.Answer, error) {
		to := peers.Owner{Address: node.Listener.Addr().String()}
		return first.Send(context.Background(), to, "e", []byte(line), 5)
	}
	a, err := send(`{"type":"stack:draw"}`)
	if err != nil || string(a.Line) != `{"n":5,"result":[{"id":"c"}]}` || a.Status != 0 {
		t.Errorf("%s %+v %v", a.Line, a, err)
	}
	if a, err := send(`{"typ`); err != nil || a.Status != http.StatusBadRequest {
		t.Errorf("%s %+v %v", a.Line, a, err)
	}
	// It does not go on from here to the owner, which would answer.
	third := newFakeNode(t, says(`{"n":5,"result":"third"}`))
	store.setFailure(&ownedError{third.owner}, 0)
	var moved *peers.MovedError
	if a, err := send(`{"type":"stack:draw"}`); !errors.As(err, &moved) || moved.Owner != third.owner {
		t.Fatalf("%s %v", a.Line, err)
	}
	if n := third.count(); n != 0 {
		t.Fatalf("%d lines were forwarded again", n)
	}
	store.setFailure(journal.ErrUnavailable, 0)
	if a, err := send(`{"type":"stack:draw"}`); !errors.As(err, &moved) || moved.Owner != (peers.Owner{}) {
		t.Errorf("%s %v", a.Line, err)
	}
}

// awayStore is a store in memory in which some names belong to another node.
type awayStore struct {
	journal.Store
	journal.Historian
	away  string
	owner peers.Owner
}

func (s *awayStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	if name == s.away {
		done(nil, &ownedError{s.owner})
		return
	}
	s.Store.Load(name, owner, done)
}

// A copy whose name belongs to another node is made there, and nodes alone may ask for that.
func TestACopyOnAnotherNode(t *testing.T) {
	second := newFakeNode(t, says(`{"name":"there","sequence":0,"digest":"0123456789abcdef"}`), refuses)
	memory := journal.NewMemoryWith(journal.MemoryOptions{History: journal.History{}})
	s := startNode(t, &awayStore{Store: memory, Historian: memory.(journal.Historian), away: "there",
		owner: second.owner})
	s.want("e", deck+`{"type":"stack:draw"}`, http.StatusOK, `"ok":true`)
	for _, row := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"the other node makes it", `{"name":"there"}`, http.StatusOK, `{"name":"there","sequence":0`},
		{"the other node refuses", `{"name":"there","at":0}`, http.StatusServiceUnavailable, `"code":"moved"`},
		{"it is made here", `{"name":"here"}`, http.StatusOK, `{"name":"here","sequence":0`},
	} {
		if status, body := s.do("POST", "/v1/engines/e/fork", row.body); status != row.status ||
			!strings.Contains(body, row.want) {
			t.Errorf("%s: %d %s", row.name, status, body)
		}
		s.o.Peers.Forget("e")
	}
	if len(second.lines) != 2 || !strings.HasPrefix(second.lines[0], "POST /node/requests/v1/engines/there/copy ") ||
		!strings.HasSuffix(second.lines[0], `{"from":"e","at":1}`) {
		t.Errorf("the other node got %q", second.lines)
	}

	// The node does what another one asks for, if that knows the secret.
	node := httptest.NewServer(s.NodeHandler())
	defer node.Close()
	ask := func(secret, name, body string) int {
		r, err := http.NewRequest(http.MethodPost, node.URL+"/node/requests/v1/engines/"+name+"/copy",
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+secret)
		w, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Body.Close()
		return w.StatusCode
	}
	for _, row := range []struct {
		secret, name, body string
		status             int
	}{
		{nodeSecret, "copy", `{"from":"e","at":1}`, http.StatusOK},
		{nodeSecret, "copy", `{"from":"e","at":1}`, http.StatusConflict},
		{nodeSecret, "copy2", `{"from":"e","at":9}`, http.StatusUnprocessableEntity},
		{nodeSecret, "copy2", `{"from":`, http.StatusBadRequest},
		{nodeSecret, "there", `{"from":"e","at":1}`, http.StatusMisdirectedRequest},
		{"another secret", "copy2", `{"from":"e","at":1}`, http.StatusUnauthorized},
	} {
		if status := ask(row.secret, row.name, row.body); status != row.status {
			t.Errorf("%+v: %d", row, status)
		}
	}
	if status, body := s.do("POST", "/v1/engines/copy2/copy", `{"from":"e","at":1}`); status != http.StatusNotFound {
		t.Errorf("a client: %d %s", status, body)
	}
}
