package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/internal/msgjson"
)

// errLine is wrapped by errors of one line, after which reading goes on.
var errLine = errors.New("bad line")

type lineError struct{ message string }

func (e *lineError) Error() string        { return e.message }
func (e *lineError) Is(target error) bool { return target == errLine }

func badLine(format string, args ...any) error { return &lineError{fmt.Sprintf(format, args...)} }

type inputLine struct {
	number int
	text   []byte
	cut    bool // ended by the end of input
}

// lineReader reads lines of at most max bytes. One that is longer is skipped to its end.
type lineReader struct {
	in     *bufio.Reader
	max    int
	number int
}

// next returns a line that is the caller's, io.EOF at the end, an error that is errLine for a line that is too long, or
// another for input that can't be read.
func (l *lineReader) next() (inputLine, error) {
	l.number++
	line := inputLine{number: l.number}
	long, read := false, 0
	for {
		part, err := l.in.ReadSlice('\n')
		read += len(part)
		end := err == nil
		if end {
			part = part[:len(part)-1]
		}
		if long = long || len(line.text)+len(part) > l.max; long {
			line.text = nil
		} else {
			line.text = append(line.text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && read == 0:
			return line, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return line, fmt.Errorf("reading the input: %w", err)
		}
		line.cut = !end
		if long {
			return line, badLine("it is longer than %s (--max-line) and was skipped", humanize.IBytes(uint64(l.max)))
		}
		return line, nil
	}
}

type requestKind int

const (
	actionRequest requestKind = iota
	setupRequest
	stateRequest
	digestRequest
)

// command is a line of input.
type command struct {
	line   int
	kind   requestKind
	action string
	// value is the payload or the setup; valueError says why it is none.
	value      host.Raw
	valueError error
	options    []host.DispatchOption
	timeout    time.Duration
}

func (q *command) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if q.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, q.timeout, fmt.Errorf("not done after %v (timeout)", q.timeout))
}

// request makes a command of what lineReader.next returned. An error that is errLine is that of the line.
func request(line inputLine, err error) (*command, error) {
	if err != nil {
		return nil, err
	}
	members, err := msgjson.Object(line.text)
	if err != nil {
		if line.cut && msgjson.Short(err) {
			return nil, badLine("the input ends in the middle of it")
		}
		return nil, badLine("%v", err)
	}
	q := &command{line: line.number, kind: -1}
	kinds := 0
	var setup, payload msgjson.Member
	for _, m := range members {
		kind := q.kind
		switch m.Key {
		case "setup":
			kind, setup = setupRequest, m
		case "type":
			if null(m) || msgpack.Unmarshal(m.Value, &q.action) != nil {
				return nil, badLine("type: want a string")
			}
			kind = actionRequest
		case "payload":
			payload = m
		case "now":
			var ms int64
			if m.Err != nil || null(m) || msgpack.Unmarshal(m.Value, &ms) != nil {
				return nil, badLine("now: want whole milliseconds since the epoch")
			}
			q.options = append(q.options, host.Now(time.UnixMilli(ms)))
		case "entropy":
			var text string
			var entropy [16]byte
			if msgpack.Unmarshal(m.Value, &text) != nil || len(text) != 2*len(entropy) {
				return nil, badLine("entropy: want %d hexadecimal digits", 2*len(entropy))
			}
			if _, err := hex.Decode(entropy[:], []byte(text)); err != nil {
				return nil, badLine("entropy: %v", err)
			}
			q.options = append(q.options, host.Entropy(entropy))
		case "timeout":
			var ms float64
			if m.Err != nil || msgpack.Unmarshal(m.Value, &ms) != nil || ms <= 0 || ms > 1e12 {
				return nil, badLine("timeout: want milliseconds above 0")
			}
			q.timeout = max(1, time.Duration(ms*float64(time.Millisecond)))
		case "state", "digest":
			if !bytes.Equal(m.Value, []byte{0xc3}) {
				return nil, badLine("%s: want true", m.Key)
			}
			kind = map[string]requestKind{"state": stateRequest, "digest": digestRequest}[m.Key]
		}
		if kind != q.kind {
			q.kind = kind
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return nil, badLine("want one of setup, type, state or digest")
	case kinds > 1:
		return nil, badLine("want only one of setup, type, state or digest")
	case q.kind != actionRequest && payload.Key != "":
		return nil, badLine("payload goes with type")
	}
	value := payload
	if q.kind == setupRequest {
		value = setup
	}
	q.value = value.Value
	if value.Err != nil {
		q.valueError = &host.ActionError{Code: "bad_payload", Message: value.Key + ": " + value.Err.Message, Index: -1}
	}
	return q, nil
}

func null(m msgjson.Member) bool { return bytes.Equal(m.Value, []byte{0xc0}) }

// write writes a line and flushes it.
func (r *runner) write(line []byte) error {
	_, err := r.out.Write(append(line, '\n'))
	if err == nil {
		err = r.out.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// badLine answers a line that can't be used.
func (r *runner) badLine(number int, err error) error {
	r.bad = true
	return r.write(errorLine(host.ErrBadInput.Code, fmt.Sprintf("line %d: %v", number, err)))
}

// writeValue writes a value behind a prefix that opens an object, or an error.
func (r *runner) writeValue(prefix string, value host.Raw, err error) error {
	if err != nil {
		return r.write(errorLine(host.CodeOf(err), message(err)))
	}
	line, err := msgjson.Append([]byte(prefix), value)
	if err != nil {
		return err
	}
	return r.write(append(line, '}'))
}

// writeOutcome writes what became of the n-th action.
func (r *runner) writeOutcome(n int, result host.Result, err error) error {
	if err != nil {
		return r.write(append(fmt.Appendf(nil, `{"n":%d,`, n), errorLine(host.CodeOf(err), message(err))[1:]...))
	}
	return r.writeValue(fmt.Sprintf(`{"n":%d,"result":`, n), result.Raw, nil)
}

// message is an error's text without its code.
func message(err error) string {
	var a *host.ActionError
	var h *host.Error
	switch {
	case errors.As(err, &h):
		return h.Message
	case errors.As(err, &a):
		return a.Message
	}
	return err.Error()
}

func errorLine(code, message string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Two strings always encode.
	_ = enc.Encode(map[string]map[string]string{"error": {"code": code, "message": message}})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
