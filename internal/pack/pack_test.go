package pack_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"hypertoken/internal/pack"
)

func TestValuesReadAsTheyWereWritten(t *testing.T) {
	uints := []uint64{0, 1, 127, 128, 255, 256, 1<<16 - 1, 1 << 16, 1<<32 - 1, 1 << 32, math.MaxUint64}
	ints := []int64{0, 127, 128, math.MaxInt64, -1, -32, -33, math.MinInt64}
	lengths := []int{0, 1, 15, 16, 31, 32, 255, 256, 1<<16 - 1, 1 << 16}
	var b []byte
	for _, n := range uints {
		b = pack.AppendUint(b, n)
	}
	for _, n := range ints {
		b = pack.AppendInt(b, n)
	}
	b = pack.AppendBool(pack.AppendBool(b, true), false)
	for _, n := range lengths {
		b = pack.AppendBin(pack.AppendString(b, strings.Repeat("s", n)), bytes.Repeat([]byte("b"), n))
	}
	for _, n := range lengths {
		b = append(pack.AppendArray(b, n), make([]byte, n)...) // n zeros
	}
	r := pack.Reader{Rest: b}
	for _, n := range uints {
		if got := r.Uint(); got != n {
			t.Errorf("got %d, want %d", got, n)
		}
	}
	for _, n := range ints {
		if got := r.Int(); got != n {
			t.Errorf("got %d, want %d", got, n)
		}
	}
	if !r.Bool() || r.Bool() {
		t.Error("bools differ")
	}
	for _, n := range lengths {
		if s, v := r.Bytes(), r.Bytes(); string(s) != strings.Repeat("s", n) || string(v) != strings.Repeat("b", n) {
			t.Errorf("got %d and %d bytes, want %d", len(s), len(v), n)
		}
	}
	for _, n := range lengths {
		if got := r.Array(); got != n {
			t.Errorf("an array of %d items, want %d", got, n)
		}
		for range n {
			r.Uint()
		}
	}
	if err := r.End(); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	for _, c := range []struct {
		name string
		body []byte
		read func(r *pack.Reader)
		says string
	}{
		{"nothing", nil, func(r *pack.Reader) { r.Uint() }, "ends 1 bytes early"},
		{"a negative number", []byte{0xff}, func(r *pack.Reader) { r.Uint() }, "at least 0, got -1"},
		{"a number that is too large", pack.AppendUint(nil, 1<<63), func(r *pack.Reader) { r.Int() }, "is too large"},
		{"no number", []byte{0xc0}, func(r *pack.Reader) { r.Int() }, "want an integer, got 0xc0"},
		{"a string that is cut off", []byte{0xa3, 'a'}, func(r *pack.Reader) { r.Bytes() }, "ends 2 bytes early"},
		{"no string", []byte{1}, func(r *pack.Reader) { r.Bytes() }, "want a byte string"},
		{"no bool", []byte{1}, func(r *pack.Reader) { r.Bool() }, "want a bool"},
		{"no array", []byte{1}, func(r *pack.Reader) { r.Array() }, "want an array"},
		{"an array that is longer than the body", []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, func(r *pack.Reader) { r.Array() }, "4294967295 items in 0 bytes"},
		{"an array of another length", []byte{0x91, 1}, func(r *pack.Reader) { r.ArrayOf(2, 3) }, "1 items, want 2 to 3"},
		{"bytes that are left", []byte{1, 2}, func(r *pack.Reader) { r.Uint() }, "1 bytes follow"},
		{"the first of several", []byte{0xc0, 1}, func(r *pack.Reader) { r.Bool(); r.Uint(); r.Fail("later") }, "want a bool"},
	} {
		r := pack.Reader{Rest: c.body}
		c.read(&r)
		if err := r.End(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}
