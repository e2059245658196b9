package driver

import (
	"context"
	"slices"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/payload"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// How an action is made ready for its engine: what its caller has chosen, and its encoding.

// Choice is what the caller of an action, or of a batch, says beside its payload. The zero value
// says nothing.
type Choice struct {
	// HasNow says that Now is the clock that the action sees.
	HasNow bool
	Now    time.Time
	// HasEntropy says that Entropy is where the action's randomness comes from.
	HasEntropy bool
	Entropy    [journal.EntropySize]byte
	// HasKey says that the action runs once for its Key.
	HasKey bool
	Key    string
	// ForgetsUnchanged says that the key is forgotten if the action changes nothing. Then the action is
	// not journaled, as one without a key.
	ForgetsUnchanged bool
	// IsConditional says that the action runs only if the engine has the sequence IfSequence.
	IsConditional bool
	IfSequence    uint64
	// WantsDigest asks for the digest of the state right after the action.
	WantsDigest bool
}

const (
	maxType = 1 << 10 // bytes of an action's type
	maxKey  = 256     // bytes of a key
)

// requestSize is what a request weighs in the queue beside its body, in bytes.
const requestSize = 512

// checkKey fails for a key that is empty or too long, and for one that begins with a zero byte: such key
// records are for what a host itself has to remember. what names the action.
func (d *Choice) checkKey(what string) error {
	switch {
	case d.HasKey && d.Key == "":
		return badInput("%s: the Key is empty; a key has 1 to %d bytes", what, maxKey)
	case len(d.Key) > maxKey:
		return badInput("%s: a key of %d bytes is longer than %d", what, len(d.Key), maxKey)
	case d.Key != "" && d.Key[0] == 0:
		return badInput("%s: a key must not begin with a zero byte: %q", what, d.Key)
	}
	return nil
}

// prepare encodes an action, and checks what can be checked before it is sent. Nobody else has the
// call. What was not chosen is set in d.
func (c *Call) prepare(ctx context.Context, e *Driver, actionType string, value any, d *Choice) error {
	switch p := value.(type) {
	case nil:
		return c.prepareEncoded(ctx, e, actionType, nil, d)
	case Raw:
		return c.prepareEncoded(ctx, e, actionType, p, d)
	}
	if len(actionType) > maxType {
		return typeTooLong(actionType)
	}
	buffer := payload.NewBuffer()
	defer buffer.Free()
	encoded, err := buffer.Encode(actionType, value, e.engines.config.Payload)
	if err != nil {
		return err
	}
	return c.prepareEncoded(ctx, e, actionType, encoded, d)
}

// prepareEncoded is prepare for a payload that is encoded. It copies the payload.
func (c *Call) prepareEncoded(ctx context.Context, e *Driver, actionType string, encoded []byte, d *Choice) error {
	o := &e.engines.config
	if len(actionType) > maxType {
		return typeTooLong(actionType)
	}
	if len(encoded) > o.Payload.Bytes {
		return tooLarge(actionType, len(encoded), o.Payload.Bytes)
	}
	if err := d.checkKey(actionType); err != nil {
		return err
	}
	if !d.HasNow {
		d.Now = o.Now()
	}
	if !d.HasEntropy {
		e.engines.entropy.Fill(&d.Entropy)
	}
	c.driver = e
	r := &c.request
	r.Kind, r.What, r.IsConditional = ipc.Dispatch, actionType, d.IsConditional
	a := journal.Action{Now: d.Now.UnixMilli(), Entropy: d.Entropy, Conditional: d.IsConditional,
		IfSequence: d.IfSequence}
	r.Body = journal.AppendAction(slices.Grow(r.Body[:0], len(encoded)+len(actionType)+48), &a, actionType, encoded)
	if d.Key != "" {
		if !d.ForgetsUnchanged {
			r.Flags |= ipc.FlagJournaled
		}
		sum := engine.NewSum(engine.SumOfAction)
		engine.AddActionToSum(sum, r.Body)
		r.Keyed = engine.NewKey(d.Key, sum)
	}
	c.setBounds(ctx, e)
	if d.WantsDigest {
		c.waitForDigest()
	}
	return nil
}

// setBounds gives a request its time, its owner, and the room that it takes in the queue.
func (c *Call) setBounds(ctx context.Context, e *Driver) {
	c.request.Owner = c
	c.room.Size = int64(len(c.request.Body)) + requestSize
	if e.timeout > 0 {
		c.request.Allowed, c.request.Limit = e.timeout, "Timeout"
	}
	if ctx.Done() != nil {
		c.request.Context = ctx
	}
}

func badInput(format string, args ...any) error { return fault.ErrBadInput.With(format, args...) }

func typeTooLong(actionType string) error {
	return badInput("an action's type of %d bytes is longer than %d", len(actionType), maxType)
}

func tooLarge(what string, size, limit int) error {
	return fault.ErrPayloadTooLarge.With("%s: a payload of %d bytes is above %d (MaxPayload)", what, size, limit)
}
