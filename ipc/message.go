package ipc

import (
	"github.com/vmihailenco/msgpack/v5"
)

// EntropySize is how many bytes of entropy go with an action.
const EntropySize = 16

// HelloBody is what a worker says first.
type HelloBody struct {
	// Protocol is the version of the protocol, [Version].
	Protocol int `msgpack:"protocol"`
	// Build names the program, for logs.
	Build string `msgpack:"build"`
	// Core is the SHA-256 of the core that the worker has already, in hexadecimal.
	Core string `msgpack:"core"`
	PID  int    `msgpack:"pid"`
}

// ConfigureBody is what the host answers to it. Where the worker does not have the core, its bytes follow in Core
// frames.
type ConfigureBody struct {
	Core string `msgpack:"core"`
	// CoreBytes is how many bytes of core follow.
	CoreBytes int `msgpack:"core_bytes"`
	// EngineMemory bounds an engine's linear memory, WorkerMemory what the Go heap may grow to, in bytes.
	EngineMemory int64 `msgpack:"engine_memory"`
	WorkerMemory int64 `msgpack:"worker_memory"`
	MaxFrame     int   `msgpack:"max_frame"`
	// CacheDir keeps compiled code; "" for none.
	CacheDir string `msgpack:"cache_dir"`
	// PollFor is how long the worker polls for frames before it parks, in nanoseconds; 0 for not at all.
	PollFor int64 `msgpack:"poll_for"`
	// Actions asks for the core's list of actions: it is the result of the answer to the last frame of the configuration.
	Actions bool `msgpack:"actions"`
	// Debug makes the worker log at debug level.
	Debug bool `msgpack:"debug"`
}

// Encode returns a control message as a body.
func Encode(v any) []byte {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err) // a struct of this package
	}
	return b
}

// maxControl bounds a control message, in bytes: what reads it follows its nesting.
const maxControl = 64 << 10

// Decode reads a control message, of at most 64 KiB.
func Decode(b []byte, v any) error {
	if len(b) > maxControl {
		return malformed("a control message of %d bytes, %d are allowed", len(b), maxControl)
	}
	if err := msgpack.Unmarshal(b, v); err != nil {
		return malformed("a control message can't be read: %v", err)
	}
	return nil
}

// OpenBody begins a placement. Feed frames with the setup or the snapshot follow, Replay frames with the journal, and
// Ready.
type OpenBody struct {
	// Snapshot says what is fed: a snapshot, or a setup that opens an engine with these limits.
	Snapshot      bool
	MaxStateBytes uint64
	MaxResult     uint32
	MaxDepth      uint32
	// Sequence is that of the state that is fed.
	Sequence uint64
}

// Append appends the body to b.
func (o *OpenBody) Append(b []byte) []byte {
	b = appendBool(appendArray(b, 5), o.Snapshot)
	b = appendUint(appendUint(b, o.MaxStateBytes), uint64(o.MaxResult))
	return appendUint(appendUint(b, uint64(o.MaxDepth)), o.Sequence)
}

// ReadOpen reads the body of an Open frame.
func ReadOpen(b []byte) (o OpenBody, err error) {
	r := reader{b: b}
	r.arrayOf(5, 5)
	o = OpenBody{r.bool(), r.uint(), r.uint32(), r.uint32(), r.uint()}
	return o, r.end()
}

func (r *reader) uint32() uint32 {
	n := r.uint()
	if n > 1<<32-1 {
		r.fail("the number %d is too large", n)
		return 0
	}
	return uint32(n)
}

// AppendBytes opens a byte string of n bytes, which follow: the body of a Core, Feed or Chunk frame is one.
func AppendBytes(b []byte, n int) []byte { return appendBinHeader(b, n) }

// ReadBytes reads a body that is one byte string.
func ReadBytes(b []byte) ([]byte, error) {
	r := reader{b: b}
	v := r.bytes()
	return v, r.end()
}

// Action is an action as it is sent and kept. Its slices lie in the body it was read from.
type Action struct {
	// Now is in milliseconds since the epoch.
	Now     int64
	Entropy [EntropySize]byte
	Type    []byte
	Payload []byte
	// IfSequence, where Conditional is set, is the sequence that the engine must have just before the run.
	Conditional bool
	IfSequence  uint64
}

// AppendAction appends the body of a Dispatch frame.
func AppendAction(b []byte, a *Action, actionType string, payload []byte) []byte {
	items := 4
	if a.Conditional {
		items = 5
	}
	b = appendInt(appendArray(b, items), a.Now)
	b = appendString(appendBin(b, a.Entropy[:]), actionType)
	b = appendBin(b, payload)
	if a.Conditional {
		b = appendUint(b, a.IfSequence)
	}
	return b
}

// ReadAction reads the body of a Dispatch frame.
func ReadAction(b []byte) (a Action, err error) {
	r := reader{b: b}
	a = r.action()
	return a, r.end()
}

func (r *reader) action() (a Action) {
	n := r.arrayOf(4, 5)
	a.Now = r.int()
	if e := r.bytes(); len(e) == EntropySize {
		copy(a.Entropy[:], e)
	} else {
		r.fail("%d bytes of entropy, want %d", len(e), EntropySize)
	}
	a.Type, a.Payload = r.bytes(), r.bytes()
	if n == 5 {
		a.Conditional, a.IfSequence = true, r.uint()
	}
	return a
}

// AppendBatch appends the opening of a Batch frame's body; n members follow, each [AppendMember].
func AppendBatch(b []byte, n int) []byte { return appendArray(b, n) }

// AppendMember appends a member of a batch: whether it is journaled though it may change nothing, and its action as
// AppendAction made it.
func AppendMember(b []byte, journaled bool, action []byte) []byte {
	return append(appendBool(appendArray(b, 2), journaled), action...)
}

// BatchMember is a member of a batch.
type BatchMember struct {
	Journaled bool
	Action
}

// ReadBatch reads the body of a Batch frame, appending its members to the slice.
func ReadBatch(b []byte, members []BatchMember) ([]BatchMember, error) {
	r := reader{b: b}
	for range r.array() {
		r.arrayOf(2, 2)
		members = append(members, BatchMember{r.bool(), r.action()})
		if r.err != nil {
			break
		}
	}
	return members, r.end()
}

// AppendEntry appends an entry of a Replay frame: an action as AppendAction made it, and the checksum of its result.
// Such entries lie one after the other, in the frame as in a journal.
func AppendEntry(b []byte, action []byte, checksum uint64) []byte {
	return appendUint(append(appendArray(b, 2), action...), checksum)
}

// Entry is an entry of a Replay frame.
type Entry struct {
	Action
	// Checksum is the XXH64 of the result that was acknowledged.
	Checksum uint64
}

// ReadEntry reads the entry that b begins with, and returns what follows it.
func ReadEntry(b []byte) (e Entry, rest []byte, err error) {
	r := reader{b: b}
	r.arrayOf(2, 2)
	e = Entry{r.action(), r.uint()}
	return e, r.b, r.err
}

// Outcome is the body of an Answer.
type Outcome struct {
	// RunTime is how long the core ran, in nanoseconds.
	RunTime uint64
	// Sequence is that of the engine after the request.
	Sequence uint64
	// Memory is the size of the instance's linear memory, in bytes.
	Memory uint64
	// Checksum is the XXH64 of Result.
	Checksum uint64
	// Result is what the kind returns: an action's result, a digest as 8 bytes little-endian, a batch's members as
	// AppendMemberOutcome has them, one after the other.
	Result []byte
	// Events holds MessagePack arrays [name, payload], one after the other.
	Events []byte
}

// AppendHead appends the body up to its result, whose bytes follow; then AppendBytes for the events, and their bytes.
func (o *Outcome) AppendHead(b []byte) []byte {
	b = appendUint(appendArray(b, 6), o.RunTime)
	b = appendUint(appendUint(b, o.Sequence), o.Memory)
	return appendBinHeader(appendUint(b, o.Checksum), len(o.Result))
}

// ReadOutcome reads the body of an Answer that has not failed.
func ReadOutcome(b []byte) (o Outcome, err error) {
	r := reader{b: b}
	r.arrayOf(6, 6)
	o = Outcome{r.uint(), r.uint(), r.uint(), r.uint(), r.bytes(), r.bytes()}
	return o, r.end()
}

// Failure is the body of an Answer that has failed.
type Failure struct {
	RunTime, Sequence, Memory uint64
	// Code is stable: one of the core's, or one below.
	Code    string
	Message string
	// Index is that of the member that failed in an atomic batch, and of the entry that failed in a replay, else -1.
	Index int64
}

// Codes of a worker, beside those of its core.
const (
	// CodeConflict: the engine has not the sequence that the action asked for.
	CodeConflict = "conflict"
	// CodeDiverged: a replayed action's result differs from the one that was acknowledged.
	CodeDiverged = "diverged"
	// CodeNotPlaced: there is no such placement, or it failed.
	CodeNotPlaced = "not_placed"
	// CodeNoCore: the core can't be run.
	CodeNoCore = "no_core"
)

// Append appends the body to b.
func (f *Failure) Append(b []byte) []byte {
	b = appendUint(appendArray(b, 6), f.RunTime)
	b = appendUint(appendUint(b, f.Sequence), f.Memory)
	return appendInt(appendString(appendString(b, f.Code), f.Message), f.Index)
}

// ReadFailure reads the body of an Answer that has failed.
func ReadFailure(b []byte) (f Failure, err error) {
	r := reader{b: b}
	r.arrayOf(6, 6)
	f = Failure{r.uint(), r.uint(), r.uint(), string(r.bytes()), string(r.bytes()), r.int()}
	if r.err == nil && f.Code == "" {
		r.fail("an empty code")
	}
	return f, r.end()
}

// MemberOutcome is what became of a member of a batch.
type MemberOutcome struct {
	Changed  bool
	Checksum uint64
	Result   []byte
	// Code and Message say why it failed; Code is "" where it did not.
	Code, Message string
}

// Append appends the outcome of a member to a batch's result.
func (m *MemberOutcome) Append(b []byte) []byte {
	if m.Code != "" {
		return appendString(appendString(appendArray(b, 2), m.Code), m.Message)
	}
	b = appendUint(appendBool(appendArray(b, 3), m.Changed), m.Checksum)
	return appendBin(b, m.Result)
}

// ReadMemberOutcome reads the outcome that b begins with, and returns what follows it.
func ReadMemberOutcome(b []byte) (m MemberOutcome, rest []byte, err error) {
	r := reader{b: b}
	if r.arrayOf(2, 3) == 2 {
		m.Code, m.Message = string(r.bytes()), string(r.bytes())
		if r.err == nil && m.Code == "" {
			r.fail("an empty code")
		}
	} else {
		m = MemberOutcome{Changed: r.bool(), Checksum: r.uint(), Result: r.bytes()}
	}
	return m, r.b, r.err
}
