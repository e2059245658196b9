package driver

import (
	"github.com/vmihailenco/msgpack/v5"
)

// What a driver answers. Package host gives these to applications under types of its own, which
// have the same names and say more.

// Raw is a value that is MessagePack already.
type Raw = msgpack.RawMessage

// Result is the result of an action, or of a question about an engine.
type Result struct {
	// Sequence is that of the state after the action.
	Sequence uint64
	// Changed says whether the action changed the state.
	Changed bool
	// HasDigest says whether Digest is there: that of the state right after the action.
	HasDigest bool
	Digest    uint64
	// Raw is the result, one MessagePack value.
	Raw Raw
}

// Outcome is what became of a member of a batch.
type Outcome struct {
	Result Result
	Err    error
}

// BatchResult is what became of a batch. Its digest and its sequence are those of Result.
type BatchResult struct {
	Result
	// Outcomes has one for each member, in their order; nil if the batch failed as a whole.
	Outcomes []Outcome
}

// Mode says what the failure of one member of a batch means for the others.
type Mode int

const (
	// Atomic is all or nothing.
	Atomic Mode = iota
	// Independent runs each member.
	Independent
)

// String returns "atomic" or "independent".
func (m Mode) String() string {
	if m == Atomic {
		return "atomic"
	}
	return "independent"
}

// Place says where an engine is.
type Place uint8

// The places of an engine: none; on the way to an instance; a worker; this process.
const (
	Out Place = iota
	Placing
	OnWorker
	InProcess
)

// Event is something that happened to an engine.
type Event struct {
	// Name is one of the constants below, or that of an event that the core raised.
	Name   string
	Engine string
	// Action is the type of the action that the event is about, or "".
	Action string
	Result Result
	// Payload is that of an event that the core raised.
	Payload Raw
	// Err is why, in an engine:error.
	Err error
}

// The events that a driver raises itself.
const (
	eventStateUpdated = "state:updated"
	eventAction       = "engine:action"
	eventError        = "engine:error"
	eventShutdown     = "engine:shutdown"
)
