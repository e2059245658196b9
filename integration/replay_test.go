// Package integration holds tests across the boundaries of packages and languages.
package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"hypertoken/internal/require"
	"hypertoken/internal/trace"
	"hypertoken/wasm"
)

// recorder is an instance whose calls are written down as core-rs/examples/replay.rs reads them.
type recorder struct {
	t        *testing.T
	instance *wasm.Instance
	sent     uint64
	calls    bytes.Buffer
}

func (r *recorder) call(op uint32, input ...[]byte) {
	b := bytes.Join(input, nil)
	r.calls.Write(binary.LittleEndian.AppendUint32(nil, op))
	r.calls.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
	r.calls.Write(b)
}

// open begins a trace on a fresh instance.
func (r *recorder) open(core *wasm.Core, setup []byte) {
	ctx := r.t.Context()
	var err error
	if r.instance, err = core.Instantiate(ctx); err != nil {
		r.t.Fatal(err)
	}
	l := wasm.DefaultLimits
	if err := r.instance.Open(ctx, l, setup); err != nil {
		r.t.Fatal(err)
	}
	r.call(0)
	limits := binary.LittleEndian.AppendUint64(nil, l.MaxStateBytes)
	limits = binary.LittleEndian.AppendUint32(limits, l.MaxResult)
	r.call(opOpen, binary.LittleEndian.AppendUint32(limits, l.MaxDepth))
	// The pieces are small and odd, so that every place where a setup can be cut is.
	for piece := range slices.Chunk(setup, 997) {
		r.call(opFeed, piece)
	}
	r.call(opReady)
}

func (r *recorder) Dispatch(ctx context.Context, s trace.Step) (trace.Outcome, error) {
	r.sent++
	a := wasm.Action{Now: s.Now, Type: s.Type, Payload: s.Payload}
	binary.LittleEndian.PutUint64(a.Entropy[:], r.sent)
	r.call(opDispatch, binary.LittleEndian.AppendUint64(nil, uint64(a.Now)), a.Entropy[:],
		binary.LittleEndian.AppendUint32(nil, uint32(len(a.Type))), []byte(a.Type), a.Payload)
	r.call(opDigest)
	reply, err := r.instance.Dispatch(ctx, &a)
	if err != nil {
		return trace.Outcome{Failed: err}, nil
	}
	return trace.Outcome{Result: bytes.Clone(reply.Result)}, nil
}

func (r *recorder) Batch(context.Context, bool, []trace.Step) ([]trace.Outcome, error) {
	panic("single steps only")
}

func (r *recorder) State(ctx context.Context) ([]byte, error) {
	state, err := r.stream(ctx, opState, r.instance.State)
	if err == nil {
		_, err = r.stream(ctx, opSnapshot, r.instance.Snapshot)
	}
	return state, err
}

func (r *recorder) stream(ctx context.Context, op uint32,
	f func(context.Context, func([]byte) error) error) ([]byte, error) {
	var all []byte
	r.call(op)
	err := f(ctx, func(chunk []byte) error {
		all = append(all, chunk...)
		r.call(opNext)
		return nil
	})
	r.call(opNext)
	return all, err
}

// The ops of core-rs/ABI.md.
const (
	opOpen     = 1
	opFeed     = 3
	opReady    = 4
	opDispatch = 5
	opSnapshot = 7
	opState    = 8
	opNext     = 9
	opDigest   = 10
)

// record runs every trace and returns its calls.
func record(t *testing.T) []byte {
	core, err := wasm.Compile(t.Context(), wasm.Builtin(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = core.Close(t.Context()) }()
	r := &recorder{t: t}
	for _, tr := range require.Sample(5, traces(t)) {
		r.open(core, tr.Setup)
		report, err := (&trace.Verifier{}).Verify(t.Context(), tr, r)
		if err != nil || report.Difference != nil {
			t.Fatalf("%s: %v %v", tr.Name, report.Difference, err)
		}
		_ = r.instance.Close(t.Context())
	}
	return r.calls.Bytes()
}

// traces reads the traces.
func traces(t testing.TB) []*trace.Trace {
	t.Helper()
	all, err := trace.ReadDir("testdata/conformance")
	if err != nil || len(all) < 37 {
		t.Fatalf("%d traces found: %v", len(all), err)
	}
	return all
}

// replayWazero runs calls under wazero by the words of ABI.md, without the package wasm.
func replayWazero(t *testing.T, calls []byte) []reply {
	ctx := t.Context()
	runtime := wazero.NewRuntime(ctx)
	defer func() { _ = runtime.Close(ctx) }()
	compiled, err := runtime.CompileModule(ctx, wasm.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	var m api.Module
	u32 := binary.LittleEndian.Uint32
	do := func(name string, args ...uint64) uint32 {
		r, err := m.ExportedFunction(name).Call(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(r[0])
	}
	read := func(at, n uint32) []byte {
		b, ok := m.Memory().Read(at, n)
		if !ok {
			t.Fatalf("%d bytes at %d are outside the memory", n, at)
		}
		return bytes.Clone(b)
	}
	var all []reply
	for len(calls) > 0 {
		op, input := u32(calls), calls[8:8+u32(calls[4:])]
		calls = calls[8+len(input):]
		if op == 0 {
			if m != nil {
				_ = m.Close(ctx)
			}
			if m, err = runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("")); err != nil {
				t.Fatal(err)
			}
			continue
		}
		m.Memory().Write(do("ht_input", uint64(len(input))), input)
		status := do("ht_call", uint64(op), uint64(len(input)))
		h := read(do("ht_reply"), 48)
		r := reply{changed: h[4], stateBytes: binary.LittleEndian.Uint64(h[40:])}
		if status == 0 {
			r.ok = 1
		}
		r.body, r.table, r.events = read(u32(h[8:]), u32(h[12:])), read(u32(h[16:]), u32(h[20:])),
			read(u32(h[24:]), u32(h[28:]))
		all = append(all, r)
	}
	return all
}

// reply is what a runner answered to a call.
type reply struct {
	ok, changed         byte
	stateBytes          uint64
	body, table, events []byte
}

// parseReplies splits what a runner wrote.
func parseReplies(t *testing.T, b []byte) []reply {
	t.Helper()
	var all []reply
	for len(b) > 0 {
		if len(b) < 10 {
			t.Fatalf("%d bytes are no reply", len(b))
		}
		r := reply{ok: b[0], changed: b[1], stateBytes: binary.LittleEndian.Uint64(b[2:])}
		b = b[10:]
		for _, part := range []*[]byte{&r.body, &r.table, &r.events} {
			n := int(binary.LittleEndian.Uint32(b))
			*part, b = b[4:4+n], b[4+n:]
		}
		all = append(all, r)
	}
	return all
}

// The native core, and WebAssembly in V8, answer every call of every trace with the very bytes that wazero's does:
// results, errors, events, snapshots, states, digests and logical sizes.
func TestNativeAndV8AnswerTheSameBytes(t *testing.T) {
	node := require.Tool(t, "node")
	calls := record(t)
	run := func(name string, arg ...string) []reply {
		cmd := exec.CommandContext(t.Context(), name, arg...)
		var stderr bytes.Buffer
		cmd.Stdin, cmd.Stderr = bytes.NewReader(calls), &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, stderr.String())
		}
		return parseReplies(t, out)
	}
	core := filepath.Join(t.TempDir(), "core.wasm")
	if err := os.WriteFile(core, wasm.Builtin(), 0o600); err != nil {
		t.Fatal(err)
	}
	wazero := replayWazero(t, calls)
	replies := map[string][]reply{"V8": run(node, "testdata/replay.mjs", core)}
	if require.IsDeep() { // cargo takes minutes to build the native core
		replies["native"] = run(require.Tool(t, "cargo"), "run", "--quiet", "--release", "--locked",
			"--manifest-path", "../core-rs/Cargo.toml", "--example", "replay")
	}
	for name, got := range replies {
		if len(got) != len(wazero) {
			t.Errorf("%s gave %d replies, wazero %d", name, len(got), len(wazero))
		}
		for i := range min(len(got), len(wazero)) {
			if !equal(got[i], wazero[i]) {
				t.Fatalf("reply %d: %s says\n%+v\nwazero says\n%+v", i, name, got[i], wazero[i])
			}
		}
	}
	// Every step and its digest, at least.
	if len(wazero) < require.Rounds(2*1800, 2*6623) {
		t.Errorf("only %d calls were compared", len(wazero))
	}
}

func equal(a, b reply) bool {
	return a.ok == b.ok && a.changed == b.changed && a.stateBytes == b.stateBytes &&
		bytes.Equal(a.body, b.body) && bytes.Equal(a.table, b.table) && bytes.Equal(a.events, b.events)
}
