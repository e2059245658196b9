package top

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hypertoken/cmd/hypertoken/internal/top/toptest"
)

// run runs top against a server that answers with the steps, one after the other and then the
// last; a step below 0 is 503.
func run(t *testing.T, mode Mode, count int, steps ...int) (string, error) {
	t.Helper()
	u, err := ParseURL(serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		step := steps[0]
		steps = steps[min(1, len(steps)-1):]
		if step < 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, toptest.Metrics(step))
	}))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = Run(t.Context(), Config{URL: u, Interval: time.Millisecond, Mode: mode, Count: count, Out: &out,
		Now: toptest.Clock()})
	return out.String(), err
}

// If a server goes away, the output says so, and top waits for it. Everything that the server
// counts in the meantime belongs to no interval.
func TestGoneInPlainText(t *testing.T) {
	out, err := run(t, Plain, 4, 0, 1, -1, -1, 2)
	if err != nil {
		t.Error(err)
	}
	blocks := strings.Split(strings.TrimSuffix(out, "\n\n"), "\n\n2026")
	if len(blocks) != 4 {
		t.Fatalf("%d blocks, want 4:\n%s", len(blocks), out)
	}
	since := toptest.Epoch.Add(2 * time.Second).Format(clock)
	for i, want := range []string{"actions 1.6k/s", "GONE since " + since + ": it answers 503", "GONE since " + since +
		": it answers 503", "actions -/s"} {
		if !strings.Contains(blocks[i], want) {
			t.Errorf("block %d has no %q:\n%s", i+1, want, blocks[i])
		}
	}
}

func TestGoneInJSON(t *testing.T) {
	type line struct {
		At    time.Time  `json:"at"`
		Rate  *float64   `json:"actions_per_second"`
		Since *time.Time `json:"gone_since"`
		Error string     `json:"error"`
	}
	out, err := run(t, JSON, 5, 0, 1, -1, -1, 2, 3)
	if err != nil {
		t.Error(err)
	}
	var got []line
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var l line
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	if len(got) != 5 {
		t.Fatalf("%d lines, want 5:\n%s", len(got), out)
	}
	for i, l := range got {
		gone := i == 1 || i == 2
		if !l.At.Equal(toptest.Epoch.Add(time.Duration(i+1) * time.Second)) {
			t.Errorf("line %d is of %v", i+1, l.At)
		}
		if gone != (l.Since != nil) || gone != (l.Error != "") || gone &&
			!l.Since.Equal(toptest.Epoch.Add(2*time.Second)) {
			t.Errorf("line %d: gone since %v, %q, want gone %v", i+1, l.Since, l.Error, gone)
		}
		if known := i == 0 || i == 4; known != (l.Rate != nil) {
			t.Errorf("line %d: a rate is known %v, want %v", i+1, l.Rate != nil, known)
		}
	}
}

// Scripts see by the error that the last block has no figures.
func TestGoneAtTheEnd(t *testing.T) {
	for _, mode := range []Mode{Plain, JSON} {
		if _, err := run(t, mode, 1, 0, -1); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "503") {
			t.Errorf("mode %d: %v, want ErrGone with the reason", mode, err)
		}
	}
}

// An error of writing ends top. So does the end of the context, which is no error.
func TestBlocksEnd(t *testing.T) {
	u, err := ParseURL(serving(t, func(w http.ResponseWriter, _ *http.Request) {
		_,
			_ = io.WriteString(w, toptest.Metrics(0))
	}))
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	for _, mode := range []Mode{Plain, JSON} {
		c := Config{URL: u, Interval: time.Millisecond, Mode: mode, Out: writer(func([]byte) error { return full })}
		if err := Run(t.Context(), c); !errors.Is(err, full) {
			t.Errorf("mode %d: %v, want what the writer says", mode, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		c.Out = writer(func([]byte) error {
			if n++; n == 3 {
				cancel()
			}
			return nil
		})
		if err := Run(ctx, c); err != nil || n != 3 {
			t.Errorf("mode %d: %v after %d blocks, want none after 3", mode, err, n)
		}
		cancel()
	}
}

type writer func([]byte) error

func (w writer) Write(b []byte) (int, error) { return len(b), w(b) }
