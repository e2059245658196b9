package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/leaks"
	"hypertoken/internal/process"
	"hypertoken/internal/replay"
	"hypertoken/internal/require"
	"hypertoken/internal/trace"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// The worker in pyworker uses nothing but what PROTOCOL.md and core-rs/ABI.md say. These tests
// hold it, and so the two documents, against a real host.

// pythonStart is how long a worker in Python may take to compile the core on a machine that is
// busy.
const pythonStart = 2 * time.Minute

// pythonWorker returns the program that runs the worker in Python. What it needs is in
// bin/python-worker if `make python-worker` was run; otherwise the test is skipped.
func pythonWorker(t *testing.T) string {
	t.Helper()
	const venv = "../bin/python-worker"
	wanted, err := os.ReadFile("pyworker/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	installed, err := os.ReadFile(filepath.Join(venv, "requirements.txt"))
	if err == nil && !bytes.Equal(installed, wanted) {
		err = errors.New("what is in bin/python-worker has other versions")
	}
	if err != nil {
		require.Missing(t, "the worker in Python", fmt.Errorf("%w; `make python-worker` installs it", err))
	}
	python, err := filepath.Abs(filepath.Join(venv, "bin", "python3"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("pyworker/worker.py")
	if err != nil {
		t.Fatal(err)
	}
	directory, err := os.MkdirTemp(programs, "python")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, "worker")
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	script := fmt.Sprintf("#!/bin/sh\nexec %s -B %s \"$@\"\n", quoted(python), quoted(source))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// pythonHost returns a host whose engines run on workers in Python and nowhere else.
func pythonHost(t *testing.T, o host.Options) *host.Host {
	t.Helper()
	o.WorkerPath, o.NoFallback, o.StartTimeout, o.Timeout = pythonWorker(t), true, pythonStart, 2*pythonStart
	o.OpenTimeout = pythonStart
	return newHost(t, o)
}

// Every trace gives what was recorded on workers in Python: one action at a time, in independent
// batches, and in atomic ones.
func TestPythonWorkerTraces(t *testing.T) {
	h := pythonHost(t, host.Options{Workers: 2})
	var running sync.WaitGroup
	limit := make(chan struct{}, 4)
	for _, tr := range require.Sample(5, traces(t)) {
		for _, mode := range []trace.Mode{trace.Single, trace.Independent, trace.Atomic} {
			limit <- struct{}{}
			running.Go(func() {
				defer func() { <-limit }()
				name := fmt.Sprint(tr.Name, " ", mode)
				e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: host.Raw(tr.Setup)})
				if err != nil {
					t.Error(err)
					return
				}
				report, err := (&trace.Verifier{Mode: mode}).Verify(t.Context(), tr, replay.Engine{Engine: e})
				if err != nil || report.Difference != nil {
					t.Errorf("%s: %v %v", name, err, report.Difference)
				}
				if err := e.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	running.Wait()
	s := h.Stats()
	if s.Restarts[host.RestartDied]+s.Restarts[host.RestartStalled]+s.Restarts[host.RestartDeadline] > 0 {
		t.Errorf("workers ended: %v", s.Restarts)
	}
}

// If a worker in Python is killed in the middle of a trace, while it owes an answer, nobody
// notices: the trace goes on, and every result and state in it is what was recorded.
func TestPythonWorkerIsKilledInATrace(t *testing.T) {
	o := endless
	o.Workers, o.Spares, o.MaxAttempts, o.StallAfter = 1, 1, 100, time.Hour
	o.SnapshotBytes = 4 << 10 // so that some placings begin with a snapshot
	h := pythonHost(t, o)
	tr := traces(t)[0]
	e, err := h.Open(t.Context(), "e", host.EngineOptions{Setup: host.Raw(tr.Setup)})
	if err != nil {
		t.Fatal(err)
	}
	killing := &killingEngine{t: t, host: h, engine: e, every: tr.Steps() / 3}
	report, err := (&trace.Verifier{}).Verify(t.Context(), tr, killing)
	if err != nil || report.Difference != nil {
		t.Fatalf("%s: %v %v", tr.Name, err, report.Difference)
	}
	if s := h.Stats(); killing.kills < 2 || s.Recovered < 2 {
		t.Errorf("%d kills, %d requests were in flight then", killing.kills, s.Recovered)
	}
}

// killingEngine kills the worker of an engine while that owes the answer to each every-th step.
type killingEngine struct {
	t            *testing.T
	host         *host.Host
	engine       *host.Engine
	every        int
	steps, kills int
}

func (k *killingEngine) Dispatch(ctx context.Context, s trace.Step) (trace.Outcome, error) {
	k.steps++
	if k.steps%k.every != 0 {
		return replay.Engine{Engine: k.engine}.Dispatch(ctx, s)
	}
	k.kills++
	pid := workerOf(k.t, k.host)
	stop(k.t, pid)
	action, payload, now := replay.Step(s)
	f := k.engine.DispatchAsync(ctx, action, payload, now)
	for sent := false; !sent; runtime.Gosched() {
		for _, w := range k.host.Stats().Workers {
			sent = sent || (w.PID == pid && w.Pending > 0)
		}
	}
	signal(k.t, pid, syscall.SIGKILL)
	return replay.Outcome(f.Wait(ctx))
}

func (k *killingEngine) Batch(context.Context, bool, []trace.Step) ([]trace.Outcome, error) {
	panic("single steps only")
}

func (k *killingEngine) State(ctx context.Context) ([]byte, error) {
	return replay.Engine{Engine: k.engine}.State(ctx)
}

// A worker in Python computes the same digest as the host's own process, also after its death.
func TestPythonWorkerDigest(t *testing.T) {
	o := endless
	o.Workers, o.SnapshotBytes = 1, 1
	h := pythonHost(t, o)
	local := newHost(t, host.Options{InProcess: true})
	e, f := open(t, h, "e", deck(20)), open(t, local, "e", deck(20))
	for n := range 10 {
		at := host.Now(time.UnixMilli(int64(n)))
		seed := dict{"seed": n}
		got, want := dispatch(t, e, "stack:shuffle", seed, at), dispatch(t, f, "stack:shuffle", seed, at)
		if !bytes.Equal(got.Raw, want.Raw) {
			t.Fatalf("got %x, want %x", got.Raw, want.Raw)
		}
	}
	want := digest(t, f)
	if got := digest(t, e); got != want {
		t.Errorf("got the digest %v, want %v", got, want)
	}
	signal(t, workerOf(t, h), syscall.SIGKILL)
	dispatch(t, e, "stack:draw", nil)
	dispatch(t, f, "stack:draw", nil)
	if got, want := digest(t, e), digest(t, f); got != want {
		t.Errorf("after a death: got the digest %v, want %v", got, want)
	}
}

// A worker in Python drops a request that is recalled before it has begun, answers what traps,
// what exhausts its memory, and what asks for another sequence, and goes on.
func TestPythonWorkerFailures(t *testing.T) {
	o := host.Options{Workers: 1, StallAfter: time.Hour, KillGrace: time.Hour, MaxEngineMemory: 16 << 20}
	h := pythonHost(t, o)
	e := open(t, h, "e", deck(5))
	dispatch(t, e, "stack:draw", nil)
	before := digest(t, e)
	for action, code := range map[string]string{"test:trap": "trap", "test:grow": "out_of_memory", "test:lie": "trap",
		"no:such": "unknown_action", "stack:draw": "conflict"} {
		_, err := e.Dispatch(t.Context(), action, nil, host.IfSequence(7))
		if action != "stack:draw" {
			_, err = e.Dispatch(t.Context(), action, nil)
		}
		if host.CodeOf(err) != code {
			t.Errorf("%s: %v, want the code %s", action, err, code)
		}
		if got := digest(t, e); got != before {
			t.Errorf("%s had an effect", action)
		}
	}
	// Of two requests that have arrived and not begun, the second one is recalled.
	pid := workerOf(t, h)
	stop(t, pid)
	first := e.DispatchAsync(t.Context(), "stack:draw", nil)
	ctx, cancel := context.WithCancel(t.Context())
	second := e.DispatchAsync(ctx, "stack:draw", nil)
	for h.Stats().Workers[0].Pending < 2 {
		runtime.Gosched()
	}
	cancel()
	if _, err := second.Wait(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	signal(t, pid, syscall.SIGCONT)
	if r, err := first.Wait(t.Context()); err != nil || r.Sequence != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 3 {
		t.Errorf("got the sequence %d: the request that was recalled ran", r.Sequence)
	}
	for reason, n := range h.Stats().Restarts {
		if n > 0 {
			t.Errorf("%d workers ended: %s", n, reason)
		}
	}
}

// pythonSession is a worker in Python and the host's end of its pipes.
type pythonSession struct {
	t       *testing.T
	process *process.Process
	in, out *ipc.Pipe
	reader  *ipc.Reader
	writer  *ipc.Writer
	request uint64
}

func startPython(t *testing.T) *pythonSession {
	t.Helper()
	p, err := process.Start(t.Context(), process.Config{Path: pythonWorker(t), StartTimeout: pythonStart})
	if err != nil {
		t.Fatal(err)
	}
	s := &pythonSession{t: t, process: p, reader: ipc.NewReader(ipc.DefaultMaxFrame, false)}
	if s.in, err = ipc.NewPipe(p.Stdout()); err != nil {
		t.Fatal(err)
	}
	if s.out, err = ipc.NewPipe(p.Stdin()); err != nil {
		t.Fatal(err)
	}
	s.writer = ipc.NewWriter(s.out)
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
		_, _ = s.in.Close(), s.out.Close()
	})
	var hello ipc.HelloBody
	f, body := s.next()
	err = ipc.Decode(body, &hello)
	if err != nil || f.Kind != ipc.Hello || hello.Protocol != ipc.Version || hello.PID != p.Pid() {
		t.Fatalf("%v %+v: %v", f.Kind, hello, err)
	}
	return s
}

func (s *pythonSession) next() (ipc.Frame, []byte) {
	s.t.Helper()
	for {
		f, ok, err := s.reader.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		if ok {
			body := bytes.Clone(s.reader.Body(f))
			s.reader.ReleaseAll()
			return f, body
		}
		n, err := s.in.Read(s.reader.Space())
		if err != nil {
			s.t.Fatal(err)
		}
		s.reader.Filled(n)
	}
}

func (s *pythonSession) send(kind ipc.Kind, placement uint64, body ...[]byte) {
	s.request++
	s.writer.Append(ipc.Header{Kind: kind, Request: s.request, Placement: placement}, body...)
	s.writer.Flush()
}

// ask sends a request that must not fail, and returns its outcome and the chunks before it.
func (s *pythonSession) ask(kind ipc.Kind, placement uint64, body ...[]byte) (o ipc.Outcome, stream []byte) {
	s.t.Helper()
	s.send(kind, placement, body...)
	for {
		f, b := s.next()
		if f.Request != s.request || f.Placement != placement {
			s.t.Fatalf("%v for request %d of placement %d, want %d of %d",
				f.Kind, f.Request, f.Placement, s.request, placement)
		}
		if f.Kind == ipc.Chunk {
			piece, err := ipc.ReadBytes(b)
			if err != nil || len(piece) > ipc.ChunkSize {
				s.t.Fatalf("a chunk of %d bytes: %v", len(piece), err)
			}
			stream = append(stream, piece...)
			continue
		}
		o, err := ipc.ReadOutcome(b)
		if f.Flags&ipc.FlagFailed != 0 || err != nil {
			failure, _ := ipc.ReadFailure(b)
			s.t.Fatalf("%v: %+v, %v", kind, failure, err)
		}
		return o, stream
	}
}

// lost returns the failure of an answer that loses its placement.
func (s *pythonSession) lost() ipc.Failure {
	s.t.Helper()
	f, body := s.next()
	failure, err := ipc.ReadFailure(body)
	if err != nil || f.Kind != ipc.Answer || f.Flags != ipc.FlagFailed|ipc.FlagLost {
		s.t.Fatalf("%v with the flags %d: %+v, %v", f.Kind, f.Flags, failure, err)
	}
	return failure
}

// configure sends a core in pieces.
func (s *pythonSession) configure(core []byte) {
	s.t.Helper()
	c := ipc.ConfigureBody{Core: wasm.Hash(core), CoreBytes: len(core), EngineMemory: 64 << 20,
		MaxFrame: ipc.DefaultMaxFrame}
	s.ask(ipc.Configure, 0, ipc.Encode(c))
	for len(core) > 0 {
		piece := core[:min(len(core), 100_000)]
		core = core[len(piece):]
		s.ask(ipc.Core, 0, ipc.AppendBytes(nil, len(piece)), piece)
	}
}

func pythonAction(name string, payload []byte) []byte {
	return journal.AppendAction(nil, &journal.Action{Now: 1}, name, payload)
}

// A snapshot of a worker in Python is, byte for byte, that of the worker in Go's runtime; both
// restore it, and replay on it.
func TestPythonWorkerSnapshots(t *testing.T) {
	leaks.Check(t)
	s := startPython(t)
	s.ask(ipc.Ping, 0)
	s.configure(wasm.Builtin())
	tr := traces(t)[0]
	l := wasm.DefaultLimits
	limits := ipc.OpenBody{MaxStateBytes: l.MaxStateBytes, MaxResult: l.MaxResult, MaxDepth: l.MaxDepth}
	s.ask(ipc.Open, 1, limits.Append(nil))
	s.ask(ipc.Feed, 1, ipc.AppendBytes(nil, len(tr.Setup)), tr.Setup)
	s.ask(ipc.Ready, 1)

	core, err := wasm.Compile(t.Context(), wasm.Builtin(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = core.Close(t.Context()) }()
	local, err := core.Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close(t.Context()) }()
	if err := local.Open(t.Context(), l, tr.Setup); err != nil {
		t.Fatal(err)
	}
	// An identifier too: it comes from the entropy.
	action := wasm.Action{Now: 1, Type: "agent:create", Payload: []byte("\x81\xa4name\xa3ann")}
	reply, err := local.Dispatch(t.Context(), &action)
	if err != nil {
		t.Fatal(err)
	}
	result := bytes.Clone(reply.Result)
	o, _ := s.ask(ipc.Dispatch, 1, pythonAction(action.Type, action.Payload))
	if !bytes.Equal(o.Result, result) || o.Sequence != 1 || o.Memory == 0 || o.RunTime == 0 {
		t.Errorf("got %+v", o)
	}
	_, snapshot := s.ask(ipc.Snapshot, 1)
	var want []byte
	if err := local.Snapshot(t.Context(), func(b []byte) error { want = append(want, b...); return nil }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot, want) {
		t.Fatalf("a snapshot of %d bytes, want one of %d", len(snapshot), len(want))
	}
	sum, err := local.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.ask(ipc.Open, 2, (&ipc.OpenBody{Snapshot: true, MaxDepth: 1, Sequence: 1}).Append(nil))
	for rest := snapshot; len(rest) > 0; {
		piece := rest[:min(len(rest), 1000)]
		rest = rest[len(piece):]
		s.ask(ipc.Feed, 2, ipc.AppendBytes(nil, len(piece)), piece)
	}
	// The restored engine replays entries with the results that the local one gave.
	get := pythonAction("agent:get", action.Payload)
	reply, err = local.Dispatch(t.Context(), &wasm.Action{Now: 1, Type: "agent:get", Payload: action.Payload})
	if err != nil {
		t.Fatal(err)
	}
	entry := journal.AppendEntry(nil, get, xxhash.Sum64(reply.Result))
	s.ask(ipc.Replay, 2, entry, entry)
	if o, _ := s.ask(ipc.Ready, 2); o.Sequence != 3 {
		t.Errorf("got the sequence %d", o.Sequence)
	}
	if o, _ := s.ask(ipc.Digest, 2); len(o.Result) != 8 || binary.LittleEndian.Uint64(o.Result) != sum {
		t.Errorf("the digest %x, want %016x", o.Result, sum)
	}
	// A checksum that is another loses the placement, and only that one.
	s.ask(ipc.Open, 3, limits.Append(nil))
	s.send(ipc.Replay, 3, journal.AppendEntry(nil, pythonAction("agent:create", action.Payload), 1))
	if failure := s.lost(); failure.Code != ipc.CodeDiverged || failure.Index != 0 {
		t.Errorf("got %+v", failure)
	}
	s.send(ipc.Ready, 3)
	if failure := s.lost(); failure.Code != ipc.CodeNotPlaced {
		t.Errorf("got %+v", failure)
	}
	// A request that has arrived and not begun is dropped with its placement.
	s.request++
	s.writer.Append(ipc.Header{Kind: ipc.State, Request: s.request, Placement: 1})
	s.request++
	s.writer.Append(ipc.Header{Kind: ipc.State, Request: s.request, Placement: 2})
	s.writer.Append(ipc.Header{Kind: ipc.Recall, Request: s.request})
	s.writer.Append(ipc.Header{Kind: ipc.Close, Placement: 1})
	s.writer.Flush()
	for range 2 {
		if f, _ := s.next(); f.Kind != ipc.Dropped {
			t.Errorf("got %v", f.Kind)
		}
	}
	s.ask(ipc.Digest, 2)
}

// A worker in Python exits with status 0 when its standard input ends, also while an action runs
// that never ends, and with status 3 after a malformed frame.
func TestPythonWorkerExits(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(*pythonSession)
		status string
	}{
		"idle": {func(s *pythonSession) { _ = s.out.Close() }, ""},
		"running": {func(s *pythonSession) {
			s.configure(cores.Test)
			s.ask(ipc.Open, 1, (&ipc.OpenBody{MaxStateBytes: 1 << 20, MaxResult: 1 << 20, MaxDepth: 8}).Append(nil))
			s.ask(ipc.Ready, 1)
			s.send(ipc.Dispatch, 1, pythonAction("test:spin", nil))
			_ = s.out.Close()
		}, ""},
		"not configured": {func(s *pythonSession) {
			s.send(ipc.Dispatch, 1, pythonAction("stack:draw", nil))
		}, "exit status 3"},
		"the worker's own kind": {func(s *pythonSession) { s.send(ipc.Hello, 0) }, "exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			leaks.Check(t)
			s := startPython(t)
			c.do(s)
			if _, err := io.Copy(io.Discard, s.in); err != nil {
				t.Error(err)
			}
			<-s.process.Done()
			status := ""
			if err := s.process.Err(); err != nil {
				status = err.Error()
			}
			if status != c.status {
				t.Errorf("it ended with %q, want %q", status, c.status)
			}
		})
	}
}
