package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/coder/websocket"
)

// node is a server that answers each line with its name, and /v1/cluster with members.
func node(t *testing.T, name string, members func() []string) (url string, kill func()) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/engines/table", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			if _, _, err := conn.Read(r.Context()); err != nil {
				return
			}
			if err := conn.Write(r.Context(), websocket.MessageText, []byte(`"`+name+`"`)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/v1/cluster", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer a token" {
			t.Error("it is asked without the token")
		}
		list := []map[string]string{}
		for _, m := range members() {
			list = append(list, map[string]string{"address": "x", "client": m})
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"members": list}); err != nil {
			t.Error(err)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL, func() { s.Listener.Close(); s.CloseClientConnections() }
}

func TestDiscover(t *testing.T) {
	var members []string
	list := func() []string { return members }
	first, kill := node(t, "first", list)
	second, _ := node(t, "second", list)
	members = []string{"", second, first}
	c := New([]string{first}, "table", "a token")
	c.Discover = true
	defer c.Close()
	send := func(want string) {
		t.Helper()
		answer, err := c.Send(t.Context(), Line{"digest": json.RawMessage("true")})
		if err != nil || string(answer) != `"`+want+`"` {
			t.Fatalf("%s, %v, want %s", answer, err, want)
		}
	}
	send("first")
	if want := []string{first, second}; !slices.Equal(c.servers, want) {
		t.Errorf("the servers are %q, want %q", c.servers, want)
	}
	members = []string{second}
	c.Close() // the connection is lost
	kill()
	send("second")
	if want := []string{first, second}; !slices.Equal(c.servers, want) || c.server != 1 {
		t.Errorf("the servers are %q and it is at %d, want %q", c.servers, c.server, want)
	}
}
