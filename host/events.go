package host

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/engine"
	"hypertoken/internal/fifo"
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

// eventBuffer is how many events wait for a listener. Then the oldest is dropped.
const eventBuffer = 1024

// listeners are those who want to know of an engine. If there is none, an event costs one load.
type listeners struct {
	host   *Host
	engine string // its name
	count  atomic.Int32
	mu     sync.Mutex // guards what follows
	list   []*listener
	ended  bool
}

type listener struct {
	event   string
	mu      sync.Mutex // guards what follows
	waiting fifo.Queue[Event]
	dropped uint64
	ended   bool
	wake    chan struct{}
}

func (e *driver) events(event string) (events <-chan Event, stop func()) {
	l := &listener{event: event, wake: make(chan struct{}, 1)}
	e.listeners.mu.Lock()
	if l.ended = e.listeners.ended; !l.ended {
		e.listeners.list = append(e.listeners.list, l)
		e.listeners.count.Add(1)
	}
	e.listeners.mu.Unlock()
	out, stopped := make(chan Event), make(chan struct{})
	go l.pass(out, stopped)
	return out, sync.OnceFunc(func() {
		e.listeners.remove(l)
		close(stopped)
	})
}

// pass hands events on.
func (l *listener) pass(out chan<- Event, stopped <-chan struct{}) {
	defer close(out)
	for {
		l.mu.Lock()
		more, ended := l.waiting.Len() > 0, l.ended
		var ev Event
		if more {
			ev = l.waiting.Pop()
		}
		l.mu.Unlock()
		switch {
		case more:
			select {
			case out <- ev:
			case <-stopped:
				return
			}
		case ended:
			return
		default:
			select {
			case <-l.wake:
			case <-stopped:
				return
			}
		}
	}
}

func (s *listeners) remove(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.list {
		if s.list[k] == l {
			s.list = append(s.list[:k:k], s.list[k+1:]...)
			s.count.Add(-1)
			return
		}
	}
}

// emit hands an event to the listeners that want it. For a listener that is too slow, the oldest event
// is dropped, and counted.
func (s *listeners) emit(ev Event) {
	if s.count.Load() == 0 {
		return
	}
	ev.Engine = s.engine
	dropped := 0
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.list {
		if l.event == "" || l.event == ev.Name {
			dropped += l.put(ev, false)
		}
	}
	s.host.counts.DroppedEvents.Add(uint64(dropped))
}

// end lets every listener have what it has, and no more.
func (s *listeners) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, l := range s.list {
		l.put(Event{}, true)
	}
	s.list = nil
	s.count.Store(0)
}

func (l *listener) put(ev Event, end bool) (dropped int) {
	l.mu.Lock()
	if end {
		l.ended = true
	} else {
		if l.waiting.Len() == eventBuffer {
			l.waiting.Pop()
			l.dropped++
			dropped = 1
		}
		l.waiting.Push(ev)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return dropped
}

// raise raises the events of an action that has ended. The engine's lock is held, so they are in order.
func (s *listeners) raise(r *engine.Request, name string, result Result, err error) {
	if code := CodeOf(err); err != nil && (code == "trap" || code == "out_of_memory") {
		s.host.log.Warn("an engine lost its instance", "engine", s.engine, "action", name, "error", err)
	}
	if s.count.Load() == 0 {
		return
	}
	if err != nil {
		s.emit(Event{Name: EventError, Action: name, Err: err})
		return
	}
	s.raiseCoreEvents(r, name, result)
	s.emit(Event{Name: EventAction, Action: name, Result: result})
	if result.Changed {
		s.emit(Event{Name: EventStateUpdated, Action: name, Result: result})
	}
}

// raiseCoreEvents hands on what the core raised: MessagePack arrays of a name and a payload, one after the other.
func (s *listeners) raiseCoreEvents(r *engine.Request, name string, result Result) {
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
			s.host.log.Warn("an action raised events that can't be read", "engine", s.engine, "action", name,
				"error", err)
			return
		}
		s.emit(Event{Name: event, Action: name, Result: result, Payload: pair[1]})
		raised = raised[size:]
	}
}
