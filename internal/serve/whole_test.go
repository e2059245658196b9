package serve

import (
	"net/http"
	"strings"
	"testing"

	"hypertoken/journal"
)

// declines refuses a request before its body comes, as a node does that has not the engine.
func declines(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMisdirectedRequest) }

// reads answers with the request's body.
func reads(w http.ResponseWriter, r *http.Request) {
	b := make([]byte, 64)
	n, _ := r.Body.Read(b)
	_, _ = w.Write(b[:n])
}

// How a whole request comes to the node that has its engine, and what a client is told if it can't.
func TestWholeRequests(t *testing.T) {
	const revert = `{"to":0}`
	for _, row := range []struct {
		name, method, path, body string
		answers                  []http.HandlerFunc
		// failures is how often this node says that the other one has the engine; 0 for always.
		failures int
		status   int
		want     string
		sent     int
	}{
		{"the owner answers", "GET", "/state", "", []http.HandlerFunc{says("there")}, 0, 200, "there", 1},
		{"it declines at first", "GET", "/state", "", []http.HandlerFunc{declines, declines, says("there")}, 0, 200,
			"there", 3},
		{"the answer to a question is lost", "GET", "/state", "", []http.HandlerFunc{loses, says("there")}, 0, 200,
			"there", 2},
		{"the engine comes back", "GET", "/state", "", []http.HandlerFunc{declines}, 1, 200, `"sequence":1`, 1},
		{"a change", "POST", "/revert", revert, []http.HandlerFunc{reads}, 0, 200, revert, 1},
		{"a change that is declined at first", "POST", "/revert", revert, []http.HandlerFunc{declines, reads}, 0, 200,
			revert, 2},
		{"a change comes back", "POST", "/revert", revert, []http.HandlerFunc{declines}, 1, 422, "journal.Historian", 1},
		{"the answer to a change is lost", "DELETE", "", "", []http.HandlerFunc{loses, says("there")}, 0, 503,
			`"code":"outcome_unknown"`, 1},
		{"the answer to a change with a body is lost", "POST", "/revert", revert,
			[]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { reads(w, r); loses(w, r) }}, 0, 503,
			`"code":"outcome_unknown"`, 1},
		{"the body is sent in vain", "POST", "/revert", revert,
			[]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				_, _ = r.Body.Read(make([]byte, 64))
				declines(w, r)
			}}, 0, 503, `"code":"moved"`, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			second := newFakeNode(t, row.answers...)
			second.isBlind = true
			store := &elsewhereStore{Store: journal.NewMemory()}
			s := startNode(t, store)
			s.want("e", deck, http.StatusOK, `"ok":true`)
			s.want("e", `{"type":"stack:draw"}`, http.StatusOK, `"n":1`)
			_ = s.HandOver(t.Context(), 0, toNobody) // closes the engine
			store.setFailure(&ownedError{second.owner}, row.failures)
			status, body := s.do(row.method, "/v1/engines/e"+row.path, row.body)
			if status != row.status || !strings.Contains(body, row.want) {
				t.Errorf("got %d %s, want %d %s", status, body, row.status, row.want)
			}
			if got := second.count(); got != row.sent {
				t.Errorf("the other node got %d requests, want %d", got, row.sent)
			}
		})
	}
}
