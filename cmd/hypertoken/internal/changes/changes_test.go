package changes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypertoken/internal/msgjson"
)

func value(t testing.TB, text string) []byte {
	t.Helper()
	b, err := msgjson.Value([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return b
}

func TestBetween(t *testing.T) {
	for _, c := range []struct {
		name, before, after string
		want                []string
	}{
		{"nothing", `{"a":1,"b":[1,2]}`, `{"b":[1,2],"a":1}`, nil},
		{"members", `{"a":1,"b":2}`, `{"b":3,"c":null}`, []string{"- .a: 1", "~ .b: 2 -> 3", "+ .c: null"}},
		{"kinds of numbers", `{"a":1}`, `{"a":1.0}`, []string{"~ .a: 1 -> 1.0"}},
		{"deep", `{"a":{"b":[{"c":1}]}}`, `{"a":{"b":[{"c":2}]}}`, []string{"~ .a.b[0].c: 1 -> 2"}},
		{"odd keys", `{"a b":1,"é":1,"":1}`, `{"a b":2,"é":2,"":2}`,
			[]string{`~ .[""]: 1 -> 2`, `~ .["a b"]: 1 -> 2`, `~ .["é"]: 1 -> 2`}},
		{"drawn from the front", `[1,2,3,4]`, `[3,4]`, []string{"- .[0]: 1", "- .[1]: 2"}},
		{"added in the middle", `[1,4]`, `[1,2,3,4]`, []string{"+ .[1]: 2", "+ .[2]: 3"}},
		{"another order", `[1,2,3]`, `[3,1,2]`, []string{"~ .: in another order: [3,1,2]"}},
		{"same ids", `[{"id":"a","x":1},{"id":"b"}]`, `[{"id":"z"},{"id":"a","x":2},{"id":"b"}]`,
			[]string{`+ .[0]: {"id":"z"}`, "~ .[1].x: 1 -> 2"}},
		{"other ids", `[{"id":"a"},{"id":"b"}]`, `[{"id":"c"},{"id":"b"}]`,
			[]string{`- .[0]: {"id":"a"}`, `+ .[0]: {"id":"c"}`}},
		{"elements without ids", `[{"x":1},{"x":2}]`, `[{"x":1},{"x":3}]`, []string{"~ .[1].x: 2 -> 3"}},
		{"shapes", `{"a":[1]}`, `{"a":{"0":1}}`, []string{`~ .a: [1] -> {"0":1}`}},
		{"long", `{}`, `{"a":"` + strings.Repeat("x", 90) + `"}`, []string{`+ .a: "` + strings.Repeat("x", 36) + "..."}},
	} {
		all, err := Between(value(t, c.before), value(t, c.after))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var have []string
		for _, change := range all {
			line, err := change.AppendText(nil, 40)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			have = append(have, string(line))
		}
		if !slices.Equal(have, c.want) {
			t.Errorf("%s: %q, want %q", c.name, have, c.want)
		}
	}
	for _, bad := range []string{"", "\x81", "\x01\x01", "\x82\xa1a\x01\xa1a\x01", strings.Repeat("\x91", 300)} {
		_, err := Between([]byte(bad), []byte{1})
		if err == nil || !strings.Contains(err.Error(), "the earlier value") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := Between([]byte{1}, []byte(bad)); err == nil {
			t.Errorf("%q has no error", bad)
		}
	}
}

// The lines of JSON are a patch that makes the later value of the earlier one.
func FuzzPatch(f *testing.F) {
	f.Add(`{"a":[1,2,{"id":"x","n":[1]}],"b":{"c/d":1,"e~f":2}}`, `{"a":[2,{"id":"x","n":[]},3],"b":{"c/d":2}}`)
	f.Add(`[{"id":1},{"id":2},{"id":3}]`, `[{"id":3,"x":1},{"id":1},{"y":2}]`)
	f.Add(`1`, `[]`)
	f.Fuzz(func(t *testing.T, before, after string) {
		a, err := msgjson.Value([]byte(before))
		if err != nil {
			return
		}
		b, err := msgjson.Value([]byte(after))
		if err != nil {
			return
		}
		checkPatch(t, a, b)
	})
}

// Arrays of few different elements have many ways from one to the other.
func TestPatchesOfArrays(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	draw := func() []byte {
		var items []string
		for range random.IntN(9) {
			item := strconv.Itoa(random.IntN(4))
			switch random.IntN(3) {
			case 0:
				item = fmt.Sprintf(`{"id":%s,"x":[%d]}`, item, random.IntN(2))
			case 1:
				item = fmt.Sprintf(`{"y":%s}`, item)
			}
			items = append(items, item)
		}
		return value(t, "["+strings.Join(items, ",")+"]")
	}
	for range 3000 {
		checkPatch(t, draw(), draw())
	}
	// So long that the elements in common are not looked for.
	checkPatch(t, value(t, "[0,"+strings.Repeat("1,2,", 2000)+"3]"),
		value(t, "[4,"+strings.Repeat("2,2,1,", 1000)+"5]"))
}

func checkPatch(t *testing.T, a, b []byte) {
	t.Helper()
	all, err := Between(a, b)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(text []byte) (v any) {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return v
	}
	text := func(value []byte) []byte {
		text, err := msgjson.Append(nil, value)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	have, want := decode(text(a)), decode(text(b))
	for _, c := range all {
		line, err := c.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		op := decode(line).(map[string]any)
		path := strings.Split(op["path"].(string), "/")[1:]
		have = apply(t, have, path, op)
		if _, err := c.AppendText(nil, 30); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("from %s to %s: the patch leads to %v", text(a), text(b), have)
	}
	if bytes.Equal(a, b) && len(all) > 0 {
		t.Errorf("%s differs from itself", text(a))
	}
}

// apply makes an operation of a patch.
func apply(t *testing.T, v any, path []string, op map[string]any) any {
	t.Helper()
	was := func(v any) {
		if !reflect.DeepEqual(v, op["was"]) {
			t.Errorf("%v: it was %v", op, v)
		}
	}
	if len(path) == 0 {
		was(v)
		return op["value"]
	}
	switch in := v.(type) {
	case map[string]any:
		key := strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])
		if len(path) > 1 {
			in[key] = apply(t, in[key], path[1:], op)
			return in
		}
		old, has := in[key]
		if has == (op["op"] == "add") {
			t.Errorf("%v: the key is there: %v", op, has)
		}
		if has {
			was(old)
		}
		in[key] = op["value"]
		if op["op"] == "remove" {
			delete(in, key)
		}
		return in
	case []any:
		k, err := strconv.Atoi(path[0])
		if err != nil || k > len(in) || k == len(in) && op["op"] != "add" {
			t.Fatalf("%v: no such index", op)
		}
		switch {
		case len(path) > 1:
			in[k] = apply(t, in[k], path[1:], op)
		case op["op"] == "add":
			return slices.Insert(in, k, op["value"])
		case op["op"] == "remove":
			was(in[k])
			return slices.Delete(in, k, k+1)
		default:
			was(in[k])
			in[k] = op["value"]
		}
		return in
	}
	t.Fatalf("%v: there is no container", op)
	return nil
}
