package wasm

import "fmt"

// binaryReader reads WebAssembly's binary format
// (https://webassembly.github.io/spec/core/binary/). After an error it returns only zeros.
type binaryReader struct {
	b    []byte
	next int // the index in b of the next byte to read
	base int // the offset in the module at which b begins
	err  error
}

func (r *binaryReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at offset %d: "+format, append([]any{r.offset()}, args...)...)
	}
	r.next = len(r.b)
}

// offset returns the offset in the module of the next byte to read.
func (r *binaryReader) offset() int { return r.base + r.next }

// remaining returns how many bytes are left to read.
func (r *binaryReader) remaining() int { return len(r.b) - r.next }

// more reports whether there is something to read.
func (r *binaryReader) more() bool { return r.remaining() > 0 && r.err == nil }

func (r *binaryReader) take(n uint64) []byte {
	if n > uint64(r.remaining()) {
		r.fail("%d bytes are left, %d are to come", r.remaining(), n)
		return nil
	}
	r.next += int(n)
	return r.b[r.next-int(n) : r.next]
}

func (r *binaryReader) byte() byte {
	if r.next >= len(r.b) {
		r.fail("0 bytes are left, 1 is to come")
		return 0
	}
	r.next++
	return r.b[r.next-1]
}

// leb reads a LEB128 number of at most n bytes, with seven bits in each. It returns the number,
// and how many bits were read.
func (r *binaryReader) leb(n int) (v uint64, bits int) {
	for k, b := range r.b[r.next:min(r.next+n, len(r.b))] {
		v |= uint64(b&0x7f) << bits
		bits += 7
		if b < 0x80 {
			r.next += k + 1
			return v, bits
		}
	}
	r.fail("a number of at most %d bytes has no end", n)
	return 0, 0
}

// number reads an unsigned number of 32 bits.
func (r *binaryReader) number() uint64 {
	if r.next < len(r.b) && r.b[r.next] < 0x80 { // most numbers have one byte
		r.next++
		return uint64(r.b[r.next-1])
	}
	v, _ := r.leb(5)
	if v>>32 != 0 {
		r.fail("a number of more than 32 bits")
		return 0
	}
	return v
}

// signed reads a signed number of 33 bits.
func (r *binaryReader) signed() int64 {
	u, bits := r.leb(5)
	unused := 64 - bits
	v := int64(u<<unused) >> unused
	if v>>32 != 0 && v>>32 != -1 {
		r.fail("a number of more than 33 bits")
		return 0
	}
	return v
}

// index reads an index of one of n things, and fails if it is not below n. what names a thing in
// the error.
func (r *binaryReader) index(n uint32, what string) uint32 {
	v := r.number()
	if v >= uint64(n) && r.err == nil {
		r.fail("the %s %d, there are %d", what, v, n)
		return 0
	}
	return uint32(v)
}

// section reads a section. It returns its ID, and a reader of its content.
func (r *binaryReader) section() (id byte, section binaryReader) {
	id = r.byte()
	body := r.take(r.number())
	return id, binaryReader{b: body, base: r.offset() - len(body), err: r.err}
}

// appendNumber writes an unsigned number.
func appendNumber(b []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
