package peers

import (
	"fmt"
	"slices"
	"testing"
)

func TestOriginOf(t *testing.T) {
	for _, row := range []struct {
		client, origin string // "" for none
	}{
		{"http://127.0.0.1:9500", "http://127.0.0.1:9500"},
		{"https://Games.Example:443/", "https://games.example"},
		{"http://games.example:80/below", "http://games.example"},
		{"https://games.example:80", "https://games.example:80"},
		{"http://[::1]:9500", "http://[::1]:9500"},
		{"", ""},
		{"127.0.0.1:9500", ""},
		{"ftp://games.example", ""},
		{"https://", ""},
		{"https://me@games.example", ""},
		{"https://games.example?x", ""},
		{"https://games.example#x", ""},
		{"https://games.example;script-src", ""},
		{"https://games.example, *", ""},
		{"https://*.example", ""},
	} {
		origin, err := OriginOf(row.client)
		if origin != row.origin || (err == nil) != (row.origin != "") {
			t.Errorf("%q: %q, %v", row.client, origin, err)
		}
	}
}

func TestOrigins(t *testing.T) {
	if list := (*Peers)(nil).Origins(); len(list) != 0 {
		t.Errorf("a server that is no node has %q", list)
	}
	var clients []string
	p := &Peers{o: Options{Clients: func() []string { return clients }}}
	clients = []string{"http://a:1/x", "nonsense", "http://a:1/y", "https://b"}
	if list := p.Origins(); !slices.Equal(list, []string{"http://a:1", "https://b"}) {
		t.Errorf("%q", list)
	}
	clients = nil
	for k := range 2 * maxOrigins {
		clients = append(clients, fmt.Sprint("http://a:", k+1))
	}
	if list := p.Origins(); len(list) != maxOrigins || list[0] != "http://a:1" {
		t.Errorf("%d, %q", len(list), list)
	}
}
