package ipc

import (
	"encoding/binary"
	"math"
)

// Bodies are MessagePack. Those of actions and answers are read and written here, in place and without an allocation:
// they are a few numbers, and byte strings that are handed on as they are. Control messages go through
// vmihailenco/msgpack.

// The formats that are written. Any other of the same type is read too.
const (
	fixArray = 0x90
	fixStr   = 0xa0
	codeNil  = 0xc0
	codeBin8 = 0xc4
)

func appendArray(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, fixArray|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

func appendUint(b []byte, n uint64) []byte {
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

func appendInt(b []byte, n int64) []byte {
	if n >= 0 {
		return appendUint(b, uint64(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

func appendString(b []byte, s string) []byte {
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

// appendBinHeader opens a byte string whose bytes follow.
func appendBinHeader(b []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, codeBin8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xc5), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
}

func appendBin(b, v []byte) []byte { return append(appendBinHeader(b, len(v)), v...) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

// reader reads a body. After an error it returns zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(format, args...)
	}
	r.b = nil
}

func (r *reader) take(n uint64) []byte {
	if uint64(len(r.b)) < n {
		r.fail("a body ends %d bytes early", n-uint64(len(r.b)))
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// number reads n big-endian bytes.
func (r *reader) number(n uint64) (v uint64) {
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *reader) code() byte {
	if c := r.take(1); c != nil {
		return c[0]
	}
	return codeNil
}

func (r *reader) integer() (v uint64, negative bool) {
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
		r.fail("want an integer, got %#x", c)
		return 0, false
	}
}

func (r *reader) uint() uint64 {
	v, negative := r.integer()
	if negative {
		r.fail("want a number of at least 0, got %d", int64(v))
		return 0
	}
	return v
}

func (r *reader) int() int64 {
	v, negative := r.integer()
	if !negative && v > math.MaxInt64 {
		r.fail("the number %d is too large", v)
		return 0
	}
	return int64(v)
}

// bytes reads a byte string, or a string.
func (r *reader) bytes() []byte {
	switch c := r.code(); {
	case c&0xe0 == fixStr:
		return r.take(uint64(c & 0x1f))
	case c >= codeBin8 && c <= 0xc6:
		return r.take(r.number(1 << (c - codeBin8)))
	case c >= 0xd9 && c <= 0xdb:
		return r.take(r.number(1 << (c - 0xd9)))
	default:
		r.fail("want a byte string, got %#x", c)
		return nil
	}
}

func (r *reader) bool() bool {
	switch c := r.code(); c {
	case 0xc2:
		return false
	case 0xc3:
		return true
	default:
		r.fail("want a bool, got %#x", c)
		return false
	}
}

// array reads the length of an array. Each item takes a byte at least, so a length that lies allocates nothing.
func (r *reader) array() int {
	var n uint64
	switch c := r.code(); {
	case c&0xf0 == fixArray:
		n = uint64(c & 0x0f)
	case c == 0xdc:
		n = r.number(2)
	case c == 0xdd:
		n = r.number(4)
	default:
		r.fail("want an array, got %#x", c)
	}
	if n > uint64(len(r.b)) {
		r.fail("an array of %d items in %d bytes", n, len(r.b))
		return 0
	}
	return int(n)
}

// arrayOf reads the length of an array that has from least to most items.
func (r *reader) arrayOf(least, most int) int {
	n := r.array()
	if r.err == nil && (n < least || n > most) {
		r.fail("an array of %d items, want %d to %d", n, least, most)
		return 0
	}
	return n
}

// end returns the error, also for bytes that are left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes follow a body", len(r.b))
	}
	return r.err
}
