package serve

import (
	"bufio"
	"context"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// observed notes the status and the size of an answer.
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
	level, message := slog.LevelDebug, "request"
	if o.status >= http.StatusInternalServerError && r.URL.Path != "/readyz" || o.status == http.StatusUnauthorized {
		level, message = slog.LevelWarn, "request refused"
	}
	s.log.Log(r.Context(), level, message, "method", r.Method, "path", clip(r.URL.Path), "status", o.status, "bytes",
		o.bytes,
		"duration", time.Since(began), "remote", r.RemoteAddr)
}

// textual logs the text that a library logs. The message is always the same, and the text is an
// attribute: clients can cause any number of different texts, and the log limits each message.
type textual struct {
	log     *slog.Logger
	message string
}

// logger returns a logger for a library.
func (t textual) logger() *log.Logger { return slog.NewLogLogger(t, slog.LevelWarn) }

func (t textual) Enabled(ctx context.Context, level slog.Level) bool {
	return t.log.Enabled(ctx, level)
}
func (t textual) Handle(ctx context.Context, r slog.Record) error {
	t.log.Log(ctx, r.Level, t.message, "error", clip(r.Message))
	return nil
}
func (t textual) WithAttrs([]slog.Attr) slog.Handler { return t }
func (t textual) WithGroup(string) slog.Handler      { return t }
