package host

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/clock"
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
func (f *Future) prepare(ctx context.Context, e *driver, actionType string, value any, d dispatch) error {
	switch p := value.(type) {
	case nil:
		return f.prepareEncoded(ctx, e, actionType, nil, d)
	case Raw:
		return f.prepareEncoded(ctx, e, actionType, p, d)
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
	return f.prepareEncoded(ctx, e, actionType, encoded, d)
}

// prepareEncoded does so for a payload that is encoded, and copies it.
func (f *Future) prepareEncoded(ctx context.Context, e *driver, actionType string, encoded []byte, d dispatch) error {
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
		e.host.entropy.Fill(&d.action.Entropy)
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
	f.bound(ctx, e)
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
func (f *Future) bound(ctx context.Context, e *driver) {
	f.request.Owner = f
	f.room.Size = int64(len(f.request.Body)) + requestSize
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
	return ErrPayloadTooLarge.With("%s: a payload of %d bytes is above %d (MaxPayload)", what, size, limit)
}

func (e *driver) dispatch(ctx context.Context, actionType string, payload any, opts []DispatchOption) (Result, error) {
	f := futures.Get().(*Future)
	e.meter.begin(ctx, &f.call, actionType, 1)
	err := f.prepare(ctx, e, actionType, payload, chosen(opts))
	if err == nil {
		err = e.takeRoom(ctx, f)
	}
	if err != nil {
		e.refused(f, actionType, err)
		return Result{}, err
	}
	e.submit(f, true)
	r, err := e.await(ctx, f)
	if err == nil && !e.gathering.isEnabled && !e.host.off.Has(fast.Reuse) {
		f.recycle()
	}
	return r, err
}

func (e *driver) dispatchAsync(ctx context.Context, actionType string, payload any, opts []DispatchOption) *Future {
	f := new(Future)
	e.meter.begin(ctx, &f.call, actionType, 1)
	err := f.prepare(ctx, e, actionType, payload, chosen(opts))
	if err == nil && ctx.Err() != nil {
		err = ended(ctx, actionType)
	}
	if err == nil {
		err = e.host.queue.Take(f.request.What, &f.room)
	}
	if err != nil {
		e.refused(f, actionType, err)
		return failed(actionType, err)
	}
	e.submit(f, false)
	return f
}

// takeRoom takes room in the host's queue for a request, and waits for it. The wait is part of the
// request's time.
func (e *driver) takeRoom(ctx context.Context, f *Future) error {
	r := &f.request
	waited, err := e.host.queue.Wait(ctx, r.What, &f.room, r.Allowed, r)
	if waited > 0 {
		r.Allowed = max(1, r.Allowed-waited)
	}
	return err
}

// refused takes note of an action that did not get as far as the engine.
func (e *driver) refused(f *Future, name string, err error) {
	e.meter.endAlone(f, name, err)
	if e.listeners.HasAny() {
		e.emit(Event{Name: EventError, Action: name, Err: err})
	}
}

// takesIn reports whether the engine takes requests in. The engine's lock is held.
func (e *driver) takesIn() bool {
	v := e.m.View()
	return v.State != engine.Closed && !v.IsClosing
}

// submit hands an action to the engine, or to the batch that is gathered.
func (e *driver) submit(f *Future, mayRun bool) {
	e.mu.Lock()
	defer e.unlockAndDeliver(mayRun)
	if f.request.Allowed > 0 {
		f.request.Deadline = e.host.clock.Now() + f.request.Allowed + clock.TickEvery
	}
	if f.request.Keyed != nil && e.takesIn() {
		old, follows, err := e.keys.Begin(f.request.Keyed, f.request.What, f)
		if old != nil || err != nil {
			f.discharge()
			f.repeat(old, err)
		}
		if old != nil || follows || err != nil {
			f.askDigest()
			return
		}
	}
	if e.gathering.takes(f) {
		e.gathering.add(f)
		return
	}
	e.gathering.flush()
	e.enqueue(&f.request)
	f.askDigest()
	if mayRun {
		e.work.led = f.at.Load()
	}
}

// question asks something about the engine, in the order of its actions.
func (e *driver) question(ctx context.Context, kind ipc.Kind, what string) (Result, error) {
	f := newQuestion(ctx, e, kind, what)
	if err := e.takeRoom(ctx, f); err != nil {
		return Result{}, err
	}
	e.submit(f, true)
	return e.await(ctx, f)
}

func newQuestion(ctx context.Context, e *driver, kind ipc.Kind, what string) *Future {
	f := &Future{engine: e, request: engine.Request{Kind: kind, What: what}}
	f.bound(ctx, e)
	return f
}

func (e *driver) state(ctx context.Context) (Result, error) {
	return e.question(ctx, ipc.State, "State")
}

// Digest is a 64-bit hash over a canonical state: equal states have equal digests.
type Digest uint64

// String returns the digest as 16 hexadecimal digits.
func (d Digest) String() string { return fmt.Sprintf("%016x", uint64(d)) }

// Position is where an engine's journal has come to.
type Position struct {
	// Sequence is that of the state: how many actions the journal has had so far.
	Sequence uint64
	// Digest is that of the same state.
	Digest Digest
}

func (e *driver) position(ctx context.Context, what string) (Position, error) {
	r, err := e.question(ctx, ipc.Digest, what)
	if err != nil {
		return Position{}, err
	}
	return Position{Sequence: r.Sequence, Digest: Digest(binary.LittleEndian.Uint64(r.Raw))}, nil
}

// ready waits until the engine is placed. OpenTimeout bounds it.
func ready(ctx context.Context, e *driver, what string) error {
	f := newQuestion(ctx, e, ipc.Ready, what)
	f.request.Allowed, f.request.Limit = 0, ""
	e.submit(f, true)
	_, err := e.await(ctx, f)
	return err
}

func (e *driver) reopen(ctx context.Context) error {
	e.step((*engine.Machine).Reopen)
	return ready(ctx, e, "Reopen")
}

func (e *driver) close(ctx context.Context) error {
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

func (e *driver) beginClose() {
	e.mu.Lock()
	e.gathering.flush()
	e.m.Close(e.now())
	e.perform()
	e.unlockAndDeliver(false)
}
