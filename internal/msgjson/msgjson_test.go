package msgjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/vmihailenco/msgpack/v5"
)

func TestValuesSurviveTheWayAndBack(t *testing.T) {
	long := `"` + strings.Repeat("x", 70000) + `"`
	items := "[" + strings.Repeat("0,", 70000) + "0]"
	for in, want := range map[string]string{
		`null`: `null`, `true`: `true`, `-0`: `0`, `-32`: `-32`, `2.5`: `2.5`,
		`0.0`: `0.0`, `-0.0`: `-0.0`, `0e9`: `0.0`, `1.0`: `1.0`, `1e3`: `1000.0`, `1e20`: `1e+20`, `-1E+20`: `-1e+20`,
		`9007199254740991`: `9007199254740991`, `-9007199254740991`: `-9007199254740991`,
		`9007199254740991.0`: `9007199254740991.0`, `9007199254740992.0`: `9.007199254740992e+15`,
		`1e300`: `1e+300`, `5e-324`: `5e-324`, `0.1`: `0.1`, `0.10000000000000000001`: `0.1`,
		`1e23`: `1e+23`, `9.9999999999999992e+22`: `1e+23`, `99999999999999991611392.0`: `1e+23`,
		`"\u007f\u009b31m\u202e\u200b\u0080"`: "\"\\u007f\\u009b31m\\u202e\u200b\\u0080\"",
		`""`:                                  `""`, `"\u0041\n\u2028<&>"`: "\"A\\n\\u2028<&>\"", `"\ufffd"`: "\"\ufffd\"", `"\ud83d\ude00"`: `"😀"`,
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
		`1e400`: "too large", `1e-400`: "too small", `9007199254740993.0`: "the nearest is 9.007199254740992e+15",
		`9.007199254740993e15`: "no float", `-9007199254740992.5`: "no float", `100000000000000000000000.1`: "no float",
		"1" + strings.Repeat("0", 308) + ".1": "no float", `{"a":1,"b":{"c":1,"c":2}}`: `"c" stands twice`,
	} {
		_, err := Value([]byte(in))
		var bad *ValueError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
	for in, want := range map[string]string{
		`{"a":1`: "too early", `{"a" 1}`: "broken", `"\ud800"`: "surrogate", "\"\xff\"": "UTF-8", "\u00a0{}": "broken", `1 2`: "broken", ``: "broken", `"\ud800\ufffd"`: "surrogate", `"\\ufffd\ud800"`: "surrogate",
	} {
		if _, err := Value([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

// A part that is too deep for a value is still read to its end, at any depth.
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

// A value that is written is read as the same value: all bits of a float, and an integer as an
// integer.
func TestNumbersSurviveTheWayBack(t *testing.T) {
	same := func(v any) {
		t.Helper()
		want, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		text, err := Append(nil, want)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		back, err := Value(text)
		if err != nil {
			t.Fatalf("%v is written as %s, which is refused: %v", v, text, err)
		}
		var got any
		if err := msgpack.Unmarshal(back, &got); err != nil {
			t.Fatal(err)
		}
		if f, ok := v.(float64); ok {
			g, ok := got.(float64)
			if !ok || math.Float64bits(f) != math.Float64bits(g) {
				t.Fatalf("%v (%x) is written as %s and read as %T %v", f, math.Float64bits(f), text, got, got)
			}
			return
		}
		if reflect.ValueOf(got).Kind() == reflect.Float64 || fmt.Sprint(got) != fmt.Sprint(v) {
			t.Fatalf("%v is written as %s and read as %T %v", v, text, got, got)
		}
	}
	random := rand.New(rand.NewPCG(15, 3))
	for range 20_000 {
		if f := math.Float64frombits(random.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
			same(f)
		}
		// Integral floats, of every size, and their neighbours.
		f := math.Ldexp(float64(random.Int64N(1<<53)), random.IntN(80)-10)
		same(f)
		same(-math.Nextafter(f, math.Inf(1)))
		same(random.Int64N(2*MaxInt+1) - MaxInt)
	}
	for e := -1074; e < 1024; e++ {
		f := math.Ldexp(1, e)
		same(f)
		same(math.Nextafter(f, 0))
	}
	for e := -323; e <= 308; e++ {
		f, err := strconv.ParseFloat(fmt.Sprintf("1e%d", e), 64)
		if err != nil {
			t.Fatal(err)
		}
		same(f)
	}
	for _, f := range []float64{0, math.Copysign(0, -1), math.MaxFloat64, -math.SmallestNonzeroFloat64} {
		same(f)
	}
	for bits := range 53 {
		same(int64(1) << bits)
		same(-(int64(1)<<bits - 1))
	}
	same(int64(MaxInt))
	same(int64(-MaxInt))
}

// How other languages write a float is read as that float: in 17 digits, with all its digits, or
// in as few as do.
func TestFloatsOfOtherLanguages(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 4))
	for range 5_000 {
		f := math.Float64frombits(random.Uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		for _, form := range []string{"%.16e", "%.17e", "%.400f"} {
			if math.Abs(f) < 1e-50 && form == "%.400f" {
				continue
			}
			text := fmt.Sprintf(form, f)
			b, err := Value([]byte(text))
			var g float64
			if err == nil {
				err = msgpack.Unmarshal(b, &g)
			}
			if err != nil || f != g {
				t.Fatalf("%s is read as %v (%v)", text, g, err)
			}
		}
	}
}

// A broken core may return something that is no value. That is an error, and no text.
func TestNoValueIsAnError(t *testing.T) {
	for name, v := range map[string]any{
		"a large integer": int64(MaxInt + 1), "a small one": int64(-MaxInt - 1),
		"an unsigned one": uint64(math.MaxUint64),
		"infinity":        math.Inf(1), "no number": math.NaN(),
		"a number as key": map[int]int{1: 1}, "no UTF-8": "a\xff",
		"bytes":           []byte{1},
		"no UTF-8 as key": map[string]int{"\xff": 1}, "none within": []any{1, map[string]any{"a": math.Inf(-1)}},
	} {
		b, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := Append(nil, b); err == nil {
			t.Errorf("%s became %s", name, out)
		}
	}
}

func TestInt(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "-0.0": 0, "1e3": 1000, "-33": -33, "200": 200, "70000": 70000,
		"5000000000":       5e9,
		"9007199254740991": MaxInt, "-9007199254740991.0": -MaxInt} {
		b, err := Value([]byte(in))
		if got, ok := Int(b); err != nil || !ok || got != want {
			t.Errorf("%s: %d, %v, %v", in, got, ok, err)
		}
	}
	for _, in := range []string{"1.5", "1e300", "9007199254740992.0", `"1"`, "null", "true", "[1]", "{}"} {
		b, err := Value([]byte(in))
		if got, ok := Int(b); err != nil || ok {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
}

func TestLists(t *testing.T) {
	m, err := Object([]byte(`{"a":1,"list":[{"x":[1],"list":[]},{},{"y":1e400}],"z":[{}]}`), "list")
	if err != nil || len(m) != 3 || len(m[1].List) != 3 || m[1].Value != nil || m[2].List != nil {
		t.Fatalf("%+v, %v", m, err)
	}
	if l := m[1].List; len(l[0]) != 2 || l[0][1].List != nil || l[0][1].Value == nil || len(l[1]) != 0 ||
		l[2][0].Err == nil {
		t.Errorf("%+v", l)
	}
	if m, err := Object([]byte(`{"list":[]}`), "list"); err != nil || m[0].List == nil {
		t.Errorf("an empty list: %+v, %v", m, err)
	}
	for in, want := range map[string]string{`{"list":5}`: "\x05", `{"list":null}`: "\xc0", `{"list":"x"}`: "\xa1x"} {
		if m, err := Object([]byte(in), "list"); err != nil || m[0].List != nil || string(m[0].Value) != want {
			t.Errorf("%s: %+v, %v", in, m, err)
		}
	}
	for in, want := range map[string]string{
		`{"list":{}}`:     "list: want an array",
		`{"list":[{},5]}`: "list[1]: want an object", `{"list":[{"a":1,"a":2}]}`: `list[0]: the key "a" stands twice`,
		`{"list":[{]}`: "list[0]: broken JSON", `{"list":[],"list":[]}`: `"list" stands twice`,
	} {
		if _, err := Object([]byte(in), "list"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	for _, in := range []string{`{"list":`, `{"list":[`, `{"list":[{`, `{"list":[{}`, `{"list":[{}]`, `{"list":[{"a":1},`} {
		if _, err := Object([]byte(in), "list"); !Short(err) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// A member that occurs twice is found among few members and among many.
func TestMembersThatStandTwice(t *testing.T) {
	for n := 1; n <= 3*fewMembers; n++ {
		for twice := range n {
			line := "{"
			for k := range n {
				line += fmt.Sprintf(`"k%d":0,`, k)
			}
			if m, err := Object([]byte(line[:len(line)-1] + "}")); err != nil || len(m) != n {
				t.Fatalf("%d members: %d, %v", n, len(m), err)
			}
			if _, err := Object(fmt.Appendf(nil, `%s"k%d":0}`, line, twice)); err == nil || !strings.Contains(err.Error(), "stands twice") {
				t.Fatalf("%d members, number %d twice: %v", n, twice, err)
			}
		}
	}
}

// FuzzObject reads objects with a list. If a line can be read, it is JSON.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"list":[{"a":1},{"b":[{}]}],"x":1}`))
	f.Add([]byte(`{"list":[[]]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Object(in, "list")
		if err != nil {
			return
		}
		if !json.Valid(in) {
			t.Fatalf("%q is read, and is no JSON", in)
		}
		plain, err := Object(in)
		if err != nil || len(plain) != len(m) {
			t.Fatalf("%q: %d members with a list, %d without: %v", in, len(m), len(plain), err)
		}
	})
}

// FuzzAppend writes any MessagePack as JSON. If it is a value, the result is JSON without
// characters that control a terminal. Reading the result and writing it again gives the same text.
func FuzzAppend(f *testing.F) {
	for _, v := range []any{1.5, "a\u009bb", []any{1, nil, true}, map[string]any{"a": map[string]any{}}, 1e20,
		uint64(1 << 60)} {
		b, err := msgpack.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x81\xa1a\xca\x7f\x7f\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		text, err := Append(nil, in)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("%x became %q", in, text)
		}
		if at := strings.IndexFunc(string(text), unicode.IsControl); at >= 0 {
			t.Fatalf("%q steers a terminal", text)
		}
		back, err := Value(text)
		if err != nil {
			var bad *ValueError
			if errors.As(err, &bad) && strings.Contains(err.Error(), "stands twice") || strings.Contains(err.Error(),
				"max depth") {
				return // no core returns that
			}
			t.Fatalf("%q is refused: %v", text, err)
		}
		if strings.Count(string(text), "[")+strings.Count(string(text), "{") >= maxKept {
			return
		}
		if again, err := Append(nil, back); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q became %q (%v)", text, again, err)
		}
	})
}

// FuzzValue compares the reader with encoding/json: if both can read a text, they read the same
// value.
func FuzzValue(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x",null,true,{"b":-1e10}]}`, `"\ud83d\ude00"`, `[[[[]]]]`, `1e400`, `{"a":1,"a":2}`,
		`[1e23,9007199254740993.0,-0.0,1.0,123456789012345680000.0,9.9999999999999992e+22]`} {
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
		// Parts that are too deep for a value are not kept.
		shallow := strings.Count(string(in), "[")+strings.Count(string(in), "{") < maxKept
		if shallow && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q", in, out)
		}
		if again, err := Value(out); shallow && (err != nil || !bytes.Equal(again, b)) {
			t.Fatalf("%q is %x, written as %q, which is %x (%v)", in, b, out, again, err)
		}
	})
}
