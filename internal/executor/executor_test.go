package executor

import (
	"bytes"
	"context"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/ipc"
	"hypertoken/wasm"
)

// answers keeps what is answered.
type answers struct {
	headers []ipc.Header
	bodies  [][]byte
}

func (a *answers) Append(h ipc.Header, parts ...[]byte) int {
	a.headers, a.bodies = append(a.headers, h), append(a.bodies, bytes.Join(parts, nil))
	return 0
}
func (a *answers) Flush()    {}
func (a *answers) Drain(int) {}

// lateContext has ended by the time that a call is over, and was not noticed before.
type lateContext struct{ context.Context }

func (lateContext) Done() <-chan struct{} { return nil }
func (lateContext) Err() error            { return context.Canceled }

// An action that ends together with its context is answered with its result, which lies in the memory of an instance that
// is freed with the answer.
func TestAnAnswerOutlivesItsInstance(t *testing.T) {
	core, err := wasm.Compile(t.Context(), wasm.Builtin(), wasm.Options{Interruptible: true, MemoryLimit: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = core.Close(context.Background()) }()
	var out answers
	x := New(func(ctx context.Context) (Instance, error) { return core.Instantiate(ctx) }, &out, ipc.DefaultMaxFrame)
	e := x.Engine(1)
	run := func(ctx context.Context, kind ipc.Kind, body []byte) {
		t.Helper()
		if err := e.Run(ctx, ipc.Header{Kind: kind, Request: 1, Placement: 1}, body); err != nil {
			t.Fatal(err)
		}
		if h := out.headers[len(out.headers)-1]; h.Flags&ipc.FlagFailed != 0 {
			f, err := ipc.ReadFailure(out.bodies[len(out.bodies)-1])
			t.Fatalf("%v: %+v, %v", kind, f, err)
		}
	}
	setup, err := msgpack.Marshal(map[string]any{"stack": []map[string]any{{"id": "ace"}}})
	if err != nil {
		t.Fatal(err)
	}
	open := ipc.OpenBody{MaxStateBytes: 1 << 20, MaxResult: 1 << 16, MaxDepth: 64}
	run(t.Context(), ipc.Open, open.Append(nil))
	run(t.Context(), ipc.Feed, append(ipc.AppendBytes(nil, len(setup)), setup...))
	run(t.Context(), ipc.Ready, nil)
	run(lateContext{t.Context()}, ipc.Dispatch, ipc.AppendAction(nil, &ipc.Action{}, "stack:draw", []byte{0x80}))
	last := len(out.headers) - 1
	if out.headers[last].Flags != ipc.FlagChanged|ipc.FlagLost || e.instance != nil {
		t.Errorf("flags %b, instance %v", out.headers[last].Flags, e.instance)
	}
	o, err := ipc.ReadOutcome(out.bodies[last])
	if err != nil || !bytes.Contains(o.Result, []byte("ace")) {
		t.Errorf("got %+v, %v", o, err)
	}
}
