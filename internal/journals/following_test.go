package journals

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// told is a server that tells of an engine what the test says next.
func told(t *testing.T, answers chan string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/engines/e" {
			t.Errorf("got %s", r.URL)
		}
		fmt.Fprint(w, <-answers)
	}))
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFollow(t *testing.T) {
	gone := errors.New("gone")
	info := func(sequence int) string {
		return fmt.Sprintf(`{"name":"e","sequence":%d,"created":"2026-01-01T00:00:00Z"}`, sequence)
	}
	another := `{"name":"e","sequence":9,"created":"2026-01-02T00:00:00Z"}`
	for _, c := range []struct {
		name    string
		answers []string
		after   uint64
		want    []uint64
		says    string
	}{
		{"new actions", []string{info(3), info(3), info(5), info(9)}, 3, []uint64{3, 5}, "gone"},
		{"from a later one on", []string{info(3), info(5), info(9)}, 7, []uint64{7}, "gone"},
		{"another engine", []string{info(3), another}, 3, nil, `"e" was deleted, and another engine has its name`},
		{"another engine without times", []string{`{"sequence":3}`, `{"sequence":1}`}, 3, nil, "was deleted"},
		{"no answer", []string{info(3), ""}, 9, nil, "does not answer as"},
	} {
		answers, tick := make(chan string, len(c.answers)), make(chan time.Time)
		for _, a := range c.answers {
			answers <- a
		}
		close(answers)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			for {
				select {
				case tick <- time.Time{}:
				case <-ctx.Done():
					return
				}
			}
		}()
		var have []uint64
		shown := []uint64{5, 9}
		err := told(t, answers).follow(ctx, "e", c.after, func(after uint64) (uint64, error) {
			have = append(have, after)
			if len(have) == 2 || c.after == 7 {
				return 9, gone
			}
			return shown[len(have)-1], nil
		}, tick)
		cancel(nil)
		if err == nil || !strings.Contains(err.Error(), c.says) || !slices.Equal(have, c.want) {
			t.Errorf("%s: %v, %v", c.name, have, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := told(t, nil).follow(ctx, "e", 0, nil, nil); !errors.Is(err, gone) {
		t.Error(err)
	}
}
