package wasm

import "slices"

// The opcodes that this file treats specially, or writes.
const (
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrTable      = 0x0e
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32GtS       = 0x4a
	opI32Sub       = 0x6b
	opI32ShrU      = 0x76
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opBulk         = 0xfc
	opVector       = 0xfd
	vectorConst    = 12

	noResult = 0x40
	typeI32  = 0x7f
)

// bodyWriter rewrites the bodies of functions. First it reads all of them, then it counts, and
// then it writes.
type bodyWriter struct {
	w *rewriter
	// charge is code that counts down by a padded constant, charge[weightAt:]. check is code that
	// calls our function if the countdown has run out. loopCheck does the same at the beginning of
	// a loop without parameters.
	charge, check, loopCheck []byte
	weightAt                 int

	// code has the functions one after the other, from the first instruction of each.
	code      []byte
	functions []function
	sites     []site
	calls     []call

	// reader reads the code of the current function. Its bytes before copied are in code already.
	reader binaryReader
	copied int
	// locals is the number of locals of the current function. If ranged is true, it gets one more,
	// which is ours.
	locals uint32
	ranged bool
	// blocks has, for each open block, the index of the site at which its code counts.
	blocks []int
}

// site is a place at which code counts down: the entry of a function, or a loop.
type site struct {
	at    int // the index of the site's constant in code; not used for an entry
	bytes int // how many bytes of code count at this site
}

// call is a call of a function in the code of a site.
type call struct {
	site     int
	function uint32
}

// begin prepares the rewriting of a code section of size bytes. The sections before it have been
// read.
func (c *bodyWriter) begin(w *rewriter, size int) {
	c.w = w
	c.code = make([]byte, 0, size+size/8)
	c.functions = make([]function, 0, len(w.types))
	global := func(op byte) []byte { return appendNumber([]byte{op}, w.globals) }
	get, set := global(opGlobalGet), global(opGlobalSet)
	c.charge = append(slices.Clone(get), opI32Const)
	c.weightAt = len(c.charge)
	c.charge = slices.Concat(appendPadded(c.charge, 0), []byte{opI32Sub}, set)
	// After the check, the usual path goes straight on, so values stay in their registers. The
	// path that calls our function goes back to the beginning of a loop.
	c.loopCheck = slices.Concat(get, []byte{opI32Const, 0, opI32GtS, opIf, noResult, opElse, opCall},
		appendNumber(nil, uint32(len(w.types))+1), []byte{opBr, 1, opEnd})
	c.check = slices.Concat([]byte{opLoop, noResult}, c.loopCheck, []byte{opEnd})
}

// read reads the next function of r. typ is the index of its type.
func (c *bodyWriter) read(typ uint32, r *binaryReader) {
	body := r.take(r.number())
	b := &c.reader
	*b = binaryReader{b: body, base: r.offset() - len(body), err: r.err}
	f := function{groups: b.number(), from: len(c.code), sites: len(c.sites), calls: len(c.calls)}
	locals := uint64(c.w.params[typ])
	declared := b.next
	for k := uint64(0); k < f.groups && b.err == nil; k++ {
		locals += b.number()
		b.byte()
		if locals>>32 != 0 {
			b.fail("a function has %d locals", locals)
		}
	}
	f.declared = body[min(declared, b.next):b.next]
	c.copied = b.next
	c.locals, c.ranged = uint32(locals), false
	c.blocks = append(c.blocks[:0], len(c.sites))
	c.sites = append(c.sites, site{})
	for len(c.blocks) > 0 && b.err == nil {
		c.instruction()
	}
	c.copy(0)
	if b.more() {
		b.fail("%d bytes are left after the end of a function", b.remaining())
	}
	if r.err = b.err; r.err != nil {
		r.next = len(r.b)
	}
	f.to, f.ranged = len(c.code), c.ranged
	c.functions = append(c.functions, f)
}

// copy copies the bytes that have been read to code, except for the last n bytes.
func (c *bodyWriter) copy(n int) {
	if r := &c.reader; r.err == nil {
		c.code = append(c.code, r.b[c.copied:r.next-n]...)
		c.copied = r.next
	}
}

// instruction reads an instruction, and writes the code that is added before or after it, if any.
func (c *bodyWriter) instruction() {
	r, block := &c.reader, c.blocks[len(c.blocks)-1]
	before := r.next
	switch op := r.byte(); op {
	case opBlock, opIf:
		c.blockType()
		c.blocks = append(c.blocks, block)
	case opLoop:
		check := c.loopCheck
		if t := c.blockType(); t >= 0 && r.err == nil && c.w.params[t] > 0 {
			check = c.check
		}
		c.copy(0)
		c.blocks = append(c.blocks, len(c.sites))
		c.sites = append(c.sites, site{at: len(c.code) + c.weightAt})
		c.code = append(append(c.code, c.charge...), check...)
	case opEnd:
		c.blocks = c.blocks[:len(c.blocks)-1]
	case opBrTable:
		for n := r.number() + 1; n > 0 && r.err == nil; n-- {
			r.number()
		}
	case opCall, opRefFunc:
		from := r.next
		f := r.index(uint32(len(c.w.types)), "function")
		if r.err != nil {
			break
		}
		if op == opRefFunc {
			c.w.taken[f] = true
		} else {
			c.calls = append(c.calls, call{block, f})
		}
		c.copy(r.next - from)
		c.code = appendNumber(c.code, f+1)
	case opCallIndirect:
		r.index(uint32(len(c.w.params)), "type")
		r.number()
	case opSelectTyped:
		r.take(r.number())
	case opLocalGet, opLocalSet, opLocalTee:
		r.index(c.locals, "local")
	case opGlobalGet, opGlobalSet:
		r.index(c.w.globals, "global")
	case opI32Const, opI64Const, opF32Const, opF64Const, opRefNull:
		r.literal(op)
	case opBulk:
		c.bulk(before)
	case opVector:
		c.vector()
	default:
		switch {
		case op <= 0x01, op == opElse, op == 0x0f, op == 0x1a, op == 0x1b, 0x45 <= op && op <= 0xc4, op == 0xd1:
			// unreachable, nop; else; return; drop; select; arithmetic and comparisons;
			// ref.is_null
		case op == opBr, op == 0x0d, op == 0x25, op == 0x26, op == 0x3f, op == 0x40:
			r.number() // a label of br or br_if; a table; a memory of memory.size or memory.grow
		case 0x28 <= op && op <= 0x3e:
			c.access()
		default:
			c.unknown(1, "the opcode %#x", op)
		}
	}
	c.sites[block].bytes += r.next - before
}

// literal reads the operand of an instruction with the opcode of a literal.
func (r *binaryReader) literal(op byte) {
	switch op {
	case opI32Const:
		r.leb(5)
	case opI64Const:
		r.leb(10)
	case opF32Const:
		r.take(4)
	case opF64Const:
		r.take(8)
	case opRefNull:
		r.byte()
	}
}

// unknown fails because the instruction that was just read, n bytes of it, is not known.
func (c *bodyWriter) unknown(n int, format string, args ...any) {
	if c.reader.err == nil {
		c.reader.next -= n
		c.reader.fail(format+" is not known", args...)
	}
}

// blockType reads the type of a block. It returns the index of a type, or a number below 0 for a
// type without an index.
func (c *bodyWriter) blockType() int64 {
	t := c.reader.signed()
	if t >= int64(len(c.w.params)) {
		c.reader.fail("the type %d, there are %d", t, len(c.w.params))
	}
	return t
}

// access reads the operands of an access to the memory.
func (c *bodyWriter) access() {
	c.reader.number() // alignment
	c.reader.number() // offset
}

// bulk reads an instruction with the prefix 0xfc. before is the index at which the instruction
// begins.
func (c *bodyWriter) bulk(before int) {
	const memoryInit, dataDrop, memoryCopy, memoryFill, tableInit, elementDrop, tableCopy, tableGrow, tableSize,
		tableFill = 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
	r := &c.reader
	op := r.number()
	switch {
	case op <= 7: // conversions that saturate
		return
	case op == dataDrop || op == elementDrop || op == tableSize || op == tableGrow:
		r.number()
		return
	case op == memoryInit || op == memoryCopy || op == tableInit || op == tableCopy:
		r.number()
		r.number()
	case op == memoryFill || op == tableFill:
		r.number()
	default:
		c.unknown(r.next-before, "the opcode 0xfc %d", op)
		return
	}
	if r.err != nil {
		return
	}
	// An instruction on a range has the range's length on top of the stack.
	c.ranged = true
	c.copy(r.next - before)
	c.code = appendNumber(append(c.code, opLocalTee), c.locals)
	c.code = append(c.code, c.charge[:c.weightAt-1]...)
	c.code = appendNumber(append(c.code, opLocalGet), c.locals)
	c.code = append(c.code, opI32Const, rangeShift, opI32ShrU)
	c.code = append(c.code, c.charge[c.weightAt+5:]...)
	c.code = append(c.code, r.b[before:r.next]...)
	c.code = append(c.code, c.check...)
}

// vector reads an instruction with the prefix 0xfd.
func (c *bodyWriter) vector() {
	r := &c.reader
	before := r.next - 1
	switch op := r.number(); {
	case op <= 11, op == 92, op == 93: // loads and stores
		c.access()
	case op == vectorConst, op == 13: // 13 is a shuffle
		r.take(16)
	case 21 <= op && op <= 34: // a lane
		r.byte()
	case 84 <= op && op <= 91: // loads and stores of a lane
		c.access()
		r.byte()
	case op <= 0xff: // arithmetic and comparisons
	default:
		c.unknown(r.next-before, "the opcode 0xfd %d", op)
	}
}
