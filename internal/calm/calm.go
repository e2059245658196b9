// Package calm keeps a log from doing harm: it stays readable while the same happens again and
// again, as in a crash loop, and it does not end a process whose standard error nobody reads any
// more.
package calm

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Burst is how many records of one message come at once, Every how often one comes after those.
	Burst = 10
	Every = time.Second
	// Messages is how many messages are told apart; all others are one.
	Messages = 256
	// Suppressed is the key of how many records of its message were left out since the last one.
	Suppressed = "suppressed"
)

// Handler hands on at most [Burst] records of one message, and one each [Every] from then on, which
// says how many were left out before it. Debug records are all handed on. While next handles a
// record, SIGPIPE does not end the process.
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

// New returns a handler that hands on to next.
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

// WithAttrs implements [slog.Handler]. Records are counted together, whatever attributes they have.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.state}
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.state}
}
