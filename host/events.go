package host

import (
	"hypertoken/internal/driver"
	"hypertoken/internal/events"
)

// The events of an engine. A core may raise others.
const (
	// EventStateUpdated follows an action that changed the state.
	EventStateUpdated = "state:updated"
	// EventAction follows every action that was acknowledged.
	EventAction = "engine:action"
	// EventError follows an action that failed, and says why an engine fell back to this process or broke.
	EventError = "engine:error"
	// EventShutdown is an engine's last.
	EventShutdown = "engine:shutdown"
)

// Event is something that happened to an engine. Events come once each, in the order of their sequence, after the
// acknowledgment, and never again when a journal is replayed.
type Event struct {
	// Name is one of the constants, or that of an event that the core raised.
	Name   string
	Engine string
	// Action is the type of the action that it is about, or "".
	Action string
	Result Result
	// Payload is that of an event that the core raised.
	Payload Raw
	// Err is why, in an engine:error.
	Err error
}

// passOn hands the events of a listener on, and closes the channel after the last one.
func passOn(l *events.Listener[driver.Event], out chan<- Event) {
	defer close(out)
	for ev, ok := l.Next(); ok; ev, ok = l.Next() {
		select {
		case out <- Event{Name: ev.Name, Engine: ev.Engine, Action: ev.Action, Result: resultOf(ev.Result),
			Payload: ev.Payload, Err: ev.Err}:
		case <-l.Stopped():
			return
		}
	}
}
