package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxTable bounds what all tables of a core may grow to, in elements of 8 bytes. They lie outside of the linear memory that
// MemoryLimit bounds, and wazero would let each have 2^27 of them.
const MaxTable = 1 << 20

// checkTables refuses a module whose tables may grow beyond MaxTable. The module is valid: wazero has compiled it, but does
// not say what tables it has.
func checkTables(code []byte) error {
	const preamble, tables = 8, 4
	r := binaryReader{b: code[preamble:]}
	for len(r.b) > 0 && r.err == nil {
		id := r.byte()
		body := r.take(r.number())
		if id == tables {
			r = binaryReader{b: body}
			return r.tables()
		}
	}
	return r.err
}

// binaryReader reads WebAssembly's binary format (https://webassembly.github.io/spec/core/binary/).
type binaryReader struct {
	b   []byte
	err error
}

func (r *binaryReader) take(n uint64) (b []byte) {
	if n > uint64(len(r.b)) {
		r.err, r.b = errors.New("a section is cut short"), nil
		return nil
	}
	b, r.b = r.b[:n], r.b[n:]
	return b
}

func (r *binaryReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads an unsigned LEB128.
func (r *binaryReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err, r.b = errors.New("a number can't be read"), nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// tables reads a section of tables.
func (r *binaryReader) tables() error {
	most := uint64(0)
	for range r.number() {
		if kind := r.byte(); kind != 0x70 && kind != 0x6f && r.err == nil {
			return fmt.Errorf("it has a table of the type %#x: a core has tables of functions and of references", kind)
		}
		flags := r.byte()
		least := r.number()
		if flags&1 == 0 && r.err == nil {
			return fmt.Errorf("it has a table without a maximum: %d elements are allowed, so declare one", MaxTable)
		}
		if most += max(least, r.number()); most > MaxTable && r.err == nil {
			return fmt.Errorf("it has a table that may have %d elements, %d are allowed", most, MaxTable)
		}
		if r.err != nil {
			break
		}
	}
	return r.err
}
