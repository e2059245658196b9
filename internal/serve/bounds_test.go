package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hypertoken/host"
)

func TestOptionsOutOfBounds(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string // "" for options that are taken
	}{
		{func(o *Options) { o.Token = strings.Repeat("x", 15) }, "the token has 15 bytes, want at least 16"},
		{func(o *Options) { o.Token = strings.Repeat("x", 16) }, ""},
		{func(o *Options) { o.MaxEngines = 0 }, "--max-engines is 0, want 1 to"},
		{func(o *Options) { o.MaxEngines = 1 }, ""},
		{func(o *Options) { o.MaxEngines = 1<<20 + 1 }, "--max-engines is 1048577"},
		{func(o *Options) { o.MaxConnections = 0 }, "--max-connections is 0"},
		{func(o *Options) { o.MaxConnections = 1<<16 + 1 }, "--max-connections is 65537"},
		{func(o *Options) { o.MaxBody = 1<<30 + 1 }, "--max-body is"},
		{func(o *Options) { o.MaxBody = 1 << 30 }, ""},
		{func(o *Options) { o.MaxLine = 0 }, "--max-line is 0"},
		{func(o *Options) { o.MaxConnectionsPerAddress = o.MaxConnections + 1 }, "--max-connections-per-address is 257, want 0 to 256"},
		{func(o *Options) { o.MaxConnectionsPerAddress = o.MaxConnections }, ""},
		{func(o *Options) { o.MaxEnginesPerAddress = o.MaxEngines + 1 }, "--max-engines-per-address is 1025, want 0 to 1024"},
		{func(o *Options) { o.MaxEnginesPerAddress = o.MaxEngines }, ""},
		{func(o *Options) { o.MaxBuffered = 1<<20 - 1 }, "--max-buffered is 1048575, want 1048576 to"},
		{func(o *Options) { o.MaxBuffered = 1 << 20 }, ""},
		{func(o *Options) { o.EngineIdle = 1 }, "--engine-idle is 1ns, want at least 1ms"},
		{func(o *Options) { o.EngineIdle = time.Millisecond }, ""},
		{func(o *Options) { o.PingInterval = 0 }, "--ping-interval is 0s, want 1ms to 24h"},
		{func(o *Options) { o.AllowedHosts = []string{"http://a"} }, `--allowed-hosts has "http://a"`},
		{func(o *Options) { o.AllowedHosts = []string{"*.a"} }, `--allowed-hosts has "*.a"`},
		{func(o *Options) { o.AllowedHosts = []string{"a", "*"} }, ""},
		{func(o *Options) { o.AllowedOrigins = []string{"games.example"} }, `--allowed-origins has "games.example"`},
		{func(o *Options) { o.AllowedOrigins = []string{"https://games.example"} }, ""},
		{func(o *Options) { o.Rate = -1 }, "--rate is -1"},
		{func(o *Options) { o.Rate = 0 }, ""},
		{func(o *Options) { o.IdleTimeout = 0 }, "--idle-timeout is 0s, want 1ms to 24h"},
		{func(o *Options) { o.WriteTimeout = 24*time.Hour + 1 }, "--write-timeout is"},
		{func(o *Options) { o.WriteTimeout = 24 * time.Hour }, ""},
		{func(o *Options) { o.DrainTimeout = time.Microsecond }, "--drain-timeout is 1µs"},
	} {
		o := Defaults()
		c.change(&o)
		err := o.validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestMaxEngines(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.MaxEngines = 2 })
	s.want("a", deck, 200, "ok")
	s.want("b", deck, 200, "ok")
	s.want("c", deck, 503, "2 engines are open, as many as --max-engines allows: DELETE one first")
	if status, _ := s.do("DELETE", "/v1/engines/a", ""); status != 204 {
		t.Error(status)
	}
	s.want("c", deck, 200, "ok")
	// One whose setup is refused takes no room.
	_, _ = s.do("DELETE", "/v1/engines/a", "")
	_, _ = s.do("DELETE", "/v1/engines/b", "")
	s.want("d", `{"setup":{"stack":5}}`, 422, "want an array")
	s.want("e", deck, 200, "ok")
}

func TestMaxLineAndMaxBody(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.MaxLine, o.MaxBody = 100, 300 })
	line := func(n int) string { return `{"digest":true}` + strings.Repeat(" ", n-15) }
	s.want("e", deck, 200, "ok")
	s.want("e", line(100), 200, `{"digest":"`)
	s.want("e", line(101), 413, "line 1: it is longer than 100 B (--max-line)")
	s.want("e", line(20)+"\n"+line(101)+"\n"+line(20), 200,
		"line 2: it is longer than 100 B (--max-line) and was skipped\"}}\n{\"digest\"")

	body := strings.Repeat(line(99)+"\n", 3)
	s.want("e", body, 200, `{"digest":"`)
	s.want("e", body+" ", 413, "longer than 300 B (--max-body)")
	// If the length is not known in advance, the lines within the bound are answered.
	for _, c := range []struct{ more, want string }{{"", `"}` + "\n"}, {" ", "send the lines in several\"}}\n"}} {
		status, answer, err := s.try("POST", "/v1/engines/e",
			io.MultiReader(strings.NewReader(body), strings.NewReader(c.more)))
		if err != nil || status != 200 || strings.Count(answer, "digest") != 3 || !strings.HasSuffix(answer, c.want) {
			t.Errorf("%d %s %v", status, answer, err)
		}
	}

	c := s.mustDial("e")
	if got := say(t, c, line(100)); !strings.Contains(got, `{"digest":"`) {
		t.Error(got)
	}
	if got := say(t, c, line(101)); !strings.Contains(got, "line 2: it is longer than 100 B (--max-line)") {
		t.Error(got)
	}
	for range 3 {
		_ = c.Write(t.Context(), websocket.MessageText, []byte(body))
		for range 3 {
			if got := hear(t, c); !strings.Contains(got, `{"digest":"`) {
				t.Error(got)
			}
		}
	}
	_ = c.Write(t.Context(), websocket.MessageText, []byte(body+line(20)))
	for {
		_, b, err := c.Read(t.Context())
		if err == nil && strings.Contains(string(b), "digest") {
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusMessageTooBig ||
			!strings.Contains(closed.Reason, "300 B (--max-body)") {
			t.Error(string(b), err)
		}
		break
	}
}

// A header above the bound, which is a constant, is refused by net/http.
func TestHeaders(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	if status, _ := s.do("GET", "/healthz", "", "X-Long", strings.Repeat("x", maxHeader/2)); status != 200 {
		t.Error(status)
	}
	if status, _ := s.do("GET", "/healthz", "", "X-Long",
		strings.Repeat("x", 2*maxHeader)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(status)
	}
}

func TestMaxConnections(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.MaxConnections = 2 })
	a, b := s.mustDial("a"), s.mustDial("b")
	say(t, a, deck)
	if got := say(t, b, deck); got != `{"ok":true}` {
		t.Error(got)
	}
	if _, err := s.dial("c", nil); err == nil || !strings.Contains(err.Error(),
		"503") || !strings.Contains(err.Error(), "2 connections are open, as many as --max-connections allows") {
		t.Error(err)
	}
	s.want("a", `{"digest":true}`, 503, `"overloaded"`)
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/v1/status"} {
		if status, _ := s.do("GET", path, ""); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	_ = b.Close(websocket.StatusNormalClosure, "")
	client.CloseIdleConnections()
	until(t, "room", func() bool {
		c, err := s.dial("c", nil)
		if err == nil {
			_ = c.CloseNow()
		}
		client.CloseIdleConnections()
		return err == nil
	})
	if got := say(t, a, `{"type":"stack:draw"}`); !strings.Contains(got, `"c"`) {
		t.Error(got)
	}
}

func TestRate(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Rate = 3 })
	s.want("e", deck+`{"digest":true}`, 200, `{"digest":"`)
	s.want("e", `{"digest":true}`, 200, `{"digest":"`)
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/engines/e", strings.NewReader(`{"digest":true}`))
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(w.Body)
	_ = w.Body.Close()
	if w.StatusCode != 429 || w.Header.Get("Retry-After") != "1" ||
		!strings.Contains(string(b), "more than 3 lines and requests a second") {
		t.Errorf("%d %v %s", w.StatusCode, w.Header, b)
	}
	for _, path := range []string{"/metrics", "/v1/status", "/metrics"} { // these have a rate of their own
		if status, _ := s.do("GET", path, ""); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	until(t, "a refusal", func() bool { status, _ := s.do("GET", "/v1/status", ""); return status == 429 })
	for range 10 { // probes have no rate
		if status, _ := s.do("GET", "/readyz", ""); status != 200 {
			t.Error(status)
		}
	}
	until(t, "a token", func() bool { status, _ := s.do("POST", "/v1/engines/e", `{"digest":true}`); return status == 200 })
	// Lines in the middle of a request that exceed the rate wait.
	until(t, "a token", func() bool {
		began := time.Now()
		status, body := s.do("POST", "/v1/engines/e", strings.Repeat(`{"digest":true}`+"\n", 4))
		if status == 200 && (strings.Count(body, "digest") != 4 || time.Since(began) < time.Second/2) {
			t.Errorf("after %v: %s", time.Since(began), body)
		}
		return status == 200
	})
}

// Each address has a rate of its own. The address that was used last is forgotten last.
func TestRatesOfAddresses(t *testing.T) {
	r := newRates(1)
	for _, c := range []struct {
		remote string
		want   bool
	}{
		{"10.0.0.1:1", true}, {"10.0.0.1:2", false}, {"10.0.0.2:1", true}, {"[::ffff:10.0.0.2]:1", false},
		{"[2001:db8::1]:1", true}, {"[2001:db8::2]:1", false}, {"[2001:db8:0:1::1]:1", true}, {"[fe80::1%eth0]:1", true}, {"pipe", true}, {"pipe", false},
	} {
		if got := r.of(c.remote).Allow(); got != c.want {
			t.Errorf("%s: %v, want %v", c.remote, got, c.want)
		}
	}
	first := r.of("10.0.0.1:1")
	for k := range maxAddresses {
		r.of(fmt.Sprintf("10.1.%d.%d:1", k/256, k%256))
		if k == maxAddresses/2 {
			r.of("10.0.0.2:1")
		}
	}
	if r.order.Len() != maxAddresses || len(r.entries) != maxAddresses {
		t.Errorf("%d addresses, want %d", r.order.Len(), maxAddresses)
	}
	if r.of("10.0.0.1:1") == first {
		t.Error("an address that was not seen for long is remembered")
	}
	if r.of("10.0.0.2:1").Allow() {
		t.Error("an address that was seen since is forgotten")
	}
	none := newRates(0)
	for range 100 {
		if !none.of("10.0.0.1:1").Allow() {
			t.Fatal("no rate is one")
		}
	}
}

func TestIdleTimeout(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.IdleTimeout = 100 * time.Millisecond })
	// Half a line, and then nothing.
	in, half := io.Pipe()
	defer func() { _ = half.Close() }()
	go func() { _, _ = io.WriteString(half, deck+`{"digest":`) }()
	status, body, err := s.try("POST", "/v1/engines/e", in)
	if err != nil || status != 200 || !strings.HasPrefix(body, `{"ok":true}`+"\n") || !strings.Contains(body, `"timeout","message":"nothing came for 100ms (--idle-timeout)`) {
		t.Error(status, body, err)
	}
	// Not a line at all.
	in, nothing := io.Pipe()
	defer func() { _ = nothing.Close() }()
	if status, body, err := s.try("POST", "/v1/engines/e", in); status != 408 ||
		!strings.Contains(body, "--idle-timeout") {
		t.Error(status, body, err)
	}
	// Half a message.
	c := s.mustDial("e")
	message, err := c.Writer(t.Context(), websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(message, strings.Repeat(" ", 8<<10)); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Read(t.Context())
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation ||
		!strings.Contains(closed.Reason, "the rest of a message did not come for 100ms (--idle-timeout)") {
		t.Error(err)
	}
	// An action may take longer: that is not the client's turn. So may a game with more lines than
	// that.
	s = start(t, host.Options{InProcess: true}, func(o *Options) { o.IdleTimeout, o.Rate = 100*time.Millisecond, 5 })
	s.want("e", deck+strings.Repeat(`{"digest":true}`+"\n", 7), 200, `{"digest":"`)
}

// A client that reads nothing is cut off, and its answers are given up.
func TestWriteTimeout(t *testing.T) {
	setup := fmt.Sprintf(`{"setup":{"stack":[{"id":"a","text":%q}]}}`, strings.Repeat("x", 1000_000))
	const asked = 64
	lines := strings.Repeat(`{"state":true}`+"\n", asked)
	// A client that reads may be as slow as a busy machine makes it, so its server is patient.
	patient := start(t, host.Options{InProcess: true}, func(o *Options) { o.WriteTimeout = time.Minute })
	patient.want("e", setup, 200, "ok")
	if status, body := patient.do("POST", "/v1/engines/e", lines); status != 200 || len(body) < asked*1000_000 {
		t.Fatal(status, len(body))
	}

	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.WriteTimeout = 200 * time.Millisecond })
	s.want("e", setup, 200, "ok")
	s.logs.ended(t, "POST")
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = fmt.Fprintf(c, "POST /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(lines),
		lines)
	if ended := s.logs.ended(t, "POST"); ended["bytes"].(int64) >= asked*1000_000 {
		t.Error("all was sent to a client that reads nothing")
	}

	ws := s.mustDial("e")
	_ = ws.Write(t.Context(), websocket.MessageText, []byte(lines))
	s.logs.ended(t, "GET")
	if status, _ := s.do("DELETE", "/v1/engines/e", ""); status != 204 {
		t.Error(status)
	}
}

// Lines that run when the server stops are answered, and clients are told why later ones are not.
func TestDraining(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	s.want("e", deck, 200, "ok")
	quiet := s.mustDial("e")
	say(t, quiet, `{"digest":true}`)

	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	answered := make(chan string, 1)
	streamed := make(chan string, 1)
	go func() { _, _ = io.WriteString(out, `{"digest":true}`+"\n") }()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/engines/e", in)
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.Do(r) // its first line is answered
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b, _ := io.ReadAll(w.Body)
		_ = w.Body.Close()
		streamed <- string(b)
	}()
	go func() {
		_, _, err := quiet.Read(context.Background())
		answered <- fmt.Sprint(err)
	}()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if got := <-streamed; !strings.Contains(got, `{"digest":"`) || !strings.Contains(got, `"shutdown","message":"the server is shutting down`) {
		t.Error(got)
	}
	if got := <-answered; !strings.Contains(got, "StatusGoingAway") || !strings.Contains(got, "shutting down") {
		t.Error(got)
	}
	if why := s.unready(s.host.Stats()); why != "shutting down" {
		t.Error(why)
	}
	if _, _, err := s.try("GET", "/healthz", nil); err == nil {
		t.Error("it still listens")
	}
}

// A client whose lines do not end within DrainTimeout is cut off.
func TestDrainTimeout(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.DrainTimeout, o.Rate = 50*time.Millisecond, 0 })
	s.want("e", deck, 200, "ok")
	// A client that reads nothing, and answers no close frame.
	c := s.mustDial("e")
	say(t, c, `{"digest":true}`)
	began := time.Now()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}
