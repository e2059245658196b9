package host

import (
	"bytes"
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"

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

// dispatch is an action on its way.
type dispatch struct {
	action       wasm.Action
	now, entropy bool
	nowTime      time.Time
}

// Now sets the clock that the action sees, to the millisecond. Default Options.Clock.
func Now(t time.Time) DispatchOption {
	return func(d *dispatch) { d.now, d.nowTime = true, t }
}

// Entropy sets what the action's unseeded randomness and its identifiers are made from. Default fresh entropy.
func Entropy(e [16]byte) DispatchOption {
	return func(d *dispatch) { d.entropy, d.action.Entropy = true, e }
}

// Result is what an action, or a question about an engine, returns.
type Result struct {
	// Sequence is that of the state after the action: how many actions have changed the engine so far.
	Sequence uint64
	// Changed says whether the action changed the state.
	Changed bool
	// Raw is the result, one MessagePack value.
	Raw Raw
}

// Decode decodes the result into what v points to, as [msgpack.Unmarshal] does.
func (r Result) Decode(v any) error {
	if err := msgpack.Unmarshal(r.Raw, v); err != nil {
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

// encode turns a payload into MessagePack.
func encode(payload any) ([]byte, error) {
	switch p := payload.(type) {
	case nil:
		return nil, nil
	case Raw:
		return p, nil
	}
	var b bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&b)
	enc.UseCompactInts(true)
	enc.SetSortMapKeys(true)
	if err := enc.Encode(payload); err != nil {
		return nil, &Error{Code: ErrBadInput.Code, Message: fmt.Sprintf("a payload of type %T can't be encoded: %v", payload, err), Err: err}
	}
	return b.Bytes(), nil
}

// prepare encodes an action and checks what can be checked before it is sent.
func (h *Host) prepare(actionType string, payload any, opts []DispatchOption) (*dispatch, error) {
	b, err := encode(payload)
	if err != nil {
		return nil, err
	}
	if len(b) > h.options.MaxPayload {
		return nil, tooLarge(actionType, len(b), h.options.MaxPayload)
	}
	const maxType = 1 << 10
	if len(actionType) > maxType {
		return nil, badInput("an action's type of %d bytes is longer than %d", len(actionType), maxType)
	}
	d := &dispatch{action: wasm.Action{Type: actionType, Payload: b}}
	for _, o := range opts {
		o(d)
	}
	return d, nil
}

func tooLarge(what string, size, limit int) error {
	return &Error{Code: ErrPayloadTooLarge.Code,
		Message: fmt.Sprintf("%s: a payload of %d bytes is above %d (MaxPayload)", what, size, limit)}
}
