package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/engine"
	"hypertoken/internal/fast"
	"hypertoken/internal/payload"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Raw is a value that is MessagePack already. It is sent, and stored, byte for byte.
type Raw = msgpack.RawMessage

// Action is a member of a batch.
type Action struct {
	Type    string
	Payload any
	Options []DispatchOption
}

// DispatchOption says more about one action.
type DispatchOption func(*dispatch)

// dispatch is what the options of an action say.
type dispatch struct {
	action       journal.Action
	now, entropy bool
	nowTime      time.Time
	key          string
	keyed        bool
	digest       bool
}

// Now sets the clock that the action sees, to the millisecond. Default Options.Clock.
func Now(t time.Time) DispatchOption {
	return func(d *dispatch) { d.now, d.nowTime = true, t }
}

// Entropy sets what the action's unseeded randomness and its identifiers are made from. Default fresh entropy.
func Entropy(e [16]byte) DispatchOption {
	return func(d *dispatch) { d.entropy, d.action.Entropy = true, e }
}

// Key makes an action, or a whole batch, run once, however often it is dispatched: a repetition gets
// the first one's result, and shares its outcome while it is in flight. A failure forgets the key. A
// key that is forgotten runs anew: an engine forgets it after Options.KeyWindow others, or once newer
// results take Options.KeyBytes, and a host that has more than Options.MaxKeyBytes of results has the
// engine forget that has most of them. The same key with another action, payload, batch mode or
// members fails with [ErrKeyReused]. An action with a key is journaled though it may change nothing. A
// key has 1 to 256 bytes.
func Key(key string) DispatchOption {
	return func(d *dispatch) { d.keyed, d.key = true, key }
}

// IfSequence makes an action, or a whole batch, fail with [ErrConflict], without an effect, unless the engine has this
// sequence just before it runs: that of the [Result] that the caller has decided by.
func IfSequence(sequence uint64) DispatchOption {
	return func(d *dispatch) { d.action.Conditional, d.action.IfSequence = true, sequence }
}

// WithDigest asks for the digest of the state right after the action or the batch, before anything
// else runs on the engine: Result.Digest, or BatchResult.Digest. HasDigest says whether it is there.
func WithDigest() DispatchOption {
	return func(d *dispatch) { d.digest = true }
}

// Result is what an action, or a question about an engine, returns.
type Result struct {
	// Sequence is that of the state after the action: how many actions the journal has had so far,
	// which are those that changed the engine, or had a Key.
	Sequence uint64
	// Changed says whether the action changed the state.
	Changed bool
	// HasDigest says whether Digest is there. It is not if [WithDigest] was not given; if the caller's
	// time ended after the action was committed and before its digest was known; or if the result is
	// that of an earlier action with the same [Key] and the engine has gone on since.
	HasDigest bool
	// Digest is that of the state right after the action.
	Digest Digest
	// Raw is the result, one MessagePack value. It must not be changed if the action had a [Key]:
	// others may get it, too.
	Raw Raw
}

// Decode decodes the result into what v points to, as [msgpack.Unmarshal] does. Fields of structs are
// named by their msgpack tags, and those without one by their json tags; a json tag that asks for more
// than a name or omitempty is an error. A result that no core may return, such as one that is nested
// more than 256 levels deep, is an error.
func (r Result) Decode(v any) error {
	_, err := wasm.Scan(r.Raw)
	if err == nil {
		err = payload.Decode(r.Raw, v)
	}
	if err != nil {
		return fmt.Errorf("host: the result can't be decoded into %T: %w", v, err)
	}
	return nil
}

// As decodes the result of a call that returns one:
//
//	cards, err := host.As[[]Card](e.Dispatch(ctx, "stack:draw", nil))
func As[T any](r Result, err error) (T, error) {
	var v T
	if err == nil {
		err = r.Decode(&v)
	}
	return v, err
}

const (
	maxType = 1 << 10
	maxKey  = 256
)

// prepare encodes an action and checks what can be checked before it is sent. f is a future that nobody has.
func (e *Engine) prepare(ctx context.Context, f *Future, actionType string, value any, d dispatch) error {
	switch p := value.(type) {
	case nil:
		return e.prepareEncoded(ctx, f, actionType, nil, d)
	case Raw:
		return e.prepareEncoded(ctx, f, actionType, p, d)
	}
	if len(actionType) > maxType {
		return badInput("an action's type of %d bytes is longer than %d", len(actionType), maxType)
	}
	buffer := payload.NewBuffer()
	defer buffer.Free()
	encoded, err := buffer.Encode(actionType, value, e.host.options.payloadLimits())
	if err != nil {
		return err
	}
	return e.prepareEncoded(ctx, f, actionType, encoded, d)
}

// prepareEncoded does so for a payload that is encoded, and copies it.
func (e *Engine) prepareEncoded(ctx context.Context, f *Future, actionType string, encoded []byte, d dispatch) error {
	o := &e.host.options
	if len(actionType) > maxType {
		return badInput("an action's type of %d bytes is longer than %d", len(actionType), maxType)
	}
	if len(encoded) > o.MaxPayload {
		return tooLarge(actionType, len(encoded), o.MaxPayload)
	}
	if err := d.checkKey(actionType); err != nil {
		return err
	}
	if !d.now {
		d.nowTime = o.Clock()
	}
	d.action.Now = d.nowTime.UnixMilli()
	if !d.entropy {
		e.host.entropy.fill(&d.action.Entropy)
	}
	f.engine = e
	r := &f.request
	r.Kind, r.What, r.IsConditional = ipc.Dispatch, actionType, d.action.Conditional
	r.Body = journal.AppendAction(slices.Grow(r.Body[:0], len(encoded)+len(actionType)+48), &d.action, actionType,
		encoded)
	if d.key != "" {
		r.Flags |= ipc.FlagJournaled
		sum := engine.NewSum(engine.SumOfAction)
		engine.AddActionToSum(sum, f.request.Body)
		f.request.Keyed = engine.NewKey(d.key, sum)
	}
	e.bound(ctx, f)
	if d.digest {
		f.waitForDigest()
	}
	return nil
}

// checkKey fails for a key that is empty or too long. what names the action.
func (d *dispatch) checkKey(what string) error {
	switch {
	case d.keyed && d.key == "":
		return badInput("%s: the Key is empty; a key has 1 to %d bytes", what, maxKey)
	case len(d.key) > maxKey:
		return badInput("%s: a key of %d bytes is longer than %d", what, len(d.key), maxKey)
	}
	return nil
}

// chosen is what the options of an action say. An action without any allocates nothing.
func chosen(opts []DispatchOption) dispatch {
	if len(opts) == 0 {
		return dispatch{}
	}
	return choose(opts)
}

func choose(opts []DispatchOption) dispatch {
	d := new(dispatch)
	for _, option := range opts {
		option(d)
	}
	return *d
}

// bound gives a request its time, who waits for it, and what it takes of the queue.
func (e *Engine) bound(ctx context.Context, f *Future) {
	f.request.Owner = f
	f.size = int64(len(f.request.Body)) + requestSize
	if e.timeout > 0 {
		f.request.Allowed, f.request.Limit = e.timeout, "Timeout"
	}
	if ctx.Done() != nil {
		f.request.Context = ctx
	}
}

// requestSize is what a request weighs in the queue beside its body, in bytes.
const requestSize = 512

func tooLarge(what string, size, limit int) error {
	return &Error{Code: ErrPayloadTooLarge.Code,
		Message: fmt.Sprintf("%s: a payload of %d bytes is above %d (MaxPayload)", what, size, limit)}
}

// Dispatch runs an action and waits for its result, and for room in the host's queue first. payload is
// a map, a struct, anything that encodes to a MessagePack map, or [Raw]; nil is an empty map. If ctx
// ends before the action is committed, the action is withdrawn and has no effect.
//
// Fields of structs are named by their msgpack tags, and those without one by their json tags, with
// omitempty and "-"; a field without either is named as in Go. A payload that is nested more than
// Options.MaxDepth deep, that contains itself, or that asks its encoder for what it does not do, such
// as the option string of a json tag, fails with [ErrBadInput].
//
// An error means that the action had no effect: an [*ActionError] from the core, [ErrTimeout] after
// the engine's Timeout or at the context's deadline, [ErrCanceled], [ErrPayloadTooLarge],
// [ErrPoisoned], [ErrBroken], [ErrConflict], [ErrKeyReused], [ErrShutdown], [ErrWorkerUnavailable], or
// [ErrBadInput] for what can't be encoded. The exception is [ErrOutcomeUnknown], which the store in
// memory can't cause.
func (e *Engine) Dispatch(ctx context.Context, actionType string, payload any, opts ...DispatchOption) (Result, error) {
	f := futures.Get().(*Future)
	e.measureCall(ctx, &f.call, actionType, 1)
	err := e.prepare(ctx, f, actionType, payload, chosen(opts))
	if err == nil {
		err = e.host.queue.wait(ctx, f)
	}
	if err != nil {
		e.refused(f, actionType, err)
		return Result{}, err
	}
	e.submit(f, true)
	r, err := e.await(ctx, f)
	if err == nil && !e.batches.enabled && !e.host.off.Has(fast.Reuse) {
		f.recycle()
	}
	return r, err
}

// DispatchAsync is [Engine.Dispatch] without the waiting. Where the host's queue is full the future has failed with
// [ErrOverloaded]. ctx withdraws the action, as long as its outcome is not with the journal.
func (e *Engine) DispatchAsync(ctx context.Context, actionType string, payload any, opts ...DispatchOption) *Future {
	f := new(Future)
	e.measureCall(ctx, &f.call, actionType, 1)
	err := e.prepare(ctx, f, actionType, payload, chosen(opts))
	if err == nil && ctx.Err() != nil {
		err = ended(ctx, actionType)
	}
	if err == nil {
		err = e.host.queue.take(f)
	}
	if err != nil {
		e.refused(f, actionType, err)
		return failed(actionType, err)
	}
	e.submit(f, false)
	return f
}

// refused takes note of an action that did not get as far as the engine.
func (e *Engine) refused(f *Future, name string, err error) {
	e.countAlone(f, name, err)
	if e.listeners.count.Load() > 0 {
		e.emit(Event{Name: EventError, Action: name, Err: err})
	}
}

// takesIn reports whether the engine takes requests in. The engine's lock is held.
func (e *Engine) takesIn() bool {
	v := e.m.View()
	return v.State != engine.Closed && !v.IsClosing
}

// submit hands an action to the engine, or to the batch that is gathered.
func (e *Engine) submit(f *Future, mayRun bool) {
	e.mu.Lock()
	defer e.unlockAndDeliver(mayRun)
	if f.request.Allowed > 0 {
		f.request.Deadline = e.host.clock.now() + f.request.Allowed + tickEvery
	}
	if f.request.Keyed != nil && e.takesIn() {
		old, follows, err := e.keys.Begin(f.request.Keyed, f.request.What, f)
		if old != nil || err != nil {
			e.discharge(f)
			f.repeat(old, err)
		}
		if old != nil || follows || err != nil {
			e.askDigest(f)
			return
		}
	}
	if e.batches.enabled && f.batch == nil && f.request.Kind == ipc.Dispatch && f.request.Keyed == nil &&
		!f.request.IsConditional && f.behind == nil {
		e.gather(f)
		return
	}
	e.flushWindow()
	e.enqueue(&f.request)
	e.askDigest(f)
	if mayRun {
		e.work.led = f.at.Load()
	}
}

// question asks something about the engine, in the order of its actions.
func (e *Engine) question(ctx context.Context, kind ipc.Kind, what string) (Result, error) {
	f := e.newQuestion(ctx, kind, what)
	if err := e.host.queue.wait(ctx, f); err != nil {
		return Result{}, err
	}
	e.submit(f, true)
	return e.await(ctx, f)
}

func (e *Engine) newQuestion(ctx context.Context, kind ipc.Kind, what string) *Future {
	f := &Future{engine: e, request: engine.Request{Kind: kind, What: what}}
	e.bound(ctx, f)
	return f
}

// State returns the whole state as one value: a map of agents, gameLoop, gameState, locked, stack, zones and so on. It
// sees what was dispatched before.
func (e *Engine) State(ctx context.Context) (Result, error) {
	return e.question(ctx, ipc.State, "State")
}

// digestSize is that of a digest as a worker answers it, in bytes.

// Digest is a 64-bit hash over a canonical state: equal states have equal digests.
type Digest uint64

// String returns the digest as 16 hexadecimal digits.
func (d Digest) String() string { return fmt.Sprintf("%016x", uint64(d)) }

// Digest returns the digest of the state.
func (e *Engine) Digest(ctx context.Context) (Digest, error) {
	r, err := e.question(ctx, ipc.Digest, "Digest")
	if err != nil {
		return 0, err
	}
	return Digest(binary.LittleEndian.Uint64(r.Raw)), nil
}

// Position is where an engine's journal has come to.
type Position struct {
	// Sequence is that of the state: how many actions the journal has had so far.
	Sequence uint64
	// Digest is that of the same state.
	Digest Digest
}

// Position returns the sequence and the digest of the state, both of one moment. It sees what was dispatched before.
func (e *Engine) Position(ctx context.Context) (Position, error) {
	r, err := e.question(ctx, ipc.Digest, "Position")
	if err != nil {
		return Position{}, err
	}
	return Position{Sequence: r.Sequence, Digest: Digest(binary.LittleEndian.Uint64(r.Raw))}, nil
}

// ready waits until the engine is placed. OpenTimeout bounds it.
func (e *Engine) ready(ctx context.Context, what string) error {
	f := e.newQuestion(ctx, ipc.Ready, what)
	f.request.Allowed, f.request.Limit = 0, ""
	e.submit(f, true)
	_, err := e.await(ctx, f)
	return err
}

// Reopen makes a broken engine try again to place itself, and returns what makes it fail.
func (e *Engine) Reopen(ctx context.Context) error {
	e.step((*engine.Machine).Reopen)
	return e.ready(ctx, "Reopen")
}

// Close lets what was dispatched end, stores a snapshot and frees the engine. Its journal stays under
// its name, from which Host.Open loads it. Later calls fail with [ErrShutdown]. Where ctx ends first,
// closing goes on.
func (e *Engine) Close(ctx context.Context) error {
	select {
	case <-e.closed:
		return shutdownError()
	default:
	}
	e.beginClose()
	select {
	case <-e.closed:
		return nil
	case <-ctx.Done():
		return ended(ctx, "Close")
	}
}

func (e *Engine) beginClose() {
	e.mu.Lock()
	e.flushWindow()
	e.m.Close(e.now())
	e.perform()
	e.unlockAndDeliver(false)
}

// Delete closes the engine and forgets its journal for good.
func (e *Engine) Delete(ctx context.Context) error {
	if err := e.Close(ctx); err != nil && !errors.Is(err, ErrShutdown) {
		return err
	}
	return e.host.Delete(ctx, e.name)
}

// Shutdown shuts the engine's host down, and with it every other engine that it has: it is for an engine of NewEngine.
func (e *Engine) Shutdown(ctx context.Context) error { return e.host.Shutdown(ctx) }

// Host returns the engine's host.
func (e *Engine) Host() *Host { return e.host }
