package executor

import (
	"bytes"
	"context"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// answers keeps the answers.
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

// A request whose context has ended costs the placement. The code of the answer says that the
// request was interrupted, not that it was wrong.
func TestAContextThatHasEndedLosesThePlacement(t *testing.T) {
	core, err := wasm.Compile(t.Context(), wasm.Builtin(), wasm.Options{Interruptible: true, MemoryLimit: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = core.Close(context.Background()) }()
	var out answers
	x := New(func(ctx context.Context) (Instance, error) { return core.Instantiate(ctx) }, &out, ipc.DefaultMaxFrame)
	e := x.Engine(1)
	run := func(ctx context.Context, kind ipc.Kind, body []byte) (ipc.Flags, []byte) {
		t.Helper()
		if err := e.Run(ctx, ipc.Header{Kind: kind, Request: 1, Placement: 1}, body); err != nil {
			t.Fatal(err)
		}
		last := len(out.headers) - 1
		return out.headers[last].Flags, out.bodies[last]
	}
	setup, err := msgpack.Marshal(map[string]any{"stack": []map[string]any{{"id": "ace"}}})
	if err != nil {
		t.Fatal(err)
	}
	open := ipc.OpenBody{MaxStateBytes: 1 << 20, MaxResult: 1 << 16, MaxDepth: 64}
	run(t.Context(), ipc.Open, open.Append(nil))
	run(t.Context(), ipc.Feed, append(ipc.AppendBytes(nil, len(setup)), setup...))
	run(t.Context(), ipc.Ready, nil)
	draw := journal.AppendAction(nil, &journal.Action{}, "stack:draw", []byte{0x80})
	ctx, cancel := context.WithCancel(t.Context())
	flags, body := run(ctx, ipc.Dispatch, draw)
	cancel()
	if o, err := ipc.ReadOutcome(body); flags != ipc.FlagChanged || err != nil ||
		!bytes.Contains(o.Result, []byte("ace")) {
		t.Errorf("before it ends: flags %b, %+v, %v", flags, o, err)
	}
	flags, body = run(ctx, ipc.Dispatch, draw)
	if f, err := ipc.ReadFailure(body); flags != ipc.FlagFailed|ipc.FlagLost || err != nil ||
		f.Code != CodeInterrupted || e.instance != nil {
		t.Errorf("once it has ended: flags %b, %+v, %v, instance %v", flags, f, err, e.instance)
	}
}
