package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"hypertoken/internal/cores"
)

// countedContext ends when it is asked for the n-th time whether it has ended.
type countedContext struct {
	context.Context
	asked, n int
}

func (c *countedContext) Err() error {
	if c.asked++; c.asked >= c.n {
		return context.Canceled
	}
	return nil
}

const never = 1 << 62

// calling returns a core whose ht_call has some instructions; its functions are numbered from 4
// on.
func calling(code ...byte) *cores.Module {
	return new(cores.Module).Returns("ht_abi", cores.ToInt, 1).Returns("ht_reply", cores.ToInt, 0).
		Returns("ht_input", cores.IntToInt, 0).Function("ht_call", cores.IntsToInt, code...)
}

// Code that takes long, in any form, ends with its context.
func TestAContextEndsWhateverTakesItsTime(t *testing.T) {
	// twice calls a function with its parameter less one, two times, and adds what it returns; it
	// ends at 0.
	twice := func(call ...byte) []byte {
		one := slices.Concat([]byte{0x20, 0, 0x41, 1, 0x6b}, call)
		return slices.Concat([]byte{0x20, 0, 0x45, 0x04, 0x40, 0x41, 0, 0x0f, 0x0b}, one, one, []byte{0x6a})
	}
	chain := calling(0x10, 4, 0x41, 0)
	for k := range byte(60) {
		chain.Function("", cores.ToNothing, 0x10, 5+k, 0x10, 5+k)
	}
	chain.Function("", cores.ToNothing)
	table := calling(0x41, 60, 0x10, 4).Function("", cores.IntToInt, twice(0x41, 0, 0x11, 1, 0)...)
	table.Table, table.Elements = []byte{0x70, 1, 1, 1}, []byte{1, 0, 0x41, 0, 0x0b, 1, 4}
	for name, m := range map[string]*cores.Module{
		"a loop":                calling(cores.Endless...),
		"a loop in a loop":      calling(0x03, 0x40, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0c, 0, 0x0b, 0x00),
		"an outer loop":         calling(0x03, 0x40, 0x03, 0x40, 0x0c, 1, 0x0b, 0x0b, 0x00),
		"a loop of a parameter": calling(0x41, 0, 0x03, 1, 0x0c, 0, 0x0b, 0x00),
		"a loop that calls":     calling(0x03, 0x40, 0x10, 4, 0x0c, 0, 0x0b, 0x00).Function("", cores.ToNothing),
		"a loop by br_table":    calling(0x03, 0x40, 0x20, 0, 0x0e, 1, 0, 0, 0x0b, 0x00),
		"recursion":             calling(0x41, 60, 0x10, 4).Function("", cores.IntToInt, twice(0x10, 4)...),
		"recursion over others": calling(0x41, 60, 0x10, 4).Function("", cores.IntToInt, twice(0x10, 5)...).
			Function("", cores.IntToInt, 0x20, 0, 0x10, 4),
		"recursion by a table":            table,
		"sixty that call the next, twice": chain,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Compile(t.Context(), m.Bytes(), Options{Interruptible: true})
			if err != nil || c.Slow() != nil {
				t.Fatal(err, c.Slow())
			}
			defer func() { _ = c.Close(context.Background()) }()
			i, err := c.Instantiate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = i.Digest(&countedContext{t.Context(), 0, 100})
			var trap *TrapError
			if !errors.As(err, &trap) || !trap.Interrupted || !errors.Is(err, context.Canceled) || c.Instances() != 0 {
				t.Errorf("got %v, %d instances are left", err, c.Instances())
			}
		})
	}
}

// yields returns how often a rewritten function without parameters yields.
func yields(t *testing.T, code ...byte) int {
	t.Helper()
	rewritten, err := rewrite(new(cores.Module).Function("f", cores.ToNothing, code...).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	_, r := runtimes(t)
	m, err := r.Instantiate(t.Context(), rewritten)
	if err != nil {
		t.Fatal(err)
	}
	ctx := &countedContext{t.Context(), 0, never}
	if _, err := m.ExportedFunction("f").Call(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx.asked
}

func TestWhatIsCounted(t *testing.T) {
	// times repeats instructions. It counts in the memory, because a global of its own would
	// change the module.
	times := func(n uint32, code ...byte) []byte {
		loop := slices.Concat([]byte{0x03, 0x40}, code,
			[]byte{0x41, 0, 0x41, 0, 0x28, 2, 0, 0x41, 1, 0x6a, 0x36, 2, 0, 0x41, 0, 0x28, 2, 0, 0x41})
		return append(appendPadded(loop, n), 0x49, 0x0d, 0, 0x0b)
	}
	range1 := func(length uint32, op ...byte) []byte {
		return append(appendPadded([]byte{0x41, 4, 0x41, 0, 0x41}, length), op...)
	}
	for _, c := range []struct {
		name string
		code []byte
		want int
	}{
		{"nothing", nil, 0},
		{"one round less than the countdown has", times(yieldAfter - 1), 0},
		{"as many as it has", times(yieldAfter), 1},
		{"five times as many", times(5 * yieldAfter), 5},
		{"rounds that count twice", times(yieldAfter/2, bytes.Repeat([]byte{0x01}, 40)...), 0},
		{"small ranges", times(1000, range1(63, 0xfc, 11, 0)...), 0},
		// Each round counts 1, and its range 999. So the last round before a yield exceeds the
		// countdown.
		{"large ranges that are filled", times(1000, range1(64_000-4, 0xfc, 11, 0)...), 1000 * 1000 / (yieldAfter + 1000)},
		{"large ranges that are copied", times(1000, range1(64_000-4, 0xfc, 10, 0, 0)...), 1000 * 1000 / (yieldAfter + 1000)},
		{"large ranges in a line", bytes.Repeat(range1(64_000, 0xfc, 11, 0), 4), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := yields(t, c.code...); got < c.want || got > c.want+c.want/10 {
				t.Errorf("%d yields, want %d", got, c.want)
			}
		})
	}
}

// module returns a module with all sections that a test needs. It has a function without
// parameters and results, with the given locals and code.
func module(locals []byte, body ...byte) []byte {
	section := func(id byte, parts ...[]byte) []byte {
		b := slices.Concat(parts...)
		return append(appendNumber([]byte{id}, uint32(len(b))), b...)
	}
	code := slices.Concat(locals, body, []byte{0x0b})
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(0, []byte("\x04test")),
		section(1, []byte{2, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f}),
		section(3, []byte{2, 0, 1}),
		section(4, []byte{2, 0x70, 1, 1, 2, 0x6f, 1, 1, 2}),
		section(5, []byte{1, 1, 1, 2}),
		section(6, []byte{3, 0x7f, 1, 0x41, 0, 0x0b, 0x7b, 0, 0xfd, 12}, make([]byte, 16),
			[]byte{0x0b, 0x70, 1, 0xd2, 1, 0x0b}),
		section(7, []byte{3, 1, 'f', 0, 0, 1, 'g', 3, 0, 1, 't', 1, 0}),
		section(8, []byte{0}),
		section(9, []byte{9, 0, 0x41, 0, 0x0b, 1, 1, 1, 0, 1, 1, 2, 0, 0x41, 0, 0x0b, 0, 1, 1, 3, 0, 1, 0,
			4, 0x41, 0, 0x0b, 1, 0xd2, 1, 0x0b, 5, 0x70, 1, 0xd0, 0x70, 0x0b, 6, 0, 0x41, 0, 0x0b, 0x70, 1, 0xd2, 0,
			0x0b,
			7, 0x70, 1, 0xd2, 1, 0x0b, 5, 0x6f, 1, 0xd0, 0x6f, 0x0b}),
		section(0, []byte("\x04test")),
		section(12, []byte{3}),
		section(10, []byte{2}, appendNumber(nil, uint32(len(code))), code, []byte{4, 0, 0x20, 0, 0x0b}),
		section(11, []byte{3, 0, 0x41, 0, 0x0b, 1, 'a', 1, 1, 'b', 2, 0, 0x41, 1, 0x0b, 1, 'c'}))
}

// alike reports whether a module is valid. The test fails if rewriting changes that.
func alike(t *testing.T, plain, yielding wazero.Runtime, name string, code []byte) bool {
	m, invalid := plain.CompileModule(t.Context(), code)
	if invalid == nil {
		defer func() { _ = m.Close(t.Context()) }()
	}
	rewritten, err := rewrite(code)
	if err == nil {
		var n wazero.CompiledModule
		if n, err = yielding.CompileModule(t.Context(), rewritten); err == nil {
			_ = n.Close(t.Context())
		}
	}
	if (invalid == nil) != (err == nil) {
		t.Errorf("%s: %v; rewritten: %v", name, invalid, err)
	}
	return invalid == nil
}

// Every opcode, with and without a prefix, is tried with all kinds of operands.
func TestEveryOpcode(t *testing.T) {
	plain, yielding := runtimes(t)
	immediates := [][]byte{{}, {0}, {1}, {0, 0}, {2, 0}, {1, 0, 0}, {2, 0, 0}, {0x40, 0x0b}, {1, 0x0b}, {1, 0x7f},
		{0x70}, {2, 0, 0, 0}, {0xff, 0x80, 0},
		{0x80, 0x80, 0x80, 0x80, 0}, {0x80, 0x80, 0x80, 0x80, 0x80, 0}, {0xff, 0xff, 0xff, 0xff, 0x0f}, {0xff, 0xff, 0xff, 0xff, 0x7f},
		make([]byte, 4), make([]byte, 8), make([]byte, 16)}
	seen := map[string]bool{}
	for _, prefix := range [][]byte{{}, {0xfc}, {0xfd}} {
		for op := range 256 {
			opcode := append(slices.Clone(prefix), byte(op))
			if len(prefix) > 0 {
				opcode = appendNumber(slices.Clone(prefix), uint32(op))
			}
			for _, imm := range immediates {
				body := slices.Concat([]byte{0x00}, opcode, imm, []byte{0x00})
				if alike(t, plain, yielding, fmt.Sprintf("%x, then %x", opcode, imm),
					module([]byte{2, 1, 0x7f, 2, 0x7b}, body...)) {
					seen[string(opcode)] = true
				}
			}
		}
	}
	// The specification has that many: 172 without a prefix, including else, end and return. else
	// and end do not count here.
	if len(seen) < 170+18+230 {
		t.Errorf("%d opcodes were seen: the test shows little", len(seen))
	}
}

func TestWhatIsNotKnownIsNamed(t *testing.T) {
	long := func(n uint32) []byte { return append(appendNumber([]byte{1}, n), 0x7f) }
	for _, c := range []struct {
		name string
		code []byte
		want string // "" if everything is known
	}{
		{"all sections", module(long(1)), ""},
		{"a tail call", module(long(1), 0x12, 0), "the opcode 0x12 is not known"},
		{"an atomic access", module(long(1), 0xfe, 0, 2, 0), "the opcode 0xfe is not known"},
		{"a bulk operation", module(long(1), 0xfc, 18, 0), "the opcode 0xfc 18 is not known"},
		{"a relaxed vector", module(long(1), 0xfd, 0x80, 2), "the opcode 0xfd 256 is not known"},
		{"a function that is not there", module(long(1), 0x10, 2), "the function 2, there are 2"},
		{"a global that is not there", module(long(1), 0x23, 3), "the global 3, there are 3"},
		{"a local that is not there", module(long(1), 0x20, 1), "the local 1, there are 1"},
		{"a type that is not there", module(long(1), 0x02, 2, 0x0b), "the type 2, there are 2"},
		{"more after the end", module(long(1), 0x0b, 0x01), "2 bytes are left after the end of a function"},
		{"no end", module(long(1), 0x02, 0x40), "0 bytes are left, 1 is to come"},
		{"imports", cores.Whole(1).Importing("env", "f", 0, 3).Bytes(), "it imports something"},
		{"no code", []byte("\x00asm\x01\x00\x00\x00"), "it has no code"},
		{"another version", []byte("\x00asm\x02\x00\x00\x00"), "no module of version 1"},
		{"a section twice", append(module(long(1)), 11, 1, 0), "section 11 is not known, or not in its place"},
		{"an unknown section", append(module(long(1)), 14, 0), "section 14 is not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := rewrite(c.code)
			if (c.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A core that can't be rewritten can run, too: wazero watches its contexts.
func TestACoreThatIsNotRewrittenIsInterruptedToo(t *testing.T) {
	c := compileTest(t, Options{Interruptible: true, watched: true})
	if !errors.Is(c.Slow(), errWatched) {
		t.Errorf("got %v", c.Slow())
	}
	i := open(t, c, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := i.Dispatch(ctx, &Action{Type: "test:spin"})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || c.Instances() != 0 {
		t.Errorf("got %v, %d instances are left", err, c.Instances())
	}
}

// If wazero watches a context, it may stop the instance after the call. So an instance whose
// context has ended is closed. An instance that yields is not.
func TestAContextThatEndsWithTheCall(t *testing.T) {
	for _, c := range []*Core{compile(t, Options{Interruptible: true}),
		compile(t, Options{Interruptible: true, watched: true})} {
		i := open(t, c, nil)
		_, err := i.Dispatch(&countedContext{t.Context(), 0, 2}, &Action{Type: "game:start"}) // asked before the call
		var trap *TrapError
		if watched := c.Slow() != nil; watched != (errors.As(err, &trap) && trap.Interrupted) ||
			(!watched && err != nil) {
			t.Errorf("watched %t: %v", watched, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := i.Dispatch(ctx, &Action{Type: "game:start"}); err == nil {
			t.Error("a context that has ended begins a call")
		}
	}
}

// FuzzRewrite rewrites any bytes. If they can be rewritten, the result is valid exactly if the
// bytes were a valid module.
func FuzzRewrite(f *testing.F) {
	f.Add(module([]byte{1, 1, 0x7f}, 0x03, 0x40, 0x10, 0, 0x0b, 0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 10, 0, 0))
	f.Add(module([]byte{0}, 0x02, 0x7f, 0x41, 0, 0x0b, 0x1a, 0x41, 0, 0x0e, 1, 0, 0))
	f.Add(calling(cores.Endless...).Bytes())
	f.Add(cores.Whole(1).Importing("env", "f", 0, 3).Bytes())
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, code []byte) {
		if len(code) > 64<<10 {
			return
		}
		rewritten, err := rewrite(code)
		if err != nil {
			return // Compile uses the core as it is
		}
		if most := 32*len(code) + 256; len(rewritten) > most {
			t.Errorf("%d bytes become %d, %d at most", len(code), len(rewritten), most)
		}
		plain, yielding := runtimes(t)
		m, invalid := plain.CompileModule(t.Context(), code)
		n, err := yielding.CompileModule(t.Context(), rewritten)
		if (invalid == nil) != (err == nil) {
			t.Errorf("%v; rewritten: %v", invalid, err)
		}
		for _, m := range []wazero.CompiledModule{m, n} {
			if m != nil {
				_ = m.Close(t.Context())
			}
		}
	})
}
