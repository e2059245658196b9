package jsonl

import (
	"encoding/json"
	"strings"
	"testing"

	"hypertoken/internal/msgjson"
)

// A key is one where the form has keys, and nothing otherwise.
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		line          string
		with, without int // options
		bad           bool
	}{
		{`{"type":"x","key":"k"}`, 1, 0, false},
		{`{"type":"x"}`, 0, 0, false},
		{`{"type":"x","key":""}`, 0, 0, true},
		{`{"type":"x","key":"` + strings.Repeat("k", 256) + `"}`, 1, 0, false},
		{`{"type":"x","key":"` + strings.Repeat("k", 257) + `"}`, 0, 0, true},
		{`{"type":"x","key":"é"}`, 0, 0, true},
		{`{"type":"x","key":7}`, 0, 0, true},
		{`{"type":"x","key":null}`, 0, 0, true},
	} {
		q, err := Form{Keys: true}.Parse(Line{Text: []byte(c.line)}, nil)
		if (err != nil) != c.bad || err == nil && len(q.Options) != c.with {
			t.Errorf("%s with keys: %+v, %v", c.line, q, err)
		}
		if q, err = (Form{}).Parse(Line{Text: []byte(c.line)}, nil); err != nil || len(q.Options) != c.without {
			t.Errorf("%s without: %+v, %v", c.line, q, err)
		}
	}
}

// FuzzRequest reads whatever it finds as a line of run: a command or an error of that line, and a payload that is one
// value.
func FuzzRequest(f *testing.F) {
	for _, line := range []string{
		`{"setup":{"stack":[{"id":"a"}]}}`, `{"type":"stack:draw","payload":{"count":2},"now":5,"timeout":1.5}`,
		`{"type":"x","key":"k"}`, `{"state":true}`, `{"digest":true}`, `{"type":"x","entropy":"000102030405060708090a0b0c0d0e0f"}`, `{"type":`, `[]`, `{"a":[[[{"b":1e400}]]]}`, "\xff",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		q, err := Form{Keys: true}.Parse(Line{Number: 1, Text: line}, nil)
		if err != nil {
			return
		}
		if q.Kind < Action || q.Kind > Digest {
			t.Fatalf("kind %d", q.Kind)
		}
		if q.Value == nil {
			return
		}
		text, err := msgjson.Append(nil, q.Value)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%q became %q (%v)", line, text, err)
		}
	})
}
