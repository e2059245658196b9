package wasm

import "fmt"

// MaxTable bounds what all tables of a core may grow to, in elements of 8 bytes. They lie outside
// of the linear memory that MemoryLimit bounds, and wazero would let each have 2^27 of them.
const MaxTable = 1 << 20

// checkTables refuses a module whose tables may grow beyond MaxTable. The module is valid: wazero
// has compiled it, but does not say what tables it has.
func checkTables(code []byte) error {
	const preamble, tables = 8, 4
	r := binaryReader{b: code, next: preamble}
	for r.more() {
		if id, section := r.section(); id == tables {
			return section.tables()
		}
	}
	return r.err
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
