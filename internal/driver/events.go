package driver

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/engine"
	"hypertoken/internal/events"
	"hypertoken/internal/fault"
	"hypertoken/wasm"
)

// The events of an engine: its listeners, and the events that an action raises.

// Listen listens to the events of a name, or to all if it is empty. The caller calls Stop.
func (e *Driver) Listen(name string) *events.Listener[Event] { return e.listeners.Listen(name) }

// emit hands an event to the listeners of the engine, and counts the events that are dropped for
// it.
func (e *Driver) emit(ev Event) {
	if !e.listeners.HasAny() {
		return
	}
	ev.Engine = e.name
	if dropped := e.listeners.Emit(ev.Name, ev); dropped > 0 {
		e.engines.counts.DroppedEvents.Add(uint64(dropped))
	}
}

// raiseLocked counts an action that has ended, and raises its events. The engine's lock is held, so
// they are in order.
func (e *Driver) raiseLocked(r *engine.Request, name string, result Result, err error) {
	e.engines.counts.Action(e.meter.shard, err)
	if code := fault.CodeOf(err); err != nil && (code == "trap" || code == "out_of_memory") {
		e.engines.log.Warn("an engine lost its instance", "engine", e.name, "action", name, "error", err)
	}
	if !e.listeners.HasAny() {
		return
	}
	if err != nil {
		e.emit(Event{Name: eventError, Action: name, Err: err})
		return
	}
	raiseCoreEventsLocked(e, r, name, result)
	e.emit(Event{Name: eventAction, Action: name, Result: result})
	if result.Changed {
		e.emit(Event{Name: eventStateUpdated, Action: name, Result: result})
	}
}

// raiseCoreEventsLocked hands on what the core raised: MessagePack arrays of a name and a payload,
// one after the other.
func raiseCoreEventsLocked(e *Driver, r *engine.Request, name string, result Result) {
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
			e.engines.log.Warn("an action raised events that can't be read", "engine", e.name, "action", name,
				"error", err)
			return
		}
		e.emit(Event{Name: event, Action: name, Result: result, Payload: pair[1]})
		raised = raised[size:]
	}
}
