package host

import (
	"context"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/wasm"
)

// ActionInfo describes an action of the core.
type ActionInfo struct {
	Name   string      `msgpack:"name" json:"name"`
	About  string      `msgpack:"about" json:"about"`
	Fields []FieldInfo `msgpack:"fields" json:"fields"`
	// Result is the shape of what the action returns, such as "Token[]"; core-rs/ABI.md has the
	// notation. It is "" if the core does not say.
	Result string `msgpack:"result" json:"result,omitempty"`
}

// FieldInfo describes a field of an action's payload.
type FieldInfo struct {
	// Name is the field's name. "*" stands for all other names: without it the payload may not have any.
	Name string `msgpack:"name" json:"name"`
	// Kind is what the field may be, such as "string", "count" (a whole number of at least 1) or "token".
	Kind     string `msgpack:"kind" json:"kind"`
	Required bool   `msgpack:"required" json:"required"`
	// Default is JSON; "" if there is none.
	Default string `msgpack:"default" json:"default,omitempty"`
	// Shape is the shape of the field, such as "Token"; "" if the core does not say.
	Shape string `msgpack:"shape" json:"shape,omitempty"`
}

// RecordInfo describes a record: a map with fields that have names. Shapes refer to it by its name. The record "State"
// is the state of an engine, "Setup" what one begins with.
type RecordInfo struct {
	Name   string       `msgpack:"name" json:"name"`
	About  string       `msgpack:"about" json:"about"`
	Fields []MemberInfo `msgpack:"fields" json:"fields"`
	// Rest is the shape of further fields, or "" if there are none.
	Rest string `msgpack:"rest" json:"rest,omitempty"`
}

// MemberInfo describes a field of a record.
type MemberInfo struct {
	Name     string `msgpack:"name" json:"name"`
	About    string `msgpack:"about" json:"about,omitempty"`
	Shape    string `msgpack:"shape" json:"shape"`
	Optional bool   `msgpack:"optional" json:"optional"`
}

// Actions returns the actions of the core, sorted by name. With Options.NoFallback a worker tells
// them: Actions waits for one then. It fails with [ErrShutdown], with [ErrTimeout] or [ErrCanceled]
// if ctx ends first, and with [ErrBadInput] for a core that can't be run.
func (h *Host) Actions(ctx context.Context) ([]ActionInfo, error) {
	var list []ActionInfo
	encoded, err := h.engines.Actions(ctx)
	if err == nil {
		err = decode("Actions", encoded, &list)
	}
	return list, err
}

// Records returns the records that the shapes of the core's actions name, sorted by name. There are
// none if the core was built before cores described them. It fails as Actions does, and with
// [ErrBadInput] on a host with Options.NoFallback, which runs nothing of the core itself.
func (h *Host) Records(ctx context.Context) ([]RecordInfo, error) {
	if h.options.NoFallback {
		return nil, badInput("Records: a host with Options.NoFallback runs nothing of the core; ask one without it")
	}
	var list []RecordInfo
	encoded, err := h.engines.Records(ctx)
	if err == nil {
		err = decode("Records", encoded, &list)
	}
	return list, err
}

// decode decodes what the core says of itself into what list points to. what names the caller in errors.
func decode(what string, encoded []byte, list any) error {
	_, err := wasm.Scan(encoded)
	if err == nil {
		err = msgpack.Unmarshal(encoded, list)
	}
	if err != nil {
		return fmt.Errorf("host: what the core says of itself can't be read (%s): %w", what, err)
	}
	return nil
}
