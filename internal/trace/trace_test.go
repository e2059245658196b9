package trace

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func TestCompare(t *testing.T) {
	type dict = map[string]any
	list := func(v ...any) []any { return v }
	for _, c := range []struct {
		name      string
		want, got any
		path      string // of the difference, "" for none
	}{
		{"numbers by value", 1.0, 1.0, ""},
		{"within 1e-9", 1.0, 1.0 + 5e-10, ""},
		{"beyond", 1.0, 1.0 + 5e-9, "r"},
		{"types", 1.0, "1", "r"},
		{"null and absence", dict{"a": nil}, dict{}, "r.a"},
		{"a key too many", dict{}, dict{"a": nil}, "r.a"},
		{"within a map", dict{"a": dict{"b": 1.0}}, dict{"a": dict{"b": 2.0}}, "r.a.b"},
		{"within an array", list(1.0, 2.0), list(1.0, 3.0), "r[1]"},
		{"a shorter array", list(1.0, 2.0), list(1.0), "r"},
		{"bools", true, false, "r"},
		{"a new identifier", list("$id1", "$id1"), list("x", "x"), ""},
		{"an identifier that changes", list("$id1", "$id1"), list("x", "y"), "r[1]"},
		{"a known identifier", "$id0", "zero", ""},
		{"another", "$id0", "one", "r"},
		{"an identifier that is no string", "$id9", 1.0, "r"},
	} {
		d := Bindings{"$id0": "zero"}.compare(c.want, c.got, "r")
		switch {
		case d == nil && c.path != "", d != nil && d.Path != c.path:
			t.Errorf("%s: %v, want a difference at %q", c.name, d, c.path)
		}
	}
}

func TestFillReplacesIdentifiers(t *testing.T) {
	b, err := Bindings{"$id1": "x"}.Fill(map[string]any{"$id1": []any{"$id1", "$id2", 1.0}})
	var got map[string][]any
	if err == nil {
		err = msgpack.Unmarshal(b, &got)
	}
	if err != nil || len(got["x"]) != 3 || got["x"][0] != "x" || got["x"][1] != "$id2" {
		t.Errorf("got %v, %v", got, err)
	}
}

// Numbers of a payload are sent as they are in the trace, also large floats. A number that is no
// double is refused.
func TestNumbersOfPayloads(t *testing.T) {
	for payload, want := range map[string]any{`1e20`: 1e20, `[1.0,7]`: []any{1.0, int8(7)}, `-0.5`: -0.5, `9007199254740993.0`: nil, `1e999`: nil} {
		tr, err := Read(strings.NewReader(`{"trace":"x","setup":{}}` + "\n" + `{"n":1,"type":"a:b","payload":{"x":` + payload + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Bindings{}.Fill(tr.Lines[0].Payload)
		if want == nil {
			if err == nil {
				t.Errorf("%s is sent as %x", payload, b)
			}
			continue
		}
		var got map[string]any
		if err == nil {
			err = msgpack.Unmarshal(b, &got)
		}
		if err != nil || !reflect.DeepEqual(got["x"], want) {
			t.Errorf("%s is sent as %#v (%v)", payload, got["x"], err)
		}
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "empty",
		`{"n":1,"type":"a:b"}`:              "line 1: a trace begins with",
		`{"trace":"x","setup":{}}` + "\n{}": "line 2: neither a step nor a state",
		`{"trace":"x","setup":{}}` + "\n[":  "line 2: unexpected end",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A byte order mark, blank lines and Windows' ends of lines make no difference.
func TestReadOfFilesFromElsewhere(t *testing.T) {
	tr, err := Read(strings.NewReader("\ufeff" + `{"trace":"x","setup":{}}` + "\r\n\r\n \t\r\n" + `{"n":1,"type":"a:b"}` + "\r\n"))
	if err != nil || tr.Steps() != 1 {
		t.Errorf("%+v, %v", tr, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"trace":"x","setup":{}}` + "\n" + `{"n":1,"now":1,"type":"a:b","payload":{},"result":null}` + "\n" + `{"state":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		tr, err := Read(strings.NewReader(text))
		if err == nil && tr.Steps() > len(tr.Lines) {
			t.Fatalf("%d steps in %d lines", tr.Steps(), len(tr.Lines))
		}
	})
}
