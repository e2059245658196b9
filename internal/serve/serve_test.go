package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"hypertoken/host"
	"hypertoken/internal/jsonl"
	"hypertoken/workerproc"
)

func TestMain(m *testing.M) {
	workerproc.Main()
	os.Exit(m.Run())
}

const game = "../../examples/blackjack.jsonl"

// server is a server that listens, on a host of its own.
type server struct {
	*Server
	t    *testing.T
	host *host.Host
	url  string
	logs logs
	stop func() error // ends it and returns what Serve returned
}

// logs has the requests that have ended.
type logs chan map[string]any

func (l logs) Enabled(context.Context, slog.Level) bool { return true }
func (l logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logs) WithGroup(string) slog.Handler            { return l }
func (l logs) Handle(_ context.Context, r slog.Record) error {
	m := map[string]any{"message": r.Message}
	r.Attrs(func(a slog.Attr) bool { m[a.Key] = a.Value.Any(); return true })
	select {
	case l <- m:
	default:
	}
	return nil
}

// ended waits until a request with this method has ended, and returns its log line.
func (l logs) ended(t *testing.T, method string) map[string]any {
	t.Helper()
	for {
		select {
		case m := <-l:
			if m["method"] == method {
				return m
			}
		case <-time.After(time.Minute):
			t.Fatalf("no %s has ended", method)
		}
	}
}

// start starts a server on one worker, or in process. change may change the defaults.
func start(t *testing.T, ho host.Options, change func(*Options)) *server {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("hypertoken/internal/process.init.func1.1"))
	})
	ho.Logger, ho.StartTimeout = slog.New(slog.DiscardHandler), time.Minute
	ho.Workers = max(ho.Workers, 1)
	h, err := host.New(t.Context(), ho)
	if err != nil {
		t.Fatal(err)
	}
	o := Defaults()
	o.InProcess = ho.InProcess
	s := &server{t: t, host: h, logs: make(logs, 1024)}
	o.Logger = slog.New(s.logs)
	if change != nil {
		change(&o)
	}
	if s.Server, err = New(h, o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		err := <-served
		client.CloseIdleConnections()
		err = errors.Join(err, h.Shutdown(context.Background()))
		s.Wait()
		return err
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}

// do sends a request, with headers as pairs, and returns its status and its body.
func (s *server) do(method, path, body string, headers ...string) (int, string) {
	s.t.Helper()
	status, text, err := s.try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, text
}

func (s *server) try(method, path string, body io.Reader, headers ...string) (int, string, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		return 0, "", err
	}
	for k := 0; k < len(headers); k += 2 {
		if headers[k] == "Host" {
			r.Host = headers[k+1]
		}
		r.Header.Set(headers[k], headers[k+1])
	}
	w, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = w.Body.Close() }()
	text, err := io.ReadAll(w.Body)
	return w.StatusCode, string(text), err
}

// want sends lines to an engine, and wants a status and a body that holds a text.
func (s *server) want(engine, lines string, status int, text string) {
	s.t.Helper()
	got, body := s.do("POST", "/v1/engines/"+engine, lines)
	if got != status || !strings.Contains(body, text) {
		s.t.Errorf("%s to %s: got %d %s, want %d %s", short(lines), engine, got, short(body), status, text)
	}
}

func short(s string) string { return s[:min(len(s), 300)] }

// dial opens a WebSocket.
func (s *server) dial(engine string, o *websocket.DialOptions) (*websocket.Conn, error) {
	s.t.Helper()
	c, w, err := websocket.Dial(s.t.Context(), s.url+"/v1/engines/"+engine, o)
	if w != nil && w.Body != nil && err != nil {
		b, _ := io.ReadAll(w.Body)
		return nil, fmt.Errorf("%d %s", w.StatusCode, b)
	}
	if err == nil {
		c.SetReadLimit(-1)
		s.t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, err
}

func (s *server) mustDial(engine string) *websocket.Conn {
	s.t.Helper()
	c, err := s.dial(engine, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// say sends a message and returns the answer.
func say(t *testing.T, c *websocket.Conn, line string) string {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(line)); err != nil {
		t.Fatal(err)
	}
	return hear(t, c)
}

func hear(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	_, b, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// until waits for something that no event tells of.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s has not come", what)
		}
	}
}

// recorded returns the lines of a recorded game, and the answers of an engine in process.
func recorded(t *testing.T) (lines, answers []string) {
	t.Helper()
	b, err := os.ReadFile(game)
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Options{InProcess: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	var e *host.Engine
	n := 0
	in := jsonl.NewReader(bytes.NewReader(b), 1<<20, "")
	for {
		line, err := in.Next()
		if errors.Is(err, io.EOF) {
			return lines, answers
		}
		q, err := jsonl.Parse(line, err)
		if err != nil {
			t.Fatal(err)
		}
		answer := []byte(jsonl.OK)
		switch q.Kind {
		case jsonl.Setup:
			e, err = h.Open(t.Context(), "game", host.EngineOptions{Setup: q.Value})
		case jsonl.Action:
			n++
			fallthrough
		default:
			answer, err = jsonl.Answer(t.Context(), e, q, n)
		}
		if err != nil {
			t.Fatal(err)
		}
		lines, answers = append(lines, string(line.Text)), append(answers, string(answer))
	}
}

const deck = `{"setup":{"stack":[{"id":"a"},{"id":"b"},{"id":"c"}]}}` + "\n"

func TestAGameOverHTTP(t *testing.T) {
	s := start(t, host.Options{}, nil)
	lines, answers := recorded(t)
	status, body := s.do("POST", "/v1/engines/table-1", strings.Join(lines, "\n"))
	if status != 200 || body != strings.Join(answers, "\n")+"\n" {
		t.Errorf("got %d %s", status, short(body))
	}
	// Later requests go on with the engine, and count from 1 again.
	s.want("table-1", `{"type":"game:start"}`, 200, `{"n":1,`)
	s.want("table-1", `{"digest":true}`, 200, `{"digest":"`)

	s.want("table-1", deck, 409, "DELETE /v1/engines/table-1 first")
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/v1/engines", 200, `{"engines":[{"name":"table-1","place":"worker","sequence":946,"core":"`},
		{"GET", "/v1/engines/table-1", 200, `{"name":"table-1","place":"worker","sequence":946,"core":"`},
		{"GET", "/v1/engines/table-2", 404, `"not_found"`},
		{"GET", "/v1/status", 200, `{"engines":[{"name":"table-1","place":"worker"}],"engine_count":1,"errors":[]}` + "\n"},
		{"DELETE", "/v1/engines/table-1", 204, ""},
		{"DELETE", "/v1/engines/table-1", 404, `"not_found"`},
		{"GET", "/v1/engines", 200, `{"engines":[]}` + "\n"},
		{"GET", "/healthz", 200, "ok\n"},
		{"GET", "/metrics", 200, `hypertoken_actions_total`},
		{"GET", "/metrics", 200, "process_resident_memory_bytes"},
		{"GET", "/metrics", 200, "go_goroutines"},
		{"GET", "/openapi.json", 200, `"openapi": "3.1.0"`},
		{"GET", "/debug/pprof/", 404, "there is nothing"},
		{"GET", "/", 404, "/openapi.json lists all paths"},
		{"PUT", "/v1/engines/table-1", 405, "DELETE, GET, POST"},
		{"POST", "/metrics", 405, "but GET"},
	} {
		if status, body := s.do(c.method, c.path, ""); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s %s: got %d %s, want %d %s", c.method, c.path, status, short(body), c.status, c.body)
		}
	}
	if _, body := s.do("GET", "/metrics", "", "Accept", "application/openmetrics-text"); !strings.HasSuffix(body,
		"# EOF\n") {
		t.Errorf("no OpenMetrics: %s", short(body))
	}
	s.want("table-1", deck+`{"type":"stack:draw"}`, 200, `{"n":1,"result":[{"id":"c"}]}`)
}

// Each line is answered before the next one comes.
func TestLinesAreAnsweredAtOnce(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	in, out := io.Pipe()
	go func() { _, _ = io.WriteString(out, deck) }()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/engines/e", in)
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Body.Close() }()
	answers := jsonl.NewReader(w.Body, 1<<20, "")
	for k, line := range []string{``, `{"type":"stack:draw"}`, `{"type":`, `{"type":"stack:draw"}`, deck} {
		if k > 0 {
			if _, err := io.WriteString(out, strings.TrimSpace(line)+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := answers.Next()
		want := []string{`{"ok":true}`, `{"n":1,"result":[{"id":"c"}]}`, `line 3: the JSON ends too early`, `{"n":2,"result":[{"id":"b"}]}`, `"exists","message":"line 5: setup: an engine`}[k]
		if err != nil || !strings.Contains(string(answer.Text), want) {
			t.Fatalf("%s: got %s, %v, want %s", line, answer.Text, err, want)
		}
	}
	_ = out.Close()
	if _, err := answers.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// A worker that is killed in the middle of a game that is played over a WebSocket is not noticed.
func TestAKilledWorkerIsNotNoticedOverAWebSocket(t *testing.T) {
	s := start(t, host.Options{}, nil)
	lines, answers := recorded(t)
	c := s.mustDial("table")
	for k, line := range lines {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(line)); err != nil {
			t.Fatal(err)
		}
		if k%(len(lines)/3) == 5 {
			pid := 0
			until(t, "a worker", func() bool { pid = s.host.Stats().Workers[0].PID; return pid != 0 })
			p, err := os.FindProcess(pid)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = p.Release()
			// The game goes on after the host knows of the death, not before.
			until(t, "the worker's end", func() bool { return s.host.Stats().Workers[0].PID != pid })
		}
		if got := hear(t, c); got != answers[k] {
			t.Fatalf("line %d: %s\n got %s\nwant %s", k+1, line, short(got), short(answers[k]))
		}
	}
	if deaths := s.host.Stats().Restarts[host.RestartDied]; deaths != 3 {
		t.Errorf("%d deaths, want 3", deaths)
	}
	// Several lines in a message have as many answers, and an empty message has none.
	if got := say(t, c, deck+`{"digest":true}`); !strings.Contains(got, `"exists"`) {
		t.Error(got)
	}
	if got := hear(t, c); got != answers[len(answers)-1] && !strings.Contains(got, "digest") {
		t.Error(got)
	}
	if err := c.Write(t.Context(), websocket.MessageText, nil); err != nil {
		t.Fatal(err)
	}
	if got := say(t, c, "{"); !strings.Contains(got, "the input ends in the middle of the line") {
		t.Error(got)
	}
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Error(err)
	}
}

// An action that is sent again with its key runs once, also over another connection.
func TestKeysOverConnections(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	const draw = `{"type":"stack:draw","key":"order-1"}`
	s.want("e", deck+draw, 200, `{"n":1,"result":[{"id":"c"}]}`)
	s.want("e", draw, 200, `{"n":1,"result":[{"id":"c"}]}`)
	s.want("e", `{"type":"stack:draw"}`, 200, `{"n":1,"result":[{"id":"b"}]}`)
}

// A first line that is refused refuses the request: nothing after it runs.
func TestRequestsThatAreRefused(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	s.want("there", deck, 200, "ok")
	for _, c := range []struct {
		engine, lines string
		status        int
		text          string
	}{
		{"e", "", 400, "the body is empty"},
		{"e", "nonsense\n" + deck, 400, "line 1: broken JSON"},
		{"e", "\n \r\n", 400, "the body is empty"},
		{"e", "\n{", 400, "line 2: the input ends in the middle of the line"},
		{"e", `{"setup":{},"stack":[]}` + "\n" + deck, 400, `line 1: there is no member \"stack\"`},
		{"e", `{"setup":{},"now":1}` + "\n" + deck, 400, `line 1: now does not go with setup`},
		{"e", `{"type":"stack:draw"}` + "\n" + deck, 404, `there is no engine \"e\": send {\"setup\":{}} first`},
		{"e", `{"state":true}` + "\n" + deck, 404, `"not_found"`},
		{"e", `{"setup":{"stack":5}}` + "\n" + deck, 422, "line 1: setup: setup.stack: want an array"},
		{"e", `{"setup":{"stack":[{"id":9007199254740992}]}}`, 422, "outside"},
		{"e", `{"setup":{},"timeout":0.000001}` + "\n" + deck, 422, `"timeout","message":"line 1: setup:`},
		{"there", deck, 409, `"exists"`},
		{".e", deck, 400, "want 1 to 64 letters"},
		{strings.Repeat("e", 65), deck, 400, "want 1 to 64 letters"},
		{"a%2Fb", deck, 400, "want 1 to 64 letters"},
	} {
		s.want(c.engine, c.lines, c.status, c.text)
	}
	if _, list := s.do("GET", "/v1/engines", ""); !strings.HasPrefix(list, `{"engines":[{"name":"there",`) ||
		strings.Count(list, `"name"`) != 1 {
		t.Error(list)
	}
	// A line that is refused later has its own answer.
	s.want(strings.Repeat("e", 64), deck+`{"type":"no:such"}`+"\n{", 200, `{"n":1,"error":{"code":"unknown_action"`)
}

// A line that has begun still has its engine.
func TestDeletingWaitsForLinesThatRun(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	s.want("e", deck, 200, "ok")
	_, done, err := s.engines.use(t.Context(), "e")
	if err != nil {
		t.Fatal(err)
	}
	deleted := make(chan int, 1)
	go func() {
		status, _, _ := s.try("DELETE", "/v1/engines/e", nil)
		deleted <- status
	}()
	until(t, "the deletion", func() bool { _, err := s.engines.get(t.Context(), "e"); return err != nil })
	s.want("e", `{"digest":true}`, 404, `"not_found"`)
	s.want("e", deck, 409, "is being deleted")
	select {
	case status := <-deleted:
		t.Fatalf("deleted (%d) while a line ran", status)
	default:
	}
	done()
	if status := <-deleted; status != 204 {
		t.Error(status)
	}
	s.want("e", deck, 200, "ok")
}
