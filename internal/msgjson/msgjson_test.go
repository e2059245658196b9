package msgjson

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func TestValuesSurviveTheWayAndBack(t *testing.T) {
	long := `"` + strings.Repeat("x", 70000) + `"`
	items := "[" + strings.Repeat("0,", 70000) + "0]"
	for in, want := range map[string]string{
		`null`: `null`, `true`: `true`, `-0`: `0`, `0.0`: `0`, `1.0`: `1`, `1e3`: `1000`, `-32`: `-32`, `2.5`: `2.5`,
		`9007199254740991`: `9007199254740991`, `-9007199254740991`: `-9007199254740991`,
		`1e300`: `1e+300`, `9007199254740993.0`: `9007199254740992`, `5e-324`: `5e-324`,
		`""`: `""`, `"\u0041\n\u2028<&>"`: "\"A\\n\\u2028<&>\"", `"\ufffd"`: "\"\ufffd\"", `"\ud83d\ude00"`: `"😀"`,
		`{"b":1,"a":{"":[]}}`: `{"b":1,"a":{"":[]}}`,
		`[[],{},[1,[2,[3]]]]`: `[[],{},[1,[2,[3]]]]`,
		long:                  long,
		items:                 items,
	} {
		b, err := Value([]byte(in))
		if err != nil {
			t.Errorf("%.80s: %v", in, err)
			continue
		}
		out, err := Append(nil, b)
		if err != nil || string(out) != want {
			t.Errorf("%.80s became %.80s, want %.80s (%v)", in, out, want, err)
		}
	}
}

// Containers get the shortest header, on both sides of each step.
func TestContainersOfEveryLength(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 65535, 65536} {
		b, err := Value([]byte("[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]"))
		var items []int
		if err == nil {
			err = msgpack.Unmarshal(b, &items)
		}
		header := map[bool]int{true: 1, false: 3}[n < 16]
		if n > 65535 {
			header = 5
		}
		if err != nil || len(items) != n || len(b) != n+header {
			t.Errorf("%d items: %d bytes, %d read, %v", n, len(b), len(items), err)
		}
	}
}

func TestWhatAValueCanNotSayIsAnError(t *testing.T) {
	for in, want := range map[string]string{
		`9007199254740992`: "outside ±9007199254740991", `-9007199254740992`: "outside", `12345678901234567890123`: "outside",
		`1e400`: "too large", `{"a":1,"b":{"c":1,"c":2}}`: `"c" stands twice`,
	} {
		_, err := Value([]byte(in))
		var bad *ValueError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
	for in, want := range map[string]string{
		`{"a":1`: "too early", `{"a" 1}`: "broken", `"\ud800"`: "surrogate", "\"\xff\"": "UTF-8", `1 2`: "broken", ``: "broken", `"\ud800\ufffd"`: "surrogate", `"\\ufffd\ud800"`: "surrogate",
	} {
		if _, err := Value([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

// What is too deep to be a value is still read to its end, whatever its depth.
func TestDepthIsReadToItsEnd(t *testing.T) {
	deep := func(n int) string {
		return `{"a":` + strings.Repeat(`[`, n) + `{"k":"v"}` + strings.Repeat(`]`, n) + `,"b":7}`
	}
	for _, n := range []int{5, maxKept - 2, maxKept - 1, maxKept, 100_000} {
		b, err := Value([]byte(deep(n)))
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		var v struct {
			B int `msgpack:"b"`
		}
		if err := msgpack.Unmarshal(b, &v); err != nil || v.B != 7 {
			t.Errorf("%d: %v, %v", n, v, err)
		}
	}
	if _, err := Value([]byte(strings.Repeat("[", 100_000))); err == nil {
		t.Error("what is never closed is read")
	}
}

// FuzzValue holds the reader against encoding/json: what both read is the same value.
func FuzzValue(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x",null,true,{"b":-1e10}]}`, `"\ud83d\ude00"`, `[[[[]]]]`, `1e400`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := Value(in)
		if err != nil {
			return
		}
		var want, got any
		if err := json.Unmarshal(in, &want); err != nil {
			if strings.Contains(err.Error(), "max depth") {
				return
			}
			t.Fatalf("%q is read, and is not JSON: %v", in, err)
		}
		out, err := Append(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q became %q: %v", in, out, err)
		}
		// What is too deep to be a value is not kept.
		shallow := strings.Count(string(in), "[")+strings.Count(string(in), "{") < maxKept
		if shallow && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q", in, out)
		}
	})
}
