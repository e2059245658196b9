package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
	"github.com/vmihailenco/msgpack/v5"
)

// The calls of the ABI.
const (
	opOpen     = 1
	opRestore  = 2
	opFeed     = 3
	opReady    = 4
	opDispatch = 5
	opBatch    = 6
	opSnapshot = 7
	opState    = 8
	opNext     = 9
	opDigest   = 10
	opActions  = 11
	opRecords  = 12
)

const (
	// MaxInput bounds the input of one call, in bytes.
	MaxInput = 64 << 20
	// ChunkSize bounds a chunk of a setup, a state or a snapshot, in bytes.
	ChunkSize = 1 << 20
	// EntropySize is how many bytes of entropy go with an action.
	EntropySize = 16

	replySize      = 48
	dispatchHeader = 28
	// smallInput is the least room for input that an instance asks for, keptInput the most that it
	// keeps between calls, in bytes.
	smallInput = 4 << 10
	keptInput  = 256 << 10

	statusError       = 1
	statusOutOfMemory = 2
)

// ActionError is the error of an action. The state is as it was before the action.
type ActionError struct {
	// Code is stable: unknown_action, bad_payload, out_of_range, not_found, exists, insufficient,
	// too_large, too_deep, bad_state, bad_snapshot, bad_request, trap, out_of_memory, or a code
	// that a core of one's own adds.
	Code string `msgpack:"code"`
	// Message names the field, the value and the limit.
	Message string `msgpack:"message"`
	// Index is the index of the failed member of an atomic batch; -1 if there is none.
	Index int `msgpack:"index"`
}

func (e *ActionError) Error() string { return e.Code + ": " + e.Message }

// Is reports whether the target is an ActionError with the same code and without a message.
func (e *ActionError) Is(target error) bool {
	t, ok := target.(*ActionError)
	return ok && t.Code == e.Code && t.Message == ""
}

// TrapError is returned for a call that cost the instance: the instance is closed, and its state
// is gone. It wraps the [*ActionError] to report for the action (trap or out_of_memory). If the
// context ended the call, it wraps the context's error.
type TrapError struct {
	Err error
	// Interrupted is true if the context ended the call.
	Interrupted bool
}

func (e *TrapError) Error() string { return e.Err.Error() }
func (e *TrapError) Unwrap() error { return e.Err }

// ErrClosed is returned by calls of an instance that is closed.
var ErrClosed = errors.New("wasm: the instance is closed")

// Limits bound an engine. They are set when the engine is opened, and are kept in its snapshots.
// The results of actions may depend on them.
type Limits struct {
	// MaxStateBytes bounds the state, in logical bytes.
	MaxStateBytes uint64
	// MaxResult bounds a result, or a batch's results together, in bytes.
	MaxResult uint32
	// MaxDepth bounds how deep a value is nested. It is 1 to 128.
	MaxDepth uint32
}

// DefaultLimits are those of the design.
var DefaultLimits = Limits{MaxStateBytes: 256 << 20, MaxResult: 16 << 20, MaxDepth: 64}

// Action is an action with everything that its result depends on, except for the state.
type Action struct {
	// Now is the clock, in milliseconds since the epoch, within ±(2^53 - 1).
	Now int64
	// Entropy is the source of identifiers, and of random numbers without a seed.
	Entropy [EntropySize]byte
	// Type names the action.
	Type string
	// Payload is a map as MessagePack. No bytes count as an empty map.
	Payload []byte
}

// Size returns how many bytes of input the action takes.
func (a *Action) Size() int { return dispatchHeader + len(a.Type) + len(a.Payload) }

func (a *Action) put(b []byte) {
	binary.LittleEndian.PutUint64(b, uint64(a.Now))
	copy(b[8:], a.Entropy[:])
	binary.LittleEndian.PutUint32(b[24:], uint32(len(a.Type)))
	copy(b[dispatchHeader:], a.Type)
	copy(b[dispatchHeader+len(a.Type):], a.Payload)
}

// Reply is the answer to an action. Its slices lie in the instance's memory, and are valid until
// the instance's next call.
type Reply struct {
	// Changed is true if the state changed.
	Changed bool
	// Result is one MessagePack value.
	Result []byte
	// Events holds EventCount MessagePack arrays [name, payload], one after the other.
	Events     []byte
	EventCount int
	// StateBytes are the logical bytes of the state.
	StateBytes uint64
}

// Member is the answer to one member of a batch. Its slice is valid until the instance's next
// call.
type Member struct {
	// Err is the member's error in an independent batch.
	Err *ActionError
	// Changed is true if the member changed the state.
	Changed bool
	// Result is one MessagePack value.
	Result []byte
}

// Instance is one engine. It is not safe for use by several goroutines at once.
type Instance struct {
	core   *Core
	module api.Module
	memory api.Memory
	input  api.Function
	call   api.Function
	stack  [2]uint64
	// reply and in are the addresses of the reply and of the input in the memory; room is the size
	// of the input.
	reply, in uint32
	room      int
	closed    bool
	release   func()
}

// Instantiate makes an instance. That takes a fifth of a millisecond and a quarter of a mebibyte.
// It holds no engine until Open or Restore. The caller closes it.
func (c *Core) Instantiate(ctx context.Context) (*Instance, error) {
	making, release := withMemory(ctx)
	module, err := c.newModule(making)
	if err != nil {
		release()
		return nil, fmt.Errorf("wasm: instantiate: %w", err)
	}
	i := &Instance{core: c, module: module, memory: module.Memory(), release: release}
	c.instances.Add(1)
	i.input, i.call = module.ExportedFunction("ht_input"), module.ExportedFunction("ht_call")
	version, err := module.ExportedFunction("ht_abi").Call(ctx)
	if err == nil && version[0] != ABIVersion {
		err = fmt.Errorf("the core speaks version %d of the ABI, not %d", version[0], ABIVersion)
	}
	var reply []uint64
	if err == nil {
		reply, err = module.ExportedFunction("ht_reply").Call(ctx)
	}
	if err == nil {
		i.reply = uint32(reply[0])
		if _, ok := i.memory.Read(i.reply, replySize); !ok {
			err = fmt.Errorf("the core's reply lies at %d, outside its memory", i.reply)
		}
	}
	if err != nil {
		_ = i.Close(ctx)
		return nil, fmt.Errorf("wasm: instantiate: %w", err)
	}
	return i, nil
}

func (c *Core) newModule(ctx context.Context) (_ api.Module, err error) {
	defer guard(&err)
	return c.runtime.InstantiateModule(ctx, c.module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
}

// Close frees the instance. It may be called again.
func (i *Instance) Close(ctx context.Context) error {
	if i.closed {
		return nil
	}
	i.closed = true
	i.core.instances.Add(-1)
	err := i.module.Close(ctx)
	i.release()
	return err
}

// Memory returns the size of the instance's linear memory, in bytes. It never shrinks.
func (i *Instance) Memory() uint64 { return uint64(i.memory.Size()) }

// reserve returns n bytes of the core's input. The caller writes them; they are valid until the
// next call.
func (i *Instance) reserve(ctx context.Context, n int) ([]byte, error) {
	if i.closed {
		return nil, ErrClosed
	}
	if n > MaxInput {
		return nil, &ActionError{Code: "too_large", Index: -1,
			Message: fmt.Sprintf("the request is %d bytes long, a core takes %d", n, MaxInput)}
	}
	if n > i.room || (i.room > keptInput && n <= keptInput) {
		room := max(n, smallInput)
		i.stack[0] = uint64(room)
		if err := i.run(ctx, i.input); err != nil {
			return nil, err
		}
		i.in, i.room = uint32(i.stack[0]), room
	}
	b, ok := i.memory.Read(i.in, uint32(n))
	if !ok || i.in == 0 {
		return nil, i.broken(ctx, fmt.Sprintf("its input of %d bytes at %d is outside its memory", n, i.in))
	}
	return b, nil
}

// run calls a function with the arguments in i.stack. If it traps or is interrupted, the instance
// is closed.
func (i *Instance) run(ctx context.Context, f api.Function) error {
	if i.core.interruptible && ctx.Err() != nil {
		return i.interrupted(ctx)
	}
	err := f.CallWithStack(ctx, i.stack[:])
	if err == nil {
		if i.core.slow != nil && ctx.Err() != nil {
			// wazero watches the context in a goroutine. That goroutine may still stop the
			// instance, in the middle of a later call.
			return i.interrupted(ctx)
		}
		return nil
	}
	var exit *sys.ExitError
	if errors.As(err, &exit) && ctx.Err() != nil {
		return i.interrupted(ctx)
	}
	trap := &ActionError{Code: "trap", Message: "the core trapped: " + firstLine(err), Index: -1}
	if status, ok := i.memory.ReadUint32Le(i.reply); ok && status == statusOutOfMemory {
		trap = &ActionError{Code: "out_of_memory", Index: -1,
			Message: fmt.Sprintf("the core used up its %d bytes of memory (MaxEngineMemory)", i.core.limit)}
	}
	_ = i.Close(context.WithoutCancel(ctx))
	return &TrapError{Err: trap}
}

// interrupted closes an instance whose call the context has ended.
func (i *Instance) interrupted(ctx context.Context) error {
	_ = i.Close(context.WithoutCancel(ctx))
	return &TrapError{Err: context.Cause(ctx), Interrupted: true}
}

func firstLine(err error) string {
	s := err.Error()
	for k := range s {
		if s[k] == '\n' {
			return s[:k]
		}
	}
	return s
}

// broken closes an instance whose core breaks the ABI.
func (i *Instance) broken(ctx context.Context, what string) error {
	_ = i.Close(context.WithoutCancel(ctx))
	return &TrapError{Err: &ActionError{Code: "trap", Message: "the core breaks its ABI: " + what, Index: -1}}
}

type reply struct {
	status, changed     uint32
	body, table, events []byte
	eventCount          int
	stateBytes          uint64
}

// callCore runs a call on the first n bytes of the input.
func (i *Instance) callCore(ctx context.Context, op uint64, n int) (r reply, err error) {
	if i.closed {
		return r, ErrClosed
	}
	if !i.memory.WriteUint32Le(i.reply, 0) {
		return r, i.broken(ctx, "its reply is outside its memory")
	}
	i.stack[0], i.stack[1] = op, uint64(n)
	if err := i.run(ctx, i.call); err != nil {
		return r, err
	}
	h, ok := i.memory.Read(i.reply, replySize)
	if !ok {
		return r, i.broken(ctx, "its reply is outside its memory")
	}
	// the method itself, as a value, is called and not inlined
	u32 := func(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
	r = reply{status: u32(h), changed: u32(h[4:]), eventCount: int(u32(h[32:])),
		stateBytes: binary.LittleEndian.Uint64(h[40:])}
	body, ok1 := i.view(u32(h[8:]), u32(h[12:]))
	table, ok2 := i.view(u32(h[16:]), u32(h[20:]))
	events, ok3 := i.view(u32(h[24:]), u32(h[28:]))
	if !ok1 || !ok2 || !ok3 {
		return r, i.broken(ctx, fmt.Sprintf("its reply of %d bytes at %d is outside its memory", u32(h[12:]),
			u32(h[8:])))
	}
	r.body, r.table, r.events = body, table, events
	if r.status != 0 {
		return r, i.failure(ctx, r.body)
	}
	return r, nil
}

// view returns n bytes of linear memory.
func (i *Instance) view(at, n uint32) ([]byte, bool) {
	if n == 0 {
		return nil, true
	}
	return i.memory.Read(at, n)
}

// failure reads an error.
func (i *Instance) failure(ctx context.Context, body []byte) error {
	e, err := decodeError(body)
	if err != nil {
		return i.broken(ctx, "its error can't be read: "+err.Error())
	}
	return e
}

func decodeError(body []byte) (*ActionError, error) {
	// Cores clip the values in an error, so a longer one is no error of a sound core. Decoding it
	// could take more memory than the instance has.
	const maxError = 64 << 10
	if len(body) > maxError {
		return nil, fmt.Errorf("it has %d bytes, an error has at most %d", len(body), maxError)
	}
	e := &ActionError{Index: -1}
	if err := msgpack.Unmarshal(body, e); err != nil {
		return nil, err
	}
	if e.Code == "" {
		return nil, errors.New("it has no code")
	}
	return e, nil
}

// send copies a request to the core and runs a call on it.
func (i *Instance) send(ctx context.Context, op uint64, b []byte) (reply, error) {
	in, err := i.reserve(ctx, len(b))
	if err != nil {
		return reply{}, err
	}
	copy(in, b)
	return i.callCore(ctx, op, len(b))
}

// Open opens an engine from a setup, which is MessagePack as in the conformance traces; no bytes
// are an empty setup. It replaces the engine that the instance held. After an error the instance
// holds none.
func (i *Instance) Open(ctx context.Context, l Limits, setup []byte) error {
	if err := i.BeginOpen(ctx, l); err != nil {
		return err
	}
	return i.feedAll(ctx, setup)
}

// Restore opens an engine from a snapshot. The core checks it, its digest included.
func (i *Instance) Restore(ctx context.Context, snapshot []byte) error {
	if err := i.BeginRestore(ctx); err != nil {
		return err
	}
	return i.feedAll(ctx, snapshot)
}

func (i *Instance) feedAll(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), ChunkSize)
		if err := i.Feed(ctx, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return i.Ready(ctx)
}

// BeginOpen begins what Open does in one: the setup follows in calls of Feed, cut anywhere, then
// Ready.
func (i *Instance) BeginOpen(ctx context.Context, l Limits) error {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint64(b, l.MaxStateBytes)
	binary.LittleEndian.PutUint32(b[8:], l.MaxResult)
	binary.LittleEndian.PutUint32(b[12:], l.MaxDepth)
	_, err := i.send(ctx, opOpen, b)
	return err
}

// BeginRestore begins what Restore does in one: the snapshot follows in calls of Feed, cut
// anywhere, then Ready.
func (i *Instance) BeginRestore(ctx context.Context) error {
	_, err := i.callCore(ctx, opRestore, 0)
	return err
}

// Feed sends the next piece of a setup or a snapshot to the core. A piece has at most ChunkSize
// bytes.
func (i *Instance) Feed(ctx context.Context, piece []byte) error {
	_, err := i.send(ctx, opFeed, piece)
	return err
}

// Ready ends the pieces: the engine is open.
func (i *Instance) Ready(ctx context.Context) error {
	_, err := i.callCore(ctx, opReady, 0)
	return err
}

// Dispatch runs one action. After an error of type [*ActionError] the state is as it was before.
func (i *Instance) Dispatch(ctx context.Context, a *Action) (Reply, error) {
	in, err := i.reserve(ctx, a.Size())
	if err != nil {
		return Reply{}, err
	}
	a.put(in)
	r, err := i.callCore(ctx, opDispatch, a.Size())
	if err != nil {
		return Reply{}, err
	}
	return Reply{r.changed != 0, r.body, r.events, r.eventCount, r.stateBytes}, nil
}

// Batch runs actions one after the other. If the batch is atomic and one action fails, no action
// has an effect, and the error is an [*ActionError] with the index of that action. An independent
// batch returns the error of each member in its Member.
func (i *Instance) Batch(ctx context.Context, actions []Action, atomic bool) ([]Member, Reply, error) {
	size := 8
	for k := range actions {
		size += 4 + actions[k].Size()
	}
	in, err := i.reserve(ctx, size)
	if err != nil {
		return nil, Reply{}, err
	}
	mode := uint32(1)
	if atomic {
		mode = 0
	}
	binary.LittleEndian.PutUint32(in, mode)
	binary.LittleEndian.PutUint32(in[4:], uint32(len(actions)))
	at := 8
	for k := range actions {
		n := actions[k].Size()
		binary.LittleEndian.PutUint32(in[at:], uint32(n))
		actions[k].put(in[at+4:])
		at += 4 + n
	}
	r, err := i.callCore(ctx, opBatch, size)
	var failed *ActionError
	if errors.As(err, &failed) && !i.closed && failed.Index >= len(actions) {
		err = i.broken(ctx, fmt.Sprintf("member %d of a batch of %d failed", failed.Index, len(actions)))
	}
	if err != nil {
		return nil, Reply{}, err
	}
	if len(r.table) != 8*len(actions) {
		return nil, Reply{}, i.broken(ctx, fmt.Sprintf("it answers a batch of %d with a table of %d bytes",
			len(actions), len(r.table)))
	}
	members := make([]Member, len(actions))
	from := uint32(0)
	for k := range members {
		entry := r.table[8*k:]
		to := binary.LittleEndian.Uint32(entry)
		if to < from || int(to) > len(r.body) {
			return nil, Reply{}, i.broken(ctx, "its table of a batch leaves the body")
		}
		members[k] = Member{Changed: entry[5] != 0, Result: r.body[from:to]}
		if entry[4] != 0 {
			if members[k].Err, err = decodeError(r.body[from:to]); err != nil {
				return nil, Reply{}, i.broken(ctx, "its error can't be read: "+err.Error())
			}
			members[k].Result = nil
		}
		from = to
	}
	return members, Reply{r.changed != 0, nil, r.events, r.eventCount, r.stateBytes}, nil
}

// Snapshot hands the state to f in chunks that Restore takes in the same order. A chunk is valid
// until f returns. An error of f ends it and is returned.
func (i *Instance) Snapshot(ctx context.Context, f func(chunk []byte) error) error {
	return i.stream(ctx, opSnapshot, f)
}

// State hands the whole state, one MessagePack map, to f in chunks. A chunk is valid until f
// returns.
func (i *Instance) State(ctx context.Context, f func(chunk []byte) error) error {
	return i.stream(ctx, opState, f)
}

func (i *Instance) stream(ctx context.Context, op uint64, f func([]byte) error) error {
	if _, err := i.callCore(ctx, op, 0); err != nil {
		return err
	}
	for {
		r, err := i.callCore(ctx, opNext, 0)
		if err != nil {
			return err
		}
		if len(r.body) == 0 {
			return nil
		}
		if len(r.body) > ChunkSize {
			return i.broken(ctx, fmt.Sprintf("it streams a chunk of %d bytes", len(r.body)))
		}
		if err := f(r.body); err != nil {
			return err
		}
	}
}

// Digest returns the canonical 64-bit digest of the state.
func (i *Instance) Digest(ctx context.Context) (uint64, error) {
	r, err := i.callCore(ctx, opDigest, 0)
	if err != nil {
		return 0, err
	}
	if len(r.body) != 8 {
		return 0, i.broken(ctx, fmt.Sprintf("its digest has %d bytes", len(r.body)))
	}
	return binary.LittleEndian.Uint64(r.body), nil
}

// Actions returns the list of actions as MessagePack: an array of maps {about, fields, name,
// result}.
func (i *Instance) Actions(ctx context.Context) ([]byte, error) {
	return i.list(ctx, opActions, "list of actions")
}

// Records returns the records that the shapes in the list of actions name, as MessagePack: an
// array of maps {about, fields, name, rest}. It is empty if the core does not know the call.
func (i *Instance) Records(ctx context.Context) ([]byte, error) {
	return i.newerList(ctx, opRecords, "list of records")
}

// newerList returns the answer to a call that older cores do not know. For an older core it
// returns an empty array.
func (i *Instance) newerList(ctx context.Context, op uint64, what string) ([]byte, error) {
	b, err := i.list(ctx, op, what)
	var failed *ActionError
	if errors.As(err, &failed) && failed.Code == "bad_request" {
		return []byte{0x90}, nil
	}
	return b, err
}

// list returns the answer to a call that needs no engine. what names the answer in errors.
func (i *Instance) list(ctx context.Context, op uint64, what string) ([]byte, error) {
	r, err := i.callCore(ctx, op, 0)
	if err != nil {
		return nil, err
	}
	if n, err := Scan(r.body); err != nil || n < len(r.body) {
		return nil, i.broken(ctx, fmt.Sprintf("its %s can't be read: %d of %d bytes: %v", what, n, len(r.body), err))
	}
	return append([]byte(nil), r.body...), nil
}

// SnapshotLimits returns the limits of the engine from the header of its snapshot.
func SnapshotLimits(snapshot []byte) (l Limits, err error) {
	size, err := Scan(snapshot)
	if err != nil {
		return l, fmt.Errorf("wasm: the header of a snapshot: %w", err)
	}
	var header []msgpack.RawMessage
	if err := msgpack.Unmarshal(snapshot[:size], &header); err != nil || len(header) != 6 {
		return l, fmt.Errorf("wasm: the header of a snapshot has %d items, want 6 (%v)", len(header), err)
	}
	return l, errors.Join(msgpack.Unmarshal(header[3], &l.MaxStateBytes), msgpack.Unmarshal(header[4], &l.MaxResult),
		msgpack.Unmarshal(header[5], &l.MaxDepth))
}
