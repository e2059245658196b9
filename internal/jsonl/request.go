package jsonl

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/internal/msgjson"
	"hypertoken/internal/nearest"
)

// Want has the additional members that an answer shall have.
type Want int

// Members of answers that lines ask for.
const (
	WantSequence Want = 1 << iota
	WantChanged
	WantDigest
)

var wants = []string{"sequence", "changed", "digest"}

// Request is a line that can be used.
type Request struct {
	Line   int
	Kind   Kind
	Action string
	// Value is the payload or the setup. If it is no value of a core, ValueError is the reason.
	Value      host.Raw
	ValueError error
	// Options are the options of the action or of the whole batch.
	Options []host.DispatchOption
	// Timeout is the timeout that the line names, or 0.
	Timeout time.Duration
	Want    Want
	// At is the sequence that a question for the state or the digest is about, if HasAt is true.
	At    uint64
	HasAt bool
	// To is the sequence that a Revert goes back to.
	To uint64
	// Alone is true if an action must not be gathered with others into a batch, because it has a
	// key or a sequence, or wants further members in its answer.
	Alone bool
	// HasKey is true if the line has a key: then it may be sent again, and runs once.
	HasKey bool
	// Recorded is what a line of an export says of the recorded game.
	Recorded
	// Members are the actions of a batch, and Mode is its mode.
	Members []Member
	Mode    host.BatchMode
}

// Member is an action of a batch.
type Member struct {
	host.Action
	// ValueError is the reason why the payload is no value of a core, or nil.
	ValueError error
}

// MaxMembers bounds the actions of a batch. Each action takes some 2 kB of memory, even if its
// line is short.
const MaxMembers = 1 << 14

// maxTimeout bounds a line's timeout, in milliseconds.
const maxTimeout = 1e12

// Actions returns how many actions the request has. Each of them gets a number n.
func (q *Request) Actions() int {
	switch q.Kind {
	case Action:
		return 1
	case Batch:
		return len(q.Members)
	}
	return 0
}

// IsStart reports whether the request begins a game: with a setup or with a snapshot.
func (q *Request) IsStart() bool { return q.Kind == Setup || q.Kind == Snapshot }

// isRewind reports whether the request goes back to an earlier state.
func (q *Request) isRewind() bool { return q.Kind == Revert || q.Kind == Undo || q.Kind == Redo }

// Bounded returns a context that ends with the line's timeout.
func (q *Request) Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if q.Timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, q.Timeout, fmt.Errorf("not done after %v (timeout)", q.Timeout))
}

func badLine(format string, args ...any) error {
	return &LineError{Message: fmt.Sprintf(format, args...)}
}

var keyForm = regexp.MustCompile(`^[ -~]{1,256}$`)

// Parse makes a request of the line and the error that [Reader.Next] returned. An error that
// matches [ErrLine] concerns this line only, and is a [*LineError].
func Parse(line Line, err error) (*Request, error) { return plain.parse(line, err) }

// ParseExport is [Parse] for input in which lines of an export may be, too.
func ParseExport(line Line, err error) (*Request, error) { return exported.parse(line, err) }

func (g *grammar) parse(line Line, err error) (*Request, error) {
	if err != nil {
		return nil, err
	}
	q, err := g.request(line)
	var bad *LineError
	if errors.As(err, &bad) {
		bad.Setup = bad.Setup || line.IsSetup()
	}
	return q, err
}

func (g *grammar) request(line Line) (*Request, error) {
	members, err := msgjson.Object(line.Text, g.lists...)
	if err != nil {
		switch {
		case line.cut && msgjson.Short(err):
			return nil, badLine("the input ends in the middle of the line")
		case bytes.HasPrefix(bytes.TrimLeft(line.Text, " \t\r"), byteOrderMark):
			return nil, badLine("it begins with a byte order mark, " +
				"which is allowed only at the start of the input: remove it")
		}
		return nil, badLine("%v", err)
	}
	q := &Request{Line: line.Number}
	if err := q.read(g, members); err != nil {
		isSetup := func(m msgjson.Member) bool { return m.Key == "setup" || m.Key == "snapshot" || m.Key == "marker" }
		if slices.ContainsFunc(members, isSetup) {
			var bad *LineError
			bad.Setup = errors.As(err, &bad)
		}
		return nil, err
	}
	return q, nil
}

// read reads the members of a line.
func (q *Request) read(g *grammar, members []msgjson.Member) error {
	if err := g.unknown(members); err != nil {
		return err
	}
	f, err := g.formOf(members)
	if err != nil {
		return err
	}
	if err := f.check(members); err != nil {
		return err
	}
	q.Kind = f.kind
	mayBeRecorded := q.IsStart() || q.Kind == Marker || q.Kind == Action
	for _, m := range members {
		if q.Kind == Note {
			isNotes, err := q.readNote(m)
			if err != nil {
				return err
			}
			if isNotes {
				continue
			}
		}
		if mayBeRecorded {
			isRecorded, err := q.Recorded.read(m)
			if err != nil {
				return err
			}
			if isRecorded {
				q.Alone = true
				continue
			}
		}
		switch m.Key {
		case "setup", "payload":
			q.Value, q.ValueError = m.Value, valueError(m)
		case "type":
			q.Action, err = actionType(m)
		case "revert":
			q.To, err = sequence(m)
		case "state", "digest", "undo", "redo":
			if !bytes.Equal(m.Value, []byte{0xc3}) {
				err = badLine("%s: want true", m.Key)
			}
		case "batch":
			q.Members, err = batch(m)
		case "mode":
			q.Mode, err = mode(m)
		case "timeout":
			var ms float64
			if m.Err != nil || msgpack.Unmarshal(m.Value, &ms) != nil || ms <= 0 || ms > maxTimeout {
				return badLine("timeout: want milliseconds above 0, at most %g", float64(maxTimeout))
			}
			q.Timeout = max(1, time.Duration(ms*float64(time.Millisecond)))
		case "at":
			q.At, err = sequence(m)
			q.HasAt = true
		case "want":
			q.Want, err = wanted(m)
			q.Alone = true
		default:
			var option host.DispatchOption
			option, err = dispatchOption(m)
			q.Options = append(q.Options, option)
			q.note(m)
			q.Alone = q.Alone || m.Key == "key" || m.Key == "if_sequence"
			q.HasKey = q.HasKey || m.Key == "key"
		}
		if err != nil {
			return err
		}
	}
	switch q.Kind {
	case Marker:
		return q.checkMarker()
	case Note:
		return checkNote(members)
	}
	if q.Want&WantDigest != 0 && !q.isRewind() { // a rewind has a digest always
		q.Options = append(q.Options, host.WithDigest())
	}
	return nil
}

// batch reads the actions of a batch.
func batch(m msgjson.Member) ([]Member, error) {
	list := m.List
	if list == nil {
		return nil, badLine("batch: want an array of objects")
	}
	if len(list) == 0 || len(list) > MaxMembers {
		return nil, badLine("batch: %d actions are outside 1 to %d", len(list), MaxMembers)
	}
	all := make([]Member, len(list))
	for k, members := range list {
		if err := all[k].read(members); err != nil {
			return nil, badLine("batch[%d]: %v", k, err)
		}
	}
	return all, nil
}

// read reads an action of a batch.
func (a *Member) read(members []msgjson.Member) error {
	if err := memberForm.unknown(members); err != nil {
		return err
	}
	if err := memberForm.check(members); err != nil {
		return fmt.Errorf("%w within a batch", err)
	}
	typed := false
	for _, m := range members {
		var err error
		switch m.Key {
		case "type":
			typed = true
			a.Type, err = actionType(m)
		case "payload":
			a.Payload, a.ValueError = host.Raw(m.Value), valueError(m)
		default:
			var option host.DispatchOption
			option, err = dispatchOption(m)
			a.Options = append(a.Options, option)
		}
		if err != nil {
			return err
		}
	}
	if !typed {
		return errors.New("want a type")
	}
	return nil
}

func valueError(m msgjson.Member) error {
	if m.Err == nil {
		return nil
	}
	return &host.ActionError{Code: "bad_payload", Message: m.Key + ": " + m.Err.Message, Index: -1}
}

func actionType(m msgjson.Member) (string, error) {
	text, ok := str(m)
	if !ok {
		return "", badLine("type: want a string")
	}
	return text, nil
}

// dispatchOption reads a member that is an option of an action or of a batch.
func dispatchOption(m msgjson.Member) (host.DispatchOption, error) {
	text, isText := str(m)
	n, isInt := msgjson.Int(m.Value)
	switch m.Key {
	case "now":
		if !isInt {
			return nil, badLine("now: want whole milliseconds since the epoch")
		}
		return host.Now(time.UnixMilli(n)), nil
	case "if_sequence":
		of, err := sequence(m)
		return host.IfSequence(of), err
	case "entropy":
		var entropy [16]byte
		if !isText || len(text) != 2*len(entropy) {
			return nil, badLine("entropy: want %d hexadecimal digits", 2*len(entropy))
		}
		if _, err := hex.Decode(entropy[:], []byte(text)); err != nil {
			return nil, badLine("entropy: %v", err)
		}
		return host.Entropy(entropy), nil
	default: // key
		if !isText || !keyForm.MatchString(text) {
			return nil, badLine("key: want a string of 1 to 256 printable ASCII characters")
		}
		return host.Key(text), nil
	}
}

// sequence reads a member that is a sequence.
func sequence(m msgjson.Member) (uint64, error) {
	n, isInt := msgjson.Int(m.Value)
	if m.Err != nil || !isInt || n < 0 {
		return 0, badLine("%s: want a whole number from 0", m.Key)
	}
	return uint64(n), nil
}

func mode(m msgjson.Member) (host.BatchMode, error) {
	text, _ := str(m)
	for _, mode := range []host.BatchMode{host.BatchAtomic, host.BatchIndependent} {
		if text == mode.String() {
			return mode, nil
		}
	}
	return 0, badLine(`mode: want "atomic" or "independent"`)
}

func wanted(m msgjson.Member) (Want, error) {
	var words []*string
	if m.Err != nil || null(m) || msgpack.Unmarshal(m.Value, &words) != nil || slices.Contains(words, nil) {
		return 0, badLine("want: want an array of strings, of %s", list(wants, "and"))
	}
	var all Want
	for _, word := range words {
		i := slices.Index(wants, *word)
		if near := nearest.To(*word, wants); i < 0 && near != "" {
			return 0, badLine("want: there is no %q: do you mean %q?", clip(*word), near)
		}
		if i < 0 {
			return 0, badLine("want: there is no %q, but %s", clip(*word), list(wants, "and"))
		}
		all |= 1 << i
	}
	return all, nil
}

func str(m msgjson.Member) (string, bool) {
	var text string
	return text, m.Err == nil && !null(m) && msgpack.Unmarshal(m.Value, &text) == nil
}

func null(m msgjson.Member) bool { return bytes.Equal(m.Value, []byte{0xc0}) }
