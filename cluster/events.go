package cluster

import (
	"context"
	"sync"

	"hypertoken/host"
	"hypertoken/internal/driver"
	"hypertoken/internal/events"
)

// listeners are those who listen to an engine in this program. Each asks the node that has the
// engine for its events.
type listeners struct {
	mu      sync.Mutex // guards what follows
	list    map[*events.Listeners[driver.Event]]context.CancelFunc
	isEnded bool
}

// Listen implements seam.Engine. It returns once the node that has the engine hands events on, or
// if the engine is closed or not there.
func (e *engine) Listen(event string) *events.Listener[driver.Event] {
	of := new(events.Listeners[driver.Event])
	l := of.Listen(event)
	ctx, cancel := context.WithCancel(context.Background())
	if !e.listeners.add(of, cancel) {
		cancel()
		of.End()
		return l
	}
	begun := make(chan struct{})
	var once sync.Once
	begin := func() { once.Do(func() { close(begun) }) }
	go func() {
		select {
		case <-l.Stopped():
			e.listeners.remove(of)
		case <-ctx.Done():
		}
	}()
	go func() {
		defer begin()
		_ = e.host.server.Listen(ctx, e.name, event, begin, func(ev driver.Event) { of.Emit(ev.Name, ev) })
		if ctx.Err() == nil { // the engine was deleted, or the host ends
			e.listeners.endOne(of, e.name)
		}
	}()
	<-begun
	return l
}

// add takes a listener in. It reports false if the engine is closed.
func (s *listeners) add(of *events.Listeners[driver.Event], cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isEnded {
		return false
	}
	if s.list == nil {
		s.list = map[*events.Listeners[driver.Event]]context.CancelFunc{}
	}
	s.list[of] = cancel
	return true
}

// remove has a listener listen no more.
func (s *listeners) remove(of *events.Listeners[driver.Event]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.list[of]; cancel != nil {
		cancel()
		delete(s.list, of)
	}
}

// endOne gives a listener its last event.
func (s *listeners) endOne(of *events.Listeners[driver.Event], engine string) {
	s.remove(of)
	of.Emit(host.EventShutdown, driver.Event{Name: host.EventShutdown, Engine: engine})
	of.End()
}

// end gives all listeners their last event.
func (s *listeners) end(engine string) {
	s.mu.Lock()
	s.isEnded = true
	list := s.list
	s.list = nil
	s.mu.Unlock()
	for of, cancel := range list {
		cancel()
		of.Emit(host.EventShutdown, driver.Event{Name: host.EventShutdown, Engine: engine})
		of.End()
	}
}
