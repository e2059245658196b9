package torture

import (
	"bytes"
	"testing"

	"hypertoken/ipc"
)

// memory is a sink that keeps the bytes that it gets.
type memory struct{ bytes.Buffer }

func (m *memory) TryWrite(b []byte) (int, error)      { return m.Write(b) }
func (m *memory) WriteAll(b []byte, done func(error)) { _, err := m.Write(b); done(err) }

// FuzzTracker cuts a stream anywhere. The tracker finds the same frames as the host's own reader.
// If the bytes are no frames, it takes in all of them.
func FuzzTracker(f *testing.F) {
	var some memory
	w := ipc.NewWriter(&some)
	w.Append(ipc.Header{Kind: ipc.Hello}, []byte("hello"))
	w.Append(ipc.Header{Kind: ipc.Answer, Request: 7, Placement: 3}, nil)
	w.Append(ipc.Header{Kind: ipc.Chunk, Request: 8, Placement: 3}, make([]byte, 300))
	w.Flush()
	f.Add(some.Bytes(), uint16(1))
	f.Add(some.Bytes(), uint16(30))
	f.Add(append(some.Bytes(), garbage...), uint16(100))
	f.Fuzz(func(t *testing.T, stream []byte, size uint16) {
		cut := int(size)%512 + 1
		var found []ipc.Header
		var tr tracker
		reader := ipc.NewReader(1<<20, false)
		for rest := stream; len(rest) > 0; {
			piece := rest[:min(cut, len(rest))]
			rest = rest[len(piece):]
			reader.Filled(copy(reader.Space(), piece))
			for len(piece) > 0 {
				n, ended := tr.next(piece)
				if n == 0 {
					t.Fatal("it takes nothing")
				}
				if piece = piece[n:]; ended {
					found = append(found, tr.header)
				}
			}
		}
		for k := 0; ; k++ {
			frame, ok, err := reader.Next()
			if err != nil || !ok {
				return
			}
			if k >= len(found) || found[k] != frame.Header {
				t.Fatalf("frame %d is %+v, found %+v", k, frame.Header, found)
			}
		}
	})
}
