// Package msgjson turns JSON into the core's MessagePack values and back, for the command line.
//
// Nothing is lost. If JSON has something that a value can't have (an integer beyond ±(2^53 - 1),
// half of a surrogate pair, a key twice), that is an error. If [Append] writes a value, [Value]
// reads the same value.
package msgjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"hypertoken/internal/printable"
)

// MaxInt is the largest integer of a value. The smallest one is -MaxInt.
const MaxInt = 1<<53 - 1

// ValueError is returned for JSON that is well formed, but no value of the core.
type ValueError struct{ Message string }

func (e *ValueError) Error() string { return e.Message }

// Member is a member of an object.
type Member struct {
	Key string
	// Value is the member's value, as MessagePack.
	Value msgpack.RawMessage
	// Err is the reason why the member's JSON is not a value of the core, or nil. Each part of
	// Value that is no value of the core is replaced by MessagePack's nil.
	Err *ValueError
	// List has the members of each object of an array, if the member is named in the lists of
	// [Object]. Value is empty then.
	List [][]Member
}

// Object reads one JSON object and returns its members in their order. The order of nested keys is
// kept too.
//
// A member that is named in lists is an array of objects, and is returned as its List. An object of
// the array is read like the line itself, but has no lists of its own. If it is a number, a string,
// a boolean or null instead, it is returned as its Value, and List is nil.
//
// Object fails if the line is no JSON object, if a member occurs twice, or if a list is an object, or
// an array of something else than objects. If only the value of one member is wrong, that member has
// Err. Memory is linear in the input, however deep it is nested.
func Object(line []byte, lists ...string) ([]Member, error) {
	if !utf8.Valid(line) {
		if bytes.HasPrefix(line, []byte{0xff, 0xfe}) || bytes.HasPrefix(line, []byte{0xfe, 0xff}) {
			return nil, errors.New("not valid UTF-8, but UTF-16: save it as UTF-8")
		}
		return nil, errors.New("not valid UTF-8")
	}
	r := reader{line: line, dec: json.NewDecoder(bytes.NewReader(line))}
	r.dec.UseNumber()
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	members, err := r.members(lists)
	if err != nil {
		return nil, err
	}
	if rest := bytes.Trim(line[r.dec.InputOffset():], space); len(rest) > 0 {
		return nil, errors.New("something follows the JSON object")
	}
	return members, nil
}

// space is what JSON takes for white space.
const space = " \t\r\n"

// fewMembers is up to how many members of an object are compared with each other, without a map of
// their keys.
const fewMembers = 16

// members reads the members of an object whose opening brace is read, and its closing brace.
func (r *reader) members(lists []string) ([]Member, error) {
	var members []Member
	var seen map[string]bool // of an object with many members
	for r.dec.More() {
		key, err := r.token()
		if err != nil {
			return nil, err
		}
		m := Member{Key: key.(string)}
		if seen[m.Key] || seen == nil && slices.ContainsFunc(members,
			func(other Member) bool { return other.Key == m.Key }) {
			return nil, fmt.Errorf("the key %q stands twice", clip(m.Key))
		}
		if seen != nil {
			seen[m.Key] = true
		} else if len(members) == fewMembers {
			seen = map[string]bool{m.Key: true}
			for _, other := range members {
				seen[other.Key] = true
			}
		}
		if slices.Contains(lists, m.Key) {
			err = r.list(&m)
		} else {
			m.Value, m.Err, err = r.value()
		}
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	_, err := r.token() // the closing brace
	return members, err
}

// list reads a member that is an array of objects, or a scalar.
func (r *reader) list(m *Member) error {
	first, err := r.token()
	switch {
	case err != nil:
		return err
	case first == json.Delim('{'):
		return fmt.Errorf("%s: want an array of objects", m.Key)
	case first != json.Delim('['):
		m.Value, m.Err = appendScalar(nil, first)
		return nil
	}
	m.List = [][]Member{}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		if t != json.Delim('{') {
			return fmt.Errorf("%s[%d]: want an object", m.Key, len(m.List))
		}
		members, err := r.members(nil)
		if errors.Is(err, errShort) {
			return err
		}
		if err != nil {
			return fmt.Errorf("%s[%d]: %w", m.Key, len(m.List), err)
		}
		m.List = append(m.List, members)
	}
	_, err = r.token() // the closing bracket
	return err
}

var errShort = errors.New("the JSON ends too early")

type reader struct {
	line []byte
	dec  *json.Decoder
}

// token returns the next token; strings that JSON can write and UTF-8 can't are an error.
func (r *reader) token() (json.Token, error) {
	from := r.dec.InputOffset()
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errShort
	}
	if err != nil {
		return nil, fmt.Errorf("broken JSON: %w", err)
	}
	// The decoder turns a lone surrogate into U+FFFD.
	if s, ok := t.(string); ok && strings.ContainsRune(s, utf8.RuneError) {
		raw := strings.ReplaceAll(string(r.line[from:r.dec.InputOffset()]), `\\`, "")
		spelled := strings.Count(raw, "\ufffd") + strings.Count(strings.ToLower(raw), `\ufffd`)
		if strings.Count(s, "\ufffd") > spelled {
			return nil, errors.New("a string holds half of a surrogate pair")
		}
	}
	return t, nil
}

// maxKept is the depth down to which values are built. Deeper parts are read, but not built: the
// core allows a depth of 128 at most.
const maxKept = 130

type open struct {
	start int // the index of the container's header, which has one byte until its length is known
	count int
	isMap bool
	keys  map[string]bool
}

// value reads one value and builds it as MessagePack.
func (r *reader) value() (out msgpack.RawMessage, bad *ValueError, err error) {
	var stack []open
	depth := 0 // containers beyond maxKept
	for {
		t, err := r.token()
		if err != nil {
			return nil, nil, err
		}
		top := (*open)(nil)
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		delim, _ := t.(json.Delim)
		key := depth == 0 && top != nil && top.isMap && top.count%2 == 0 && delim == 0
		switch {
		case delim == '{' || delim == '[':
			if depth > 0 || len(stack) == maxKept {
				depth++
				continue
			}
			if top != nil {
				top.count++
			}
			stack = append(stack, open{start: len(out), isMap: delim == '{'})
			out = append(out, 0)
			continue
		case delim != 0:
			if depth > 0 {
				depth--
				if depth == 0 {
					out = append(out, msgpcode.Nil) // in place of a part that is too deep
					top.count++
				}
				continue
			}
			out = closeContainer(out, *top)
			stack = stack[:len(stack)-1]
		case depth > 0:
			continue
		default:
			if top != nil {
				top.count++
			}
			if key {
				if top.keys == nil {
					top.keys = map[string]bool{}
				}
				if k := t.(string); top.keys[k] && bad == nil {
					bad = &ValueError{fmt.Sprintf("the key %q stands twice in an object", clip(k))}
				} else {
					top.keys[k] = true
				}
			}
			var why *ValueError
			if out, why = appendScalar(out, t); why != nil && bad == nil {
				bad = why
			}
		}
		if len(stack) == 0 {
			return out, bad, nil
		}
	}
}

func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "..."
	}
	return s
}

// closeContainer writes the header of a container after its items. One byte was left for the
// header.
func closeContainer(out []byte, c open) []byte {
	n, fixed, code := c.count, msgpcode.FixedArrayLow, msgpcode.Array16
	if c.isMap {
		n, fixed, code = n/2, msgpcode.FixedMapLow, msgpcode.Map16
	}
	switch {
	case n < 16:
		out[c.start] = fixed | byte(n)
		return out
	case n <= math.MaxUint16:
		out = slices.Insert(out, c.start+1, 0, 0)
		out[c.start] = code
		binary.BigEndian.PutUint16(out[c.start+1:], uint16(n))
	default:
		out = slices.Insert(out, c.start+1, 0, 0, 0, 0)
		out[c.start] = code + 1
		binary.BigEndian.PutUint32(out[c.start+1:], uint32(n))
	}
	return out
}

func appendScalar(out []byte, t json.Token) ([]byte, *ValueError) {
	var b bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&b)
	enc.UseCompactInts(true)
	var bad *ValueError
	switch v := t.(type) {
	case json.Number:
		var n any
		if n, bad = number(v.String()); bad != nil {
			n = nil
		}
		_ = enc.Encode(n)
	default: // nil, bool, string
		_ = enc.Encode(v)
	}
	return append(out, b.Bytes()...), bad
}

// Append appends a MessagePack value as JSON, on one line. [Value] reads it back as the same
// value: integers as integers, and floats as floats of the same bits. Characters that control a
// terminal are escaped. Append fails if the bytes are not a value of the core.
func Append(out []byte, value []byte) ([]byte, error) {
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(value))
	return appendValue(out, dec, 0)
}

// maxDepth is how deep a value is followed: more than any core may answer.
const maxDepth = 256

func appendValue(out []byte, dec *msgpack.Decoder, depth int) ([]byte, error) {
	if depth > maxDepth {
		return out, fmt.Errorf("msgjson: a value is nested more than %d levels deep", maxDepth)
	}
	code, err := dec.PeekCode()
	if err != nil {
		return out, fmt.Errorf("msgjson: %w", err)
	}
	switch {
	case msgpcode.IsFixedMap(code) || code == msgpcode.Map16 || code == msgpcode.Map32:
		n, err := dec.DecodeMapLen()
		out = append(out, '{')
		for i := 0; i < n && err == nil; i++ {
			if i > 0 {
				out = append(out, ',')
			}
			var key string
			if key, err = decodeKey(dec); err != nil {
				break
			}
			if out, err = appendString(out, key); err == nil {
				out, err = appendValue(append(out, ':'), dec, depth+1)
			}
		}
		return append(out, '}'), err
	case msgpcode.IsFixedArray(code) || code == msgpcode.Array16 || code == msgpcode.Array32:
		n, err := dec.DecodeArrayLen()
		out = append(out, '[')
		for i := 0; i < n && err == nil; i++ {
			if i > 0 {
				out = append(out, ',')
			}
			out, err = appendValue(out, dec, depth+1)
		}
		return append(out, ']'), err
	case msgpcode.IsString(code):
		s, err := dec.DecodeString()
		if err != nil {
			return out, fmt.Errorf("msgjson: %w", err)
		}
		return appendString(out, s)
	case code == msgpcode.Nil:
		return append(out, "null"...), dec.DecodeNil()
	case code == msgpcode.True || code == msgpcode.False:
		b, err := dec.DecodeBool()
		return strconv.AppendBool(out, b), err
	default:
		v, err := dec.DecodeInterfaceLoose()
		if err != nil {
			return out, fmt.Errorf("msgjson: %w", err)
		}
		switch n := v.(type) {
		case int64:
			if n < -MaxInt || n > MaxInt {
				return out, fmt.Errorf("msgjson: the integer %d is outside ±%d", n, int64(MaxInt))
			}
			return strconv.AppendInt(out, n, 10), nil
		case uint64:
			if n > MaxInt {
				return out, fmt.Errorf("msgjson: the integer %d is outside ±%d", n, int64(MaxInt))
			}
			return strconv.AppendUint(out, n, 10), nil
		case float64:
			return appendFloat(out, n)
		}
		return out, fmt.Errorf("msgjson: %T is not a value of the core", v)
	}
}

// decodeKey reads the key of a map. It fails if the key is not a string.
func decodeKey(dec *msgpack.Decoder) (string, error) {
	code, err := dec.PeekCode()
	if err != nil {
		return "", fmt.Errorf("msgjson: %w", err)
	}
	if !msgpcode.IsString(code) {
		return "", errors.New("msgjson: a map's key is not a string")
	}
	return dec.DecodeString()
}

// appendString writes a string without HTML's escapes.
func appendString(out []byte, s string) ([]byte, error) {
	if isPlain(s) {
		out = append(out, '"')
		out = append(out, s...)
		return append(out, '"'), nil
	}
	if !utf8.ValidString(s) {
		return out, fmt.Errorf("msgjson: the string %q is not valid UTF-8", clip(s))
	}
	b := new(bytes.Buffer)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return out, fmt.Errorf("msgjson: %w", err)
	}
	return printable.AppendJSON(out, bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// isPlain reports whether a string needs no escapes.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// Value reads one JSON value as MessagePack.
func Value(b []byte) (msgpack.RawMessage, error) {
	members, err := Object(slices.Concat([]byte(`{"value":`), b, []byte{'}'}))
	if err != nil {
		return nil, err
	}
	if bad := members[0].Err; bad != nil {
		return nil, bad
	}
	return members[0].Value, nil
}

// Short reports whether an error means that the JSON ends too early.
func Short(err error) bool { return errors.Is(err, errShort) }
