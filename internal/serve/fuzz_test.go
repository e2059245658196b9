package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"hypertoken/host"
)

// FuzzLines sends any bytes as a body. The status is a documented one, and each line has an answer
// that is JSON.
func FuzzLines(f *testing.F) {
	for _, body := range []string{deck, deck + `{"type":"stack:draw"}`, `{"state":true}`, "", "\n", deck + "\n\n{\n" + `{"digest":true}`, `{"setup":{"stack":5}}`,
		deck + `{"type":"stack:draw","key":"k"}` + "\n" + `{"type":"stack:draw","key":"k"}`, deck + `{"type":"debug:log","payload":{"a":1e300}}`, "\xff",
		"\ufeff\r\n" + deck + `{"batch":[{"type":"stack:draw"},{"type":"no:such"}],"mode":"independent","want":["digest"]}` + "\n \n" +
			`{"batch":[{"type":"stack:draw"},{"type":"no:such"}],"key":"k","if_sequence":1}`} {
		f.Add([]byte(body))
	}
	h, err := host.New(f.Context(), host.Options{InProcess: true, Timeout: time.Second,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	o := Defaults()
	o.InProcess, o.Rate, o.MaxLine, o.MaxBody, o.Logger = true, 0, 1<<10, 4<<10, slog.New(slog.DiscardHandler)
	s, err := New(h, o)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 2*int(o.MaxBody) {
			return
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/v1/engines/e", bytes.NewReader(body)))
		if !slices.Contains([]int{200, 400, 404, 413, 422, 503}, w.Code) {
			t.Fatalf("%q: %d", body, w.Code)
		}
		answers := bytes.Split(bytes.TrimSuffix(w.Body.Bytes(), []byte("\n")), []byte("\n"))
		lines := 0
		for line := range bytes.Lines(bytes.TrimPrefix(body, []byte("\ufeff"))) {
			if len(bytes.Trim(line, " \t\r\n")) > 0 {
				lines++
			}
		}
		if want := map[bool]int{true: lines, false: 1}[w.Code == 200]; len(answers) != want {
			t.Fatalf("%q: %d answers, want %d: %q", body, len(answers), want, answers)
		}
		for _, a := range answers {
			if !json.Valid(a) {
				t.Fatalf("%q: %q", body, a)
			}
		}
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("DELETE", "http://localhost/v1/engines/e", nil))
	})
}
