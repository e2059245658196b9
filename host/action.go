package host

import (
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/driver"
	"hypertoken/internal/payload"
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
type dispatch = driver.Choice

// Now sets the clock that the action sees, to the millisecond. Default Options.Clock.
func Now(t time.Time) DispatchOption {
	return func(d *dispatch) { d.HasNow, d.Now = true, t }
}

// Entropy sets what the action's unseeded randomness and its identifiers are made from. Default fresh entropy.
func Entropy(e [16]byte) DispatchOption {
	return func(d *dispatch) { d.HasEntropy, d.Entropy = true, e }
}

// Key makes an action, or a whole batch, run once, however often it is dispatched: a repetition gets
// the first one's result, and shares its outcome while it is in flight. A failure forgets the key. A
// key that is forgotten runs anew: an engine forgets it after Options.KeyWindow others, or once newer
// results take Options.KeyBytes, and a host that has more than Options.MaxKeyBytes of results has the
// engine forget that has most of them. The same key with another action, payload, batch mode or
// members fails with [ErrKeyReused]. An action with a key is journaled though it may change nothing. A
// key has 1 to 256 bytes, and does not begin with a zero byte.
func Key(key string) DispatchOption {
	return func(d *dispatch) { d.HasKey, d.Key = true, key }
}

// IfSequence makes an action, or a whole batch, fail with [ErrConflict], without an effect, unless the engine has this
// sequence just before it runs: that of the [Result] that the caller has decided by.
func IfSequence(sequence uint64) DispatchOption {
	return func(d *dispatch) { d.IsConditional, d.IfSequence = true, sequence }
}

// WithDigest asks for the digest of the state right after the action or the batch, before anything
// else runs on the engine: Result.Digest, or BatchResult.Digest. HasDigest says whether it is there.
func WithDigest() DispatchOption {
	return func(d *dispatch) { d.WantsDigest = true }
}

// chosen returns what options say. An action without any allocates nothing.
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

// resultOf returns a driver's result as applications have it.
func resultOf(r driver.Result) Result {
	return Result{Sequence: r.Sequence, Changed: r.Changed, HasDigest: r.HasDigest, Digest: Digest(r.Digest),
		Raw: r.Raw}
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
