// Package ipc is the wire between a host and a worker process: frames, the bodies they carry, and the connection that
// matches answers to requests. PROTOCOL.md specifies it.
//
// A [Reader] finds frames in bytes as they come, a [Writer] sends frames without ever waiting for the other side, and a
// [Conn] is the host's end: it numbers requests, keeps those that are unanswered, and hands them back when the worker
// dies. None of them owns a goroutine or a clock: whoever has bytes hands them over, so the same code runs over pipes
// and in a simulation.
package ipc

import (
	"encoding/binary"
	"fmt"
)

// Version is the version of the protocol.
const Version = 1

// Kind says what a frame is.
type Kind uint8

// What the host sends. Each is answered by exactly one Answer or Dropped frame, but for Recall and Close.
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

// What the worker sends.
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

// fromHost reports whether the host sends frames of the kind.
func (k Kind) fromHost() bool { return k >= Configure && k <= Close }

// fromWorker reports whether a worker does.
func (k Kind) fromWorker() bool { return k >= Hello && k <= Dropped }

// Flags say more about a frame.
type Flags uint8

const (
	// FlagAtomic, of a Batch: when one member fails, none has an effect.
	FlagAtomic Flags = 1 << iota
	// FlagJournaled, of a Dispatch: it counts as a change of the sequence though it may change nothing.
	FlagJournaled
	// FlagChanged, of an Answer: the state changed.
	FlagChanged
	// FlagFailed, of an Answer: its body is a Failure.
	FlagFailed
	// FlagLost, of an Answer: the placement is gone; it must be opened anew under another ID.
	FlagLost

	knownFlags = FlagLost<<1 - 1
)

const (
	// HeaderSize is the size of a frame's header, in bytes.
	HeaderSize = 24
	// DefaultMaxFrame bounds a frame with its header, in bytes.
	DefaultMaxFrame = 17 << 20
	// ChunkSize bounds the bytes in one Core, Feed or Chunk frame; Replay frames are cut at about as much.
	ChunkSize = 1 << 20
)

// Header opens a frame.
type Header struct {
	// Length is that of the body, in bytes.
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

// ReadHeader reads the header that b begins with: HeaderSize bytes at least. It fails with a [*MalformedError].
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

// MalformedError is a frame or a body that breaks the protocol. Whoever reads one ends the connection.
type MalformedError struct{ Message string }

func (e *MalformedError) Error() string { return "ipc: malformed: " + e.Message }

func malformed(format string, args ...any) error {
	return &MalformedError{fmt.Sprintf(format, args...)}
}

// Frame is a frame that a [Reader] has found.
type Frame struct {
	Header
	body uint64 // where its body begins in the stream
}

// Reader finds the frames in a stream of bytes. It keeps the bytes of a frame until the frame is released, and takes no
// more memory than the bytes that came: a length is checked before anything is allocated for it.
type Reader struct {
	buf []byte
	// base is the position in the stream of buf[0], next that of the frame to be found next, kept that of the first byte
	// that is still needed.
	base, next, kept uint64
	maxFrame         int
	toWorker         bool
}

// NewReader returns a reader of frames of at most maxFrame bytes with their headers. toWorker says which side it is on:
// the other side's kinds are malformed here.
func NewReader(maxFrame int, toWorker bool) *Reader {
	return &Reader{maxFrame: maxFrame, toWorker: toWorker}
}

// SetMaxFrame changes the bound for frames that are found from now on.
func (r *Reader) SetMaxFrame(n int) { r.maxFrame = n }

const (
	readSize = 64 << 10
	// keptBuffer is what an empty reader keeps of its buffer.
	keptBuffer = 1 << 20
)

// Space returns room for the next bytes of the stream, 64 KiB at least. Bodies found before are invalid then: ask again.
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

// Filled says how many bytes of the space came in.
func (r *Reader) Filled(n int) { r.buf = r.buf[:len(r.buf)+n] }

// Next returns the next whole frame, false where there is none yet, and a [*MalformedError] for bytes that are none.
func (r *Reader) Next() (f Frame, ok bool, err error) {
	b := r.buf[r.next-r.base:]
	if len(b) < HeaderSize {
		return f, false, nil
	}
	if f.Header, err = ReadHeader(b); err != nil {
		return f, false, err
	}
	if known := f.Kind.fromWorker(); (r.toWorker && !f.Kind.fromHost()) || (!r.toWorker && !known) {
		return f, false, malformed("a frame of %v has no business here", f.Kind)
	}
	if uint64(f.Length)+HeaderSize > uint64(r.maxFrame) {
		return f, false, malformed("a frame of %v is %d bytes long, %d are allowed (MaxFrame)", f.Kind, uint64(f.Length)+HeaderSize, r.maxFrame)
	}
	if uint64(len(b)) < HeaderSize+uint64(f.Length) {
		return f, false, nil
	}
	f.body = r.next + HeaderSize
	r.next = f.body + uint64(f.Length)
	return f, true, nil
}

// Body returns a frame's body, valid until the next call of Space.
func (r *Reader) Body(f Frame) []byte {
	at := f.body - r.base
	return r.buf[at : at+uint64(f.Length) : at+uint64(f.Length)]
}

// Release says that the bytes before the frame are not needed any more.
func (r *Reader) Release(f Frame) { r.kept = f.body - HeaderSize }

// ReleaseAll says that no frame found so far is needed any more.
func (r *Reader) ReleaseAll() { r.kept = r.next }

// Partial reports whether the stream stands in the middle of a frame.
func (r *Reader) Partial() bool { return r.next < r.base+uint64(len(r.buf)) }
