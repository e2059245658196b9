package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hypertoken/host"
)

// connect opens a connection and sends a text.
func (s *server) connect(text string) net.Conn {
	s.t.Helper()
	return s.connectFrom("127.0.0.1", text)
}

func (s *server) connectFrom(address, text string) net.Conn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := d.DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_, _ = io.WriteString(c, text) // it may be closed already
	return c
}

// response reads an answer.
func response(t *testing.T, in *bufio.Reader) (int, string) {
	t.Helper()
	w, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Body.Close() }()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(b)
}

// promise is a request whose body never comes.
const promise = "POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"

// serves checks that a crowd of connections took nothing from others.
func (s *server) serves(headers ...string) {
	s.t.Helper()
	client.CloseIdleConnections()
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/status"} {
		if status, body := s.do("GET", path, "", headers...); status != 200 {
			s.t.Errorf("%s: %d %s", path, status, short(body))
		}
	}
	if status, body := s.do("POST", "/v1/engines/mine", deck, headers...); status != 200 {
		s.t.Errorf("an engine: %d %s", status, short(body))
	}
	_, _ = s.do("DELETE", "/v1/engines/mine", "", headers...)
}

// Connections that show no token are refused and closed before their body comes.
func TestStrangersArePromptlyRefused(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) {
		o.Token, o.MaxConnections, o.Rate, o.IdleTimeout, o.DrainTimeout = token, 4, 0, time.Hour, time.Hour
	})
	var all []net.Conn
	for range 2*waitingRoom + 8 {
		all = append(all, s.connect(promise))
	}
	s.serves("Authorization", "Bearer "+token)
	for k, c := range all { // each is ended by the server; the first ones may have been closed to make room
		b, _ := io.ReadAll(c)
		if len(b) > 0 && (!strings.Contains(string(b), "401") || !strings.Contains(string(b), "Connection: close")) ||
			k >= len(all)-8 && len(b) == 0 {
			t.Errorf("connection %d: %q", k, b)
		}
	}
}

// However many connections have nothing to say, probes, metrics and engines are there for others,
// and the server ends at once.
func TestACrowdTakesNothing(t *testing.T) {
	for name, text := range map[string]string{
		"silence":      "",
		"half a line":  "GET /hea",
		"half a head":  "POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nX-A: ",
		"a promise":    promise,
		"half a setup": promise + `{"setup":`,
		"an answer":    "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"TLS":          "\x16\x03\x01\x02\x00\x01\x00\x01",
		"nonsense":     "nonsense\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, host.Options{InProcess: true}, func(o *Options) {
				o.MaxConnections, o.Rate, o.IdleTimeout, o.DrainTimeout = 4, 0, time.Hour, time.Hour
			})
			for range waitingRoom + 2*4 {
				s.connect(text)
			}
			s.serves()
			if err := s.stop(); err != nil { // DrainTimeout is an hour
				t.Error(err)
			}
		})
	}
}

// A connection between two requests gives its seat to one that has a request.
func TestIdleConnectionsGiveWay(t *testing.T) {
	s := start(t, host.Options{InProcess: true},
		func(o *Options) { o.MaxConnections, o.MaxConnectionsPerAddress = 2, 2 })
	const ask = "GET /v1/engines HTTP/1.1\r\nHost: localhost\r\n\r\n"
	first := s.connect(ask)
	in := bufio.NewReader(first)
	if status, _ := response(t, in); status != 200 {
		t.Fatal(status)
	}
	second := s.mustDial("e") // a WebSocket is never between two requests
	say(t, second, deck)
	until(t, "an idle connection", func() bool {
		l := s.connections.Load()
		l.mu.Lock()
		defer l.mu.Unlock()
		isIdle := false // the server notices it a little after the answer
		for c := range l.talking {
			isIdle = isIdle || c.phase == idlePhase
		}
		return isIdle && len(l.talking) == 2
	})
	third := s.connect(ask)
	if status, body := response(t, bufio.NewReader(third)); status != 200 {
		t.Fatal(status, body)
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the first connection is still open")
	}
	if got := say(t, second, `{"type":"stack:draw"}`); !strings.Contains(got, `"c"`) {
		t.Error(got)
	}
}

// One address leaves seats to others.
func TestMaxConnectionsPerAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only one address is this machine's")
	}
	s := start(t, host.Options{InProcess: true},
		func(o *Options) { o.MaxConnections, o.MaxConnectionsPerAddress = 3, 2 })
	for range 2 {
		say(t, s.mustDial("e"), `{"digest":true}`)
	}
	if _, err := s.dial("e", nil); err == nil || !strings.Contains(err.Error(), "429") ||
		!strings.Contains(err.Error(),
			"2 connections of this address talk to engines, as many as --max-connections-per-address allows") {
		t.Error(err)
	}
	s.want("e", deck, 429, codeQuota)
	other := s.connectFrom("127.0.0.2", "GET /v1/engines HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if status, body := response(t, bufio.NewReader(other)); status != 200 {
		t.Error(status, body)
	}
	if o := Defaults(); o.perAddress() != 224 {
		t.Errorf("%d of %d", o.perAddress(), o.MaxConnections)
	}
}

// A client that reads its scrape slowly does not keep others from scraping.
func TestSlowScrapers(t *testing.T) {
	s := start(t, host.Options{InProcess: true},
		func(o *Options) { o.Rate, o.WriteTimeout, o.scrapes = 0, time.Hour, 1 })
	page, _ := s.do("GET", "/metrics", "")
	if page != 200 {
		t.Fatal(page)
	}
	const scrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
	c := s.connect("")
	go func() { _, _ = io.WriteString(c, strings.Repeat(scrape, 500)) }()
	stuck := func() (n int) {
		l := s.connections.Load()
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.waiting {
			if c.writing.Load() > 0 {
				n++
			}
		}
		return n
	}
	until(t, "a scrape that is stuck", func() bool { return stuck() == 1 })
	// The scrape before that one may just have been made.
	until(t, "another scrape", func() bool { status, _ := s.do("GET", "/metrics", ""); return status == 200 })
}

// Requests without the token have a budget of their own.
func TestStrangersTakeNoRate(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Token, o.Rate = token, 3 })
	for _, c := range []struct {
		path    string
		headers []string
	}{
		{"/metrics", nil}, {"/v1/engines", nil}, {"/v1/engines", []string{"Authorization", "Bearer x"}},
		{"/v1/engines", []string{"Authorization", "Bearer " + token, "Sec-Fetch-Site", "cross-site"}},
	} {
		method := "GET"
		if len(c.headers) > 2 {
			method = "POST"
		}
		until(t, "a refusal for their rate", func() bool {
			status, body := s.do(method, c.path, "", c.headers...)
			if status == 429 && !strings.Contains(body, "more than 3 requests a second were refused for this address") {
				t.Fatal(body)
			}
			return status == 429
		})
	}
	own := []string{"Authorization", "Bearer " + token}
	for _, path := range []string{"/metrics", "/v1/status", "/metrics", "/v1/engines", "/v1/engines/e",
		"/openapi.json"} {
		if status, body := s.do("GET", path, "", own...); status == 429 {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// A client that has closed its sending side still gets every answer.
func TestHalfClosedConnections(t *testing.T) {
	s := start(t, host.Options{}, func(o *Options) { o.Rate = 0 })
	s.want("e", deck, 200, "ok")
	const lines = 2000
	body := strings.Repeat(`{"type":"stack:peek"}`+"\n", lines)
	c := s.connect(fmt.Sprintf("POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	status, answers := response(t, bufio.NewReader(c))
	if n := strings.Count(answers, `"result":`); status != 200 || n != lines {
		t.Errorf("%d, %d answers: %s", status, n, answers[max(0, len(answers)-300):])
	}
	s.logs.ended(t, "POST")
	s.logs.ended(t, "POST")
	// A client that is gone is noticed at the next answers.
	gone := s.connect(fmt.Sprintf("POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body))
	_ = gone.(*net.TCPConn).SetLinger(0)
	_ = gone.Close()
	if ended := s.logs.ended(t, "POST"); ended["bytes"].(int64) >= int64(len(answers)) {
		t.Error("all lines ran for a client that was gone")
	}
}

// A client that sends all its lines before it reads an answer gets all answers.
func TestClientsThatSendBeforeTheyRead(t *testing.T) {
	big := fmt.Sprintf(`{"setup":{"stack":[{"id":"a","text":%q}]}}`, strings.Repeat("x", 100_000))
	const lines = 200 // 20 MB of answers
	line := `{"type":"stack:peek"` + strings.Repeat(" ", 50_000) + "}\n"
	t.Run("HTTP", func(t *testing.T) {
		s := start(t, host.Options{InProcess: true}, func(o *Options) { o.WriteTimeout = time.Hour })
		s.want("e", big, 200, "ok")
		c := s.connect(fmt.Sprintf("POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
			lines*len(line)))
		for range lines {
			if _, err := io.WriteString(c, line); err != nil {
				t.Fatal(err)
			}
		}
		if status, answers := response(t, bufio.NewReader(c)); status != 200 || strings.Count(answers, `"result":`) != lines {
			t.Errorf("%d, %d answers", status, strings.Count(answers, `"result":`))
		}
		until(t, "empty buffers", func() bool { return s.buffers.bytes() == 0 })
	})
	t.Run("WebSocket", func(t *testing.T) {
		s := start(t, host.Options{InProcess: true}, func(o *Options) { o.WriteTimeout = time.Hour })
		s.want("e", big, 200, "ok")
		c := s.mustDial("e")
		for range lines {
			if err := c.Write(t.Context(), websocket.MessageText, []byte(line)); err != nil {
				t.Fatal(err)
			}
		}
		for range lines {
			if got := hear(t, c); !strings.Contains(got, `"result":`) {
				t.Fatal(short(got))
			}
		}
	})
	// A client whose answers do not fit into the buffers is cut off, and the log says so.
	t.Run("too much", func(t *testing.T) {
		s := start(t, host.Options{InProcess: true},
			func(o *Options) { o.WriteTimeout, o.MaxBuffered = 300*time.Millisecond, 1<<20 })
		s.want("e", big, 200, "ok")
		c := s.connect(fmt.Sprintf("POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
			lines*len(line)))
		for range lines {
			if _, err := io.WriteString(c, line); err != nil {
				break
			}
		}
		for {
			m := <-s.logs
			if text, _ := m["message"].(string); strings.HasPrefix(text,
				"a client does not read its answers and is cut off") {
				break
			}
		}
		_ = c.Close()
		until(t, "empty buffers", func() bool { return s.buffers.bytes() == 0 })
	})
}

// Pings are charged as lines are.
func TestPingsHaveARate(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Rate = 2 })
	c := s.mustDial("e")
	ctx := c.CloseRead(t.Context())
	began := time.Now()
	for range 4 {
		if err := c.Ping(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("4 pings took %v at 2 a second", took)
	}
}

// A player who thinks for long stays connected. A player who is gone is noticed.
func TestPlayersWhoThink(t *testing.T) {
	s := start(t, host.Options{InProcess: true},
		func(o *Options) { o.IdleTimeout, o.PingInterval = 50*time.Millisecond, time.Second })
	pings := make(chan struct{}, 16)
	c, err := s.dial("e", &websocket.DialOptions{OnPingReceived: func(context.Context,
		[]byte) bool {
		pings <- struct{}{}
		return true
	}})
	if err != nil {
		t.Fatal(err)
	}
	say(t, c, deck)
	heard := make(chan string, 1)
	go func() {
		_, b, err := c.Read(context.Background())
		heard <- fmt.Sprint(string(b), err)
	}()
	for range 2 { // both are later than IdleTimeout
		<-pings
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"stack:draw"}`)); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; !strings.Contains(got, `"result":[{"id":"c"}]`) {
		t.Error(got)
	}

	s = start(t, host.Options{InProcess: true}, func(o *Options) { o.PingInterval = 50 * time.Millisecond })
	gone := s.mustDial("e")
	say(t, gone, deck)
	s.logs.ended(t, "GET") // nothing is read any more, so no ping is answered
	if talking, _ := s.connections.Load().count(); talking != 0 {
		t.Error(talking)
	}
}
