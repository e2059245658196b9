package workerproc_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/cores"
	"hypertoken/internal/process"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
	"hypertoken/workerproc"
)

func TestMain(m *testing.M) {
	workerproc.Main()
	os.Exit(m.Run())
}

// session is a worker process and the host's end of its pipes.
type session struct {
	t       testing.TB
	process *process.Process
	in      *ipc.Pipe
	out     *ipc.Pipe
	conn    *ipc.Conn[string]
	reader  *ipc.Reader
}

func start(t testing.TB) *session {
	t.Helper()
	return startWith(t, process.Config{Logger: slog.New(slog.DiscardHandler)})
}

func startWith(t testing.TB, c process.Config) *session {
	t.Helper()
	p, err := process.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, process: p, reader: ipc.NewReader(ipc.DefaultMaxFrame, false)}
	if s.in, err = ipc.NewPipe(p.Stdout()); err == nil {
		s.out, err = ipc.NewPipe(p.Stdin())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.conn = ipc.NewConn[string](s.out, ipc.Window{Requests: 1024, Bytes: 1 << 20})
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
		_ = s.in.Close()
		_ = s.out.Close()
	})
	f, body := s.next()
	var hello ipc.HelloBody
	if err := ipc.Decode(body, &hello); err != nil || f.Kind != ipc.Hello || hello.Protocol != ipc.Version ||
		hello.Core != wasm.Hash(wasm.Builtin()) || hello.PID != p.Pid() {
		t.Fatalf("%v: %+v, %v", f.Kind, hello, err)
	}
	return s
}

// next waits for a frame. Its body is the caller's.
func (s *session) next() (ipc.Frame, []byte) {
	s.t.Helper()
	for {
		f, ok, err := s.reader.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		if ok {
			s.reader.ReleaseAll()
			return f, bytes.Clone(s.reader.Body(f))
		}
		n, err := s.in.Read(s.reader.Space())
		if err != nil {
			s.t.Fatal(err)
		}
		s.reader.Filled(n)
	}
}

func (s *session) send(kind ipc.Kind, flags ipc.Flags, placement uint64, parts ...[]byte) uint64 {
	id, ok := s.conn.Send("", kind, flags, placement, parts...)
	if !ok {
		s.t.Fatal("the window is full")
	}
	return id
}

// ask sends a request and waits for its answer.
func (s *session) ask(kind ipc.Kind, flags ipc.Flags, placement uint64, parts ...[]byte) (ipc.Frame, []byte) {
	s.t.Helper()
	id := s.send(kind, flags, placement, parts...)
	s.conn.Flush()
	f, body := s.next()
	if _, ok := s.conn.Answered(f.Request); !ok || f.Request != id {
		s.t.Fatalf("an answer to request %d, want %d", f.Request, id)
	}
	return f, body
}

// good is ask for what must not fail.
func (s *session) good(kind ipc.Kind, placement uint64, parts ...[]byte) ipc.Outcome {
	s.t.Helper()
	f, body := s.ask(kind, 0, placement, parts...)
	o, err := ipc.ReadOutcome(body)
	if f.Flags&ipc.FlagFailed != 0 || err != nil {
		failure, _ := ipc.ReadFailure(body)
		s.t.Fatalf("%v: %+v, %v", kind, failure, err)
	}
	return o
}

func (s *session) bad(kind ipc.Kind, placement uint64, parts ...[]byte) (ipc.Flags, ipc.Failure) {
	s.t.Helper()
	f, body := s.ask(kind, 0, placement, parts...)
	failure, err := ipc.ReadFailure(body)
	if f.Flags&ipc.FlagFailed == 0 || err != nil {
		s.t.Fatalf("%v has not failed: %v", kind, err)
	}
	return f.Flags, failure
}

func configuration(core []byte, bytes int) []byte {
	return ipc.Encode(ipc.ConfigureBody{Core: wasm.Hash(core), CoreBytes: bytes, EngineMemory: 64 << 20,
		MaxFrame: ipc.DefaultMaxFrame})
}

func (s *session) configure() {
	s.good(ipc.Configure, 0, configuration(wasm.Builtin(), 0))
}

func (s *session) open(placement uint64) {
	o := ipc.OpenBody{MaxStateBytes: 1 << 20, MaxResult: 1 << 20, MaxDepth: 64, Sequence: 5}
	s.good(ipc.Open, placement, o.Append(nil))
	setup := []byte("\x81\xa5stack\x92\x81\xa2id\xa1a\x81\xa2id\xa1b")
	s.good(ipc.Feed, placement, ipc.AppendBytes(nil, 3), setup[:3])
	s.good(ipc.Feed, placement, ipc.AppendBytes(nil, len(setup)-3), setup[3:])
}

func action(name string, conditions ...uint64) []byte {
	a := journal.Action{Now: 1}
	if len(conditions) > 0 {
		a.Conditional, a.IfSequence = true, conditions[0]
	}
	return journal.AppendAction(nil, &a, name, nil)
}

func TestAnActionOnAWorker(t *testing.T) {
	s := start(t)
	s.configure()
	s.open(1)
	s.good(ipc.Ready, 1)
	f, body := s.ask(ipc.Dispatch, 0, 1, action("stack:draw"))
	o, err := ipc.ReadOutcome(body)
	if err != nil || f.Flags != ipc.FlagChanged || o.Sequence != 6 || o.Checksum != xxhash.Sum64(o.Result) ||
		o.RunTime == 0 || o.Memory == 0 {
		t.Errorf("%v %+v, %v", f.Flags, o, err)
	}
	drawn := o.Checksum
	if o := s.good(ipc.Dispatch, 1, action("stack:peek")); o.Sequence != 6 {
		t.Errorf("a read has the sequence %d", o.Sequence)
	}
	if f, _ := s.ask(ipc.Dispatch, ipc.FlagJournaled, 1, action("stack:peek")); f.Flags != 0 {
		t.Errorf("flags %v", f.Flags)
	}
	if o := s.good(ipc.Dispatch, 1, action("stack:peek", 7)); o.Sequence != 7 {
		t.Errorf("a journaled read has the sequence %d", o.Sequence)
	}
	if flags, failure := s.bad(ipc.Dispatch, 1, action("stack:draw", 8)); failure.Code != ipc.CodeConflict ||
		flags&ipc.FlagLost != 0 {
		t.Errorf("%v %+v", flags, failure)
	}
	if flags, failure := s.bad(ipc.Dispatch, 1, action("no:such")); failure.Code != "unknown_action" ||
		flags&ipc.FlagLost != 0 {
		t.Errorf("%v %+v", flags, failure)
	}
	digest := s.good(ipc.Digest, 1).Result

	// The engine is placed again, with a journal of the acknowledged actions.
	s.open(2)
	s.good(ipc.Replay, 2, journal.AppendEntry(nil, action("stack:draw"), drawn))
	if o := s.good(ipc.Ready, 2); o.Sequence != 6 {
		t.Errorf("replayed to the sequence %d", o.Sequence)
	}
	if again := s.good(ipc.Digest, 2).Result; string(again) != string(digest) {
		t.Errorf("the digest is %x, and %x after a replay", digest, again)
	}
	s.open(3)
	if flags, failure := s.bad(ipc.Replay, 3,
		journal.AppendEntry(nil, action("stack:draw"), drawn+1)); failure.Code != ipc.CodeDiverged ||
		flags&ipc.FlagLost == 0 {
		t.Errorf("%v %+v", flags, failure)
	}
	if _, failure := s.bad(ipc.Dispatch, 3, action("stack:draw")); failure.Code != ipc.CodeNotPlaced {
		t.Errorf("%+v", failure)
	}
}

func TestACoreThatIsSent(t *testing.T) {
	s := start(t)
	core := cores.Test
	s.good(ipc.Configure, 0, configuration(core, len(core)))
	for rest := core; len(rest) > 0; {
		piece := rest[:min(len(rest), 300_000)]
		rest = rest[len(piece):]
		s.good(ipc.Core, 0, ipc.AppendBytes(nil, len(piece)), piece)
	}
	s.open(1)
	s.good(ipc.Ready, 1)
	if flags, failure := s.bad(ipc.Dispatch, 1, action("test:trap")); failure.Code != "trap" ||
		flags&ipc.FlagLost == 0 {
		t.Errorf("%v %+v", flags, failure)
	}
}

func TestRecallAndClose(t *testing.T) {
	s := start(t)
	s.configure()
	s.open(1)
	s.good(ipc.Ready, 1)
	// All frames are in the pipe together. So the worker reads the recall and the close before it
	// runs the second request.
	first := s.send(ipc.Dispatch, 0, 1, action("stack:shuffle"))
	second := s.send(ipc.Dispatch, 0, 1, action("stack:draw"))
	third := s.send(ipc.Dispatch, 0, 1, action("stack:draw"))
	s.conn.Tell(ipc.Recall, second, 0)
	s.conn.Tell(ipc.Close, 0, 1)
	s.conn.Flush()
	dropped := map[uint64]bool{}
	for range 3 {
		f, _ := s.next()
		dropped[f.Request] = f.Kind == ipc.Dropped
	}
	if !dropped[second] || !dropped[third] || len(dropped) != 3 {
		t.Errorf("dropped: %v of %d to %d", dropped, first, third)
	}
}

func TestAWorkerEndsWithItsInput(t *testing.T) {
	s := start(t)
	s.configure()
	_ = s.out.Close()
	<-s.process.Done()
	if err := s.process.Err(); err != nil {
		t.Error(err)
	}
}

func TestGarbageEndsTheWorkerWithStatus3(t *testing.T) {
	for name, garbage := range map[string]func(s *session){
		"no frame":       func(s *session) { s.out.WriteAll(make([]byte, ipc.HeaderSize), func(error) {}) },
		"not configured": func(s *session) { s.send(ipc.Digest, 0, 1) },
		"a wrong body":   func(s *session) { s.configure(); s.send(ipc.Open, 0, 1, []byte{0xc1}) },
		"another core": func(s *session) {
			s.good(ipc.Configure, 0, configuration(cores.Test, 3))
			s.send(ipc.Core, 0, 0, ipc.AppendBytes(nil, 3), []byte("abc"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			garbage(s)
			s.conn.Flush()
			<-s.process.Done()
			if err := s.process.Err(); err == nil || err.Error() != "exit status 3" {
				t.Errorf("it ended with %v", err)
			}
			for {
				if _, err := s.in.Read(s.reader.Space()); err != nil {
					if !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
}

func BenchmarkPing(b *testing.B) {
	s := start(b)
	s.configure()
	for b.Loop() {
		s.ask(ipc.Ping, 0, 0)
	}
}

func BenchmarkDispatch(b *testing.B) {
	s := start(b)
	s.configure()
	s.open(1)
	s.good(ipc.Ready, 1)
	body := action("debug:log")
	b.ReportAllocs()
	for b.Loop() {
		s.ask(ipc.Dispatch, 0, 1, body)
	}
}
