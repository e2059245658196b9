package calm_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"hypertoken/internal/calm"
)

func lines(b *bytes.Buffer) []string {
	defer b.Reset()
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

// If the same record comes again and again, the first ones are logged, and then one a second that
// says how many were left out.
func TestACrashLoop(t *testing.T) {
	var out bytes.Buffer
	h := calm.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	at := time.Now() // the time of a record counts, not the time of the call
	say := func(h slog.Handler, level slog.Level, message string) {
		if err := h.Handle(t.Context(), slog.NewRecord(at, level, message, 0)); err != nil {
			t.Error(err)
		}
	}
	for k := range calm.Burst + 5 {
		say(h.WithAttrs([]slog.Attr{slog.Int("worker", k)}), slog.LevelWarn, "a worker ended")
	}
	say(h, slog.LevelWarn, "something else")
	if got := lines(&out); len(got) != calm.Burst+1 || !strings.Contains(got[calm.Burst-1], "worker=9") ||
		!strings.Contains(got[calm.Burst], "something else") {
		t.Errorf("%d lines: %q", len(got), got)
	}
	at = at.Add(calm.Every)
	say(h, slog.LevelWarn, "a worker ended")
	say(h, slog.LevelWarn, "a worker ended")
	if got := lines(&out); len(got) != 1 || !strings.Contains(got[0], "suppressed=5") {
		t.Errorf("after a second: %q", got)
	}
	for range calm.Burst + 1 {
		say(h, slog.LevelDebug, "a worker ended")
	}
	if got := lines(&out); len(got) != calm.Burst+1 {
		t.Errorf("%d debug lines", len(got))
	}
}

// Any number of different messages takes a bounded amount of memory.
func TestManyMessages(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(calm.New(slog.NewTextHandler(&out, nil)))
	for k := range calm.Messages {
		log.Info(fmt.Sprint("message ", k))
	}
	if got := lines(&out); len(got) != calm.Messages {
		t.Errorf("%d of %d messages", len(got), calm.Messages)
	}
	for k := range calm.Burst + 5 {
		log.Info(fmt.Sprint("another ", k))
	}
	if got := lines(&out); len(got) != calm.Burst {
		t.Errorf("%d of the others, want %d", len(got), calm.Burst)
	}
	log.Info("message 0")
	if got := lines(&out); len(got) != 1 || got[0] == "" {
		t.Errorf("one that is known: %q", got)
	}
}
