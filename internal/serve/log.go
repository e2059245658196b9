package serve

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// observed notes what was answered.
type observed struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// unobserved returns the writer of the HTTP server, to which it has ways of its own.
func unobserved(w http.ResponseWriter) http.ResponseWriter {
	if o, ok := w.(*observed); ok {
		return o.ResponseWriter
	}
	return w
}

// Unwrap lets [http.ResponseController] find what else the connection can do.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *observed) WriteHeader(status int) {
	if o.status == 0 {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Write(b []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	n, err := o.ResponseWriter.Write(b)
	o.bytes += int64(n)
	return n, err
}

// Hijack hands the connection to a WebSocket.
func (o *observed) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(o.ResponseWriter).Hijack()
}

func (s *Server) logRequest(o *observed, r *http.Request, began time.Time) {
	args := []any{"method", r.Method, "path", clip(r.URL.Path), "status", o.status, "bytes", o.bytes,
		"duration", time.Since(began), "remote", r.RemoteAddr}
	if o.status >= http.StatusInternalServerError && r.URL.Path != "/readyz" || o.status == http.StatusUnauthorized {
		s.warnings.warn("request refused", args...)
		return
	}
	s.log.Debug("request", args...)
}

// warnings are logged a few a second at most, however many clients cause them.
type warnings struct {
	log     *slog.Logger
	limiter *rate.Limiter
	dropped *atomic.Int64
}

// Warnings a second, and at once.
const (
	warningRate  = 1
	warningBurst = 10
)

func newWarnings(log *slog.Logger) warnings {
	return warnings{log, rate.NewLimiter(warningRate, warningBurst), new(atomic.Int64)}
}

// warn logs, or counts what it does not log for the next one that it does.
func (w warnings) warn(message string, args ...any) {
	if !w.limiter.Allow() {
		w.dropped.Add(1)
		return
	}
	if n := w.dropped.Swap(0); n > 0 {
		args = append(args, "suppressed", n)
	}
	w.log.Warn(message, args...)
}

// Println implements promhttp.Logger.
func (w warnings) Println(v ...any) {
	w.warn("metrics could not be collected", "error", fmt.Sprint(v...))
}

// handler is a handler of log/slog for what the HTTP server says.
func (w warnings) handler() slog.Handler { return warningHandler{w} }

type warningHandler struct{ to warnings }

func (h warningHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h warningHandler) Handle(_ context.Context, r slog.Record) error {
	h.to.warn("http", "message", r.Message)
	return nil
}
func (h warningHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h warningHandler) WithGroup(string) slog.Handler      { return h }
