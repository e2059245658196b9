package serve

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"hypertoken/host"
)

// importing begins a PUT of a journal that never ends, and returns once its engine is stored under a
// hidden name. The client goes away with end.
func importing(t *testing.T, s *server, name string) (end func()) {
	t.Helper()
	body, lines := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "PUT", s.url+"/v1/engines/"+name+"/journal", body)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if w, err := client.Do(r); err == nil {
			_ = w.Body.Close()
		}
	}()
	if _, err := io.WriteString(lines, `{"setup":{}}`+"\n"); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = lines.CloseWithError(io.ErrUnexpectedEOF)
		<-ended
	}
}

// hidden counts the engines of imports that are under way.
func hidden(t *testing.T, h *host.Host) int {
	t.Helper()
	page, err := h.Stored(t.Context(), "\x00", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return len(page)
}

// An import whose client goes away leaves the name free, and nothing in the store. Nobody sees its
// engine meanwhile. There are so many imports at a time.
func TestAnImportThatIsBrokenOff(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	var ends []func()
	for k := range maxImports {
		ends = append(ends, importing(t, s, "e"))
		until(t, "an import", func() bool { return hidden(t, s.host) == k+1 })
	}
	if status, body := s.do("GET", "/v1/engines/e", ""); status != 404 {
		t.Errorf("an engine that is imported is seen: %d %s", status, body)
	}
	for _, query := range []string{"", "?prefix=%00"} {
		if status, body := s.do("GET", "/v1/engines"+query, ""); status != 200 || !strings.Contains(body, `"engines":[]`) {
			t.Errorf("an engine that is imported is listed: %d %s", status, body)
		}
	}
	if status, body := s.do("PUT", "/v1/engines/more/journal", `{"setup":{}}`); status != 503 || !strings.Contains(body,
		"4 imports are under way") {
		t.Errorf("one more: %d %s", status, body)
	}
	for _, end := range ends {
		end()
	}
	until(t, "nothing is left", func() bool { return hidden(t, s.host) == 0 })
	for _, want := range []int{200, 409} {
		until(t, "room for an import", func() bool { // the handlers end a moment later
			status, body := s.do("PUT", "/v1/engines/e/journal", `{"setup":{}}`)
			if status != want && status != 503 {
				t.Fatalf("%d %s, want %d", status, body, want)
			}
			return status == want
		})
	}
}

// An import is bounded as a body is, and the rest of it is not read.
func TestAnImportHasABound(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.MaxBody = 100 })
	long := `{"setup":{}}` + "\n" + strings.Repeat(" ", 200) + "\n"
	for _, body := range []string{long, long[:20] + strings.Repeat("x", 100)} {
		if status, answer := s.do("PUT", "/v1/engines/e/journal", body); status != 413 || !strings.Contains(answer,
			"the export is longer than 100 B (--max-body)") {
			t.Errorf("%d %s", status, answer)
		}
	}
	if status, body := s.do("PUT", "/v1/engines/-/journal", `{"setup":{}}`); status != 400 {
		t.Errorf("%d %s", status, body)
	}
	if status, body := s.do("POST", "/v1/engines/e/revert", strings.Repeat(" ", 5000)); status != 413 {
		t.Errorf("%d %s", status, body)
	}
}
