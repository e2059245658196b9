package jsonl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"hypertoken/host"
	"hypertoken/internal/msgjson"
)

func parsed(text string) (*Request, error) { return Parse(Line{Number: 1, Text: []byte(text)}, nil) }

// Each member is allowed in some kinds of lines. In other lines it is an error, and so is a member
// that no line has. So a member that is not understood is never ignored.
func TestMembersOfLines(t *testing.T) {
	key256, key257 := strings.Repeat("k", 256), strings.Repeat("k", 257)
	for line, want := range map[string]string{ // "" is no error
		`{"setup":{},"timeout":5,"want":["digest"]}`: "",
		`{"type":"x","payload":{},"now":1,"entropy":"000102030405060708090a0b0c0d0e0f","key":"k","if_sequence":0,"timeout":1.5,"want":[]}`:                                                "",
		`{"state":true,"timeout":1,"want":["sequence","changed","digest"]}`:                                                                                                               "",
		`{"digest":true,"timeout":1,"want":["sequence"]}`:                                                                                                                                 "",
		`{"batch":[{"type":"x","payload":{},"now":1,"entropy":"000102030405060708090a0b0c0d0e0f"}],"mode":"independent","now":1,"key":"k","if_sequence":1,"timeout":1,"want":["digest"]}`: "",
		`{"batch":[{"type":"x"}]}`: "",

		`{"type":"x","pyload":{}}`:       `there is no member "pyload": do you mean "payload"?`,
		`{"type":"x","ifSequence":1}`:    `there is no member "ifSequence": do you mean "if_sequence"?`,
		`{"tpye":"x"}`:                   `there is no member "tpye": do you mean "type"?`,
		`{"type":"x","Payload":{}}`:      `do you mean "payload"?`,
		`{"type":"x","want":["digset"]}`: `want: there is no "digset": do you mean "digest"?`,
		`{"type":"x","colour":1}`:        `there is no member "colour": a line has one of setup, type, state, digest, batch, revert, undo or redo, and may have timeout, want, payload, now, entropy, key, if_sequence, at or mode`,
		`{"revert":0,"key":"k","if_sequence":1,"timeout":1,"want":["sequence","changed","digest"]}`: "",
		`{"undo":true,"key":"k","if_sequence":1,"timeout":1,"want":["changed"]}`:                    "",
		`{"redo":true,"key":"k","if_sequence":1,"timeout":1,"want":["changed"]}`:                    "",
		`{"revert":-1}`:             "revert: want a whole number from 0",
		`{"revert":true}`:           "revert: want a whole number from 0",
		`{"undo":1}`:                "undo: want true",
		`{"redo":false}`:            "redo: want true",
		`{"redo":[1]}`:              "redo: want true",
		`{"undo":true,"redo":true}`: "want only one of",
		`{"undo":true,"at":1}`:      "at does not go with undo, which takes key, if_sequence, timeout and want",
		`{"revert":1,"now":1}`:      "now does not go with revert",
		`{"revert":1,"to":1}`:       `there is no member "to"`,
		`{"marker":"revert"}`:       `there is no member "marker"`,

		`{}`:                                 "want one of setup, type, state, digest, batch, revert, undo or redo",
		`{"payload":{}}`:                     "want one of",
		`{"setup":{},"type":"x"}`:            "want only one of",
		`{"batch":[{"type":"x"}],"type":""}`: "want only one of",
		`{"setup":{},"payload":{}}`:          "payload does not go with setup, which takes timeout and want",
		`{"setup":{},"now":1}`:               "now does not go with setup",
		`{"setup":{},"key":"k"}`:             "key does not go with setup",
		`{"setup":{},"if_sequence":0}`:       "if_sequence does not go with setup",
		`{"state":true,"now":1}`:             "now does not go with state, which takes at, timeout and want",
		`{"state":true,"payload":{}}`:        "payload does not go with state",
		`{"digest":true,"key":"k"}`:          "key does not go with digest",
		`{"digest":true,"entropy":""}`:       "entropy does not go with digest",
		`{"type":"x","mode":"atomic"}`:       "mode does not go with type, which takes payload, now, entropy, key, if_sequence, timeout and want",
		`{"batch":[],"payload":{}}`:          "payload does not go with batch",

		`{"type":"x","key":"` + key256 + `"}`:         "",
		`{"type":"x","key":"` + key257 + `"}`:         "key: want a string of 1 to 256",
		`{"type":"x","key":""}`:                       "key: want",
		`{"type":"x","key":"é"}`:                      "key: want",
		`{"type":"x","key":7}`:                        "key: want",
		`{"type":"x","key":null}`:                     "key: want",
		`{"type":null}`:                               "type: want a string",
		`{"type":"x","now":1e12}`:                     "",
		`{"type":"x","now":1.5}`:                      "now: want",
		`{"type":"x","now":"1"}`:                      "now: want",
		`{"type":"x","if_sequence":9007199254740991}`: "",
		`{"type":"x","if_sequence":9007199254740992}`: "if_sequence: want a whole number from 0",
		`{"type":"x","if_sequence":-1}`:               "if_sequence: want",
		`{"type":"x","if_sequence":"1"}`:              "if_sequence: want",
		`{"type":"x","if_sequence":null}`:             "if_sequence: want",
		`{"type":"x","timeout":0}`:                    "timeout: want",
		`{"type":"x","timeout":1e12}`:                 "",
		`{"type":"x","timeout":1.1e12}`:               "timeout: want milliseconds above 0, at most 1e+12",
		"\ufeff" + `{"type":"x"}`:                     "it begins with a byte order mark",
		`{"type":"x","timeout":null}`:                 "timeout: want",
		`{"type":"x","want":"digest"}`:                "want: want an array of strings, of sequence, changed and digest",
		`{"type":"x","want":null}`:                    "want: want an array",
		`{"type":"x","want":[null]}`:                  "want: want an array",
		`{"type":"x","want":[1]}`:                     "want: want an array",
		`{"type":"x","want":["result"]}`:              `want: there is no "result", but sequence, changed and digest`,
		`{"state":1}`:                                 "state: want true",
		`{"digest":false}`:                            "digest: want true",

		`{"state":true,"at":0,"want":["digest"]}`: "",
		`{"digest":true,"at":9007199254740991}`:   "",
		`{"digest":true,"at":9007199254740992}`:   "at: want a whole number from 0",
		`{"state":true,"at":-1}`:                  "at: want a whole number from 0",
		`{"state":true,"at":1.5}`:                 "at: want",
		`{"state":true,"at":"1"}`:                 "at: want",
		`{"state":true,"at":null}`:                "at: want",
		`{"type":"x","at":1}`:                     "at does not go with type",
		`{"setup":{},"at":1}`:                     "at does not go with setup",
		`{"batch":[{"type":"x"}],"at":1}`:         "at does not go with batch",
		`{"at":1}`:                                "want one of setup",

		`{"batch":[]}`:                                       "batch: 0 actions are outside 1 to 16384",
		`{"batch":{}}`:                                       "batch: want an array of objects",
		`{"batch":["x"]}`:                                    "batch[0]: want an object",
		`{"batch":[{"type":"x"},{}]}`:                        "batch[1]: want a type",
		`{"batch":[{"type":"x","pyload":1}]}`:                `batch[0]: there is no member "pyload": do you mean "payload"?`,
		`{"batch":[{"type":"x","colour":1}]}`:                `batch[0]: there is no member "colour": want type, and maybe payload, now or entropy`,
		`{"batch":[{"type":"x","key":"k"}]}`:                 "batch[0]: key does not go with type, which takes payload, now and entropy within a batch",
		`{"batch":[{"type":"x","if_sequence":1}]}`:           "batch[0]: if_sequence does not go",
		`{"batch":[{"type":"x","timeout":1}]}`:               "batch[0]: timeout does not go",
		`{"batch":[{"type":"x","want":[]}]}`:                 "batch[0]: want does not go",
		`{"batch":[{"state":true}]}`:                         "batch[0]: state does not go",
		`{"batch":[{"type":"x","batch":[]}]}`:                "batch[0]: batch does not go",
		`{"batch":[{"type":"x","type":"y"}]}`:                `batch[0]: the key "type" stands twice`,
		`{"batch":[{"type":5}]}`:                             "batch[0]: type: want a string",
		`{"batch":[{"type":"x"}],"mode":"atomc"}`:            `mode: want "atomic" or "independent"`,
		`{"batch":[{"type":"x"}],"mode":null}`:               `mode: want`,
		`{"batch":[{"type":"x"}],"entropy":"00"}`:            "entropy does not go with batch",
		`{"type":"x","payload":{},"payload":{}}`:             `the key "payload" stands twice`,
		`{"type":"x","pyload":1,"pyload":1}`:                 `the key "pyload" stands twice`,
		`{"type":"x","` + strings.Repeat("y", 1000) + `":1}`: strings.Repeat("y", 64) + `..."`,
	} {
		_, err := parsed(line)
		if want == "" && err != nil || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrLine)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// The server's description of each kind of line has the members that are allowed there.
func TestLinesAreDescribed(t *testing.T) {
	b, err := os.ReadFile("../serve/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Components struct {
			Schemas map[string]struct {
				Required             []string
				Properties           map[string]any
				AdditionalProperties any
			}
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	names := map[Kind]string{Setup: "SetupLine", Action: "ActionLine", State: "StateLine", Digest: "DigestLine",
		Batch: "BatchLine", Revert: "RevertLine", Undo: "UndoLine", Redo: "RedoLine"}
	check := func(name string, f form) {
		schema := d.Components.Schemas[name]
		want := slices.Sorted(slices.Values(append([]string{f.member}, f.others...)))
		if got := slices.Sorted(maps.Keys(schema.Properties)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
		if !slices.Equal(schema.Required, []string{f.member}) || schema.AdditionalProperties != false {
			t.Errorf("%s requires %q, and others are %v", name, schema.Required, schema.AdditionalProperties)
		}
	}
	for _, f := range forms {
		check(names[f.kind], f)
	}
	check("BatchAction", memberForm)
	batch := d.Components.Schemas["BatchLine"].Properties["batch"].(map[string]any)
	if batch["maxItems"] != float64(MaxMembers) {
		t.Errorf("a batch has at most %v actions, want %d", batch["maxItems"], MaxMembers)
	}
}

// A batch has a bound of its own: its actions take much more memory than their text.
func TestMembersOfABatchAreBounded(t *testing.T) {
	batch := func(n int) string {
		return `{"batch":[` + strings.TrimSuffix(strings.Repeat(`{"type":""},`, n), ",") + `]}`
	}
	if q, err := parsed(batch(MaxMembers)); err != nil || len(q.Members) != MaxMembers || q.Actions() != MaxMembers {
		t.Errorf("%d: %v", MaxMembers, err)
	}
	want := fmt.Sprintf("batch: %d actions are outside 1 to %d", MaxMembers+1, MaxMembers)
	if _, err := parsed(batch(MaxMembers + 1)); err == nil || err.Error() != want {
		t.Errorf("%d: %v", MaxMembers+1, err)
	}
}

// The error of a line that was meant to be a setup says so, for any fault of the line. So no later
// line runs on another engine.
func TestRefusedSetups(t *testing.T) {
	for text, want := range map[string]bool{
		`{"setup":{"stack":[`: true, ` { "setup" :`: true, `{"setup":{},"stack":[]}`: true, `{"want":["x"],"setup":{}}`: true,
		`{"setup":{},"setup":{}}`: true, `{"setup":{"a":"\ud800"}}`: true, `{"type":"x","setup":{}}`: true,
		`{"type":"game:setPhase","payload":{"setup":1}`: false, `{"type":"x","pyload":1}`: false, `nonsense`: false,
		// Lines that were meant to be a setup.
		"\ufeff" + `{"setup":{}}`: true, `,{"setup":{}}`: true, `{"timeout":5,"want":["digest"],"setup":{`: true,
		`{setup:{}}`: true, `{'setup':{}}`: true, `{"setups":{}}`: true, `{"Setup":{"stack":[]}}`: true,
		`{"want":["digest"],"setpu":{}}`: true,
		"\ufeff" + `{"type":"setup"}`:    false, `{"type":"x","setpu":{}}`: false, `{"want":["setup":`: false,
		`"{setup:"`: false, `{"payload":{"setup":`: false, `{"want":[{"setup":`: false,
	} {
		_, err := parsed(text)
		var bad *LineError
		if !errors.As(err, &bad) || bad.Setup != want {
			t.Errorf("%s: %+v", text, bad)
		}
	}
	long := `{"setup":{"a":"` + strings.Repeat("x", 200) + `"}}`
	for text, want := range map[string]bool{long: true, strings.Replace(long, "setup", "debug", 1): false} {
		_, err := Parse(NewReader(iotest.OneByteReader(strings.NewReader(text)), 100, "").Next())
		var bad *LineError
		if !errors.As(err, &bad) || !bad.Long || bad.Setup != want {
			t.Errorf("%s: %+v", text, bad)
		}
	}
}

func TestReader(t *testing.T) {
	const bom = "\ufeff"
	for _, c := range []struct {
		name, in string
		want     []string // number: text
	}{
		{"lines", "a\nb\nc", []string{"1: a", "2: b", "3: c"}},
		{"a last newline", "a\n", []string{"1: a"}},
		{"nothing", "", nil},
		{"blank lines", "\n\na\n \t\r\n\nb\n\n", []string{"3: a", "6: b"}},
		{"blank lines only", "\n  \n\t", nil},
		{"CRLF", "a\r\n\r\nb\r\n", []string{"1: a\r", "3: b\r"}},
		{"a byte order mark", bom + "a\nb", []string{"1: a", "2: b"}},
		{"a byte order mark before a blank line", bom + "\r\na", []string{"2: a"}},
		{"a byte order mark alone", bom, nil},
		{"a byte order mark elsewhere", "a\n" + bom + "b", []string{"1: a", "2: " + bom + "b"}},
		{"two of them", bom + bom, []string{"1: " + bom}},
		{"a long line", "123456789\nb", []string{"1: 123456789 skipped", "2: b"}},
		{"a line that just fits", bom + "12345678\nb", []string{"1: 12345678", "2: b"}},
	} {
		for way, in := range map[string]io.Reader{"whole": strings.NewReader(c.in),
			"in pieces": iotest.OneByteReader(strings.NewReader(c.in))} {
			var got []string
			r := NewReader(in, 8, "--max-line")
			for {
				line, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				text := fmt.Sprintf("%d: %s", line.Number, line.Text)
				if errors.Is(err, ErrLine) {
					text += " skipped"
				} else if err != nil {
					t.Fatal(err)
				}
				got = append(got, text)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: %q, want %q", c.name, way, got, c.want)
			}
		}
	}
	r := NewReader(strings.NewReader("a\n"), 8, "")
	for n, in := range []string{bom + "b", "", bom + "\nc"} {
		for range 2 {
			if line, err := r.Next(); err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("%d: %v", line.Number, err)
			}
		}
		r.Reset(strings.NewReader(in))
		if line, err := r.Next(); n != 1 &&
			(err != nil || string(line.Text) != strings.Trim(in, bom+"\n") || line.Number != []int{2, 0, 4}[n]) {
			t.Errorf("%q after others: line %d is %q, %v", in, line.Number, line.Text, err)
		}
	}
	if _, err := parsed("\xff\xfe{\x00"); err == nil || !strings.Contains(err.Error(), "UTF-16") {
		t.Error(err)
	}
}

// FuzzReader reads any input in pieces of any size: no line is blank, and all that is not blank is
// there.
func FuzzReader(f *testing.F) {
	f.Add("\ufeffa\r\n\n \nb", 3)
	f.Fuzz(func(t *testing.T, in string, max int) {
		max = min(1+max&0xff, 64)
		r := NewReader(iotest.HalfReader(strings.NewReader(in)), max, "")
		lines := strings.Split(strings.TrimPrefix(in, "\ufeff"), "\n")
		next := 0
		for {
			line, err := r.Next()
			for next < len(lines) && strings.Trim(lines[next], " \t\r") == "" && len(lines[next]) <= max {
				next++
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if next == len(lines) || line.Number != next+1 {
				t.Fatalf("%q: line %d is %q", in, line.Number, line.Text)
			}
			if long := len(lines[next]) > max; long != errors.Is(err, ErrLine) || !long &&
				string(line.Text) != lines[next] {
				t.Fatalf("%q: line %d is %q, %v", in, line.Number, line.Text, err)
			}
			next++
		}
		if next != len(lines) {
			t.Fatalf("%q ends before line %d", in, next+1)
		}
	})
}

// A result that no core may return is an error of its action, and not a broken line. Nothing in an
// error steers a terminal.
func TestAnswersAreJSON(t *testing.T) {
	for name, c := range map[string]struct {
		result host.Result
		err    error
		want   string
	}{
		"no MessagePack":  {host.Result{Raw: host.Raw{0xc1}}, nil, `{"n":7,"error":{"code":"bad_result","message":"msgjson: `},
		"cut in a string": {host.Result{Raw: host.Raw{0x91, 0xa5, 'a'}}, nil, `{"n":7,"error":{"code":"bad_result",`},
		"an error":        {host.Result{}, &host.ActionError{Code: "x", Message: "\u009b<\x7f\x1b"}, `{"n":7,"error":{"code":"x","message":"\u009b<\u007f\u001b"}}`},
	} {
		line, err := Outcome(7, c.result, c.err)
		if !strings.HasPrefix(string(line), c.want) || !json.Valid(line) || (err != nil) != (c.err == nil) {
			t.Errorf("%s: %s, %v", name, line, err)
		}
	}
}

// FuzzRequest reads any bytes as a line. The result is a request or an error of that line, and
// each payload is exactly one value.
func FuzzRequest(f *testing.F) {
	for _, line := range []string{
		`{"setup":{"stack":[{"id":"a"}]}}`, `{"type":"stack:draw","payload":{"count":2},"now":5,"timeout":1.5}`,
		`{"type":"x","key":"k","if_sequence":7,"want":["sequence","changed","digest"]}`, `{"state":true}`, `{"digest":true}`,
		`{"type":"x","entropy":"000102030405060708090a0b0c0d0e0f"}`, `{"type":`, `[]`, `{"a":[[[{"b":1e400}]]]}`, "\xff",
		`{"batch":[{"type":"x","payload":{"a":1}},{"type":"y","now":5}],"mode":"independent","key":"k"}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		q, err := Parse(Line{Number: 1, Text: line}, nil)
		if err != nil {
			if !errors.Is(err, ErrLine) {
				t.Fatalf("%q: %v", line, err)
			}
			return
		}
		if q.Kind < Action || q.Kind > Batch || q.Timeout < 0 || q.Timeout > 1e12*time.Millisecond {
			t.Fatalf("%+v", q)
		}
		if (q.Kind == Batch) != (len(q.Members) > 0) {
			t.Fatalf("%d members of kind %d", len(q.Members), q.Kind)
		}
		values := [][]byte{q.Value}
		for _, m := range q.Members {
			if m.Payload != nil {
				values = append(values, m.Payload.(host.Raw))
			}
		}
		for _, value := range values {
			if value == nil {
				continue
			}
			text, err := msgjson.Append(nil, value)
			if err != nil || !json.Valid(text) {
				t.Fatalf("%q became %q (%v)", line, text, err)
			}
		}
	})
}
