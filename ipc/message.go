package ipc

import (
	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/pack"
	"hypertoken/journal"
)

// The bodies of messages. vmihailenco/msgpack reads and writes those of hello and configure, the
// control messages. All others are read and written in place, by internal/pack.

// reader reads a body. Its errors are [MalformedError]s.
type reader struct{ pack.Reader }

func readerOf(b []byte) reader { return reader{pack.Reader{Rest: b}} }

// end returns the error of reading. Bytes that are left over are an error too.
func (r *reader) end() error { return malformedBody(r.End()) }

// malformedBody makes a [MalformedError] of an error that a reader of a body has returned.
func malformedBody(err error) error {
	if err == nil {
		return nil
	}
	return &MalformedError{err.Error()}
}

// HelloBody is the body of a Hello frame, the first frame of a worker.
type HelloBody struct {
	// Protocol is the version of the protocol, [Version].
	Protocol int `msgpack:"protocol"`
	// Build names the program, for logs.
	Build string `msgpack:"build"`
	// Core is the SHA-256 of the core that the worker has built in, in lower-case hexadecimal; ""
	// if it has none.
	Core string `msgpack:"core"`
	// PID is the process ID, for logs.
	PID int `msgpack:"pid"`
}

// ConfigureBody is the body of a Configure frame, by which the host answers Hello. If the worker
// does not have the core, the core follows in Core frames.
type ConfigureBody struct {
	// Core is the SHA-256 of the core to run, in lower-case hexadecimal.
	Core string `msgpack:"core"`
	// CoreBytes is how many bytes of core follow; 0 if the worker has the core.
	CoreBytes int `msgpack:"core_bytes"`
	// EngineMemory bounds the linear memory of an instance, in bytes.
	EngineMemory int64 `msgpack:"engine_memory"`
	// WorkerMemory is the resident memory, in bytes, above which the host replaces the worker. A
	// worker in Go gives it to the garbage collector.
	WorkerMemory int64 `msgpack:"worker_memory"`
	// MaxFrame bounds a frame with its header, in bytes, in both directions.
	MaxFrame int `msgpack:"max_frame"`
	// CacheDir is the directory for compiled code; "" for none.
	CacheDir string `msgpack:"cache_dir"`
	// PollFor is how long the worker polls for frames before it parks, in nanoseconds; 0 is not
	// at all.
	PollFor int64 `msgpack:"poll_for"`
	// Actions asks for the core's list of actions, as the result of the answer to the last frame
	// of the configuration.
	Actions bool `msgpack:"actions"`
	// Debug makes the worker log at debug level.
	Debug bool `msgpack:"debug"`
}

// Encode returns the body of a control message: a [HelloBody] or a [ConfigureBody].
func Encode(v any) []byte {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err) // a struct of this package
	}
	return b
}

// maxControl bounds a control message, in bytes. Its reader recurses as deep as the message is
// nested.
const maxControl = 64 << 10

// Decode reads the body of a control message, of at most 64 KiB, into v. The error is a
// [*MalformedError].
func Decode(b []byte, v any) error {
	if len(b) > maxControl {
		return malformed("a control message of %d bytes, %d are allowed", len(b), maxControl)
	}
	if err := msgpack.Unmarshal(b, v); err != nil {
		return malformed("a control message can't be read: %v", err)
	}
	return nil
}

// OpenBody is the body of an Open frame, which begins a placement. Feed frames with the setup or
// the snapshot follow, then Replay frames with the journal, then Ready.
type OpenBody struct {
	// Snapshot says that a snapshot is fed. Otherwise a setup is fed, and the limits below hold
	// for the engine.
	Snapshot      bool
	MaxStateBytes uint64
	MaxResult     uint32
	MaxDepth      uint32
	// Sequence is the sequence of the state that is fed.
	Sequence uint64
}

// Append appends the body to b.
func (o *OpenBody) Append(b []byte) []byte {
	b = pack.AppendBool(pack.AppendArray(b, 5), o.Snapshot)
	b = pack.AppendUint(pack.AppendUint(b, o.MaxStateBytes), uint64(o.MaxResult))
	return pack.AppendUint(pack.AppendUint(b, uint64(o.MaxDepth)), o.Sequence)
}

// ReadOpen reads the body of an Open frame.
func ReadOpen(b []byte) (o OpenBody, err error) {
	r := readerOf(b)
	r.ArrayOf(5, 5)
	o = OpenBody{r.Bool(), r.Uint(), r.uint32(), r.uint32(), r.Uint()}
	return o, r.end()
}

func (r *reader) uint32() uint32 {
	n := r.Uint()
	if n > 1<<32-1 {
		r.Fail("the number %d is too large", n)
		return 0
	}
	return uint32(n)
}

// AppendBytes appends the header of a byte string of n bytes. The caller sends the bytes behind
// it. The body of a Core, a Feed or a Chunk frame is such a byte string.
func AppendBytes(b []byte, n int) []byte { return pack.AppendBinHeader(b, n) }

// ReadBytes reads a body that is one byte string. The result lies in b.
func ReadBytes(b []byte) ([]byte, error) {
	r := readerOf(b)
	v := r.Bytes()
	return v, r.end()
}

// ReadPiece reads the body of a Core or a Feed frame, which is a byte string of at most [ChunkSize]
// bytes. The result lies in b. The error is a [*MalformedError].
func ReadPiece(b []byte) ([]byte, error) {
	piece, err := ReadBytes(b)
	if err == nil && len(piece) > ChunkSize {
		return nil, malformed("a piece of %d bytes, %d are allowed", len(piece), ChunkSize)
	}
	return piece, err
}

// ReadAction reads the body of a Dispatch frame, which is an action as [journal.AppendAction]
// makes it.
func ReadAction(b []byte) (a journal.Action, err error) {
	var rest []byte
	if a, rest, err = journal.ReadAction(b); err != nil {
		return a, malformedBody(err)
	}
	if len(rest) > 0 {
		return a, malformed("%d bytes follow a body", len(rest))
	}
	return a, nil
}

// AppendBatch appends the begin of a Batch frame's body. The caller appends n members, each by
// [AppendMember].
func AppendBatch(b []byte, n int) []byte { return pack.AppendArray(b, n) }

// AppendMember appends a member of a batch: its action, as [journal.AppendAction] made it, and
// whether it is journaled, even if it changes nothing.
func AppendMember(b []byte, journaled bool, action []byte) []byte {
	return append(pack.AppendBool(pack.AppendArray(b, 2), journaled), action...)
}

// BatchMember is a member of a batch.
type BatchMember struct {
	Journaled bool
	journal.Action
}

// ReadBatch reads the body of a Batch frame, and appends its members to the slice.
func ReadBatch(b []byte, members []BatchMember) ([]BatchMember, error) {
	r := readerOf(b)
	for range r.Array() {
		r.ArrayOf(2, 2)
		m := BatchMember{Journaled: r.Bool()}
		if r.Err == nil {
			m.Action, r.Rest, r.Err = journal.ReadAction(r.Rest)
		}
		members = append(members, m)
		if r.Err != nil {
			break
		}
	}
	return members, r.end()
}

// ReadEntry reads the first entry of a Replay frame's body, and returns what follows it. The body
// consists of a journal's entries as they are: see [journal.AppendEntry].
func ReadEntry(b []byte) (e journal.Entry, rest []byte, err error) {
	if e, rest, err = journal.ReadEntry(b); err != nil {
		err = malformedBody(err)
	}
	return e, rest, err
}

// Outcome is the body of an Answer to a request that succeeded.
type Outcome struct {
	// RunTime is how long the core ran, in nanoseconds.
	RunTime uint64
	// Sequence is the sequence of the engine after the request.
	Sequence uint64
	// Memory is the size of the instance's linear memory, in bytes.
	Memory uint64
	// Checksum is the XXH64 of Result.
	Checksum uint64
	// Result depends on the request: the result of an action, a digest as 8 bytes
	// (little-endian), or the outcomes of a batch's members, each by [MemberOutcome.Append], one
	// behind the other.
	Result []byte
	// Events holds MessagePack arrays [name, payload], one behind the other.
	Events []byte
}

// AppendHead appends the body up to the bytes of the result. The caller sends behind it: the
// bytes of the result, the header of the events by [AppendBytes], and their bytes.
func (o *Outcome) AppendHead(b []byte) []byte {
	b = pack.AppendUint(pack.AppendArray(b, 6), o.RunTime)
	b = pack.AppendUint(pack.AppendUint(b, o.Sequence), o.Memory)
	return pack.AppendBinHeader(pack.AppendUint(b, o.Checksum), len(o.Result))
}

// ReadOutcome reads the body of an Answer without [FlagFailed]. Result and Events lie in b.
func ReadOutcome(b []byte) (o Outcome, err error) {
	r := readerOf(b)
	r.ArrayOf(6, 6)
	o = Outcome{r.Uint(), r.Uint(), r.Uint(), r.Uint(), r.Bytes(), r.Bytes()}
	return o, r.end()
}

// Failure is the body of an Answer to a request that failed.
type Failure struct {
	RunTime, Sequence, Memory uint64
	// Code is stable, for programs: a code of the core, or one below.
	Code    string
	Message string
	// Index is the index of the member that failed in an atomic batch, or of the entry that
	// diverged in a Replay frame, counted from 0. Otherwise it is -1.
	Index int64
}

// Codes that a worker itself gives. All others are its core's.
const (
	// CodeConflict: the action asked for a sequence, and the engine has another one.
	CodeConflict = "conflict"
	// CodeDiverged: a replayed action's result differs from the one that was acknowledged.
	CodeDiverged = "diverged"
	// CodeNotPlaced: the placement is not open, or was lost.
	CodeNotPlaced = "not_placed"
	// CodeNoCore: the core can't be run.
	CodeNoCore = "no_core"
)

// Append appends the body to b.
func (f *Failure) Append(b []byte) []byte {
	b = pack.AppendUint(pack.AppendArray(b, 6), f.RunTime)
	b = pack.AppendUint(pack.AppendUint(b, f.Sequence), f.Memory)
	return pack.AppendInt(pack.AppendString(pack.AppendString(b, f.Code), f.Message), f.Index)
}

// ReadFailure reads the body of an Answer with [FlagFailed].
func ReadFailure(b []byte) (f Failure, err error) {
	r := readerOf(b)
	r.ArrayOf(6, 6)
	f = Failure{r.Uint(), r.Uint(), r.Uint(), string(r.Bytes()), string(r.Bytes()), r.Int()}
	if r.Err == nil && f.Code == "" {
		r.Fail("an empty code")
	}
	return f, r.end()
}

// MemberOutcome is the outcome of one member of a batch.
type MemberOutcome struct {
	Changed  bool
	Checksum uint64
	Result   []byte
	// Code and Message say why the member failed. Code is "" if it succeeded.
	Code, Message string
}

// Append appends the outcome of a member to a batch's result.
func (m *MemberOutcome) Append(b []byte) []byte {
	if m.Code != "" {
		return pack.AppendString(pack.AppendString(pack.AppendArray(b, 2), m.Code), m.Message)
	}
	b = pack.AppendUint(pack.AppendBool(pack.AppendArray(b, 3), m.Changed), m.Checksum)
	return pack.AppendBin(b, m.Result)
}

// ReadMemberOutcome reads the outcome that b begins with, and returns the bytes behind it.
func ReadMemberOutcome(b []byte) (m MemberOutcome, rest []byte, err error) {
	r := readerOf(b)
	if r.ArrayOf(2, 3) == 2 {
		m.Code, m.Message = string(r.Bytes()), string(r.Bytes())
		if r.Err == nil && m.Code == "" {
			r.Fail("an empty code")
		}
	} else {
		m = MemberOutcome{Changed: r.Bool(), Checksum: r.Uint(), Result: r.Bytes()}
	}
	return m, r.Rest, malformedBody(r.Err)
}
