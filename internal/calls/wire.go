package calls

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/payload"
)

// How calls and answers are sent.

// Prepare encodes the payloads of a call, within limits.
func (c *Call) Prepare(limits payload.Limits) (err error) {
	if c.Value != nil {
		if c.Payload, err = encode(c.Type, c.Value, limits); err != nil {
			return err
		}
		c.Value = nil
	}
	for k := range c.Members {
		m := &c.Members[k]
		if m.Value != nil {
			m.Payload, err = encode(m.Type, m.Value, limits)
			m.Value, m.Failure = nil, FailureOf(err)
		}
	}
	return nil
}

// Encode returns prepared calls as they are sent: with a key, if they may have one of their own,
// and with what is left of their time.
func Encode(list []*Call) ([]byte, error) {
	for _, c := range list {
		if c.OwnKey != "" && !c.Choice.HasKey {
			c.Choice.HasKey, c.Choice.Key, c.Choice.ForgetsUnchanged = true, c.OwnKey, c.Method == Dispatch
		}
		if c.Context == nil {
			continue
		}
		if deadline, ok := c.Context.Deadline(); ok {
			c.Within = max(1, time.Until(deadline))
		}
		if c.Context.Done() != nil && c.ID == "" {
			c.ID = rand.Text()
		}
	}
	return msgpack.Marshal(list)
}

func encode(what string, value any, limits payload.Limits) ([]byte, error) {
	if raw, isRaw := value.(msgpack.RawMessage); isRaw {
		return raw, nil
	}
	return new(payload.Buffer).Encode(what, value, limits)
}

// Decode returns calls that another node has sent.
func Decode(body []byte) (list []*Call, err error) {
	if err := msgpack.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("calls: %w", err)
	}
	if slices.Contains(list, nil) {
		return nil, errors.New("calls: one of them is nil")
	}
	return list, nil
}

// EncodeAnswers returns answers as they are sent.
func EncodeAnswers(list []*Answer) ([]byte, error) {
	for _, a := range list {
		a.Failure = FailureOf(a.Err)
		for k := range a.Outcomes {
			a.Outcomes[k].Failure = FailureOf(a.Outcomes[k].Err)
		}
	}
	return msgpack.Marshal(list)
}

// DecodeAnswers returns answers to so many calls.
func DecodeAnswers(body []byte, calls int) (list []*Answer, err error) {
	if err := msgpack.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("calls: the answer: %w", err)
	}
	if len(list) != calls || slices.Contains(list, nil) {
		return nil, fmt.Errorf("calls: %d answers to %d calls", len(list), calls)
	}
	for _, a := range list {
		a.Err = a.Failure.Err()
		for k := range a.Outcomes {
			a.Outcomes[k].Err = a.Outcomes[k].Failure.Err()
		}
	}
	return list, nil
}
