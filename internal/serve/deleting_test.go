package serve

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/journal"
)

// stubbornStore is a store in memory that deletes nothing until it is let.
type stubbornStore struct {
	journal.Store
	asked chan journal.Done // gets each deletion
}

func (s *stubbornStore) Delete(_ string, done journal.Done) { s.asked <- done }

// A deletion that the store refuses is answered with its error, and the engine is still there. Nobody is
// told meanwhile that there is none.
func TestADeletionThatTheStoreRefuses(t *testing.T) {
	store := &stubbornStore{Store: journal.NewMemory(), asked: make(chan journal.Done)}
	s := start(t, host.Options{InProcess: true, Store: store}, func(o *Options) { o.IsDurable = true })
	s.want("e", deck, http.StatusOK, `"ok"`)
	remove := func(answers chan<- string) {
		status, body, err := s.try("DELETE", "/v1/engines/e", nil)
		answers <- fmt.Sprint(status, " ", body, err)
	}
	first, second := make(chan string, 1), make(chan string, 1)
	go remove(first)
	refuse := <-store.asked
	// This one comes while the first one is not decided, or after that.
	go remove(second)
	refuse.Report(journal.Refused("not today"))
	if got := <-first; !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "not today") {
		t.Errorf("a deletion that the store refuses gives %s", got)
	}
	var done journal.Done
	select {
	case done = <-store.asked:
	case got := <-second:
		t.Fatalf("the store is not asked for a second deletion, and the answer is %s", got)
	}
	draws := make(chan string, 1)
	go func() {
		_, body, err := s.try("POST", "/v1/engines/e", strings.NewReader(`{"type":"stack:draw"}`))
		draws <- fmt.Sprint(body, err)
	}()
	done.Report(journal.Refused("nor tomorrow"))
	if got := <-second; !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "nor tomorrow") {
		t.Errorf("the second deletion gives %s", got)
	}
	if got := <-draws; !strings.Contains(got, `"result"`) {
		t.Errorf("a line during a deletion that fails gives %s", got)
	}
	third := make(chan string, 1)
	go remove(third)
	done = <-store.asked
	store.Store.Delete("e", done)
	if got := <-third; !strings.HasPrefix(got, "204 ") {
		t.Errorf("the third deletion gives %s", got)
	}
	if status, body := s.do("DELETE", "/v1/engines/e", ""); status != http.StatusNotFound {
		t.Errorf("a deletion of what is deleted gives %d %s", status, body)
	}
}
