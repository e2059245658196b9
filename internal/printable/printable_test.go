package printable

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain ö 漢":            "plain ö 漢",
		"\x1b]0;title\a\u009b": "?]0;title??",
		"a\nb\tc\rd":           "a b c?d",
		"\u202egnp\u200b\x7f":  "?gnp??",
		"\xff\xfe":             "??",
		"12345678901":          "1234567890…",
		"1234567890":           "1234567890",
	} {
		if got := Line(in, 10+10*strings.Count(in, "\x1b")); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	if got := Line(strings.Repeat("x", 5000), 0); len(got) != 5000 {
		t.Errorf("%d of 5000 characters without a bound", len(got))
	}
}

func TestText(t *testing.T) {
	if got, want := Text("a\x1b[2J\n\n  b\tc\n"), "a?[2J\n\n  b c\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAppendJSON(t *testing.T) {
	if got, want := string(AppendJSON([]byte("x:"), []byte("{\"a\":\"\u009b\x7f\u202e ö漢😀\xff\"}\n"))),
		"x:{\"a\":\"\\u009b\\u007f\\u202e ö漢😀\xff\"}\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzAppendJSON escapes any JSON: it means the same, and nothing in it steers a terminal.
func FuzzAppendJSON(f *testing.F) {
	f.Add("\u009b31m\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(map[string]any{s: []any{s, 1.5, nil}}); err != nil {
			t.Fatal(err)
		}
		escaped := AppendJSON(nil, bytes.TrimSpace(b.Bytes()))
		if bytes.ContainsFunc(escaped, unicode.IsControl) {
			t.Errorf("%q steers a terminal", escaped)
		}
		var want, got any
		if json.Unmarshal(b.Bytes(), &want) != nil || json.Unmarshal(escaped, &got) != nil ||
			!reflect.DeepEqual(want, got) {
			t.Errorf("%q became %q", b.Bytes(), escaped)
		}
		if line := Line(s, 0); strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q steers a terminal", line)
		}
	})
}
