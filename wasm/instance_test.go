package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/require"
	"hypertoken/internal/trace"
)

// open returns an instance with an engine.
func open(t testing.TB, c *Core, setup any) *Instance {
	t.Helper()
	i, err := c.Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close(context.Background()) })
	if err := i.Open(t.Context(), DefaultLimits, pack(t, setup)); err != nil {
		t.Fatal(err)
	}
	return i
}

func digest(t testing.TB, i *Instance) uint64 {
	t.Helper()
	d, err := i.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func snapshot(t testing.TB, i *Instance) []byte {
	t.Helper()
	var b []byte
	if err := i.Snapshot(t.Context(), func(chunk []byte) error {
		b = append(b, chunk...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// engine makes an instance an engine that a trace can be run on.
type engine struct {
	*Instance
	sent uint64
}

func (e *engine) action(s trace.Step) Action {
	a := Action{Now: s.Now, Type: s.Type, Payload: s.Payload}
	e.sent++
	binary.LittleEndian.PutUint64(a.Entropy[:], e.sent)
	return a
}

func (e *engine) Dispatch(ctx context.Context, s trace.Step) (trace.Outcome, error) {
	a := e.action(s)
	r, err := e.Instance.Dispatch(ctx, &a)
	var failed *ActionError
	if errors.As(err, &failed) {
		return trace.Outcome{Failed: failed}, nil
	}
	return trace.Outcome{Result: bytes.Clone(r.Result)}, err
}

func (e *engine) Batch(ctx context.Context, atomic bool, steps []trace.Step) ([]trace.Outcome, error) {
	actions := make([]Action, len(steps))
	for k, s := range steps {
		actions[k] = e.action(s)
	}
	outcomes := make([]trace.Outcome, len(steps))
	members, _, err := e.Instance.Batch(ctx, actions, atomic)
	var failed *ActionError
	if errors.As(err, &failed) {
		for k := range outcomes {
			outcomes[k].Failed = failed
		}
		return outcomes, nil
	}
	for k, m := range members {
		outcomes[k].Result = bytes.Clone(m.Result)
		if m.Err != nil {
			outcomes[k].Failed = m.Err
		}
	}
	return outcomes, err
}

func (e *engine) State(ctx context.Context) ([]byte, error) {
	var b []byte
	err := e.Instance.State(ctx, func(chunk []byte) error {
		b = append(b, chunk...)
		return nil
	})
	return b, err
}

// traces returns the traces. There are at most five of each kind. A run that is not deep takes one
// of each kind.
func traces(t testing.TB) []*trace.Trace {
	t.Helper()
	all, err := trace.ReadDir("../integration/testdata/conformance")
	if err != nil || len(all) < 37 {
		t.Fatalf("%d traces found: %v", len(all), err)
	}
	return require.Sample(5, all)
}

// After every step the engine goes on in a new instance, restored from a snapshot.
func TestTracesFromASnapshotAfterEveryStep(t *testing.T) {
	plain, interruptible := compile(t, Options{}), compile(t, Options{Interruptible: true})
	for _, tr := range traces(t) {
		t.Run(tr.Name, func(t *testing.T) {
			e := &engine{Instance: open(t, plain, msgpack.RawMessage(tr.Setup))}
			steps := 0
			v := trace.Verifier{Each: func(ctx context.Context) error {
				steps++
				before, b := digest(t, e.Instance), snapshot(t, e.Instance)
				core := plain
				if steps%7 == 0 {
					core = interruptible
				}
				fresh, err := core.Instantiate(ctx)
				if err != nil {
					return err
				}
				if err := fresh.Restore(ctx, b); err != nil {
					return err
				}
				if after := digest(t, fresh); after != before {
					return fmt.Errorf("digest %016x before the snapshot, %016x after", before, after)
				}
				_ = e.Close(ctx)
				e.Instance = fresh
				return nil
			}}
			r, err := v.Verify(t.Context(), tr, e)
			if err != nil || r.Difference != nil {
				t.Fatal(r.Difference, err)
			}
			_ = e.Close(t.Context())
		})
	}
	if n := plain.Instances() + interruptible.Instances(); n != 0 {
		t.Errorf("%d instances are left", n)
	}
}

func TestTracesInBatches(t *testing.T) {
	c := compile(t, Options{})
	steps, batches := 0, 0
	for _, mode := range []trace.Mode{trace.Independent, trace.Atomic} {
		for _, tr := range traces(t) {
			e := &engine{Instance: open(t, c, msgpack.RawMessage(tr.Setup))}
			r, err := (&trace.Verifier{Mode: mode}).Verify(t.Context(), tr, e)
			if err != nil || r.Difference != nil {
				t.Fatal(tr.Name, r.Difference, err)
			}
			steps, batches = steps+r.Steps, batches+r.Batches
		}
	}
	if mean := float64(steps) / float64(batches); mean <= 4 {
		t.Errorf("the mean batch size is %.1f", mean)
	}
}

func TestWhatACoreDoesStaysInItsInstance(t *testing.T) {
	c := compileTest(t, Options{MemoryLimit: 64 << 20})
	for _, test := range []struct {
		action, payload string
		code, message   string
	}{
		{"test:trap", "", "trap", "unreachable"},
		{"test:grow", "", "out_of_memory", "67108864 bytes of memory (MaxEngineMemory)"},
		{"test:lie", "", "trap", "its reply of 4294967295 bytes"},
	} {
		t.Run(test.action, func(t *testing.T) {
			i := open(t, c, deck(5))
			before, b := digest(t, i), snapshot(t, i)
			_, err := i.Dispatch(t.Context(), &Action{Type: test.action})
			var trap *TrapError
			var action *ActionError
			if !errors.As(err, &trap) || !errors.As(err, &action) {
				t.Fatalf("got %T %v", err, err)
			}
			if action.Code != test.code || !strings.Contains(action.Message, test.message) {
				t.Errorf("got %v", action)
			}
			if _, err := i.Digest(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("the instance goes on: %v", err)
			}
			fresh := open(t, c, nil)
			if err := fresh.Restore(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if digest(t, fresh) != before {
				t.Error("the restored engine differs")
			}
		})
	}
}

func TestAResultAboveMaxResultFailsBeforeTheStateChanges(t *testing.T) {
	i := open(t, compileTest(t, Options{}), deck(5))
	before := digest(t, i)
	run := func(bytes int) error {
		_, err := i.Dispatch(t.Context(), &Action{Type: "test:huge", Payload: pack(t, dict{"bytes": bytes})})
		return err
	}
	// A string of that length has a header of five bytes.
	fits := int(DefaultLimits.MaxResult) - 5
	var action *ActionError
	if err := run(fits + 1); !errors.As(err, &action) || action.Code != "too_large" || !strings.Contains(err.Error(),
		"16777216 bytes (MaxResult)") {
		t.Errorf("one byte above: %v", err)
	}
	if digest(t, i) != before {
		t.Error("a failed action had an effect")
	}
	if err := run(fits); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if digest(t, i) == before {
		t.Error("test:huge changes nothing: the test shows nothing")
	}
}

func TestAContextEndsACallOfAnInterruptibleCore(t *testing.T) {
	c := compileTest(t, Options{Interruptible: true})
	i := open(t, c, nil)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("enough"))
	defer cancel()
	_, err := i.Dispatch(ctx, &Action{Type: "test:spin"})
	var trap *TrapError
	if !errors.As(err, &trap) || err.Error() != "enough" {
		t.Errorf("got %v", err)
	}
	if c.Instances() != 0 {
		t.Errorf("%d instances are left", c.Instances())
	}
}

// If the context of a plain core ends, the core goes on: it does not check its context, which
// makes it fast.
func TestAContextDoesNotEndACallOfAPlainCore(t *testing.T) {
	i := open(t, compileTest(t, Options{}), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Dispatch(ctx, &Action{Type: "test:work"}); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	i := open(t, compile(t, Options{}), nil)
	before := digest(t, i)
	a := Action{Type: "debug:log"}
	a.Payload = make([]byte, MaxInput-a.Size()+1)
	var action *ActionError
	if _, err := i.Dispatch(t.Context(), &a); !errors.As(err, &action) || action.Code != "too_large" ||
		!strings.Contains(err.Error(), "67108865") {
		t.Errorf("above the bound: %v", err)
	}
	a.Payload = a.Payload[1:]
	a.Payload[0] = 0xc1 // this is no value; the core refuses it, which shows that it got the payload
	if _, err := i.Dispatch(t.Context(), &a); !errors.As(err, &action) || action.Code != "bad_payload" {
		t.Errorf("at the bound: %v", err)
	}
	if digest(t, i) != before {
		t.Error("a failed action had an effect")
	}
}

// States and snapshots of any size come in chunks of at most a mebibyte. All chunks are of the
// same state.
func TestLargeStatesStream(t *testing.T) {
	c := compile(t, Options{})
	i := open(t, c, deck(50_000))
	chunks, size := 0, 0
	if err := i.State(t.Context(), func(chunk []byte) error {
		if len(chunk) > ChunkSize {
			t.Errorf("a chunk of %d bytes", len(chunk))
		}
		chunks, size = chunks+1, size+len(chunk)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if chunks < 2 || size < 2*ChunkSize {
		t.Errorf("%d bytes in %d chunks: the test shows nothing", size, chunks)
	}
	fresh := open(t, c, nil)
	if err := fresh.Restore(t.Context(), snapshot(t, i)); err != nil {
		t.Fatal(err)
	}
	if digest(t, fresh) != digest(t, i) {
		t.Error("the restored engine differs")
	}
	stop := errors.New("stop")
	if err := i.State(t.Context(), func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callback's error is lost: %v", err)
	}
}

// For the deepest values that are allowed, recursive functions need less than the stack of 64 KiB.
func TestTheDeepestValues(t *testing.T) {
	i := open(t, compile(t, Options{}), nil)
	const deepest = 128
	limits := DefaultLimits
	limits.MaxDepth = deepest
	if err := i.Open(t.Context(), limits, nil); err != nil {
		t.Fatal(err)
	}
	run := func(action string, payload any) error {
		_, err := i.Dispatch(t.Context(), &Action{Type: action, Payload: pack(t, payload)})
		return err
	}
	nested := func(n int) any {
		var v any = 1
		for range n {
			v = dict{"b": v, "a": 1}
		}
		return v
	}
	path := func(n int) []string { return strings.Split(strings.Repeat("k ", n)+"k", " ") }
	patch := func(n int, value any) dict {
		return dict{"key": "deep", "patches": []dict{{"path": path(n - 1), "value": value}}}
	}
	for _, c := range []struct {
		name    string
		action  string
		payload any
		ok      bool
	}{
		{"kept", "game:setProperty", dict{"key": "k", "value": nested(deepest - 1)}, true},
		{"too deep", "game:setProperty", dict{"key": "k", "value": nested(deepest)}, false},
		{"built by patches", "game:setState", patch(deepest, 1), true},
		{"built too deep", "game:setState", patch(deepest, dict{}), false},
		{"a path too long", "game:setState", patch(deepest+1, 1), false},
		{"patched at the bottom", "game:setState", patch(deepest, 2), true},
	} {
		err := run(c.action, c.payload)
		var action *ActionError
		if (err == nil) != c.ok || (!c.ok && (!errors.As(err, &action) || action.Code != "too_deep")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	fresh := open(t, i.core, nil)
	if err := fresh.Restore(t.Context(), snapshot(t, i)); err != nil {
		t.Fatal(err)
	}
	if digest(t, fresh) != digest(t, i) {
		t.Error("the restored engine differs")
	}
}

func TestABatchTellsItsMembersApart(t *testing.T) {
	i := open(t, compile(t, Options{}), deck(5))
	before := digest(t, i)
	actions := []Action{
		{Type: "stack:draw"},
		{Type: "stack:draw", Payload: pack(t, dict{"count": 0})},
		{Type: "stack:peek"},
	}
	_, _, err := i.Batch(t.Context(), actions, true)
	var action *ActionError
	if !errors.As(err, &action) || action.Index != 1 || action.Code != "out_of_range" {
		t.Errorf("atomic: %v", err)
	}
	if digest(t, i) != before {
		t.Error("a failed atomic batch had an effect")
	}
	members, r, err := i.Batch(t.Context(), actions, false)
	if err != nil || !r.Changed || len(members) != 3 {
		t.Fatal(members, r, err)
	}
	if members[0].Err != nil || !members[0].Changed || members[1].Err == nil || members[2].Err != nil ||
		members[2].Changed {
		t.Errorf("got %+v", members)
	}
	var top []dict
	if err := msgpack.Unmarshal(members[2].Result, &top); err != nil || top[0]["id"] != "t3" {
		t.Errorf("peek returned %v, %v", top, err)
	}
}

func TestSnapshotsOfStrangersAreRefused(t *testing.T) {
	c := compile(t, Options{})
	b := snapshot(t, open(t, c, deck(5)))
	flipped := bytes.Replace(bytes.Clone(b), []byte("Token 3"), []byte("Token 4"), 1)
	for name, bad := range map[string][]byte{
		"empty": nil, "cut short": b[:len(b)-1], "changed": flipped, "garbage": []byte("garbage"),
		"longer": append(bytes.Clone(b), 0xc0),
	} {
		i := open(t, c, nil)
		var action *ActionError
		if err := i.Restore(t.Context(), bad); !errors.As(err, &action) || action.Code != "bad_snapshot" {
			t.Errorf("%s: %v", name, err)
		}
		if err := i.Restore(t.Context(), b); err != nil {
			t.Errorf("%s: the instance is lost: %v", name, err)
		}
	}
}

// FuzzDispatch sends any bytes through the ABI. The core returns a result or an error, and never
// traps. After an error the digest is as before.
func FuzzDispatch(f *testing.F) {
	c := compile(f, Options{})
	list, err := open(f, c, nil).Actions(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	var actions []struct{ Name string }
	if err := msgpack.Unmarshal(list, &actions); err != nil {
		f.Fatal(err)
	}
	for k, tr := range traces(f) {
		for n, l := range tr.Lines {
			if b, err := (trace.Bindings{}).Fill(l.Payload); err == nil && !l.IsState && (n+k)%40 == 0 {
				f.Add(uint8(n), b)
			}
		}
	}
	i := open(f, c, deck(5))
	base := snapshot(f, i)
	steps := 0
	f.Fuzz(func(t *testing.T, action uint8, payload []byte) {
		if steps++; steps%500 == 0 {
			if err := i.Restore(t.Context(), base); err != nil {
				t.Fatal(err)
			}
		}
		before := digest(t, i)
		_, err := i.Dispatch(t.Context(), &Action{Type: actions[int(action)%len(actions)].Name, Payload: payload})
		var trap *TrapError
		if errors.As(err, &trap) {
			t.Fatal(err)
		}
		if err != nil && digest(t, i) != before {
			t.Fatalf("%v, and it had an effect", err)
		}
	})
}

// FuzzOpen opens and restores engines from any bytes.
func FuzzOpen(f *testing.F) {
	c := compile(f, Options{})
	i := open(f, c, deck(3))
	f.Add(pack(f, deck(3)), snapshot(f, i))
	f.Fuzz(func(t *testing.T, setup, b []byte) {
		var trap *TrapError
		if err := i.Open(t.Context(), DefaultLimits, setup); errors.As(err, &trap) {
			t.Fatal(err)
		}
		if err := i.Restore(t.Context(), b); errors.As(err, &trap) {
			t.Fatal(err)
		} else if err == nil {
			digest(t, i)
		}
	})
}

func TestAnErrorHasACode(t *testing.T) {
	for text, ok := range map[string]bool{
		"\x82\xa4code\xa1x\xa7message\xa1y": true, "\x81\xa7message\xa1y": false,
		"\x82\xa4code\xa0\xa7message\xa1y": false, "\x80": false, "\xc1": false, "": false,
	} {
		if e, err := decodeError([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v, %v", text, e, err)
		}
	}
}

func TestACoreThatDoesNotKnowACall(t *testing.T) {
	i := open(t, compile(t, Options{}), nil)
	const unknown = 99
	if b, err := i.newerList(t.Context(), unknown, "list"); err != nil || !bytes.Equal(b, []byte{0x90}) {
		t.Errorf("an unknown call returned %x, %v; want an empty array", b, err)
	}
	b, err := i.Records(t.Context())
	var records []struct {
		Name string `msgpack:"name"`
	}
	if err == nil {
		err = msgpack.Unmarshal(b, &records)
	}
	if err != nil || len(records) < 10 || records[0].Name != "AddedStack" {
		t.Errorf("the records: %+v, %v", records, err)
	}
}
