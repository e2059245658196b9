// Package jsonl is the form in which programs that are not Go talk to an engine: JSON Lines, each answered by one line.
// `hypertoken run --help` describes it.
package jsonl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/internal/msgjson"
)

// ErrLine is matched by errors of one line, after which reading goes on.
var ErrLine = errors.New("bad line")

// LineError is why a line can't be used. It is [ErrLine].
type LineError struct {
	Message string
	// Long says that the line was above the reader's bound.
	Long bool
}

func (e *LineError) Error() string { return e.Message }

// Is reports whether the target is [ErrLine].
func (e *LineError) Is(target error) bool { return target == ErrLine }

func badLine(format string, args ...any) error {
	return &LineError{Message: fmt.Sprintf(format, args...)}
}

// Line is a line of input.
type Line struct {
	// Number counts lines from 1.
	Number int
	// Text is the line without its newline.
	Text []byte
	cut  bool // ended by the end of input
}

// Reader reads lines of at most a bound. One that is longer is skipped to its end.
type Reader struct {
	in     *bufio.Reader
	max    int
	flag   string
	number int
}

// NewReader returns a reader of lines of at most max bytes; flag is what sets that, for the error of a line that is longer.
func NewReader(in io.Reader, max int, flag string) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), max: max, flag: flag}
}

// Reset makes the reader go on with other input. The numbers of lines go on too.
func (l *Reader) Reset(in io.Reader) { l.in.Reset(in) }

// Next returns a line that is the caller's, io.EOF at the end, an error that is [ErrLine] for a line that is too long, or
// another for input that can't be read.
func (l *Reader) Next() (Line, error) {
	l.number++
	line := Line{Number: l.number}
	long, read := false, 0
	for {
		part, err := l.in.ReadSlice('\n')
		read += len(part)
		end := err == nil
		if end {
			part = part[:len(part)-1]
		}
		if long = long || len(line.Text)+len(part) > l.max; long {
			line.Text = nil
		} else {
			line.Text = append(line.Text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && read == 0:
			l.number--
			return line, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return line, fmt.Errorf("reading the input: %w", err)
		}
		line.cut = !end
		if long {
			return line, &LineError{Message: fmt.Sprintf("it is longer than %s (%s) and was skipped", humanize.IBytes(uint64(l.max)), l.flag), Long: true}
		}
		return line, nil
	}
}

// Kind is what a line asks for.
type Kind int

// The kinds.
const (
	Action Kind = iota
	Setup
	State
	Digest
)

// Request is a line that can be used.
type Request struct {
	Line   int
	Kind   Kind
	Action string
	// Value is the payload or the setup; ValueError says why it is none.
	Value      host.Raw
	ValueError error
	Options    []host.DispatchOption
	// Timeout is the line's own, or 0.
	Timeout time.Duration
}

// Bounded returns a context that ends with the line's timeout.
func (q *Request) Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if q.Timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, q.Timeout, fmt.Errorf("not done after %v (timeout)", q.Timeout))
}

var keyForm = regexp.MustCompile(`^[ -~]{1,256}$`)

// Form is what a line may have beside what all have.
type Form struct {
	// Keys lets an action have a key, as [host.Key]: 1 to 256 printable ASCII characters. Without it a member of that name is ignored, as any that is not known.
	Keys bool
}

// Parse makes a request of what [Reader.Next] returned. An error that is [ErrLine] is that of the line.
func (f Form) Parse(line Line, err error) (*Request, error) {
	if err != nil {
		return nil, err
	}
	members, err := msgjson.Object(line.Text)
	if err != nil {
		if line.cut && msgjson.Short(err) {
			return nil, badLine("the input ends in the middle of it")
		}
		return nil, badLine("%v", err)
	}
	q := &Request{Line: line.Number, Kind: -1}
	kinds := 0
	var setup, payload msgjson.Member
	for _, m := range members {
		kind := q.Kind
		switch m.Key {
		case "setup":
			kind, setup = Setup, m
		case "type":
			if null(m) || msgpack.Unmarshal(m.Value, &q.Action) != nil {
				return nil, badLine("type: want a string")
			}
			kind = Action
		case "payload":
			payload = m
		case "now":
			ms, ok := msgjson.Int(m.Value)
			if !ok {
				return nil, badLine("now: want whole milliseconds since the epoch")
			}
			q.Options = append(q.Options, host.Now(time.UnixMilli(ms)))
		case "entropy":
			var text string
			var entropy [16]byte
			if msgpack.Unmarshal(m.Value, &text) != nil || len(text) != 2*len(entropy) {
				return nil, badLine("entropy: want %d hexadecimal digits", 2*len(entropy))
			}
			if _, err := hex.Decode(entropy[:], []byte(text)); err != nil {
				return nil, badLine("entropy: %v", err)
			}
			q.Options = append(q.Options, host.Entropy(entropy))
		case "key":
			if !f.Keys {
				continue
			}
			var key string
			if msgpack.Unmarshal(m.Value, &key) != nil || !keyForm.MatchString(key) {
				return nil, badLine("key: want a string of 1 to 256 printable ASCII characters")
			}
			q.Options = append(q.Options, host.Key(key))
		case "timeout":
			var ms float64
			if m.Err != nil || msgpack.Unmarshal(m.Value, &ms) != nil || ms <= 0 || ms > 1e12 {
				return nil, badLine("timeout: want milliseconds above 0")
			}
			q.Timeout = max(1, time.Duration(ms*float64(time.Millisecond)))
		case "state", "digest":
			if !bytes.Equal(m.Value, []byte{0xc3}) {
				return nil, badLine("%s: want true", m.Key)
			}
			kind = map[string]Kind{"state": State, "digest": Digest}[m.Key]
		}
		if kind != q.Kind {
			q.Kind = kind
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return nil, badLine("want one of setup, type, state or digest")
	case kinds > 1:
		return nil, badLine("want only one of setup, type, state or digest")
	case q.Kind != Action && payload.Key != "":
		return nil, badLine("payload goes with type")
	}
	value := payload
	if q.Kind == Setup {
		value = setup
	}
	q.Value = value.Value
	if value.Err != nil {
		q.ValueError = &host.ActionError{Code: "bad_payload", Message: value.Key + ": " + value.Err.Message, Index: -1}
	}
	return q, nil
}

func null(m msgjson.Member) bool { return bytes.Equal(m.Value, []byte{0xc0}) }
