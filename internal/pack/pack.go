// Package pack writes and reads the MessagePack of frames' bodies and of journals' entries. It
// works in place and without an allocation: a body is a few numbers, and byte strings that are
// handed on as they are.
package pack

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The formats that are written. Any other of the same type is read too.
const (
	fixArray = 0x90
	fixStr   = 0xa0
	codeNil  = 0xc0
	codeBin8 = 0xc4
)

// AppendArray opens an array of n items, which follow.
func AppendArray(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, fixArray|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

// AppendUint appends an integer in its shortest form.
func AppendUint(b []byte, n uint64) []byte {
	switch {
	case n < 0x80:
		return append(b, byte(n))
	case n <= math.MaxUint8:
		return append(b, 0xcc, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), n)
}

// AppendInt appends an integer: in its shortest form if it is at least 0, else in nine bytes.
func AppendInt(b []byte, n int64) []byte {
	if n >= 0 {
		return AppendUint(b, uint64(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

// AppendString appends a string.
func AppendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, fixStr|byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

// AppendBinHeader opens a byte string whose bytes follow.
func AppendBinHeader(b []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, codeBin8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xc5), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
}

// AppendBin appends a byte string.
func AppendBin(b, v []byte) []byte { return append(AppendBinHeader(b, len(v)), v...) }

// AppendBool appends a bool.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

// Reader reads values one after the other. After the first error it returns zeros. The byte
// strings that it returns lie in the bytes that it was given.
type Reader struct {
	// Rest is what has not been read; nil after an error.
	Rest []byte
	// Err is the first error, an [Error]; nil if there was none.
	Err error
}

// Error says why bytes can't be read.
type Error string

func (e Error) Error() string { return string(e) }

// Fail notes an error that the caller has found, unless there was one already. The message is
// formatted as by fmt.Sprintf.
func (r *Reader) Fail(format string, args ...any) {
	if r.Err == nil {
		r.Err = Error(fmt.Sprintf(format, args...))
	}
	r.Rest = nil
}

func (r *Reader) take(n uint64) []byte {
	if uint64(len(r.Rest)) < n {
		r.Fail("a body ends %d bytes early", n-uint64(len(r.Rest)))
		return nil
	}
	v := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return v
}

// number reads n big-endian bytes.
func (r *Reader) number(n uint64) (v uint64) {
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *Reader) code() byte {
	if c := r.take(1); c != nil {
		return c[0]
	}
	return codeNil
}

func (r *Reader) integer() (v uint64, negative bool) {
	switch c := r.code(); {
	case c < 0x80:
		return uint64(c), false
	case c >= 0xe0:
		return uint64(int64(int8(c))), true
	case c >= 0xcc && c <= 0xcf:
		return r.number(1 << (c - 0xcc)), false
	case c >= 0xd0 && c <= 0xd3:
		size := uint64(1) << (c - 0xd0)
		shift := 64 - 8*size
		n := int64(r.number(size)<<shift) >> shift
		return uint64(n), n < 0
	default:
		r.Fail("want an integer, got %#x", c)
		return 0, false
	}
}

// Uint reads an integer of at least 0.
func (r *Reader) Uint() uint64 {
	v, negative := r.integer()
	if negative {
		r.Fail("want a number of at least 0, got %d", int64(v))
		return 0
	}
	return v
}

// Int reads an integer.
func (r *Reader) Int() int64 {
	v, negative := r.integer()
	if !negative && v > math.MaxInt64 {
		r.Fail("the number %d is too large", v)
		return 0
	}
	return int64(v)
}

// Bytes reads a byte string, or a string.
func (r *Reader) Bytes() []byte {
	switch c := r.code(); {
	case c&0xe0 == fixStr:
		return r.take(uint64(c & 0x1f))
	case c >= codeBin8 && c <= 0xc6:
		return r.take(r.number(1 << (c - codeBin8)))
	case c >= 0xd9 && c <= 0xdb:
		return r.take(r.number(1 << (c - 0xd9)))
	default:
		r.Fail("want a byte string, got %#x", c)
		return nil
	}
}

// Bool reads a bool.
func (r *Reader) Bool() bool {
	switch c := r.code(); c {
	case 0xc2:
		return false
	case 0xc3:
		return true
	default:
		r.Fail("want a bool, got %#x", c)
		return false
	}
}

// Array reads the length of an array. Each item takes a byte at least, so a length that lies
// allocates nothing.
func (r *Reader) Array() int {
	var n uint64
	switch c := r.code(); {
	case c&0xf0 == fixArray:
		n = uint64(c & 0x0f)
	case c == 0xdc:
		n = r.number(2)
	case c == 0xdd:
		n = r.number(4)
	default:
		r.Fail("want an array, got %#x", c)
	}
	if n > uint64(len(r.Rest)) {
		r.Fail("an array of %d items in %d bytes", n, len(r.Rest))
		return 0
	}
	return int(n)
}

// ArrayOf reads the length of an array that has from least to most items.
func (r *Reader) ArrayOf(least, most int) int {
	n := r.Array()
	if r.Err == nil && (n < least || n > most) {
		r.Fail("an array of %d items, want %d to %d", n, least, most)
		return 0
	}
	return n
}

// End returns the error, which is also that bytes are left.
func (r *Reader) End() error {
	if r.Err == nil && len(r.Rest) > 0 {
		r.Fail("%d bytes follow a body", len(r.Rest))
	}
	return r.Err
}
