package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
	"hypertoken/journal/jetstream"
	"hypertoken/wasm"
	"hypertoken/workerproc"
)

func TestMain(m *testing.M) {
	workerproc.Main()
	if servers := os.Getenv(nodeVariable); servers != "" {
		runNode(servers)
		return
	}
	os.Exit(m.Run())
}

// most is how long a test waits for what has to happen.
const most = time.Minute

// startServer starts a NATS server that ends with the test, and returns its address.
func startServer(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
		NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(most) {
		t.Fatal("the NATS server does not listen")
	}
	return s.ClientURL()
}

// options are those of a node that keeps its journals on a server.
func options(servers string) Options {
	// On a busy machine a node may stand still for more than the second that a lease lasts otherwise.
	return Options{Secret: "a secret of these nodes", lease: 8 * time.Second,
		Store: jetstream.Options{Servers: []string{servers}, Address: "127.0.0.1:0", Sync: jetstream.SyncGivenUp,
			Replicas: 1},
		Host: host.Options{InProcess: true}}
}

// join starts a node that ends with the test.
func join(t *testing.T, servers string, change func(*Options)) *Host {
	t.Helper()
	o := options(servers)
	if change != nil {
		change(&o)
	}
	h, err := Join(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), most)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// pair returns two nodes that know each other.
func pair(t *testing.T) (a, b *Host) {
	t.Helper()
	servers := startServer(t)
	a, b = join(t, servers, nil), join(t, servers, nil)
	twoMembers(t, a, b)
	return a, b
}

// twoMembers waits until two nodes know each other.
func twoMembers(t *testing.T, nodes ...*Host) {
	t.Helper()
	for _, h := range nodes {
		until(t, "two members", func() bool { return len(h.node.Peers().Overview(t.Context(), false).Members) == 2 })
	}
}

// until waits until something is so.
func until(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	late, tick := time.After(most), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !isSo() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after %v there is no end of waiting for %s", most, what)
		}
	}
}

// nameAt returns the name of a new engine that a node has.
func nameAt(t *testing.T, h *Host, setup any) string {
	t.Helper()
	for n := range 1000 {
		name := fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), n)
		e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: setup, Mode: host.OpenNew})
		if errors.Is(err, host.ErrEngineExists) || errors.Is(err, host.ErrBadInput) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		isHere := h.present().Get(name) != nil
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if isHere {
			return name
		}
	}
	t.Fatal("no engine is at this node")
	return ""
}

// setup is what the engines of tests start from.
var setup = map[string]any{"stack": []any{map[string]any{"id": "c1", "value": 1}, map[string]any{"id": "c2",
	"value": 2.0}, map[string]any{"id": "c3", "value": nil}, map[string]any{"id": "c4", "text": "four"}}}

// fixed has an action see the same clock and entropy wherever it runs.
func fixed(opts ...host.DispatchOption) []host.DispatchOption {
	return append([]host.DispatchOption{host.Now(time.UnixMilli(1_700_000_000_000)), host.Entropy([16]byte{1, 2, 3})},
		opts...)
}

// step is a call of an engine. It returns all that the call returns.
type step struct {
	name string
	call func(ctx context.Context, e *host.Engine) []any
}

// dispatch is a step that runs an action.
func dispatch(action string, payload any, opts ...host.DispatchOption) step {
	return step{action, func(ctx context.Context, e *host.Engine) []any {
		r, err := e.Dispatch(ctx, action, payload, fixed(opts...)...)
		return []any{r, err}
	}}
}

// batch is a step that runs a batch.
func batch(mode host.BatchMode, members []host.Action, opts ...host.DispatchOption) step {
	for k := range members {
		members[k].Options = fixed(members[k].Options...)
	}
	return step{"batch " + mode.String(), func(ctx context.Context, e *host.Engine) []any {
		r, err := e.DispatchBatch(ctx, mode, members, opts...)
		return []any{r, err}
	}}
}

// rewind is a step that goes back or forth.
func rewind(name string, f func(*host.Engine, context.Context, ...host.DispatchOption) (host.Position, error),
	opts ...host.DispatchOption) step {
	return step{name, func(ctx context.Context, e *host.Engine) []any {
		p, err := f(e, ctx, opts...)
		return []any{p, err}
	}}
}

// revert is a step that goes back to a sequence.
func revert(to uint64) step {
	return step{"revert", func(ctx context.Context, e *host.Engine) []any {
		p, err := e.Revert(ctx, to)
		return []any{p, err}
	}}
}

// unencodable is what no encoder takes.
type unencodable struct {
	F func() `msgpack:"f"`
}

// steps are calls of every method of an engine that answers something.
func steps() []step {
	state := func(value any) map[string]any { return map[string]any{"state": map[string]any{"v": value}} }
	var list []step
	add := func(s ...step) { list = append(list, s...) }
	for _, value := range []any{0, 1, -1, 127, 128, -129, 1 << 40, uint64(1<<64 - 1), -1 << 63, 1.0,
		math.Copysign(0, -1), 0.1, 1e300, nil, true, "text", []byte{0, 1, 255}, []any{1, 2.5, nil},
		map[string]any{"a": map[string]any{"b": []any{}}},
		strings.Repeat("x", 300_000)} {
		add(dispatch("game:mergeState", map[string]any{"state": map[string]any{"v": value}}),
			dispatch("game:setProperty", map[string]any{"key": "v", "value": value}))
	}
	add(dispatch("game:getState", nil), dispatch("game:getState", map[string]any{}, host.WithDigest()),
		dispatch("stack:shuffle", map[string]any{"seed": 7}), dispatch("stack:shuffle", nil),
		dispatch("stack:draw", map[string]any{"count": 2}, host.WithDigest()),
		dispatch("stack:draw", map[string]any{"count": 99}), dispatch("no:such", nil),
		dispatch("stack:peek", map[string]any{"count": 1}), dispatch("stack:draw", unencodable{}),
		dispatch("stack:draw", host.Raw{0x81, 0xa5, 'c', 'o', 'u', 'n', 't', 1}, host.Key("k")),
		dispatch("stack:draw", host.Raw{0x81, 0xa5, 'c', 'o', 'u', 'n', 't', 1}, host.Key("k")),
		dispatch("stack:shuffle", nil, host.Key("k")), dispatch("stack:shuffle", nil, host.Key("")),
		dispatch("stack:shuffle", nil, host.IfSequence(1)), dispatch(strings.Repeat("x", 2000), nil),
		dispatch("game:mergeState", state(1)), dispatch("debug:log", map[string]any{"message": "m"}))
	add(batch(host.BatchAtomic, []host.Action{{Type: "stack:shuffle"}, {Type: "game:getState"}}, host.WithDigest()),
		batch(host.BatchAtomic, []host.Action{{Type: "stack:shuffle"}, {Type: "no:such"}}),
		batch(host.BatchAtomic, []host.Action{{Type: "stack:shuffle"}, {Type: "stack:draw", Payload: unencodable{}}}),
		batch(host.BatchIndependent, []host.Action{{Type: "stack:shuffle"}, {Type: "no:such"}, {Type: "stack:shuffle",
			Payload: unencodable{}}}, host.Key("b")),
		batch(host.BatchIndependent, nil), batch(host.BatchMode(9), nil),
		batch(host.BatchAtomic, []host.Action{{Type: "stack:shuffle", Options: []host.DispatchOption{host.Key("x")}}}))
	add(step{"state", func(ctx context.Context, e *host.Engine) []any {
		r, err := e.State(ctx, host.WithDigest())
		without, err2 := e.State(ctx)
		_, err3 := e.State(ctx, host.Key("x"))
		return []any{r, err, without, err2, err3}
	}}, step{"digest", func(ctx context.Context, e *host.Engine) []any {
		d, err := e.Digest(ctx)
		p, err2 := e.Position(ctx)
		return []any{d, err, p, err2, e.Newest()}
	}}, step{"past", func(ctx context.Context, e *host.Engine) []any {
		var all []any
		for _, at := range []uint64{0, 1, e.Newest(), e.Newest() + 1} {
			r, err := e.StateAt(ctx, at)
			d, err2 := e.DigestAt(ctx, at)
			all = append(all, r, err, d, err2)
		}
		return all
	}}, rewind("undo", (*host.Engine).Undo), rewind("undo", (*host.Engine).Undo, host.Key("u")),
		rewind("undo", (*host.Engine).Undo, host.Key("u")), rewind("redo", (*host.Engine).Redo),
		rewind("redo", (*host.Engine).Redo), rewind("redo too far", (*host.Engine).Redo),
		revert(3), revert(30_000))
	add(step{"async", func(ctx context.Context, e *host.Engine) []any {
		var futures []*host.Future
		for k := range 100 {
			futures = append(futures, e.DispatchAsync(ctx, "game:mergeState",
				map[string]any{"state": map[string]any{"n": k}}, fixed()...))
		}
		futures = append(futures, e.DispatchAsync(ctx, "no:such", nil, fixed()...),
			e.DispatchAsync(ctx, "stack:draw", unencodable{}, fixed()...))
		s, err := e.Digest(ctx) // sees what was dispatched before
		results, err2 := host.All(ctx, futures...)
		return []any{s, err, results, err2}
	}}, step{"history", func(ctx context.Context, e *host.Engine) []any {
		var all []any
		for entry, err := range e.History(ctx, 1, 0) {
			entry.Key = strings.TrimPrefix(entry.Key, ownKeys+entry.Key[min(len(ownKeys), len(entry.Key)):])
			if m := entry.Marker; m != nil {
				m.Base = &journal.Base{Sequence: m.Base.Sequence, Data: m.Base.Data}
			}
			if n := entry.Note; n != nil {
				if strings.HasPrefix(n.Key, ownKeys) {
					continue
				}
				entry.Note = &journal.KeyRecord{Key: n.Key, Sum: n.Sum, Result: n.Result, Sequence: n.Sequence,
					Changed: n.Changed}
			}
			all = append(all, entry, err)
		}
		return all
	}}, step{"journal", func(ctx context.Context, e *host.Engine) []any {
		entries, err := e.Journal(ctx)
		base, after, err2 := e.JournalAt(ctx, 2)
		n, m := 0, 0
		for range entries {
			n++
		}
		for range after {
			m++
		}
		return []any{n > 0, err, base.Sequence, base.Data, m, err2}
	}}, step{"ended contexts", func(ctx context.Context, e *host.Engine) []any {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		late, cancel := context.WithTimeout(ctx, -1)
		defer cancel()
		_, err := e.Dispatch(canceled, "stack:shuffle", nil)
		_, err2 := e.Dispatch(late, "stack:shuffle", nil)
		_, err3 := e.DispatchAsync(canceled, "stack:shuffle", nil).Wait(ctx)
		return []any{err, err2, err3}
	}}, step{"close", func(ctx context.Context, e *host.Engine) []any {
		err := e.Close(ctx)
		_, err2 := e.Dispatch(ctx, "stack:shuffle", nil)
		_, err3 := e.DispatchAsync(ctx, "stack:shuffle", nil).Wait(ctx)
		return []any{err, err2, err3, e.Close(ctx)}
	}})
	return list
}

// Every method of an engine returns the same values and the same errors, whether the engine is on
// a host of its own, in this process as a node of a cluster, or on another node.
func TestTheSameHereAndElsewhere(t *testing.T) {
	a, b := pair(t)
	alone, err := host.New(t.Context(), host.Options{InProcess: true,
		Store: journal.NewMemoryWith(journal.MemoryOptions{})})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alone.Shutdown(context.Background()) }()
	name := nameAt(t, a, setup)
	other := nameAt(t, b, setup)
	openAt := func(h interface {
		Open(context.Context, string, host.EngineOptions) (*host.Engine, error)
	}, name string) *host.Engine {
		e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: setup})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	want, here, there := openAt(alone, "e"), openAt(a, name), openAt(a, other)
	if a.present().Get(name) == nil || a.present().Get(other) != nil {
		t.Fatal("the engines are not where they should be")
	}
	for k, s := range steps() {
		wanted := s.call(t.Context(), want)
		for where, e := range map[string]*host.Engine{"here": here, "elsewhere": there} {
			got := s.call(t.Context(), e)
			if len(got) != len(wanted) {
				t.Errorf("%d %s, %s: %d values, want %d", k, s.name, where, len(got), len(wanted))
				continue
			}
			for n := range wanted {
				if !isSame(wanted[n], got[n]) {
					t.Errorf("%d %s, %s, value %d:\n%s\nwant\n%s", k, s.name, where, n, clip(got[n]), clip(wanted[n]))
				}
			}
		}
	}
}

// isSame compares what calls return.
func isSame(want, got any) bool {
	if b, isBatch := want.(host.BatchResult); isBatch {
		c := got.(host.BatchResult)
		b.Outcomes, c.Outcomes = slices.Clone(b.Outcomes), slices.Clone(c.Outcomes)
		for k := range b.Outcomes {
			if len(b.Outcomes) != len(c.Outcomes) || !isSame(b.Outcomes[k].Err, c.Outcomes[k].Err) {
				return false
			}
			b.Outcomes[k].Err, c.Outcomes[k].Err = nil, nil
		}
		return reflect.DeepEqual(b, c)
	}
	wantErr, isErr := want.(error)
	if !isErr {
		return reflect.DeepEqual(want, got)
	}
	gotErr, isErr := got.(error)
	return isErr && host.CodeOf(wantErr) == host.CodeOf(gotErr) && wantErr.Error() == gotErr.Error() &&
		reflect.TypeOf(wantErr) == reflect.TypeOf(gotErr) &&
		errors.Is(gotErr, context.DeadlineExceeded) == errors.Is(wantErr, context.DeadlineExceeded) &&
		errors.Is(gotErr, context.Canceled) == errors.Is(wantErr, context.Canceled)
}

func clip(v any) string {
	s := fmt.Sprintf("%T %+v", v, v)
	if err, ok := v.(error); ok {
		s = fmt.Sprintf("%T %v", err, err)
	}
	return s[:min(len(s), 600)]
}

// All nodes run the core that is in force, whichever one they would run by themselves. They go over to
// another one while engines are open.
func TestTheCoreInForce(t *testing.T) {
	servers := startServer(t)
	a := join(t, servers, nil)
	b := join(t, servers, func(o *Options) { o.Host.Core = cores.Example })
	twoMembers(t, a, b)
	builtin, example := wasm.Hash(wasm.Builtin()), wasm.Hash(cores.Example)
	if a.CoreHash() != builtin || b.CoreHash() != builtin {
		t.Fatalf("the cores are %s and %s, in force is %s", a.CoreHash(), b.CoreHash(), builtin)
	}
	var engines []*host.Engine // of both nodes
	for _, at := range []*Host{a, b} {
		e, err := a.Open(t.Context(), nameAt(t, at, setup), host.EngineOptions{Mode: host.OpenExisting})
		if err != nil {
			t.Fatal(err)
		}
		engines = append(engines, e)
	}
	for _, e := range engines {
		if _, err := e.Dispatch(t.Context(), "stack:draw", nil); err != nil {
			t.Fatal(err)
		}
	}
	store := a.node.Store().(*jetstream.Store)
	target, err := store.Target(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Announce(t.Context(), target, example); err != nil {
		t.Fatal(err)
	}
	until(t, "both nodes to run the core that was announced", func() bool {
		return a.CoreHash() == example && b.CoreHash() == example
	})
	for _, e := range engines {
		// The former core has no such action. The upgrade has the sequence 2.
		r, err := e.Dispatch(t.Context(), "process:item", map[string]any{"item": 1})
		if err != nil || r.Sequence != 3 {
			t.Errorf("%s: %+v, %v", e.Name(), r, err)
		}
	}
	o := options(servers)
	o.Host.CoreSHA256 = builtin
	if h, err := Join(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is in force in this cluster") {
		t.Errorf("a node that may not run the core in force: %v, %v", h, err)
	}
}
