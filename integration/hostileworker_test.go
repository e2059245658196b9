package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/executor"
	"hypertoken/internal/process"
	"hypertoken/ipc"
	"hypertoken/wasm"
	"hypertoken/workerproc"
)

// The hostile worker: a process that shakes hands and runs engines as a worker does, and at one moment of its life does
// what no worker should. HYPERTOKEN_HOSTILE names that.

const hostileVariable = "HYPERTOKEN_HOSTILE"

// hostileMain is this process where it was started as a hostile worker.
func hostileMain() {
	mode := os.Getenv(hostileVariable)
	if mode == "" || !process.InWorker() {
		return
	}
	in, out, err := process.Serve()
	if err == nil {
		err = newHostile(mode, out).serve(in)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// hostile is where the loop's answers go: on to the host, but for the one where it shows what it is.
type hostile struct {
	mode  string
	out   *os.File
	loop  *workerproc.Loop
	seen  *ipc.Reader // reads along
	kinds map[uint64]ipc.Kind
	count map[ipc.Kind]int // answers so far
	// held is an answer of the placement heldOf that is not written yet.
	held   []byte
	heldOf uint64
	mute   bool // nothing more is written
	deaf   bool // nothing more is read
	error  error
}

func newHostile(mode string, out *os.File) *hostile {
	x := &hostile{mode: mode, out: out, seen: ipc.NewReader(1<<30, true), kinds: map[uint64]ipc.Kind{},
		count: map[ipc.Kind]int{}}
	x.loop = workerproc.NewLoop(&plainRuntime{}, x, slog.New(slog.DiscardHandler))
	return x
}

// plainRuntime runs cores as a worker does.
type plainRuntime struct{ core *wasm.Core }

func (r *plainRuntime) Has(hash string) bool { return hash == wasm.Hash(wasm.Builtin()) }

func (r *plainRuntime) Actions(context.Context) ([]byte, error) { return nil, nil }

func (r *plainRuntime) Use(ctx context.Context, c ipc.ConfigureBody, core []byte) (err error) {
	if core == nil {
		core = wasm.Builtin()
	}
	cache, err := wasm.OpenCache(c.CacheDir)
	if err == nil {
		r.core, err = wasm.Compile(ctx, core, wasm.Options{Cache: cache})
	}
	return err
}

func (r *plainRuntime) Instantiate(ctx context.Context) (executor.Instance, error) {
	return r.core.Instantiate(ctx)
}

func (x *hostile) serve(in *os.File) error {
	if !x.hello() {
		return nil
	}
	for {
		if x.deaf {
			select {}
		}
		space := x.loop.Space()
		n, err := in.Read(space)
		if err == io.EOF {
			if x.mode == "outlives its host" {
				select {}
			}
			return nil
		}
		if err != nil {
			return err
		}
		x.note(space[:n])
		if err := x.loop.Filled(n); err != nil {
			return err
		}
		for more := true; more; {
			if more, err = x.loop.Run(context.Background()); err != nil {
				return err
			}
		}
		if x.error != nil {
			return x.error
		}
	}
}

// note reads along, so that an answer's kind is known.
func (x *hostile) note(b []byte) {
	for len(b) > 0 {
		n := copy(x.seen.Space(), b)
		x.seen.Filled(n)
		b = b[n:]
		for {
			f, ok, err := x.seen.Next()
			if err != nil || !ok {
				break
			}
			x.kinds[f.Request] = f.Kind
		}
		x.seen.ReleaseAll()
	}
}

// frame is a frame as its bytes, whatever it says.
func frame(kind ipc.Kind, flags ipc.Flags, request, placement uint64, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	b = append(b, byte(kind), byte(flags), 0, 0)
	b = binary.LittleEndian.AppendUint64(b, request)
	return append(binary.LittleEndian.AppendUint64(b, placement), body...)
}

func (x *hostile) write(b []byte) {
	if !x.mute {
		_, x.error = x.out.Write(b)
	}
}

// end ends the process as it is.
func (x *hostile) end(b []byte) {
	x.write(b)
	os.Exit(0)
}

// hello says hello, or something else. It returns whether the process goes on.
func (x *hostile) hello() bool {
	hello := ipc.HelloBody{Protocol: ipc.Version, Build: "hostile", Core: wasm.Hash(wasm.Builtin()), PID: os.Getpid()}
	plain := frame(ipc.Hello, 0, 0, 0, ipc.Encode(hello))
	switch x.mode {
	case "garbage for a hello":
		x.write(bytes.Repeat([]byte{0xff}, 4096))
	case "another version":
		hello.Protocol = 99
		x.write(frame(ipc.Hello, 0, 0, 0, ipc.Encode(hello)))
	case "an answer before hello":
		x.write(append(frame(ipc.Answer, 0, 1, 0, outcome(ipc.Outcome{})), plain...))
	case "a deep hello":
		body := append([]byte("\x81\xa1x"), bytes.Repeat([]byte{0x91}, 16<<20)...)
		x.write(frame(ipc.Hello, 0, 0, 0, body))
	case "hello is cut short":
		x.end(plain[:ipc.HeaderSize+3])
	case "exits after hello":
		x.end(plain)
	case "panics":
		x.write(plain)
		panic("no more cards")
	case "silent after hello":
		x.write(plain)
		x.mute = true
	case "hello at once again":
		x.write(append(plain, plain...))
	default:
		x.write(plain)
	}
	return true
}

// outcome is the body of an answer.
func outcome(o ipc.Outcome) []byte {
	b := append(o.AppendHead(nil), o.Result...)
	return append(ipc.AppendBytes(b, len(o.Events)), o.Events...)
}

func (x *hostile) Flush()    {}
func (x *hostile) Drain(int) {}

// third is the answer at which most misbehave: engines are placed then, and more requests wait.
const third = 3

// Append sends an answer.
func (x *hostile) Append(h ipc.Header, parts ...[]byte) int {
	body := bytes.Join(parts, nil)
	plain := frame(h.Kind, h.Flags, h.Request, h.Placement, body)
	if h.Kind == ipc.Hello {
		return 0 // hello has said it
	}
	kind := x.kinds[h.Request]
	if h.Kind == ipc.Answer {
		x.count[kind]++
	}
	if x.held != nil && kind == ipc.Dispatch && h.Placement == x.heldOf {
		plain, x.held = append(plain, x.held...), nil
	}
	at := func(k ipc.Kind, n int) bool { return kind == k && h.Kind == ipc.Answer && x.count[k] == n }
	switch {
	case at(ipc.Configure, 1):
		x.write(x.configured(h, plain))
	case at(ipc.Ready, 1):
		x.write(x.ready(h, body, plain))
	case at(ipc.Dispatch, third) && h.Flags&ipc.FlagFailed == 0:
		x.write(x.dispatched(h, body, plain))
	case x.mode == "lies" && kind == ipc.Dispatch && h.Flags&ipc.FlagFailed == 0:
		o := read(body)
		o.Result = bytes.ReplaceAll(o.Result, []byte("t0"), []byte("t9"))
		o.Checksum = xxhash.Sum64(o.Result)
		x.write(frame(h.Kind, h.Flags, h.Request, h.Placement, outcome(o)))
	case at(ipc.Batch, 1) && h.Flags&ipc.FlagFailed == 0:
		x.write(x.batched(h, body, plain))
	case at(ipc.Digest, 1) && x.mode == "a short digest":
		o := read(body)
		o.Result = o.Result[:3]
		o.Checksum = xxhash.Sum64(o.Result)
		x.write(frame(h.Kind, 0, h.Request, h.Placement, outcome(o)))
	case h.Kind == ipc.Chunk:
		x.write(x.streamed(h, kind, plain))
	default:
		x.write(plain)
	}
	return 0
}

func read(body []byte) ipc.Outcome {
	o, err := ipc.ReadOutcome(body)
	if err != nil {
		panic(err)
	}
	return o
}

// configured is what comes for the answer to configure.
func (x *hostile) configured(h ipc.Header, plain []byte) []byte {
	switch x.mode {
	case "can't run the core":
		f := ipc.Failure{Code: ipc.CodeNoCore, Message: "no core of yours", Index: -1}
		return frame(ipc.Answer, ipc.FlagFailed, h.Request, 0, f.Append(nil))
	case "a failure that is none":
		return frame(ipc.Answer, ipc.FlagFailed, h.Request, 0, []byte{0xc1})
	case "answers another configure":
		return frame(ipc.Answer, 0, h.Request+7, 0, outcome(ipc.Outcome{}))
	}
	return plain
}

// ready is what comes for the answer to ready.
func (x *hostile) ready(h ipc.Header, body, plain []byte) []byte {
	switch x.mode {
	case "ready with another sequence":
		o := read(body)
		o.Sequence += 3
		return frame(h.Kind, 0, h.Request, h.Placement, outcome(o))
	case "ready without a body":
		return frame(h.Kind, 0, h.Request, h.Placement, nil)
	}
	return plain
}

// streamed is what comes for a piece of a stream.
func (x *hostile) streamed(h ipc.Header, kind ipc.Kind, plain []byte) []byte {
	chunk := func(n int) []byte {
		return frame(ipc.Chunk, 0, h.Request, h.Placement, append(ipc.AppendBytes(nil, n), make([]byte, n)...))
	}
	switch {
	case x.mode == "a large chunk":
		return chunk(ipc.ChunkSize + 1)
	case x.mode == "an endless state" && kind == ipc.State, x.mode == "an endless snapshot" && kind == ipc.Snapshot:
		for piece := chunk(ipc.ChunkSize); x.error == nil; {
			x.write(piece)
		}
	}
	return plain
}

// batched is what comes for the answer to a batch.
func (x *hostile) batched(h ipc.Header, body, plain []byte) []byte {
	o := read(body)
	m, rest, err := ipc.ReadMemberOutcome(o.Result)
	if err != nil {
		panic(err)
	}
	switch x.mode {
	case "a batch with a member less":
		o.Result = rest
	case "a batch with a member more":
		o.Result = m.Append(bytes.Clone(o.Result))
	case "a member with another checksum":
		m.Checksum++
		o.Result = append(m.Append(nil), rest...)
	default:
		return plain
	}
	o.Checksum = xxhash.Sum64(o.Result)
	return frame(h.Kind, h.Flags, h.Request, h.Placement, outcome(o))
}

// dispatched is what comes for the answer to an action.
func (x *hostile) dispatched(h ipc.Header, body, plain []byte) []byte {
	raw := func(change func(b []byte)) []byte {
		b := bytes.Clone(plain)
		change(b)
		return b
	}
	other := func(change func(o *ipc.Outcome)) []byte {
		o := read(body)
		change(&o)
		return frame(h.Kind, h.Flags, h.Request, h.Placement, outcome(o))
	}
	failure := func(flags ipc.Flags, f ipc.Failure) []byte {
		f.Sequence = read(body).Sequence
		return frame(h.Kind, flags|ipc.FlagFailed, h.Request, h.Placement, f.Append(nil))
	}
	switch x.mode {
	case "garbage between frames":
		return append(bytes.Repeat([]byte{0xa5}, 100), plain...)
	case "half a frame, then the end":
		x.end(plain[:len(plain)-2])
	case "half a frame, then silence":
		x.write(plain[:len(plain)-2])
		x.mute = true
	case "the end without a word":
		x.end(nil)
	case "a frame too long":
		return raw(func(b []byte) { binary.LittleEndian.PutUint32(b, 1<<31) })
	case "an unknown kind":
		return raw(func(b []byte) { b[4] = 99 })
	case "a kind of the host's":
		return raw(func(b []byte) { b[4] = byte(ipc.Dispatch) })
	case "unknown flags":
		return raw(func(b []byte) { b[5] |= 0x80 })
	case "bytes that are not 0":
		return raw(func(b []byte) { b[7] = 1 })
	case "an unknown request":
		return raw(func(b []byte) { b[13] = 1 })
	case "answered twice":
		return append(plain, plain...)
	case "another placement":
		return raw(func(b []byte) { b[16] ^= 0x55 })
	case "out of order":
		x.held, x.heldOf = plain, h.Placement
		return nil
	case "a chunk for an action":
		return frame(ipc.Chunk, 0, h.Request, h.Placement, ipc.AppendBytes(nil, 0))
	case "dropped, and not recalled":
		return frame(ipc.Dropped, 0, h.Request, h.Placement, nil)
	case "a body that is none":
		return frame(h.Kind, h.Flags, h.Request, h.Placement, []byte{0xc1, 0xc1})
	case "a body cut short":
		return frame(h.Kind, h.Flags, h.Request, h.Placement, body[:len(body)-1])
	case "a body with more":
		return frame(h.Kind, h.Flags, h.Request, h.Placement, append(bytes.Clone(body), 0))
	case "another checksum":
		return other(func(o *ipc.Outcome) { o.Checksum++ })
	case "no result":
		return other(func(o *ipc.Outcome) { o.Result = nil })
	case "a sequence too high":
		return other(func(o *ipc.Outcome) { o.Sequence++ })
	case "a sequence too low":
		return other(func(o *ipc.Outcome) { o.Sequence-- })
	case "a change that is hidden":
		h.Flags &^= ipc.FlagChanged
		return other(func(*ipc.Outcome) {})
	case "a result too large":
		return other(func(o *ipc.Outcome) {
			o.Result = append([]byte{0xc6, 0, 0xff, 0xff, 0xff}, make([]byte, 1<<24-1)...)
			o.Checksum = xxhash.Sum64(o.Result)
		})
	case "a failure without a code":
		return failure(0, ipc.Failure{Message: "no", Index: -1})
	case "an error named interrupted":
		return failure(0, ipc.Failure{Code: executor.CodeInterrupted, Message: "the game is paused", Index: -1})
	case "an error named not_placed":
		return failure(0, ipc.Failure{Code: ipc.CodeNotPlaced, Message: "the card is not placed", Index: -1})
	case "not placed":
		return failure(ipc.FlagLost, ipc.Failure{Code: ipc.CodeNotPlaced, Message: "never heard of it", Index: -1})
	case "hello again":
		return append(frame(ipc.Hello, 0, 0, 0, ipc.Encode(ipc.HelloBody{Protocol: ipc.Version})), plain...)
	case "deep events":
		return other(func(o *ipc.Outcome) {
			o.Events = append([]byte("\x92\xa1x"), bytes.Repeat([]byte{0x91}, 16<<20)...)
		})
	case "closes its output":
		_ = x.out.Close()
		select {}
	case "reads no more":
		x.deaf, x.mute = true, true
	case "floods its log":
		for n := range 20_000 {
			fmt.Fprintln(os.Stderr, "line", n, strings.Repeat("x", 100))
		}
		_, _ = os.Stderr.Write(bytes.Repeat([]byte("y"), 4<<20))
	}
	return plain
}
