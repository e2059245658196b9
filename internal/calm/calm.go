// Package calm keeps a log from doing harm. The log stays readable if the same thing happens again
// and again, as in a crash loop. And if nobody reads the process's standard error any more,
// logging does not end the process.
package calm

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Burst is how many records with one message are logged without a pause. Every is the least
	// time between further ones.
	Burst = 10
	Every = time.Second
	// Messages is how many messages are counted separately. All further ones count together, as
	// one.
	Messages = 256
	// Suppressed is the key of an attribute: how many records with the same message were left out
	// since the last one that was logged.
	Suppressed = "suppressed"
)

// Handler passes on at most [Burst] records with one message, and then one for each [Every]. Such
// a record says how many were left out before it. All debug records are passed on. While next
// handles a record, SIGPIPE does not end the process.
type Handler struct {
	next  slog.Handler
	state *state
}

type state struct {
	mu       sync.Mutex // guards messages
	messages map[string]*message
}

type message struct {
	limit      *rate.Limiter
	suppressed int
}

// New returns a handler that passes records on to next.
func New(next slog.Handler) *Handler {
	return &Handler{next, &state{messages: map[string]*message{}}}
}

var _ slog.Handler = (*Handler)(nil)

// Enabled implements [slog.Handler].
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return withoutSIGPIPE(func() error { return h.next.Handle(ctx, r) })
	}
	suppressed, ok := h.state.allows(r.Message, r.Time)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int(Suppressed, suppressed))
	}
	return withoutSIGPIPE(func() error { return h.next.Handle(ctx, r) })
}

func (s *state) allows(text string, at time.Time) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[text]
	if m == nil {
		if len(s.messages) >= Messages {
			text = ""
			m = s.messages[text]
		}
		if m == nil {
			m = &message{limit: rate.NewLimiter(rate.Every(Every), Burst)}
			s.messages[text] = m
		}
	}
	if !m.limit.AllowN(at, 1) {
		m.suppressed++
		return 0, false
	}
	suppressed, m.suppressed = m.suppressed, 0
	return suppressed, true
}

// WithAttrs implements [slog.Handler]. Records with the same message count together, even if their
// attributes differ.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.state}
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.state}
}
