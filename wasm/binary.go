package wasm

import "fmt"

// binaryReader reads WebAssembly's binary format (https://webassembly.github.io/spec/core/binary/). After an error it
// returns nothing but zeros.
type binaryReader struct {
	b   []byte
	at  int // where b begins in the module
	err error
}

func (r *binaryReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at offset %d: "+format, append([]any{r.at}, args...)...)
	}
	r.b = nil
}

// more reports whether there is something to read.
func (r *binaryReader) more() bool { return len(r.b) > 0 && r.err == nil }

func (r *binaryReader) take(n uint64) (b []byte) {
	if n > uint64(len(r.b)) {
		r.fail("%d bytes are left, %d are to come", len(r.b), n)
		return nil
	}
	b, r.b = r.b[:n], r.b[n:]
	r.at += int(n)
	return b
}

func (r *binaryReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// leb reads a LEB128 of at most n bytes: seven bits a byte, and how many bits that are.
func (r *binaryReader) leb(n int) (v uint64, bits int) {
	for k, b := range r.b[:min(n, len(r.b))] {
		v |= uint64(b&0x7f) << bits
		bits += 7
		if b < 0x80 {
			r.b = r.b[k+1:]
			r.at += k + 1
			return v, bits
		}
	}
	r.fail("a number of at most %d bytes has no end", n)
	return 0, 0
}

// number reads an unsigned number of 32 bits.
func (r *binaryReader) number() uint64 {
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
	return id, binaryReader{b: body, at: r.at - len(body), err: r.err}
}

// appendNumber writes an unsigned number.
func appendNumber(b []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
