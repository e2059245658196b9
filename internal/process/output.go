package process

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// maxLine bounds a line of a worker's output, in bytes; the rest of a longer one is cut off.
	maxLine = 8 << 10
	// maxNoise bounds what a program may print before it shakes hands, in bytes.
	maxNoise = 1 << 20
	// lastLines is how many lines of a worker's standard error an error has.
	lastLines = 5
)

var handshakeLine = regexp.MustCompile(`^\d+\|\d+\|(unix|tcp)\|[^|]+\|netrpc\|[^|]*$`)

// shake reads standard output up to the handshake line, and not one byte more: frames follow. If a
// package has printed something before that line, it is logged.
func (r *run) shake(line *os.File) {
	defer func() { _ = line.Close() }()
	var text []byte
	var one [1]byte
	for range maxNoise {
		if _, err := r.stdout.Read(one[:]); err != nil {
			r.note(string(text))
			close(r.silent)
			return
		}
		if one[0] != '\n' {
			text = append(text, one[0])
			continue
		}
		if handshakeLine.Match(text) {
			r.noteSocket(string(text))
			_, _ = line.Write(append(text, '\n'))
			return
		}
		r.note(string(text))
		text = text[:0]
	}
	r.note(fmt.Sprintf("%d bytes were printed, and no handshake", maxNoise))
	r.kill()
}

// noteSocket notes the path of the worker's socket from the handshake line, so that free removes
// the socket.
func (r *run) noteSocket(handshake string) {
	if f := strings.Split(handshake, "|"); f[2] == "unix" && filepath.Dir(f[3]) == r.dir {
		r.socket = f[3]
	}
}

// Stdout gives go-plugin the handshake line, and then its end.
func (r *run) Stdout() io.ReadCloser { return r.shaken }

// Stderr gives go-plugin an empty stream, because readErrors reads standard error.
func (r *run) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// readErrors logs what the worker writes to standard error.
func (r *run) readErrors(stderr io.Reader) {
	in := bufio.NewReaderSize(stderr, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		cut := err == bufio.ErrBufferFull
		if text := strings.TrimRight(string(line), "\r\n"); text != "" && !r.record(text) {
			if cut {
				text += "…"
			}
			r.note(text)
		}
		for err == bufio.ErrBufferFull {
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// note logs a line that is no record, and keeps it for an error.
func (r *run) note(text string) {
	if text == "" {
		return
	}
	if len(text) > maxLine {
		text = text[:maxLine] + "…"
	}
	r.log.Warn("worker output", "line", text)
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
		r.last, r.ending = nil, true // a stack follows
	}
	if r.last = append(r.last, text); r.ending {
		r.last = r.last[:min(len(r.last), lastLines)]
	}
	r.last = r.last[max(0, len(r.last)-lastLines):]
}

// lastOutput returns the last lines of standard error, as the end of an error's text.
func (r *run) lastOutput() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) == 0 {
		return ""
	}
	return "; it said: " + strings.Join(r.last, " / ")
}

// record logs a line of slog's JSON as the record that it is.
func (r *run) record(line string) bool {
	if line[0] != '{' {
		return false
	}
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return false
	}
	var level slog.Level
	name, _ := fields[slog.LevelKey].(string)
	message, ok := fields[slog.MessageKey].(string)
	if !ok || level.UnmarshalText([]byte(name)) != nil {
		return false
	}
	if !r.log.Enabled(context.Background(), level) {
		return true
	}
	at, _ := fields[slog.TimeKey].(string)
	when, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		when = time.Now()
	}
	record := slog.NewRecord(when, level, message, 0)
	var keys []string
	for k := range fields {
		if k != slog.LevelKey && k != slog.MessageKey && k != slog.TimeKey {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		record.AddAttrs(slog.Any(k, fields[k]))
	}
	_ = r.log.Handler().Handle(context.Background(), record)
	return true
}

// pluginLog returns a logger that passes go-plugin's own log on at debug level. go-plugin logs the
// end of a worker as an error, and the host reports that end itself.
func pluginLog(log *slog.Logger) hclog.Logger {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{Name: "go-plugin", Level: hclog.Debug, DisableTime: true,
		Output: debugWriter{log}})
}

type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(b []byte) (int, error) {
	w.log.Debug(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}
