package wasm

import "fmt"

// binaryReader reads WebAssembly's binary format (https://webassembly.github.io/spec/core/binary/). After an error it
// returns nothing but zeros.
type binaryReader struct {
	b    []byte
	next int // what comes next, in b
	base int // where b begins in the module
	err  error
}

func (r *binaryReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at offset %d: "+format, append([]any{r.at()}, args...)...)
	}
	r.next = len(r.b)
}

// at returns where in the module the reader is, left how much is left to read.
func (r *binaryReader) at() int   { return r.base + r.next }
func (r *binaryReader) left() int { return len(r.b) - r.next }

// more reports whether there is something to read.
func (r *binaryReader) more() bool { return r.left() > 0 && r.err == nil }

func (r *binaryReader) take(n uint64) []byte {
	if n > uint64(r.left()) {
		r.fail("%d bytes are left, %d are to come", r.left(), n)
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

// leb reads a LEB128 of at most n bytes: seven bits a byte, and how many bits that are.
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
	if r.next < len(r.b) && r.b[r.next] < 0x80 { // as most are
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

// below reads a number that is below n, as an index of one of n things.
func (r *binaryReader) below(n uint32, what string) uint32 {
	v := r.number()
	if v >= uint64(n) && r.err == nil {
		r.fail("the %s %d, there are %d", what, v, n)
		return 0
	}
	return uint32(v)
}

// section reads a section: what it is, and what it has.
func (r *binaryReader) section() (id byte, section binaryReader) {
	id = r.byte()
	body := r.take(r.number())
	return id, binaryReader{b: body, base: r.at() - len(body), err: r.err}
}

// appendNumber writes an unsigned number.
func appendNumber(b []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
