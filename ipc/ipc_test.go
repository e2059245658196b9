package ipc_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"hypertoken/ipc"
	"hypertoken/journal"
)

// slow is a sink that takes n bytes of each write at once, and the rest when finish is called.
type slow struct {
	n     int
	got   []byte
	later []byte
	done  func(error)
}

func (s *slow) TryWrite(b []byte) (int, error) {
	n := min(s.n, len(b))
	s.got = append(s.got, b[:n]...)
	return n, nil
}

func (s *slow) WriteAll(b []byte, done func(error)) { s.later, s.done = b, done }

func (s *slow) finish() {
	for s.done != nil {
		done := s.done
		s.got, s.done = append(s.got, s.later...), nil
		done(nil)
	}
}

// frames writes frames and returns their bytes.
func frames(f func(w *ipc.Writer)) []byte {
	s := &slow{n: 7}
	w := ipc.NewWriter(s)
	f(w)
	w.Flush()
	s.finish()
	return s.got
}

func fill(r *ipc.Reader, b []byte) {
	for len(b) > 0 {
		n := copy(r.Space(), b)
		r.Filled(n)
		b = b[n:]
	}
}

func TestFramesArriveHoweverTheyAreCut(t *testing.T) {
	stream := frames(func(w *ipc.Writer) {
		w.Append(ipc.Header{Kind: ipc.Ping, Request: 1})
		w.Append(ipc.Header{Kind: ipc.Dispatch, Flags: ipc.FlagJournaled, Request: 2, Placement: 1 << 40},
			[]byte("ab"), nil, []byte("c"))
	})
	for cut := range stream {
		r := ipc.NewReader(ipc.DefaultMaxFrame, true)
		var got []string
		for _, part := range [][]byte{stream[:cut], stream[cut:]} {
			fill(r, part)
			for {
				f, ok, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				got = append(got, f.Kind.String()+string(r.Body(f)))
				r.ReleaseAll()
			}
		}
		if strings.Join(got, " ") != "ping dispatchabc" || r.Partial() {
			t.Errorf("cut at %d: got %q", cut, got)
		}
	}
}

func TestMalformedFrames(t *testing.T) {
	good := frames(func(w *ipc.Writer) { w.Append(ipc.Header{Kind: ipc.Ping, Request: 1}, make([]byte, 8)) })
	for _, c := range []struct {
		name     string
		at       int
		value    byte
		max      int
		toWorker bool
		says     string
	}{
		{"as it was", 4, byte(ipc.Ping), 32, true, ""},
		{"a byte too long", 4, byte(ipc.Ping), 31, true, "32 bytes long, 31 are allowed"},
		{"reserved", 6, 1, 100, true, "bytes 6 and 7"},
		{"flags", 5, 0x20, 100, true, "flags 0x20"},
		{"kind", 4, 0, 100, true, "kind 0 may not come from the host"},
		{"the other side's", 4, byte(ipc.Answer), 100, true, "answer may not come from the host"},
		{"the other side's, at the host", 4, byte(ipc.Ping), 100, false, "ping may not come from the worker"},
	} {
		b := bytes.Clone(good)
		b[c.at] = c.value
		r := ipc.NewReader(c.max, c.toWorker)
		fill(r, b)
		_, ok, err := r.Next()
		var malformed *ipc.MalformedError
		if c.says == "" {
			if !ok || err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if !errors.As(err, &malformed) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.says)
		}
	}
}

func TestBodiesReadAsTheyWereWritten(t *testing.T) {
	action := journal.Action{Now: -5, Entropy: [16]byte{1, 2}, Conditional: true, IfSequence: 1 << 50}
	body := journal.AppendAction(nil, &action, "stack:draw", []byte{0x80})
	got, err := ipc.ReadAction(body)
	action.Type, action.Payload = []byte("stack:draw"), []byte{0x80}
	if err != nil || !reflect.DeepEqual(got, action) {
		t.Errorf("action: got %+v, %v", got, err)
	}
	batch := ipc.AppendMember(ipc.AppendMember(ipc.AppendBatch(nil, 2), true, body), false, body)
	members, err := ipc.ReadBatch(batch, nil)
	if err != nil || len(members) != 2 || !members[0].Journaled || members[1].Journaled ||
		!reflect.DeepEqual(members[1].Action, action) {
		t.Errorf("batch: got %+v, %v", members, err)
	}
	entry, rest, err := ipc.ReadEntry(append(journal.AppendEntry(nil, body, 1<<63), 7))
	if err != nil || entry.Checksum != 1<<63 || !reflect.DeepEqual(entry.Action, action) || len(rest) != 1 {
		t.Errorf("entry: got %+v, %v", entry, err)
	}
	outcome := ipc.Outcome{RunTime: 1, Sequence: 300, Memory: 1 << 33, Checksum: 70000, Result: make([]byte, 300),
		Events: []byte{1}}
	b := append(outcome.AppendHead(nil), outcome.Result...)
	b = append(ipc.AppendBytes(b, len(outcome.Events)), outcome.Events...)
	if got, err := ipc.ReadOutcome(b); err != nil || !reflect.DeepEqual(got, outcome) {
		t.Errorf("outcome: got %+v, %v", got, err)
	}
	failure := ipc.Failure{RunTime: 9, Code: "exists", Message: strings.Repeat("m", 70000), Index: -1}
	if got, err := ipc.ReadFailure(failure.Append(nil)); err != nil || got != failure {
		t.Errorf("failure: got %+v, %v", got, err)
	}
	open := ipc.OpenBody{Snapshot: true, MaxStateBytes: 1 << 40, MaxResult: 1<<32 - 1, MaxDepth: 64, Sequence: 200}
	if got, err := ipc.ReadOpen(open.Append(nil)); err != nil || got != open {
		t.Errorf("open: got %+v, %v", got, err)
	}
	for _, m := range []ipc.MemberOutcome{{Changed: true, Checksum: 5, Result: []byte{}},
		{Code: "exists", Message: "it is there"}} {
		if got, rest, err := ipc.ReadMemberOutcome(m.Append(nil)); err != nil || len(rest) > 0 ||
			!reflect.DeepEqual(got, m) {
			t.Errorf("member: got %+v, %v", got, err)
		}
	}
}

func FuzzBodies(f *testing.F) {
	f.Add(journal.AppendAction(nil, &journal.Action{}, "t", nil))
	f.Add((&ipc.Failure{Code: "c", Index: -1}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ipc.ReadAction(b); err == nil {
			again, err := ipc.ReadAction(journal.AppendAction(nil, &a, string(a.Type), a.Payload))
			if err != nil || again.Now != a.Now || !bytes.Equal(again.Payload, a.Payload) ||
				!bytes.Equal(again.Type, a.Type) {
				t.Errorf("%+v reads again as %+v, %v", a, again, err)
			}
		}
		if o, err := ipc.ReadFailure(b); err == nil {
			if again, err := ipc.ReadFailure(o.Append(nil)); err != nil || again != o {
				t.Errorf("%+v reads again as %+v, %v", o, again, err)
			}
		}
		_, _ = ipc.ReadOutcome(b)
		_, _ = ipc.ReadOpen(b)
		_, _ = ipc.ReadBytes(b)
		_, _, _ = ipc.ReadEntry(b)
		_, _, _ = ipc.ReadMemberOutcome(b)
		if m, err := ipc.ReadBatch(b, nil); err == nil && len(m) > len(b) {
			t.Errorf("%d members in %d bytes", len(m), len(b))
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add(frames(func(w *ipc.Writer) { w.Append(ipc.Header{Kind: ipc.Ping, Request: 1}) }), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		r := ipc.NewReader(1<<10, true)
		for len(b) > 0 {
			n := min(len(b), int(cut)+1)
			fill(r, b[:n])
			b = b[n:]
			for {
				frame, ok, err := r.Next()
				if err != nil {
					return
				}
				if !ok {
					break
				}
				if len(r.Body(frame)) != int(frame.Length) {
					t.Fatalf("a body of %d bytes, %d were announced", len(r.Body(frame)), frame.Length)
				}
				r.ReleaseAll()
			}
		}
	})
}

func TestConnMatchesAnswersAndKeepsItsWindow(t *testing.T) {
	c := ipc.NewConn[string](&slow{n: 1 << 20}, ipc.Window{Requests: 3, Bytes: 200})
	send := func(owner string, n int) uint64 {
		id, ok := c.Send(owner, ipc.Ping, 0, 0, make([]byte, n))
		if !ok {
			return 0
		}
		return id
	}
	if send("large", 1000) != 1 {
		t.Error("what is larger than the window is refused though there is nothing else")
	}
	if send("b", 0) != 0 {
		t.Error("the window is full of one, and takes another")
	}
	if owner, ok := c.Answered(1); owner != "large" || !ok {
		t.Errorf("got %q, %v", owner, ok)
	}
	if _, ok := c.Answered(1); ok {
		t.Error("answered twice")
	}
	if _, ok := c.Answered(99); ok {
		t.Error("an answer to what was never asked")
	}
	if a, b, d, e := send("a", 0), send("b", 0), send("c", 0), send("d", 0); a != 2 || b != 3 || d != 4 || e != 0 {
		t.Errorf("sent %d %d %d %d, want three", a, b, d, e)
	}
	if _, ok := c.Answered(3); !ok || c.Oldest() != 2 || c.Pending() != 2 {
		t.Errorf("oldest %d of %d", c.Oldest(), c.Pending())
	}
	if send("bytes", 200-3*ipc.HeaderSize+1) != 0 || send("bytes", 200-3*ipc.HeaderSize) == 0 {
		t.Error("the window in bytes is another")
	}
	if got := strings.Join(c.Close(), " "); got != "a c bytes" {
		t.Errorf("handed over %q", got)
	}
	if send("late", 0) != 0 || c.Room() {
		t.Error("a closed connection takes a request")
	}
}

// A ping is sent if nothing is unanswered. It is no request in what is counted.
func TestConnPing(t *testing.T) {
	c := ipc.NewConn[string](&slow{n: 1 << 20}, ipc.Window{Requests: 3, Bytes: 200})
	check := func(when string, pending, requests int, isPinged bool, wantFrames, wantAnswered uint64) {
		t.Helper()
		frames, _, answered := c.Traffic()
		if c.Pending() != pending || c.Requests() != requests || c.IsPinged() != isPinged || frames != wantFrames ||
			answered != wantAnswered {
			t.Errorf("%s: %d and %d are pending, %v, %d frames, %d answered", when, c.Pending(), c.Requests(),
				c.IsPinged(), frames, answered)
		}
	}
	check("new", 0, 0, false, 0, 0)
	first, _ := c.Send("a", ipc.Digest, 0, 1)
	if c.Ping("") {
		t.Error("a ping is sent behind a request")
	}
	c.Answered(first)
	check("a request is answered", 0, 0, false, 1, 1)
	if !c.Ping("p") || c.Ping("p") {
		t.Error("one ping is sent, and no second one")
	}
	ping := c.Oldest()
	check("pinged", 1, 0, true, 2, 1)
	c.Send("b", ipc.Digest, 0, 1)
	check("a request is behind a ping", 2, 1, true, 3, 1)
	if owner, ok := c.Answered(ping); owner != "p" || !ok {
		t.Errorf("got %q, %v", owner, ok)
	}
	check("the ping is answered", 1, 1, false, 3, 1)
	c.Answered(c.Oldest())
	c.Ping("p")
	c.Close()
	check("closed", 0, 0, false, 4, 2)
	if c.Ping("p") {
		t.Error("a closed connection takes a ping")
	}
}

func TestManyBehindOneThatIsNotAnswered(t *testing.T) {
	c := ipc.NewConn[int](&slow{n: 1 << 30}, ipc.Window{Requests: 10, Bytes: 1 << 20})
	c.Send(1, ipc.Ping, 0, 0)
	for n := 2; n < 1000; n++ {
		id, ok := c.Send(n, ipc.Ping, 0, 0)
		if owner, found := c.Answered(id); !ok || !found || owner != n {
			t.Fatalf("%d: got %d, %v", n, owner, found)
		}
	}
	if c.Oldest() != 1 || c.Pending() != 1 {
		t.Errorf("oldest %d of %d", c.Oldest(), c.Pending())
	}
}

// Both pipes are full, and nobody waits: each side's writes end because each side reads.
func TestFullPipesDoNotLock(t *testing.T) {
	pipe := func() (in, out *ipc.Pipe) {
		r, w, err := os.Pipe()
		if err == nil {
			if in, err = ipc.NewPipe(r); err == nil {
				out, err = ipc.NewPipe(w)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return in, out
	}
	in1, out1 := pipe()
	in2, out2 := pipe()
	w1, w2 := ipc.NewWriter(out1), ipc.NewWriter(out2)
	const n, size = 40, 256 << 10
	for range n {
		w1.Append(ipc.Header{Kind: ipc.Ping, Request: 1}, make([]byte, size))
		w2.Append(ipc.Header{Kind: ipc.Answer, Request: 1}, make([]byte, size))
		w1.Flush()
		w2.Flush()
	}
	done := make(chan error, 2)
	for _, side := range []struct {
		in       *ipc.Pipe
		toWorker bool
	}{{in1, true}, {in2, false}} {
		go func() {
			r := ipc.NewReader(ipc.DefaultMaxFrame, side.toWorker)
			for got := 0; got < n; {
				k, err := side.in.Read(r.Space())
				if err != nil {
					done <- err
					return
				}
				r.Filled(k)
				for {
					_, ok, err := r.Next()
					if err != nil {
						done <- err
						return
					}
					if !ok {
						break
					}
					got++
					r.ReleaseAll()
				}
			}
			done <- nil
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n, err := in1.TryRead(make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("an empty pipe gives %d, %v", n, err)
	}
	_ = out1.Close()
	if _, err := in1.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a closed pipe gives %v", err)
	}
	for _, p := range []*ipc.Pipe{in1, in2, out2} {
		_ = p.Close()
	}
}

func BenchmarkReadAction(b *testing.B) {
	body := journal.AppendAction(nil, &journal.Action{}, "stack:draw", []byte{0x80})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ipc.ReadAction(body); err != nil {
			b.Fatal(err)
		}
	}
}
