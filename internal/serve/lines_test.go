package serve

import (
	"strings"
	"testing"

	"github.com/coder/websocket"

	"hypertoken/host"
)

// talks are lines and what answers them on a new engine, the same over HTTP and on a WebSocket.
var talks = []struct{ line, want string }{
	{`{"setup":{"stack":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]},"want":["sequence","changed","digest"]}`, `{"ok":true,"sequence":0,"changed":true,"digest":"DIGEST"}`},
	{`{"type":"stack:peek","want":["sequence","changed","digest"]}`, `{"n":1,"result":[{"id":"d"}],"sequence":0,"changed":false,"digest":"DIGEST"}`},
	{`{"type":"stack:draw","if_sequence":0,"want":["sequence"]}`, `{"n":2,"result":[{"id":"d"}],"sequence":1}`},
	{`{"type":"stack:draw","if_sequence":0}`, `{"n":3,"error":{"code":"conflict","message":"the engine has the sequence 1, not 0"}}`},
	{`{"type":"stack:draw","ifSequence":1}`, `{"error":{"code":"bad_input","message":"line 5: there is no member \"ifSequence\": do you mean \"if_sequence\"?"}}`},
	{`{"digest":true,"want":["sequence","digest"]}`, `{"digest":"DIGEST","sequence":1}`},
	{`{"batch":[{"type":"stack:draw"},{"type":"no:such"}],"want":["sequence"]}`, `{"error":{"code":"unknown_action","message":"there is no action \"no:such\"; ` + "`hypertoken actions`" + ` lists them","index":1}}`},
	{`{"batch":[{"type":"stack:draw"},{"type":"stack:peek","now":5}],"key":"k","if_sequence":1,"want":["sequence","changed","digest"]}`, `{"results":[{"n":6,"result":[{"id":"c"}]},{"n":7,"result":[{"id":"b"}]}],"sequence":2,"changed":true,"digest":"DIGEST"}`},
	{`{"batch":[{"type":"stack:draw"},{"type":"stack:peek","now":5}],"key":"k","if_sequence":1,"want":["sequence"]}`, `{"results":[{"n":8,"result":[{"id":"c"}]},{"n":9,"result":[{"id":"b"}]}],"sequence":2}`},
	{`{"batch":[{"type":"stack:draw"}],"key":"k"}`, `{"error":{"code":"key_reused",`},
	{`{"batch":[{"type":"stack:draw"}],"if_sequence":1}`, `{"error":{"code":"conflict",`},
	{`{"batch":[{"type":"no:such"},{"type":"stack:draw"},{"type":"x","payload":{"a":1e999}}],"mode":"independent"}`, `{"results":[{"n":12,"error":{"code":"unknown_action",`},
	{`{"type":"stack:peek"}`, `{"n":15,"result":[{"id":"a"}]}`},
	{`{"state":true,"want":["sequence","changed","digest"]}`, `"zones":{}},"sequence":3,"changed":false,"digest":"DIGEST"}`},
	{`{"state":true,"at":0,"want":["sequence","digest"]}`, `"zones":{}},"sequence":0,"digest":"DIGEST"}`},
	{`{"digest":true,"at":2,"want":["sequence"]}`, `{"digest":"DIGEST","sequence":2}`},
	{`{"digest":true,"at":9}`, `{"error":{"code":"bad_input","message":"DigestAt(9): `},
	{`{"type":"stack:draw","key":"one"}`, `{"n":16,"result":[{"id":"a"}]}`},
	{`{"type":"stack:draw","key":"one","want":["digest","sequence"]}`, `{"n":17,"result":[{"id":"a"}],"sequence":4,"digest":"DIGEST"}`},
}

func TestLines(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	var lines, answers []string
	for _, c := range talks {
		lines = append(lines, c.line)
	}
	for _, ends := range []string{"\n", "\r\n", "\n\n \t\n"} {
		status, body := s.do("POST", "/v1/engines/e", "\ufeff"+strings.Join(lines, ends)+ends)
		if status != 200 {
			t.Fatalf("%d: %s", status, body)
		}
		answers = strings.Split(strings.TrimSpace(body), "\n")
		checkLines(t, answers, len(ends) == 5)
		if status, body := s.do("DELETE", "/v1/engines/e", ""); status != 204 {
			t.Fatal(body)
		}
	}
	// Each message begins an input of its own: it may have a mark of its own.
	c := s.mustDial("e")
	for k, line := range lines {
		if err := c.Write(t.Context(), websocket.MessageText, nil); err != nil {
			t.Fatal(err)
		}
		answers[k] = say(t, c, "\ufeff"+line)
	}
	checkLines(t, answers, false)
}

// checkLines holds answers against talks. If lines are numbered otherwise, numbers are not looked
// at.
func checkLines(t *testing.T, answers []string, otherwise bool) {
	t.Helper()
	if len(answers) != len(talks) {
		t.Fatalf("%d answers to %d lines: %q", len(answers), len(talks), answers)
	}
	for k, c := range talks {
		got := answers[k]
		if otherwise && strings.Contains(got, `"line `) {
			continue
		}
		for part := range strings.SplitSeq(c.want, "DIGEST") {
			at := strings.Index(got, part)
			if at < 0 {
				t.Errorf("%s\n got %s\nwant %s", c.line, answers[k], c.want)
				break
			}
			got = got[at+len(part):]
		}
	}
}

// The digest that a line wants is that of the state at its sequence.
func TestDigestsThatAreWanted(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	const want = `,"want":["digest"]}`
	_, body := s.do("POST", "/v1/engines/e", deck+`{"type":"stack:draw"`+want+"\n"+`{"digest":true}`+"\n"+
		`{"batch":[{"type":"stack:draw"},{"type":"stack:draw"}]`+want+"\n"+`{"digest":true}`+"\n"+`{"state":true`+want)
	answers := strings.Split(strings.TrimSpace(body), "\n")
	if len(answers) != 6 {
		t.Fatal(body)
	}
	for k := range answers {
		at := strings.LastIndex(answers[k], `"digest":`)
		answers[k] = answers[k][max(0, at):]
	}
	if answers[1] != answers[2] || answers[3] != answers[4] || answers[4] != answers[5] || answers[2] == answers[3] ||
		!strings.Contains(answers[1], "digest") {
		t.Errorf("%q", answers)
	}
}

// A setup that was not done in its time leaves nothing: the next one makes the engine.
func TestSetupsHaveATimeout(t *testing.T) {
	s := start(t, host.Options{}, nil)
	for range 20 {
		s.want("e", `{"setup":{},"timeout":0.000001}`, 422, `"code":"timeout","message":"line 1: setup: `)
		s.want("e", `{"digest":true}`, 404, `"not_found"`)
		s.want("e", deck+`{"type":"stack:draw"}`, 200, `{"n":1,"result":[{"id":"c"}]}`)
		if status, body := s.do("DELETE", "/v1/engines/e", ""); status != 204 {
			t.Fatal(body)
		}
	}
}

// A batch can't be used to exceed the rate: each of its actions counts as a line.
func TestABatchIsWithinTheRate(t *testing.T) {
	const rate = 50
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Rate = rate })
	s.want("e", deck+`{"batch":[`+strings.TrimSuffix(strings.Repeat(`{"type":"stack:peek"},`, rate+5), ",")+`]}`, 200, `{"results":[`)
	// The batch has used up its share: as many lines as the rate allows at once are too many now.
	refused := false
	for range rate / 2 {
		status, _ := s.do("POST", "/v1/engines/e", `{"digest":true}`)
		refused = refused || status == 429
	}
	if !refused {
		t.Error("no request was refused after a batch that used the rate up")
	}
}
