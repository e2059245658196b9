package host

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/engine"
	"hypertoken/internal/events"
	"hypertoken/wasm"
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

func (e *driver) events(event string) (<-chan Event, func()) {
	l := e.listeners.Listen(event)
	out := make(chan Event)
	go passOn(l, out)
	return out, l.Stop
}

// passOn hands the events of a listener on, and closes the channel after the last one.
func passOn(l *events.Listener[Event], out chan<- Event) {
	defer close(out)
	for ev, ok := l.Next(); ok; ev, ok = l.Next() {
		select {
		case out <- ev:
		case <-l.Stopped():
			return
		}
	}
}

// emit hands an event to the listeners of the engine, and counts the events that are dropped for it.
func (e *driver) emit(ev Event) {
	if !e.listeners.HasAny() {
		return
	}
	ev.Engine = e.name
	if dropped := e.listeners.Emit(ev.Name, ev); dropped > 0 {
		e.host.counts.DroppedEvents.Add(uint64(dropped))
	}
}

// raise counts an action that has ended, and raises its events. The engine's lock is held, so they are in order.
func (e *driver) raise(r *engine.Request, name string, result Result, err error) {
	e.host.counts.Action(e.meter.shard, err)
	if code := CodeOf(err); err != nil && (code == "trap" || code == "out_of_memory") {
		e.host.log.Warn("an engine lost its instance", "engine", e.name, "action", name, "error", err)
	}
	if !e.listeners.HasAny() {
		return
	}
	if err != nil {
		e.emit(Event{Name: EventError, Action: name, Err: err})
		return
	}
	e.raiseCoreEvents(r, name, result)
	e.emit(Event{Name: EventAction, Action: name, Result: result})
	if result.Changed {
		e.emit(Event{Name: EventStateUpdated, Action: name, Result: result})
	}
}

// raiseCoreEvents hands on what the core raised: MessagePack arrays of a name and a payload, one after the other.
func (e *driver) raiseCoreEvents(r *engine.Request, name string, result Result) {
	raised := r.Outcome.Events
	r.Outcome.Events = nil // those of a batch come once
	for len(raised) > 0 {
		var pair []msgpack.RawMessage
		var event string
		size, err := wasm.Scan(raised)
		if err == nil {
			err = msgpack.Unmarshal(raised[:size], &pair)
		}
		if err == nil && len(pair) != 2 {
			err = fmt.Errorf("an array of %d items, want 2", len(pair))
		}
		if err == nil {
			err = msgpack.Unmarshal(pair[0], &event)
		}
		if err != nil {
			e.host.log.Warn("an action raised events that can't be read", "engine", e.name, "action", name,
				"error", err)
			return
		}
		e.emit(Event{Name: event, Action: name, Result: result, Payload: pair[1]})
		raised = raised[size:]
	}
}
