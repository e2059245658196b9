package workerproc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"hypertoken/internal/cores"
	"hypertoken/internal/executor"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// memorySink is a sink that keeps the written bytes.
type memorySink struct{ bytes.Buffer }

func (s *memorySink) TryWrite(b []byte) (int, error)      { return s.Write(b) }
func (s *memorySink) WriteAll(b []byte, done func(error)) { _, err := s.Write(b); done(err) }

// oneCore is a runtime whose core is compiled once for all.
type oneCore struct{ core *wasm.Core }

func (c oneCore) Has(string) bool                                      { return true }
func (c oneCore) Actions(context.Context) ([]byte, error)              { return nil, nil }
func (c oneCore) Use(context.Context, ipc.ConfigureBody, []byte) error { return nil }
func (c oneCore) Instantiate(ctx context.Context) (executor.Instance, error) {
	return c.core.Instantiate(ctx)
}

// session returns the bytes that a host sends in a session.
func session(f func(c *ipc.Conn[int])) []byte {
	var sink memorySink
	c := ipc.NewConn[int](&sink, ipc.Window{Requests: 100, Bytes: 1 << 20})
	c.Send(0, ipc.Configure, 0, 0, ipc.Encode(ipc.ConfigureBody{Core: "c", MaxFrame: ipc.DefaultMaxFrame}))
	f(c)
	c.Flush()
	return sink.Bytes()
}

// FuzzLoop gives a worker any bytes, cut anywhere. The worker ends with a malformed frame, or
// answers each request that it has read exactly once.
func FuzzLoop(f *testing.F) {
	core, err := wasm.Compile(f.Context(), cores.Example, wasm.Options{MemoryLimit: 8 << 20})
	if err != nil {
		f.Fatal(err)
	}
	open := ipc.OpenBody{MaxStateBytes: 1 << 20, MaxResult: 1 << 16, MaxDepth: 64}
	a := journal.AppendAction(nil, &journal.Action{Now: 5}, "debug:log", []byte{0x80})
	place := func(c *ipc.Conn[int]) {
		c.Send(0, ipc.Open, 0, 1, open.Append(nil))
		c.Send(0, ipc.Feed, 0, 1, ipc.AppendBytes(nil, 1), []byte{0x80})
		c.Send(0, ipc.Ready, 0, 1)
	}
	f.Add(session(func(*ipc.Conn[int]) {}), uint16(7))
	f.Add(session(func(c *ipc.Conn[int]) {
		place(c)
		id, _ := c.Send(0, ipc.Dispatch, 0, 1, a)
		c.Send(0, ipc.Batch, ipc.FlagAtomic, 1, ipc.AppendBatch(nil, 1), ipc.AppendMember(nil, true, a))
		c.Send(0, ipc.State, 0, 1)
		c.Send(0, ipc.Digest, 0, 1)
		c.Tell(ipc.Recall, id, 0)
		c.Send(0, ipc.Replay, 0, 1, journal.AppendEntry(nil, a, 1))
		c.Send(0, ipc.Snapshot, 0, 1)
	}), uint16(1000))
	f.Add(session(func(c *ipc.Conn[int]) {
		place(c)
		c.Tell(ipc.Close, 0, 1)
		c.Send(0, ipc.Dispatch, 0, 1, a)
		c.Send(0, ipc.Ping, 0, 0)
	}), uint16(30))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		var sink memorySink
		loop := NewLoop(oneCore{core}, ipc.NewWriter(&sink), slog.New(slog.DiscardHandler))
		defer loop.Close()
		asked := requests(in)
		for ended := false; !ended; {
			n := copy(loop.Space(), in[:min(len(in), int(cut)+1)])
			in = in[n:]
			err := loop.Filled(n)
			for ran := true; ran && err == nil; {
				ran, err = loop.Run(t.Context())
			}
			var malformed *ipc.MalformedError
			if err != nil && !errors.As(err, &malformed) {
				t.Fatalf("it ended with %v", err)
			}
			ended = err != nil || len(in) == 0
		}
		loop.Flush()
		r := ipc.NewReader(1<<30, false)
		for rest := sink.Bytes(); len(rest) > 0; {
			n := copy(r.Space(), rest)
			r.Filled(n)
			rest = rest[n:]
		}
		for {
			frame, ok, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if frame.Kind == ipc.Chunk {
				continue
			}
			if asked[frame.Request]--; asked[frame.Request] < 0 {
				t.Fatalf("request %d is answered once more than it was asked", frame.Request)
			}
		}
		if r.Partial() {
			t.Fatal(io.ErrUnexpectedEOF)
		}
	})
}

// A piece of a core has at most 1 MiB, also if frames may be longer.
func TestTheLengthOfAPieceOfACore(t *testing.T) {
	for n, want := range map[int]string{
		ipc.ChunkSize:     "",
		ipc.ChunkSize + 1: "a piece of 1048577 bytes, 1048576 are allowed",
	} {
		var in, out memorySink
		c := ipc.NewConn[int](&in, ipc.Window{Requests: 2, Bytes: 4 << 20})
		c.Send(0, ipc.Configure, 0, 0, ipc.Encode(ipc.ConfigureBody{Core: "c", CoreBytes: 2 << 20,
			MaxFrame: ipc.DefaultMaxFrame}))
		c.Send(0, ipc.Core, 0, 0, ipc.AppendBytes(nil, n), make([]byte, n))
		c.Flush()
		loop := NewLoop(oneCore{}, ipc.NewWriter(&out), slog.New(slog.DiscardHandler))
		var err error
		for b := in.Bytes(); len(b) > 0 && err == nil; {
			k := copy(loop.Space(), b)
			b = b[k:]
			err = loop.Filled(k)
			for ran := true; ran && err == nil; {
				ran, err = loop.Run(t.Context())
			}
		}
		malformed := new(ipc.MalformedError)
		if (err == nil) != (want == "") || err != nil && (!errors.As(err, &malformed) || malformed.Message != want) {
			t.Errorf("%d bytes: got %v, want %q", n, err, want)
		}
	}
}

// requests counts the requests in a stream by their IDs, up to the first malformed frame.
func requests(in []byte) map[uint64]int {
	asked := map[uint64]int{}
	r := ipc.NewReader(1<<30, true)
	for {
		if n := copy(r.Space(), in); n > 0 {
			r.Filled(n)
			in = in[n:]
			continue
		}
		break
	}
	for {
		f, ok, err := r.Next()
		if err != nil || !ok {
			return asked
		}
		if f.Kind != ipc.Recall && f.Kind != ipc.Close {
			asked[f.Request]++
		}
	}
}
