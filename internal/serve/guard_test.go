package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hypertoken/host"
	"hypertoken/internal/calm"
)

const token = "0123456789abcdef"

func TestToken(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Token, o.Profiles = token, true })
	for _, c := range []struct {
		path, authorization string
		status              int
	}{
		{"/v1/engines", "Bearer " + token, 200},
		{"/v1/engines", "bearer " + token, 200},
		{"/v1/engines", "", 401},
		{"/v1/engines", "Bearer", 401},
		{"/v1/engines", "Bearer " + token + "x", 401},
		{"/v1/engines", "Bearer " + token[1:], 401},
		{"/v1/engines", "Basic " + token, 401},
		{"/v1/engines", token, 401},
		{"/metrics", "", 401}, {"/metrics", "Bearer " + token, 200},
		{"/openapi.json", "", 401}, {"/openapi.json", "Bearer " + token, 200},
		{"/v1/cluster", "", 401}, {"/v1/cluster", "Bearer " + token, 404},
		{"/v1/status", "", 401}, {"/debug/pprof/", "", 401}, {"/debug/pprof/", "Bearer " + token, 200},
		{"/debug/pprof/cmdline", "Bearer " + token, 200}, {"/nothing", "", 401},
		{"/healthz", "", 200}, {"/readyz", "", 200},
	} {
		status, body := s.do("GET", c.path, "", "Authorization", c.authorization)
		if status != c.status || status == 401 && !strings.Contains(body, `"unauthorized","message":"this server wants its token`) {
			t.Errorf("%s with %q: got %d %s, want %d", c.path, c.authorization, status, short(body), c.status)
		}
	}
	// With a token the server may have any name.
	if status, _ := s.do("GET", "/v1/engines", "", "Authorization", "Bearer "+token, "Host",
		"games.example"); status != 200 {
		t.Error(status)
	}
	if _, err := s.dial("e", nil); err == nil || !strings.Contains(err.Error(), "401") {
		t.Error(err)
	}
	c, err := s.dial("e", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := say(t, c, deck); got != `{"ok":true}` {
		t.Error(got)
	}
}

// Pages of other sites, and of names that resolve to this machine, get nothing to do here.
func TestHostAndOrigin(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	here := strings.TrimPrefix(s.url, "http://")
	for _, c := range []struct {
		method  string
		headers []string
		status  int
	}{
		{"POST", nil, 200},
		{"POST", []string{"Host", "localhost:9464"}, 200},
		{"POST", []string{"Host", "LOCALHOST"}, 200},
		{"POST", []string{"Host", "[::1]:9464"}, 200},
		{"POST", []string{"Host", "127.0.0.2"}, 200},
		{"POST", []string{"Host", "games.example"}, 403},
		{"POST", []string{"Host", "localhost.games.example:9464"}, 403},
		{"POST", []string{"Host", "10.0.0.1"}, 403},
		{"GET", []string{"Host", "games.example"}, 403},
		{"POST", []string{"Origin", "http://" + here}, 200},
		{"POST", []string{"Origin", "http://games.example"}, 403},
		{"POST", []string{"Origin", "null"}, 403},
		{"DELETE", []string{"Origin", "http://games.example"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"GET", []string{"Origin", "http://games.example"}, 200}, // it can't read the answer
	} {
		_, _ = s.do("DELETE", "/v1/engines/e", "")
		body := ""
		if c.method == "POST" {
			body = deck
		} else {
			s.want("e", deck, 200, "ok")
		}
		status, text := s.do(c.method, "/v1/engines/e", body, c.headers...)
		if status != c.status || status == 403 && !strings.Contains(text, `"forbidden"`) {
			t.Errorf("%s %q: got %d %s, want %d", c.method, c.headers, status, text, c.status)
		}
	}
	for origin, want := range map[string]bool{"http://" + here: true, "http://games.example": false, "null": false} {
		_, err := s.dial("e", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if (err == nil) != want || !want && !strings.Contains(err.Error(), "403") {
			t.Errorf("a WebSocket from %s: %v", origin, err)
		}
	}
}

func TestHandshakesThatAreNone(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	const head = "GET /v1/engines/e HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
	for key, want := range map[string]int{"AAAAAAAAAAAAAAAAAAAAAA==": 101, strings.Repeat("!", 24): 400,
		strings.Repeat("A", 24): 400} {
		status, body := response(t, bufio.NewReader(s.connect(head+key+"\r\n\r\n")))
		if status != want || want == 400 && !strings.Contains(body, `"bad_input","message":"a WebSocket wants a Sec-WebSocket-Key of 16 bytes`) {
			t.Errorf("%s: %d %s", key, status, body)
		}
	}
	for _, c := range [][2]string{{"Connection", "Connection: Upgrade"}, {"Sec-WebSocket-Version", "Version: 13"},
		{"Sec-WebSocket-Key", "16 bytes in base64"}} {
		headers := []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
		for k := 0; k < len(headers); k += 2 {
			if headers[k] == c[0] {
				headers[k+1] = "x"
			}
		}
		if status, body := s.do("GET", "/v1/engines/e", "", headers...); status != 400 ||
			!strings.Contains(body, c[1]) {
			t.Errorf("%s: %d %s", c[0], status, body)
		}
	}
}

// Paths that a multiplexer would redirect without the guard, and methods that it would refuse, are
// guarded like all others.
func TestCrookedPaths(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Token = token })
	for _, line := range []string{"POST //healthz", "POST /v1/../healthz", "CONNECT localhost:80"} {
		for authorization, want := range map[string]int{"": 401, "Bearer " + token: 404} {
			// The body never comes.
			c := s.connect(line + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + authorization +
				"\r\nContent-Length: 9\r\n\r\n")
			in := bufio.NewReader(c)
			if status, body := response(t, in); status != want || !strings.Contains(body, `{"error":`) {
				t.Errorf("%s: %d %s", line, status, body)
			}
			if _, err := in.ReadByte(); err == nil {
				t.Errorf("%s: the connection goes on", line)
			}
		}
	}
	for path, want := range map[string]int{"/v1/engines/%2e%2e": 400, "/v1/engines/a%2Fb": 400, "/v1/engines/": 404,
		"/v1/engines": 200} {
		if status, body := s.do("GET", path, "", "Authorization", "Bearer "+token); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// Others than this machine need a token.
func TestAddresses(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:1": true, "127.8.8.8:1": true, "[::1]:1": true,
		"[::ffff:127.0.0.1]:1": true,
		"0.0.0.0:1":            false, "[::]:1": false, "10.0.0.1:1": false, "[2001:db8::1]:1": false} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Server{}).Check(a) == nil; got != want {
			t.Errorf("%s without a token: %v, want %v", address, got, want)
		}
		if err := (&Server{o: Options{Token: token}}).Check(a); err != nil {
			t.Errorf("%s with a token: %v", address, err)
		}
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, host.Options{InProcess: true}, nil)
	if err := s.Server.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), "need a token") {
		t.Error(err)
	}
}

func TestReadiness(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.InProcess = false })
	workers := func(states ...host.WorkerState) (list []host.WorkerStats) {
		for _, state := range states {
			list = append(list, host.WorkerStats{State: state})
		}
		return list
	}
	for _, c := range []struct {
		workers []host.WorkerStats
		here    int
		want    string
	}{
		{workers(host.WorkerReady), 0, ""},
		{workers(host.WorkerGivenUp, host.WorkerReady, host.WorkerBackoff), 0, ""},
		{workers(host.WorkerStarting, host.WorkerStarting), 0, "no worker is ready: 2 of 2 are starting"},
		{workers(host.WorkerStarting, host.WorkerBackoff), 0, "restart storm: no worker is ready, 1 of 2 are in backoff"},
		{workers(host.WorkerGivenUp), 3, "restart storm: no worker is ready, 1 of 1 are in backoff, given_up or probing; fallback active: 3 engines"},
		{workers(host.WorkerProbing), 0, "restart storm"},
		{workers(host.WorkerReady), 1, "engines go back to the workers; fallback active: 1 engines"},
	} {
		got := s.unready(host.Stats{Workers: c.workers, Engines: map[host.Place]int{host.PlaceInProcess: c.here}})
		if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v, %d here: got %q, want %q", c.workers, c.here, got, c.want)
		}
	}
}

// A server whose workers can't start is not ready, says so, and serves all the same.
func TestNotReady(t *testing.T) {
	s := start(t, host.Options{WorkerPath: "/no/such/program", MaxRestarts: 1}, nil)
	s.want("e", deck+`{"type":"stack:draw"}`, 200, `"result":[{"id":"c"}]`)
	status, body := s.do("GET", "/readyz", "")
	if status != 503 || !strings.HasPrefix(body, "restart storm: no worker is ready") ||
		!strings.Contains(body, "fallback active: 1 engines run in the server's own process") {
		t.Error(status, body)
	}
	if status, body := s.do("GET", "/healthz", ""); status != 200 {
		t.Error(status, body)
	}
	workers := start(t, host.Options{}, nil)
	until(t, "a worker", func() bool { status, _ := workers.do("GET", "/readyz", ""); return status == 200 })
}

// The document has every address, and no other.
func TestDocumentHasTheRoutes(t *testing.T) {
	for _, secret := range []string{"", token} {
		s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Token = secret })
		_, body := s.do("GET", "/openapi.json", "", "Authorization", "Bearer "+secret)
		var d struct {
			Security []any
			Paths    map[string]map[string]any
		}
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			t.Fatal(err)
		}
		if (len(d.Security) > 0) != (secret != "") {
			t.Errorf("security %v with token %q", d.Security, secret)
		}
		described := 0
		for path, methods := range d.Paths {
			for method := range methods {
				if method == "parameters" {
					continue
				}
				described++
				path := strings.ReplaceAll(path, "{name}", "e")
				if status, text := s.do(strings.ToUpper(method), path, "", "Authorization",
					"Bearer "+secret); status == 405 || strings.Contains(text, "there is nothing at") {
					t.Errorf("%s %s: %d %s", method, path, status, text)
				}
			}
		}
		if described != 16 {
			t.Errorf("%d operations are described, want 16", described)
		}
	}
}

// Engines, and what callers were told, the last first.
func TestStatus(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	s.want("e", deck, 200, "ok")
	s.want("e", `{"type":"stack:draw","payload":{"count":0}}`, 200, "out_of_range")
	s.want("e", `{"type":"no:such"}`, 200, "unknown_action")
	_, body := s.do("GET", "/v1/status", "")
	var o overview
	if err := json.Unmarshal([]byte(body), &o); err != nil || o.EngineCount != 1 ||
		o.Engines[0] != (openEngine{"e", "in_process"}) || len(o.Errors) != 2 {
		t.Fatal(short(body), err)
	}
	last, first := o.Errors[0], o.Errors[1]
	if last.Engine != "e" || last.Action != "no:such" || last.Code != "unknown_action" ||
		first.Action != "stack:draw" || first.Code != "out_of_range" ||
		!strings.Contains(first.Message, "field count: 0") || first.At.After(last.At) || first.At.IsZero() {
		t.Errorf("%+v", o.Errors)
	}
}

// However many clients cause warnings, a few are logged.
func TestWarningsAreFew(t *testing.T) {
	l := make(logs, 1000)
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Token, o.Logger = token, slog.New(l) })
	for n := range 3 * calm.Burst {
		if status, body := s.do("GET", fmt.Sprint("/v1/engines/", n), ""); status != 401 {
			t.Fatal(status, short(body))
		}
	}
	s.do("PUT", "/healthz", "") // a later request's end is logged after theirs
	n := 0
	for m := range l {
		if m["message"] == "request refused" {
			n++
		}
		if m["method"] == "PUT" {
			break
		}
	}
	if n < calm.Burst || n > 2*calm.Burst {
		t.Errorf("%d warnings of %d, want %d and one a second", n, 3*calm.Burst, calm.Burst)
	}
}

// The texts of libraries are logged with one message, whatever clients cause them to say.
func TestTextsOfLibraries(t *testing.T) {
	l := make(logs, 2)
	textual{slog.New(l), "a library failed"}.logger().Print("it rains")
	if m := <-l; m["message"] != "a library failed" || m["error"] != "it rains" {
		t.Error(m)
	}
}

// stuckLog is a log that nobody reads.
type stuckLog struct {
	logs
	release chan struct{}
}

func (l stuckLog) Handle(context.Context, slog.Record) error { <-l.release; return nil }

// A log that nobody reads holds up neither requests nor the end.
func TestALogThatNobodyReads(t *testing.T) {
	l := stuckLog{release: make(chan struct{})}
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Token, o.Rate, o.Logger = token, 0, slog.New(l) })
	t.Cleanup(func() { close(l.release) })
	for n := range 2 * calm.Burst {
		if status, body := s.do("PUT", fmt.Sprint("/v1/engines/", n), ""); status != 401 {
			t.Fatal(status, body)
		}
	}
	s.serves("Authorization", "Bearer "+token)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// Records that do not fit into the queue of the log are dropped. The others are passed on in
// order.
func TestTheQueueOfTheLog(t *testing.T) {
	l := logs(make(chan map[string]any, 2*maxQueued))
	release := make(chan struct{})
	q := newQueued(l)
	q.queue.mu.Lock()
	q.queue.records, q.queue.idle = []func(){func() { <-release }}, make(chan struct{})
	q.queue.mu.Unlock()
	log := slog.New(q).With("a", 1)
	for n := range maxQueued + 5 { // one place is taken
		log.Info("x", "n", n)
	}
	go q.queue.run()
	close(release)
	q.queue.flush(time.Minute)
	if len(l) != maxQueued-1 {
		t.Errorf("%d records, want %d", len(l), maxQueued-1)
	}
	for n := range maxQueued - 1 {
		if m := <-l; m["n"] != int64(n) {
			t.Fatalf("record %d is %v", n, m)
		}
	}
}
