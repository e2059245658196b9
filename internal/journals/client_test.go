package journals_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hypertoken/internal/journals"
)

func TestAddressesOfServers(t *testing.T) {
	for address, says := range map[string]string{
		"127.0.0.1:9464": "", "http://h": "", "https://h:1/base/": "",
		"ftp://h": `the scheme is "ftp"`, "http://": "names no host", "http://[": "is not a URL such as",
	} {
		_, err := journals.NewClient(address, "", nil)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", address, err, says)
		}
	}
}

// A list is asked for in pages, with the token, at a path below that of the address.
func TestTheClientReadsAllPages(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/base/v1/engines" {
			t.Errorf("got %s with %q", r.URL, r.Header)
		}
		switch q := r.URL.Query(); q.Get("after") {
		case "":
			fmt.Fprint(w, `{"engines":[{"name":"p1","sequence":3},{"name":"p2"}],"next":"p2"}`)
		case "p2":
			if q.Get("prefix") != "p" {
				t.Errorf("got %q", q)
			}
			fmt.Fprint(w, `{"engines":[{"name":"p3"}]}`)
		}
	}))
	defer server.Close()
	c, err := journals.NewClient(server.URL+"/base", "secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	list := func(most int) (names []string) {
		if err := c.List(t.Context(), "p", "", func(i journals.Info) bool {
			names = append(names, i.Name)
			return len(names) < most
		}); err != nil {
			t.Error(err)
		}
		return names
	}
	if names := list(9); !slices.Equal(names, []string{"p1", "p2", "p3"}) {
		t.Errorf("got %q", names)
	}
	if names := list(1); !slices.Equal(names, []string{"p1"}) {
		t.Errorf("got %q", names)
	}
}

func TestAnswersOfServersThatRefuse(t *testing.T) {
	answer := func(w http.ResponseWriter) {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	defer server.Close()
	c, err := journals.NewClient(server.URL, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]struct {
		answer func(w http.ResponseWriter)
		says   string
	}{
		"an error": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"error":{"code":"exists","message":"it is\u001b[2J there"}}`)
		}, "exists: it is?[2J there"},
		"no token": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"code":"unauthorized","message":"no"}}`)
		}, "--token-file or HYPERTOKEN_TOKEN give the token"},
		"a proxy": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, "answers 502"},
		"a redirect, which would be shown the token": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://elsewhere.example")
			w.WriteHeader(http.StatusFound)
		}, "answers 302"},
		"another program": {func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, "does not answer as"},
	} {
		answer = a.answer
		if _, err := c.Backup(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), a.says) {
			t.Errorf("%s: %v, want %q", name, err, a.says)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("interrupted")
	cancel(ended)
	if err := c.Delete(ctx, "x"); !errors.Is(err, ended) {
		t.Errorf("an interrupted call: %v", err)
	}
}

// The client reads an answer to its end, and holds it to its form.
func TestTheClientReadsGames(t *testing.T) {
	for _, c := range []struct{ name, answer, says string }{
		{"a state", `{"sequence":3,"digest":"00000000000000ff","state":{"a":1}}`, ""},
		{"no digest", `{"sequence":3,"digest":"x","state":{}}`, "does not answer as"},
		{"no state", `{"sequence":3,"digest":"00000000000000ff"}`, "does not answer as"},
		{"no JSON", `hello`, "does not answer as"},
	} {
		s, err := answering(t, http.StatusOK, c.answer).StateAt(t.Context(), "e", 3, true)
		if c.says == "" && (err != nil || s.Sequence != 3 || s.Digest != 255 || string(s.Value) != "\x81\xa1a\x01") ||
			c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
	}
	ended := errors.New("ended")
	for _, c := range []struct {
		name, answer string
		status       int
		lines        int
		says         string
	}{
		{"lines", "{\"a\":1}\n{\"b\":2}\n", 200, 2, ""},
		{"none", "", 200, 0, ""},
		{"broken off", "{\"a\":1}\n{\"b\"", 200, 1, "the journal is cut off"},
		{"an error at the end", "{\"a\":1}\n{\"error\":{\"code\":\"broken\",\"message\":\"no\"}}\n", 200, 1, "broken: no"},
		{"refused", `{"error":{"code":"not_found","message":"none"}}`, 404, 0, "not_found: none"},
		{"a reader that ends", "{\"end\":1}\n{\"b\":2}\n", 200, 1, "ended"},
		{"a long line", `{"a":"` + strings.Repeat("x", 200_000) + "\"}\n", 200, 1, ""},
	} {
		var lines []string
		err := answering(t, c.status, c.answer).Actions(t.Context(), "e", 3, 5, func(line []byte) error {
			lines = append(lines, string(line))
			if string(line) == `{"end":1}` {
				return ended
			}
			return nil
		})
		if len(lines) != c.lines || (err == nil) != (c.says == "") ||
			err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d lines, %v", c.name, len(lines), err)
		}
	}
}

// answering is a client of a server that has one answer.
func answering(t *testing.T, status int, answer string) *journals.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	c, err := journals.NewClient(server.URL, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
