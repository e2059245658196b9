package wasm

import (
	"context"
	"errors"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// In the host's process, an engine can't be killed. So a core is rewritten before it is compiled:
// it yields from time to time. Its loops and functions get a countdown, a global after those of
// the core, so no instruction of the core can name it. When the countdown has run out, the core
// calls a function of the host. In that function Go may stop the goroutine for its garbage
// collector, and the call ends if its context has ended. Everything else runs as in a core that
// was not rewritten.
//
// The countdown counts code, not time. A loop counts down by the size of its body in each round,
// and a function by its own size. An instruction on a range of memory or of a table counts down by
// the size of the range. So every core yields after a bounded number of instructions, usually
// after ten to a hundred microseconds. Only a single instruction on a large range is not
// interrupted.
const (
	// yieldAfter is the start of the countdown, in units of yieldUnit bytes of code.
	yieldAfter = 16 << 10
	// yieldUnit is how many bytes of code count as one. In a loop or a function of this size,
	// about ten instructions run in each round, because most of the code is for special cases.
	yieldUnit = 256
	// rangeShift is the base-2 logarithm of how many bytes of memory, or elements of a table,
	// count as one.
	rangeShift = 6
	// maxWeight is the most that a site counts down by.
	maxWeight = 1 << 24
	// maxCost is the greatest cost, in bytes of code, of a function that does not count at its
	// entry. The functions that call it count for it.
	maxCost = 1024

	yieldModule, yieldName = "hypertoken", "yield"
)

// offerYield adds the function that a rewritten core imports to a runtime.
func offerYield(ctx context.Context, r wazero.Runtime) error {
	f := api.GoFunc(func(ctx context.Context, stack []uint64) {
		if ctx.Err() != nil {
			panic(sys.NewExitError(sys.ExitCodeContextCanceled))
		}
		stack[0] = yieldAfter
	})
	_, err := r.NewHostModuleBuilder(yieldModule).NewFunctionBuilder().
		WithGoFunction(f, nil, []api.ValueType{api.ValueTypeI32}).Export(yieldName).Instantiate(ctx)
	return err
}

// The sections of a module.
const (
	sectionCustom    = 0
	sectionType      = 1
	sectionImport    = 2
	sectionFunction  = 3
	sectionTable     = 4
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionElement   = 9
	sectionCode      = 10
	sectionData      = 11
	sectionDataCount = 12
)

// sectionOrder is the order of the sections in a module. Custom sections may be anywhere.
var sectionOrder = []byte{sectionType, sectionImport, sectionFunction, sectionTable, sectionMemory, sectionGlobal,
	sectionExport, sectionStart, sectionElement, sectionDataCount, sectionCode, sectionData}

// rewriter rewrites a module so that it yields.
type rewriter struct {
	out []byte
	// params has the number of parameters of each type, types the type of each function.
	params, types []uint32
	globals       uint32
	// taken is true for each function that may be called through a table.
	taken []bool
	body  bodyWriter
}

// rewrite returns a core that yields. It imports one function for that, which becomes function 0;
// otherwise it does the same as the old core. It fails if the core has something that this package
// does not know, or is no valid module. It does not find every fault, but an invalid module stays
// invalid.
func rewrite(code []byte) ([]byte, error) {
	const preamble = "\x00asm\x01\x00\x00\x00"
	if len(code) < len(preamble) || string(code[:len(preamble)]) != preamble {
		return nil, errors.New("no module of version 1")
	}
	w := &rewriter{out: append(make([]byte, 0, len(code)+len(code)/8), preamble...)}
	r := &binaryReader{b: code, next: len(preamble)}
	next := 0 // the next section that may come, in sectionOrder
	for r.more() {
		id, section := r.section()
		if id == sectionCustom {
			w.section(id, section.b)
			continue
		}
		k := slices.Index(sectionOrder, id)
		if k < next {
			r.fail("section %d is not known, or not in its place", id)
			break
		}
		for _, missing := range sectionOrder[next:k] {
			if missing == sectionImport || missing == sectionGlobal {
				_ = w.rewriteSection(missing, &binaryReader{b: []byte{0}}) // an empty section can't be wrong
			}
		}
		next = k + 1
		if err := w.rewriteSection(id, &section); err != nil {
			return nil, err
		}
	}
	if r.err == nil && (len(w.types) == 0 || next <= slices.Index(sectionOrder, sectionCode)) {
		r.fail("it has no code")
	}
	if r.err != nil {
		return nil, r.err
	}
	return w.out, nil
}

func (w *rewriter) section(id byte, parts ...[]byte) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	w.out = appendNumber(append(slices.Grow(w.out, size+8), id), uint32(size))
	for _, p := range parts {
		w.out = append(w.out, p...)
	}
}

// list writes a section of the n things in b, and adds ours at its end.
func (w *rewriter) list(id byte, n uint32, b, ours []byte) {
	w.section(id, appendNumber(nil, n+1), b, ours)
}

// rewriteSection writes a section, with our additions and with the new numbers of the functions.
func (w *rewriter) rewriteSection(id byte, r *binaryReader) error {
	whole := r.b
	switch id {
	case sectionType:
		n := r.number()
		entries := r.b[r.next:]
		for range n {
			w.params = append(w.params, r.functionType())
			if r.err != nil {
				return r.err
			}
		}
		// The imported function takes nothing and returns the countdown. Our own function, which
		// the core calls, takes and returns nothing.
		w.section(id, appendNumber(nil, uint32(n)+2), entries, []byte{0x60, 0, 1, 0x7f, 0x60, 0, 0})
	case sectionImport:
		if r.number() != 0 {
			r.fail("it imports something")
		}
		ours := slices.Concat([]byte{byte(len(yieldModule))}, []byte(yieldModule), []byte{byte(len(yieldName))},
			[]byte(yieldName), []byte{0})
		w.list(id, 0, nil, appendNumber(ours, uint32(len(w.params))))
	case sectionFunction:
		n := r.number()
		entries := r.b[r.next:]
		for range n {
			w.types = append(w.types, r.index(uint32(len(w.params)), "type"))
			if r.err != nil {
				return r.err
			}
		}
		w.taken = make([]bool, n)
		w.list(id, uint32(n), entries, appendNumber(nil, uint32(len(w.params))+1))
	case sectionGlobal:
		w.globals = uint32(r.number())
		var b []byte
		for k := uint32(0); k < w.globals && r.err == nil; k++ {
			b = append(b, r.take(2)...) // the global's type, and whether it may change
			b = w.constant(b, r)
		}
		ours := appendPadded([]byte{0x7f, 1, opI32Const}, yieldAfter)
		w.list(id, w.globals, b, append(ours, opEnd))
	case sectionExport:
		n := r.number()
		b := appendNumber(nil, uint32(n))
		for k := uint64(0); k < n && r.err == nil; k++ {
			b = w.export(b, r)
		}
		w.section(id, b)
	case sectionStart:
		w.section(id, w.function(nil, r))
	case sectionElement:
		n := r.number()
		b := appendNumber(nil, uint32(n))
		for k := uint64(0); k < n && r.err == nil; k++ {
			b = w.element(b, r)
		}
		w.section(id, b)
	case sectionCode:
		n := r.number()
		if n != uint64(len(w.types)) {
			r.fail("%d functions have code, there are %d", n, len(w.types))
		}
		w.body.begin(w, len(whole))
		for k := 0; k < len(w.types) && r.err == nil; k++ {
			w.body.read(w.types[k], r)
		}
		if r.err != nil {
			return r.err
		}
		w.body.count()
		// Our own function calls the imported one, and sets the countdown to its result.
		ours := appendNumber([]byte{0, opCall, 0, opGlobalSet}, w.globals)
		ours = append(ours, opEnd)
		w.list(id, uint32(n), w.body.write(), append([]byte{byte(len(ours))}, ours...))
	case sectionData:
		for range r.number() {
			w.data(r)
			if r.err != nil {
				return r.err
			}
		}
		w.section(id, whole)
	default:
		r.take(uint64(r.remaining()))
		w.section(id, whole)
	}
	if r.more() {
		r.fail("%d bytes are left in section %d", r.remaining(), id)
	}
	return r.err
}

// functionType reads the type of a function and returns how many parameters it has.
func (r *binaryReader) functionType() uint32 {
	if form := r.byte(); form != 0x60 {
		r.fail("the type %#x is not known", form)
	}
	params := r.number()
	r.take(params)
	r.take(r.number())
	return uint32(params)
}

// function copies the number of a function to b, plus one: the imported function comes first.
func (w *rewriter) function(b []byte, r *binaryReader) []byte {
	return appendNumber(b, r.index(uint32(len(w.types)), "function")+1)
}

// reference does the same as function, and notes that the function may be called through a table.
func (w *rewriter) reference(b []byte, r *binaryReader) []byte {
	f := r.index(uint32(len(w.types)), "function")
	if r.err == nil {
		w.taken[f] = true
	}
	return appendNumber(b, f+1)
}

func (w *rewriter) export(b []byte, r *binaryReader) []byte {
	before := r.next
	r.take(r.number())
	kind := r.byte()
	b = append(b, r.b[before:r.next]...)
	switch kind {
	case 0:
		return w.function(b, r)
	case 3:
		return appendNumber(b, r.index(w.globals, "global"))
	}
	return appendNumber(b, uint32(r.number()))
}

// constant copies a constant expression to b.
func (w *rewriter) constant(b []byte, r *binaryReader) []byte {
	for r.err == nil {
		before := r.next
		switch op := r.byte(); op {
		case opEnd:
			return append(b, op)
		case opRefFunc:
			b = w.reference(append(b, op), r)
			continue
		case opGlobalGet:
			r.index(w.globals, "global")
		case opI32Const, opI64Const, opF32Const, opF64Const, opRefNull:
			r.literal(op)
		case opVector:
			if sub := r.number(); sub != vectorConst {
				r.fail("the opcode 0xfd %d is not known in a constant", sub)
			}
			r.take(16)
		default:
			r.fail("the opcode %#x is not known in a constant", op)
		}
		if r.err == nil {
			b = append(b, r.b[before:r.next]...)
		}
	}
	return b
}

// element copies a segment of elements to b.
func (w *rewriter) element(b []byte, r *binaryReader) []byte {
	// indexed means that a segment names its table; for a passive segment, that it is declarative.
	const passive, indexed, expressions = 1, 2, 4
	flags := r.number()
	if flags > passive|indexed|expressions {
		r.fail("a segment of elements of the kind %d is not known", flags)
	}
	b = appendNumber(b, uint32(flags))
	if flags&(passive|indexed) == indexed {
		b = appendNumber(b, uint32(r.number()))
	}
	if flags&passive == 0 {
		b = w.constant(b, r)
	}
	if flags&(passive|indexed) != 0 {
		b = append(b, r.byte()) // the kind of the elements
	}
	n := r.number()
	b = appendNumber(b, uint32(n))
	for k := uint64(0); k < n && r.err == nil; k++ {
		if flags&expressions != 0 {
			b = w.constant(b, r)
		} else {
			b = w.reference(b, r)
		}
	}
	return b
}

// data reads a segment of data. It has no number of a function.
func (w *rewriter) data(r *binaryReader) {
	const passive, indexed = 1, 2
	flags := r.number()
	if flags > indexed {
		r.fail("a segment of data of the kind %d is not known", flags)
	}
	if flags == indexed {
		r.number()
	}
	if flags != passive {
		w.constant(nil, r)
	}
	r.take(r.number())
}

// appendPadded writes a number below 2^31 as a constant of five bytes.
func appendPadded(b []byte, v uint32) []byte {
	return append(b, byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14)|0x80, byte(v>>21)|0x80, byte(v>>28))
}
