// Package trace reads the conformance traces, which are recorded runs of the reference engine, and
// compares an engine with them. integration/testdata/conformance/README.md describes their format.
package trace

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hypertoken/internal/msgjson"
)

// Trace is a recorded run.
type Trace struct {
	Name string
	// Setup is MessagePack.
	Setup []byte
	Lines []Line
}

// Line is a step, or a state at that point.
type Line struct {
	N       int
	Now     int64
	Type    string
	Payload any
	// Fails is true if the step fails. Otherwise Result is its result.
	Fails  bool
	Result any
	// IsState is true if the line is a state. State is that whole state.
	State   any
	IsState bool
}

// Steps counts the lines that are actions.
func (t *Trace) Steps() int {
	n := 0
	for _, l := range t.Lines {
		if !l.IsState {
			n++
		}
	}
	return n
}

// ReadFile reads a trace from a file.
func ReadFile(path string) (*Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	t, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// ReadDir reads the traces of a directory, by name.
func ReadDir(dir string) ([]*Trace, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	all := make([]*Trace, len(names))
	for i, name := range names {
		if all[i], err = ReadFile(name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Read reads a trace. Errors name the line.
func Read(r io.Reader) (*Trace, error) {
	var t *Trace
	br := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := br.ReadBytes('\n')
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff")) // some editors write it in front of UTF-8
		}
		if len(bytes.TrimSpace(line)) > 0 {
			if lineErr := t.add(&t, line); lineErr != nil {
				return nil, fmt.Errorf("line %d: %w", n, lineErr)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if t == nil {
		return nil, errors.New("empty: a trace begins with {\"trace\":NAME,\"setup\":S}")
	}
	return t, nil
}

func (t *Trace) add(made **Trace, line []byte) error {
	var raw struct {
		Trace   *string
		Setup   json.RawMessage
		N       int
		Now     int64
		Type    string
		Payload json.RawMessage
		Result  any
		Error   bool
		State   any
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return err
	}
	var payload any
	if raw.Payload != nil {
		// Numbers are sent as they stand there.
		dec := json.NewDecoder(bytes.NewReader(raw.Payload))
		dec.UseNumber()
		if err := dec.Decode(&payload); err != nil {
			return err
		}
	}
	switch {
	case t == nil && (raw.Trace == nil || raw.Setup == nil):
		return errors.New("a trace begins with {\"trace\":NAME,\"setup\":S}")
	case t == nil:
		setup, err := msgjson.Value(raw.Setup)
		if err != nil {
			return fmt.Errorf("setup: %w", err)
		}
		*made = &Trace{Name: *raw.Trace, Setup: setup}
	case raw.State != nil:
		t.Lines = append(t.Lines, Line{IsState: true, State: raw.State})
	case raw.Type != "":
		t.Lines = append(t.Lines, Line{N: raw.N, Now: raw.Now, Type: raw.Type, Payload: payload,
			Fails: raw.Error, Result: raw.Result})
	default:
		return errors.New("neither a step nor a state")
	}
	return nil
}

// Bindings are the identifiers that an engine made up, by the names that a trace gives them.
type Bindings map[string]string

const prefix = "$id"

// Fill returns a payload as MessagePack. The names of identifiers are replaced by the identifiers
// that they are bound to.
func (b Bindings) Fill(payload any) ([]byte, error) {
	text, err := json.Marshal(b.fill(payload))
	if err != nil {
		return nil, err
	}
	return msgjson.Value(text)
}

func (b Bindings) name(s string) string {
	if id, ok := b[s]; ok && strings.HasPrefix(s, prefix) {
		return id
	}
	return s
}

func (b Bindings) fill(v any) any {
	switch v := v.(type) {
	case string:
		return b.name(v)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = b.fill(x)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[b.name(k)] = b.fill(x)
		}
		return out
	}
	return v
}

// bound reports whether every identifier that a payload names is bound.
func (b Bindings) bound(v any) bool {
	known := func(s string) bool { return !strings.HasPrefix(s, prefix) || b[s] != "" }
	switch v := v.(type) {
	case string:
		return known(v)
	case []any:
		for _, x := range v {
			if !b.bound(x) {
				return false
			}
		}
	case map[string]any:
		for k, x := range v {
			if !known(k) || !b.bound(x) {
				return false
			}
		}
	}
	return true
}
