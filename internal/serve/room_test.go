package serve

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hypertoken/host"
)

// If many clients ask for large answers and do not read them, the memory for these answers is
// bounded. Each client gets its answer once it reads.
func TestUnreadAnswers(t *testing.T) {
	const size = 1 << 20
	s := start(t, host.Options{InProcess: true}, func(o *Options) {
		o.MaxBuffered, o.WriteTimeout, o.MaxLine, o.Rate = 16*size, time.Hour, 16*size, 0
	})
	s.want("e", fmt.Sprintf(`{"setup":{"stack":[{"id":"a","text":%q}]}}`, strings.Repeat("x", 6*size)), 200, "ok")
	for k, line := range []string{`{"state":true}`, `{"type":"stack:peek"}`} {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			var clients []net.Conn
			for range 6 {
				c := s.connect("")
				_, _ = fmt.Fprintf(c, "POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
					len(line), line)
				clients = append(clients, c)
			}
			until(t, "an answer that waits", func() bool {
				s.buffers.mu.Lock()
				defer s.buffers.mu.Unlock()
				return len(s.buffers.waiting) == 5
			})
			if held := s.buffers.bytes(); held > 16*size/2 {
				t.Errorf("%d bytes are held for one address", held)
			}
			var readers sync.WaitGroup
			for _, c := range clients {
				readers.Go(func() {
					w, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = w.Body.Close() }()
					body, err := io.ReadAll(w.Body)
					if held := s.buffers.bytes(); held > 16*size/2 {
						t.Errorf("%d bytes are held for one address", held)
					}
					if err != nil || w.StatusCode != 200 || len(body) < 6*size {
						t.Errorf("%d: %d bytes: %s, %v", w.StatusCode, len(body), short(string(body)), err)
					}
				})
			}
			readers.Wait()
			until(t, "an empty buffer", func() bool { return s.buffers.bytes() == 0 })
		})
	}
}

// An answer for which there is no room in time is refused before it is made.
func TestAnswersWithoutRoom(t *testing.T) {
	b := newBuffers(1 << 20)
	a := netip.MustParsePrefix("10.0.0.1/32")
	other := netip.MustParsePrefix("10.0.0.2/32")
	g, small := &gauge{known: true, size: 600 << 10}, &gauge{known: true, size: smallAnswer}
	first, err := b.reserve(t.Context(), a, g, time.Hour) // it is more than half, but a single answer
	if err != nil {
		t.Fatal(err)
	}
	first.settle(700 << 10)
	for _, address := range []netip.Prefix{a, other} {
		if _, err := b.reserve(t.Context(), address, g, time.Millisecond); err == nil ||
			host.CodeOf(err) != "overloaded" ||
			!strings.Contains(err.Error(), "no room for this one within 1ms (--max-buffered 1.0 MiB") {
			t.Error(err)
		}
	}
	second, err := b.reserve(t.Context(), other, small, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	second.settle(10)
	var wait sync.WaitGroup
	wait.Go(func() {
		third, err := b.reserve(t.Context(), other, g, time.Hour)
		if err != nil {
			t.Error(err)
			return
		}
		third.settle(5)
		third.free()
	})
	until(t, "the third", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.waiting) == 1 })
	first.free()
	wait.Wait()
	second.free()
	if b.bytes() != 0 || len(b.shares) != 0 || g.busy != 0 || small.busy != 0 {
		t.Errorf("%v, %v", b, b.shares)
	}
	// Bytes that are read ahead count in the same room.
	if !b.try(a, 512<<10) || b.try(a, 1) || !b.try(other, 512<<10) || b.try(other, 1) {
		t.Errorf("%v", b)
	}
}

// A line that waits for room when the server stops does not run, and delays nothing.
func TestAnswersWithoutRoomAtTheEnd(t *testing.T) {
	s := start(t, host.Options{InProcess: true},
		func(o *Options) { o.WriteTimeout, o.DrainTimeout = time.Hour, time.Hour })
	s.want("e", deck, 200, "ok")
	other := netip.MustParsePrefix("10.0.0.2/32")
	s.buffers.add(other, s.o.MaxBuffered)
	defer s.buffers.add(other, -s.o.MaxBuffered)
	const line = `{"state":true}`
	c := s.connect(fmt.Sprintf("POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
		len(line), line))
	until(t, "a line that waits",
		func() bool { s.buffers.mu.Lock(); defer s.buffers.mu.Unlock(); return len(s.buffers.waiting) == 1 })
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if status, body := response(t, bufio.NewReader(c)); status != 503 ||
		!strings.Contains(body, "the server is shutting down") {
		t.Error(status, body)
	}
}

// One answer of a kind that is not known, and one question about a state, is on its way at once.
func TestGauges(t *testing.T) {
	b := newBuffers(1 << 30)
	for _, c := range []struct {
		gauge gauge
		want  bool // a second one at once
	}{
		{gauge{}, false}, {gauge{known: true}, true}, {gauge{known: true, size: smallAnswer}, true},
		{gauge{known: true, size: smallAnswer + 1}, false}, {gauge{known: true, state: true}, false},
	} {
		g := c.gauge
		r, err := b.reserve(t.Context(), netip.Prefix{}, &g, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.reserve(t.Context(), netip.Prefix{}, &g, time.Millisecond)
		if (err == nil) != c.want {
			t.Errorf("%+v: %v", c.gauge, err)
		}
		r.settle(1)
		r.free()
		if second != nil {
			second.settle(1)
			second.free()
		}
	}
	// Of many engines that were never asked, a few are asked at once.
	var all []*reservation
	for range maxMeasuring {
		r, err := b.reserve(t.Context(), netip.Prefix{}, &gauge{state: true}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if _, err := b.reserve(t.Context(), netip.Prefix{}, &gauge{state: true}, time.Millisecond); err == nil {
		t.Error("all are asked at once")
	}
	for _, r := range all {
		r.settle(1)
		r.free()
	}
	if b.bytes() != 0 || b.measuring != 0 {
		t.Error(b, b.measuring)
	}
}

// Engines that nobody uses are deleted.
func TestEngineIdle(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.EngineIdle = 50 * time.Millisecond })
	player := s.mustDial("played")
	say(t, player, deck)
	s.want("left", deck, 200, "ok")
	until(t, "the end of an engine", func() bool {
		status,
			_ := s.do("GET", "/v1/engines/left", "")
		return status == 404
	})
	if got := say(t, player, `{"type":"stack:draw"}`); !strings.Contains(got, `"c"`) {
		t.Error(got)
	}
	if s.engines.expired.Load() != 1 {
		t.Error(s.engines.expired.Load())
	}
	s.want("left", deck, 200, "ok")
	_ = player.Close(websocket.StatusNormalClosure, "")
	until(t, "the end of the other", func() bool {
		status,
			_ := s.do("GET", "/v1/engines/played", "")
		return status == 404
	})
	// Without the option they stay.
	s = start(t, host.Options{InProcess: true}, nil)
	s.want("left", deck, 200, "ok")
	if names := s.engines.expireAt(time.Now().Add(-time.Hour)); names != nil {
		t.Error(names)
	}
}

// An address has its quota of engines.
func TestMaxEnginesPerAddress(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.MaxEngines, o.MaxEnginesPerAddress = 3, 2 })
	s.want("a", deck, 200, "ok")
	s.want("b", deck, 200, "ok")
	s.want("c", deck, 429, "2 engines of this address are open, as many as --max-engines-per-address allows")
	s.want("b", `{"type":"stack:draw"}`, 200, `"c"`)
	if status, _ := s.do("DELETE", "/v1/engines/a", ""); status != 204 {
		t.Error(status)
	}
	s.want("c", `{"setup":{"stack":5}}`, 422, "want an array") // it does not count, because it fails
	s.want("c", deck, 200, "ok")
	s.want("d", deck, 429, codeQuota)
}

func TestFitFiles(t *testing.T) {
	ofHost := host.Descriptors(host.Options{Workers: 2})
	need := uint64(ownFiles + ofHost + 256 + waitingRoom)
	for _, c := range []struct {
		limit       uint64
		ofStore     int // the store's own wish; 0 for a store in memory
		connections int // 0 for an error
		says        string
	}{
		{1 << 20, 0, 256, ""},
		{need, 0, 256, ""},
		{need - 1, 0, 256, ""}, // a smaller waiting room is no loss
		{uint64(ofHost) + 144, 0, 90, fmt.Sprintf("--max-connections is lowered from 256 to 90, since this process may open %d files: raise the limit to %d",
			ofHost+144, need)},
		{uint64(ofHost) + 64, 0, 30, "lowered from 256 to 30"},
		{uint64(ofHost) + ownFiles + 16, 0, 8, "to 8"},
		{uint64(ofHost) + ownFiles + 15, 0, 0, fmt.Sprintf("this process may open %d files, and its workers and the server need %d: raise the limit to",
			ofHost+ownFiles+15, ofHost+ownFiles+16)},
		{need + 1000, 1000, 256, ""},
		{need + 300, 1000, 256, fmt.Sprintf("the store may open 300 files instead of 1000, since this process may open %d: raise the limit to %d",
			need+300, need+1000)},
		{need + 100, 1000, 256, "the store may open 100 files instead of 1000"},
		{uint64(ofHost) + 64 + 100, 1000, 30, "lowered from 256 to 30"}, // the store keeps the least that it can have
		{uint64(ofHost) + ownFiles + 115, 1000, 0, fmt.Sprintf("and its workers, the server and the store need %d", ofHost+ownFiles+116)},
	} {
		o := Defaults()
		o.StoreFiles = c.ofStore
		o.MaxConnectionsPerAddress = 200
		lowered, err := o.FitFiles(c.limit, ofHost, 100)
		if err != nil {
			lowered = err.Error()
		}
		if (err != nil) != (c.connections == 0) || err == nil && o.MaxConnections != c.connections ||
			!strings.Contains(lowered, c.says) || c.says == "" && lowered != "" {
			t.Errorf("%d: %d, %q", c.limit, o.MaxConnections, lowered)
		}
		if err == nil && o.validate() != nil {
			t.Error(o.validate())
		}
	}
}

// A token comes as a subprotocol, since pages can't send a header with a WebSocket.
func TestTokenAsSubprotocol(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Token = token })
	with := func(token string) string { return tokenProtocol + base64.RawURLEncoding.EncodeToString([]byte(token)) }
	for _, c := range []struct {
		protocols []string
		want      bool
	}{
		{[]string{subprotocol, with(token)}, true},
		{[]string{with(token), subprotocol}, true},
		{[]string{subprotocol, with(token + "x")}, false},
		{[]string{subprotocol, with("")}, false},
		{[]string{subprotocol, tokenProtocol + "!"}, false},
		{[]string{subprotocol, token}, false},
		{[]string{subprotocol}, false},
	} {
		conn, err := s.dial("e", &websocket.DialOptions{Subprotocols: c.protocols})
		if (err == nil) != c.want || err != nil && !strings.Contains(err.Error(), "401") {
			t.Errorf("%q: %v", c.protocols, err)
		}
		if err == nil && conn.Subprotocol() != subprotocol {
			t.Errorf("%q: %q was chosen", c.protocols, conn.Subprotocol())
		}
	}
	// It is for WebSockets only.
	if status, _ := s.do("GET", "/v1/engines", "", "Sec-WebSocket-Protocol", with(token)); status != 401 {
		t.Error(status)
	}
}

// If the operator allows it, proxies may use any name for the server, and pages of other origins
// may use the server.
func TestAllowedHostsAndOrigins(t *testing.T) {
	for _, c := range []struct {
		token string
		hosts []string
		host  string
		want  bool
	}{
		{"", nil, "games.example", false},
		{"", []string{"games.example"}, "games.example", true},
		{"", []string{"games.example"}, "GAMES.example:8443", true},
		{"", []string{"Games.example:80"}, "games.example:80", true},
		{"", []string{"games.example:80"}, "games.example", false},
		{"", []string{"games.example"}, "other.games.example", false},
		{"", []string{"games.example"}, "localhost", true},
		{"", []string{"games.example"}, "games.example.", true},
		{"", []string{"games.example."}, "Games.example.:8443", true},
		{"", []string{"games.example:80"}, "games.example.:80", true},
		{"", []string{"games.example"}, "games.example..", false},
		{"", nil, "localhost.", true},
		{"", nil, "localhost.:9464", true},
		{"", nil, "127.0.0.1.", true},
		{"", nil, "localhost.games.example.", false},
		{"", []string{"10.0.0.5"}, "10.0.0.5:9464", true},
		{"", []string{"::2"}, "[::2]:9464", true},
		{"", []string{"*"}, "anything", true},
		{token, nil, "anything", true},
		{token, []string{"games.example"}, "anything", false},
		{"", nil, "", true}, // no browser
	} {
		if got := newHosts(Options{Token: c.token, AllowedHosts: c.hosts}).allow(c.host); got != c.want {
			t.Errorf("%q with %q: %v", c.host, c.hosts, got)
		}
	}
	const origin = "https://games.example"
	named := []string{"HTTPS://Games.example:443"} // as an operator may write it, and no browser does
	s := start(t, host.Options{InProcess: true},
		func(o *Options) { o.AllowedHosts, o.AllowedOrigins = []string{"games.example"}, named })
	for from, want := range map[string]int{origin: 200, "https://other.example": 403} {
		_, _ = s.do("DELETE", "/v1/engines/e", "")
		if status, body := s.do("POST", "/v1/engines/e", deck, "Host", "games.example", "Origin",
			from); status != want {
			t.Errorf("%s: %d %s", from, status, body)
		}
		c, err := s.dial("e", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {from}}})
		if (err == nil) != (want == 200) {
			t.Errorf("a WebSocket of %s: %v", from, err)
		}
		if err == nil {
			_ = c.Close(websocket.StatusNormalClosure, "")
		}
		// The preflight request of a browser.
		r, err := http.NewRequestWithContext(t.Context(), "OPTIONS", s.url+"/v1/engines/e", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Origin": {from}, "Access-Control-Request-Method": {"POST"}}
		w, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Body.Close()
		shared := w.Header.Get("Access-Control-Allow-Origin") == from &&
			strings.Contains(w.Header.Get("Access-Control-Allow-Methods"), "POST") &&
			strings.Contains(w.Header.Get("Access-Control-Allow-Headers"), "Authorization")
		if shared != (want == 200) || (w.StatusCode == 204) != shared || w.Header.Get("Vary") != "Origin" {
			t.Errorf("%s: %d %v", from, w.StatusCode, w.Header)
		}
	}
	// A probe of an old kind.
	old := s.connect("GET /healthz HTTP/1.0\r\n\r\n")
	if status, body := response(t, bufio.NewReader(old)); status != 200 || body != "ok\n" {
		t.Error(status, body)
	}
}

// A journal that has nothing behind a sequence is an answer, too: the next one does not wait for it.
func TestAJournalWithoutALine(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	s.want("e", deck, 200, "ok")
	for range 3 {
		if status, body := s.do("GET", "/v1/engines/e/journal?after=0", ""); status != 200 || body != "" {
			t.Fatal(status, body)
		}
	}
	s.want("e", `{"type":"stack:draw"}`, 200, `"c"`)
	status, body := s.do("GET", "/v1/engines/e/journal?after=0", "")
	if status != 200 || strings.Count(body, "\n") != 1 {
		t.Error(status, body)
	}
}
