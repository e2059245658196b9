package torture

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"hypertoken/ipc"
)

// accusations passes a host's log on, and counts the errors in it that say that a worker broke the
// protocol.
type accusations struct {
	slog.Handler
	count *atomic.Int64
}

func (a accusations) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError || a.Handler.Enabled(ctx, level)
}

func (a accusations) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		r.Attrs(func(attr slog.Attr) bool {
			err, _ := attr.Value.Any().(error)
			if malformed := new(ipc.MalformedError); errors.As(err, &malformed) {
				a.count.Add(1)
			}
			return true
		})
	}
	if !a.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return a.Handler.Handle(ctx, r)
}

func (a accusations) WithAttrs(attrs []slog.Attr) slog.Handler {
	return accusations{a.Handler.WithAttrs(attrs), a.count}
}

func (a accusations) WithGroup(name string) slog.Handler {
	return accusations{a.Handler.WithGroup(name), a.count}
}
