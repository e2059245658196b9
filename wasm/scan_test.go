package wasm

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func TestScanFindsTheEndOfAValue(t *testing.T) {
	for _, v := range []any{nil, true, 0, -1, -33, 200, 1 << 20, int64(-1) << 40, uint64(1) << 63, 1.5, float32(2), "",
		"x",
		strings.Repeat("s", 300), strings.Repeat("s", 1<<17), []byte{1, 2}, make([]byte, 1<<17), []any{},
		[]any{1, []any{"a"}, nil},
		make([]int, 20), make([]int, 1<<17), map[string]any{},
		map[string]any{"a": map[string]any{"b": []any{1, 2}}, "c": 3}} {
		b, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Scan(append(slices.Clone(b), "more"...)); n != len(b) || err != nil {
			t.Errorf("%.50v: %d of %d bytes, %v", v, n, len(b), err)
		}
		for _, cut := range []int{0, 1, len(b) - 1} {
			if _, err := Scan(b[:cut]); cut < len(b) && err == nil {
				t.Errorf("%.50v: %d of %d bytes pass", v, cut, len(b))
			}
		}
	}
}

// A value that would use up a decoder's stack, or too much memory, is refused.
func TestScanIsBounded(t *testing.T) {
	nested := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 0xc0) }
	for _, c := range []struct {
		name string
		b    []byte
		says string
	}{
		{"256 levels", nested(256), ""},
		{"257 levels", nested(257), "nested more than 256 levels deep"},
		{"millions of levels", nested(16 << 20), "nested more than 256 levels deep"},
		{"an array of 2^32 - 1 items", []byte{0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0}, "ends early"},
		{"a map of 2^32 - 1", []byte{0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0}, "ends early"},
		{"claims inside claims", bytes.Repeat([]byte{0xdd, 0, 0, 0, 200}, 100), "ends early"},
		{"a string of 4 GiB", []byte{0xdb, 0xff, 0xff, 0xff, 0xff}, "ends early"},
		{"an extension", []byte{0xd4, 0, 0}, "the byte 0xd4 begins no value"},
		{"0xc1", []byte{0x91, 0xc1}, "the byte 0xc1 begins no value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Scan(c.b)
			if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// FuzzScan compares Scan with a decoder. If Scan accepts a value, the decoder can read it, and it
// has the size that Scan returns.
func FuzzScan(f *testing.F) {
	f.Add([]byte("\x92\xa1x\x81\xa1a\xcd\x01\x02"))
	f.Add([]byte{0xdc, 0, 1, 0xc4, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Scan(b)
		if err != nil {
			return
		}
		in := bytes.NewReader(b)
		if err := msgpack.NewDecoder(in).Skip(); err != nil || len(b)-in.Len() != n {
			t.Errorf("%x: %d bytes pass, a decoder reads %d: %v", b, n, len(b)-in.Len(), err)
		}
	})
}

func TestASnapshotNamesItsLimits(t *testing.T) {
	i, err := compile(t, Options{}).Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = i.Close(t.Context()) }()
	want := Limits{MaxStateBytes: 5 << 30, MaxResult: 77 << 20, MaxDepth: 9}
	if err := i.Open(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	var all []byte
	if err := i.Snapshot(t.Context(), func(b []byte) error { all = append(all, b...); return nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := SnapshotLimits(all); got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, b := range [][]byte{nil, {0x90}, []byte("\x81\xa1a\x01")} {
		if _, err := SnapshotLimits(b); err == nil {
			t.Errorf("%x passes", b)
		}
	}
}

// Nesting has the same result, in whatever pieces a value is written.
func FuzzNesting(f *testing.F) {
	f.Add([]byte{0x92, 0x91, 0xc0, 0xda, 0x00, 0x01, 'x'}, 1)
	f.Add([]byte{0x81, 0xa1, 'm', 0x81, 0xa1, 'm', 0xc0}, 3)
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff, 0xc1}, 2)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		step = max(1, min(step, len(b)))
		whole, cut := Nesting{Most: 256}, Nesting{Most: 256}
		want := whole.Follow(b)
		var got error
		for at := step; got == nil && at < len(b)+step; at += step {
			got = cut.Follow(b[:min(at, len(b))])
		}
		if (want == nil) != (got == nil) {
			t.Errorf("%v at once, %v in steps of %d", want, got, step)
		}
	})
}
