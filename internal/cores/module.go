package cores

import (
	"encoding/binary"
	"slices"
)

// Module is a WebAssembly module in the making, by the sections of the binary format. Everything in it but a section is
// small: lengths take one byte.
type Module struct {
	// NoMemory leaves its memory out, and the memory's export. Table is the type of a table, if it
	// has one.
	NoMemory bool
	Table    []byte
	// Elements are the segments of elements, with their number before them.
	Elements []byte
	// Pages is how many pages of 64 KiB its memory has, below 128. Default 1.
	Pages byte

	imports, functions, exports, bodies, start []byte
	nImports, nFunctions, nExports             byte
}

// The types of a module's functions.
const (
	ToInt     byte = iota // () -> i32
	IntToInt              // (i32) -> i32
	IntsToInt             // (i32, i32) -> i32
	ToNothing             // () -> ()
)

var types = []byte{4,
	0x60, 0, 1, 0x7f,
	0x60, 1, 0x7f, 1, 0x7f,
	0x60, 2, 0x7f, 0x7f, 1, 0x7f,
	0x60, 0, 0}

// Whole returns a module with all exports of the ABI, whose version is below 64.
func Whole(version byte) *Module {
	return new(Module).Returns("ht_abi", ToInt, version).Returns("ht_reply", ToInt, 0).Returns("ht_input", IntToInt,
		0).Returns("ht_call", IntsToInt, 0)
}

func name(s string) []byte { return append([]byte{byte(len(s))}, s...) }

// Importing adds an import by its description, such as 0, 3 for a function of type 3. Functions are
// numbered after those that are imported.
func (m *Module) Importing(from, what string, desc ...byte) *Module {
	m.imports = slices.Concat(m.imports, name(from), name(what), desc)
	m.nImports++
	return m
}

// Function exports a function of a type with the instructions that it has; without a name it is not exported.
func (m *Module) Function(export string, typ byte, code ...byte) *Module {
	if export != "" {
		m.exports = slices.Concat(m.exports, name(export), []byte{0, m.nFunctions})
		m.nExports++
	}
	m.functions = append(m.functions, typ)
	m.nFunctions++
	m.bodies = slices.Concat(m.bodies, []byte{byte(len(code) + 2), 0}, code, []byte{0x0b})
	return m
}

// Returns exports a function that returns a constant below 64.
func (m *Module) Returns(export string, typ, result byte) *Module {
	return m.Function(export, typ, 0x41, result)
}

// Endless are the instructions of a function that never ends.
var Endless = []byte{0x03, 0x40, 0x0c, 0, 0x0b, 0x00} // loop, br 0, end, unreachable

// Starting adds a function that runs when an instance is made.
func (m *Module) Starting(code ...byte) *Module {
	m.start = []byte{m.nFunctions}
	return m.Function("", ToNothing, code...)
}

// Bytes returns the module.
func (m *Module) Bytes() []byte {
	section := func(id byte, parts ...[]byte) []byte {
		b := slices.Concat(parts...)
		if len(b) == 0 {
			return nil
		}
		return append(binary.AppendUvarint([]byte{id}, uint64(len(b))), b...)
	}
	var memory, table []byte
	exports, n := m.exports, m.nExports
	if !m.NoMemory {
		memory = []byte{1, 0, max(m.Pages, 1)}
		exports, n = slices.Concat(exports, name("memory"), []byte{2, 0}), n+1
	}
	if m.Table != nil {
		table = slices.Concat([]byte{1}, m.Table)
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, types), section(2, []byte{m.nImports}, m.imports), section(3, []byte{m.nFunctions}, m.functions),
		section(4, table),
		section(5, memory), section(7, []byte{n}, exports), section(8, m.start),
		section(9, m.Elements), section(10, []byte{m.nFunctions}, m.bodies))
}

// Actionless returns a core that has no actions: it opens whatever it is given, and its list of actions is empty.
func Actionless() []byte {
	m := new(Module).Returns("ht_abi", ToInt, 1).Returns("ht_reply", ToInt, 0)
	m.Function("ht_input", IntToInt, 0x41, 0x80, 0xc0, 0x00) // i32.const 8192
	m.Function("ht_call", IntsToInt,
		0x41, 48, 0x41, 0x90, 0x01, 0x3a, 0, 0, // the byte at 48 is an empty array
		0x41, 8, 0x41, 48, 0x36, 2, 0, // the body of the reply is there
		// and has (call == 11) + 8 · (call == 10) bytes: the list of actions has one, a digest eight
		0x41, 12, 0x20, 0, 0x41, 11, 0x46, 0x20, 0, 0x41, 10, 0x46, 0x41, 8, 0x6c, 0x6a, 0x36, 2, 0,
		0x41, 0)
	m.Pages = 64
	return m.Bytes()
}
