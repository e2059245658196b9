// Package ipc is the wire between a host and a worker process: frames, the bodies they carry, and
// the connection that matches answers to requests. PROTOCOL.md specifies it.
//
// A [Reader] finds frames in a stream of bytes. A [Writer] sends frames and never waits for the
// other side. A [Conn] is the host's end: it numbers requests, keeps those that are unanswered,
// and hands them back when the worker dies. None of them owns a goroutine or a clock: the caller
// hands over the bytes. So the same code runs over pipes and in a simulation.
package ipc

import (
	"encoding/binary"
	"fmt"
)

// Version is the version of the protocol.
const Version = 1

// Kind says which message a frame is.
type Kind uint8

// The messages that the host sends. Each is answered by exactly one Answer or Dropped frame;
// Recall and Close are not answered.
const (
	Configure Kind = 1 + iota
	Core
	Open
	Feed
	Replay
	Ready
	Dispatch
	Batch
	Snapshot
	State
	Digest
	Ping
	Recall
	Close
)

// The messages that the worker sends.
const (
	Hello Kind = 64 + iota
	Answer
	Chunk
	Dropped
)

var kindNames = map[Kind]string{
	Configure: "configure", Core: "core", Open: "open", Feed: "feed", Replay: "replay", Ready: "ready",
	Dispatch: "dispatch", Batch: "batch", Snapshot: "snapshot", State: "state", Digest: "digest", Ping: "ping",
	Recall: "recall", Close: "close", Hello: "hello", Answer: "answer", Chunk: "chunk", Dropped: "dropped",
}

func (k Kind) String() string {
	if name := kindNames[k]; name != "" {
		return name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// fromHost reports whether a host sends frames of this kind.
func (k Kind) fromHost() bool { return k >= Configure && k <= Close }

// fromWorker reports whether a worker sends frames of this kind.
func (k Kind) fromWorker() bool { return k >= Hello && k <= Dropped }

// Flags say more about a frame.
type Flags uint8

const (
	// FlagAtomic, of a Batch: if one member fails, no member has an effect.
	FlagAtomic Flags = 1 << iota
	// FlagJournaled, of a Dispatch: if the action succeeds, it adds 1 to the sequence, even if it
	// changes nothing.
	FlagJournaled
	// FlagChanged, of an Answer: the request changed the state.
	FlagChanged
	// FlagFailed, of an Answer: its body is a [Failure], not an [Outcome].
	FlagFailed
	// FlagLost, of an Answer: the placement is gone. The engine has to be opened anew, under
	// another ID.
	FlagLost

	knownFlags = FlagLost<<1 - 1
)

const (
	// HeaderSize is the size of a frame's header, in bytes.
	HeaderSize = 24
	// DefaultMaxFrame bounds a frame with its header, in bytes.
	DefaultMaxFrame = 17 << 20
	// ChunkSize bounds the piece in one Core, Feed or Chunk frame, in bytes.
	ChunkSize = 1 << 20
)

// Header is the first part of a frame.
type Header struct {
	// Length is the length of the body, in bytes.
	Length    uint32
	Kind      Kind
	Flags     Flags
	Request   uint64
	Placement uint64
}

func (h *Header) put(b []byte) {
	binary.LittleEndian.PutUint32(b, h.Length)
	b[4], b[5], b[6], b[7] = byte(h.Kind), byte(h.Flags), 0, 0
	binary.LittleEndian.PutUint64(b[8:], h.Request)
	binary.LittleEndian.PutUint64(b[16:], h.Placement)
}

// ReadHeader reads the header that b begins with. b has at least HeaderSize bytes. The error is a
// [*MalformedError].
func ReadHeader(b []byte) (h Header, err error) {
	h = Header{
		Length:    binary.LittleEndian.Uint32(b),
		Kind:      Kind(b[4]),
		Flags:     Flags(b[5]),
		Request:   binary.LittleEndian.Uint64(b[8:]),
		Placement: binary.LittleEndian.Uint64(b[16:]),
	}
	if b[6] != 0 || b[7] != 0 {
		return h, malformed("bytes 6 and 7 of a header are %#x, not 0", b[6:8])
	}
	if h.Flags&^knownFlags != 0 {
		return h, malformed("a header has the flags %#x", b[5])
	}
	return h, nil
}

// MalformedError is returned for a frame or a body that breaks the protocol. The side that reads
// it ends the connection.
type MalformedError struct{ Message string }

func (e *MalformedError) Error() string { return "ipc: malformed: " + e.Message }

func malformed(format string, args ...any) error {
	return &MalformedError{fmt.Sprintf(format, args...)}
}

// Frame is a frame that a [Reader] has found. [Reader.Body] returns its body.
type Frame struct {
	Header
	body uint64 // the position in the stream at which its body begins
}

// Reader finds the frames in a stream of bytes. It keeps the bytes of a frame until the frame is
// released. Its memory grows with the bytes that have arrived, not with the lengths that headers
// claim: a length is checked first.
type Reader struct {
	buf []byte
	// Positions in the stream: base is that of buf[0], next that of the frame to be found next,
	// kept that of the first byte that is still needed.
	base, next, kept uint64
	maxFrame         int
	toWorker         bool
}

// NewReader returns a reader of frames that have at most maxFrame bytes, header included.
// toWorker says that the worker reads. Kinds that the reading side itself sends are malformed.
func NewReader(maxFrame int, toWorker bool) *Reader {
	return &Reader{maxFrame: maxFrame, toWorker: toWorker}
}

// SetMaxFrame changes the bound, in bytes, for frames that are found from now on.
func (r *Reader) SetMaxFrame(n int) { r.maxFrame = n }

const (
	readSize = 64 << 10
	// keptBuffer is how much of its buffer an empty reader keeps at most, in bytes.
	keptBuffer = 1 << 20
)

// Space returns room for the next bytes of the stream, at least 64 KiB. It may move the bytes
// that are there: slices that Body returned before are invalid from now on, and the caller asks
// Body again.
func (r *Reader) Space() []byte {
	if r.kept > r.base {
		if n := copy(r.buf, r.buf[r.kept-r.base:]); n == 0 && cap(r.buf) > keptBuffer {
			r.buf = nil
		} else {
			r.buf = r.buf[:n]
		}
		r.base = r.kept
	}
	if cap(r.buf)-len(r.buf) < readSize {
		grown := make([]byte, len(r.buf), max(2*cap(r.buf), len(r.buf)+readSize))
		copy(grown, r.buf)
		r.buf = grown
	}
	return r.buf[len(r.buf):cap(r.buf)]
}

// Filled tells the reader that the caller has written n bytes into the room of Space.
func (r *Reader) Filled(n int) { r.buf = r.buf[:len(r.buf)+n] }

// Next returns the next whole frame, or false if it has not arrived yet. The error is a
// [*MalformedError]: the bytes are no frame.
func (r *Reader) Next() (f Frame, ok bool, err error) {
	b := r.buf[r.next-r.base:]
	if len(b) < HeaderSize {
		return f, false, nil
	}
	if f.Header, err = ReadHeader(b); err != nil {
		return f, false, err
	}
	if known := f.Kind.fromWorker(); (r.toWorker && !f.Kind.fromHost()) || (!r.toWorker && !known) {
		sender := "worker"
		if r.toWorker {
			sender = "host"
		}
		return f, false, malformed("a frame of %v may not come from the %s", f.Kind, sender)
	}
	if uint64(f.Length)+HeaderSize > uint64(r.maxFrame) {
		return f, false, malformed("a frame of %v is %d bytes long, %d are allowed (MaxFrame)",
			f.Kind, uint64(f.Length)+HeaderSize, r.maxFrame)
	}
	if uint64(len(b)) < HeaderSize+uint64(f.Length) {
		return f, false, nil
	}
	f.body = r.next + HeaderSize
	r.next = f.body + uint64(f.Length)
	return f, true, nil
}

// Body returns the body of a frame. It is valid until the next call of Space.
func (r *Reader) Body(f Frame) []byte {
	at := f.body - r.base
	return r.buf[at : at+uint64(f.Length) : at+uint64(f.Length)]
}

// Release tells the reader that the bytes before this frame are not needed any more.
func (r *Reader) Release(f Frame) { r.kept = f.body - HeaderSize }

// ReleaseAll tells the reader that no frame found so far is needed any more.
func (r *Reader) ReleaseAll() { r.kept = r.next }

// Partial reports whether only a part of the next frame has arrived.
func (r *Reader) Partial() bool { return r.next < r.base+uint64(len(r.buf)) }
