package jsonl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"hypertoken/host"
	"hypertoken/internal/msgjson"
)

// Answers are lines without their newline.

// OK is the answer to a setup that was taken.
const OK = `{"ok":true}`

// Answer runs a request that is no setup, the n-th of the actions where it is one, and returns its line. An error says that
// what the engine returned can't be written as JSON.
func Answer(ctx context.Context, engine *host.Engine, q *Request, n int) ([]byte, error) {
	switch q.Kind {
	case State:
		state, err := engine.State(ctx)
		if err != nil {
			return Failure(err), nil
		}
		return appendValue([]byte(`{"state":`), state.Raw)
	case Digest:
		digest, err := engine.Digest(ctx)
		if err != nil {
			return Failure(err), nil
		}
		return fmt.Appendf(nil, `{"digest":"%v"}`, digest), nil
	}
	var result host.Result
	err := q.ValueError
	if err == nil {
		ctx, cancel := q.Bounded(ctx)
		result, err = engine.Dispatch(ctx, q.Action, q.Value, q.Options...)
		cancel()
	}
	return Outcome(n, result, err)
}

// Outcome is what became of the n-th action.
func Outcome(n int, result host.Result, err error) ([]byte, error) {
	if err != nil {
		return append(fmt.Appendf(nil, `{"n":%d,`, n), Failure(err)[1:]...), nil
	}
	return appendValue(fmt.Appendf(nil, `{"n":%d,"result":`, n), result.Raw)
}

// Failure is the answer to what failed.
func Failure(err error) []byte { return Error(host.CodeOf(err), Message(err)) }

// BadLine is the answer to a line that can't be used.
func BadLine(number int, err error) []byte {
	return Error(host.ErrBadInput.Code, fmt.Sprintf("line %d: %v", number, err))
}

// BadSetup is the answer to a setup that was refused.
func BadSetup(number int, err error) []byte {
	return Error(host.CodeOf(err), fmt.Sprintf("line %d: setup: %s", number, Message(err)))
}

// appendValue writes a value behind what opens an object, and closes that.
func appendValue(opened []byte, value host.Raw) ([]byte, error) {
	line, err := msgjson.Append(opened, value)
	return append(line, '}'), err
}

// Message is an error's text without its code.
func Message(err error) string {
	var a *host.ActionError
	var h *host.Error
	switch {
	case errors.As(err, &h):
		return h.Message
	case errors.As(err, &a):
		return a.Message
	}
	return err.Error()
}

// Error is an answer that has an error.
func Error(code, message string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Two strings always encode.
	_ = enc.Encode(map[string]map[string]string{"error": {"code": code, "message": message}})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
