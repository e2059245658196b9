package serve

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"hypertoken/host"
	"hypertoken/internal/peers"
	"hypertoken/journal"
)

// Pages of the members of a cluster use every node, and no other pages do.
func TestPagesOfMembers(t *testing.T) {
	const member, stranger = "http://a.example:9500", "http://games.example"
	clients := []string{member}
	p := peers.New(peers.Options{Self: "a:1", Secret: nodeSecret, Ready: func() string { return "" },
		Clients: func() []string { return clients },
		SlotOf:  func(string) int { return 0 },
		OwnerOf: func(error) (peers.Owner, bool) { return peers.Owner{}, false }})
	t.Cleanup(p.Close)
	s := start(t, host.Options{InProcess: true, Store: journal.NewMemory()},
		func(o *Options) { o.IsDurable, o.Demo, o.Peers = true, true, p })
	defer http.DefaultClient.CloseIdleConnections()
	s.want("e", deck, 200, "ok")
	for _, row := range []struct {
		origin string
		isOne  bool
	}{{member, true}, {stranger, false}, {"null", false}, {"http://a.example:9501", false},
		{"https://a.example:9500", false}} {
		conn, err := s.dial("e", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {row.origin}}})
		if (err == nil) != row.isOne || !row.isOne && !strings.Contains(err.Error(), "403") {
			t.Errorf("a WebSocket from %s: %v", row.origin, err)
		}
		if err == nil {
			_ = conn.CloseNow()
		}
		if status, body := s.do("POST", "/v1/engines/e", `{"digest":true}`, "Origin", row.origin); (status == 200) != row.isOne {
			t.Errorf("POST from %s: %d %s", row.origin, status, body)
		}
		w, _ := ask(t, s.url+"/v1/engines/e/state", "Origin", row.origin)
		if allowed := w.Header.Get("Access-Control-Allow-Origin"); (allowed == row.origin) != row.isOne || !row.isOne && allowed != "" {
			t.Errorf("%s reads answers: %q", row.origin, allowed)
		}
		if !strings.Contains(strings.Join(w.Header.Values("Vary"), ","), "Origin") {
			t.Errorf("%s: Vary is %q", row.origin, w.Header.Values("Vary"))
		}
	}

	page, content := ask(t, s.url+"/")
	policy := page.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "connect-src 'self' "+member+" ws"+strings.TrimPrefix(member, "http")+";") {
		t.Errorf("the policy is %q", policy)
	}
	if !strings.Contains(string(content), "<body data-cluster>") {
		t.Error("the page does not say that it is from a node of a cluster")
	}
	script, _ := ask(t, s.url+"/main.js")
	clients = append(clients, "https://b.example")
	// Browsers keep the policy of a copy that is still current.
	if w, _ := ask(t, s.url+"/", "If-None-Match", page.Header.Get("ETag")); w.StatusCode != 200 ||
		!strings.Contains(w.Header.Get("Content-Security-Policy"), " https://b.example wss://b.example;") {
		t.Errorf("the page again: %d %v", w.StatusCode, w.Header)
	}
	again, _ := ask(t, s.url+"/main.js", "If-None-Match", script.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("a script again: %d", again.StatusCode)
	}
}
