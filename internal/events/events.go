// Package events hands events to listeners. Each listener has a queue of its own, which is bounded:
// a listener that is too slow loses the oldest events, and nobody waits for it.
package events

import (
	"sync"
	"sync/atomic"

	"hypertoken/internal/fifo"
)

// Buffer is how many events wait for a listener. When one more comes, the oldest is dropped.
const Buffer = 1024

// Listeners are those who listen to one source of events, such as an engine. If there is none, an
// event costs one load. The zero value is ready to use.
type Listeners[E any] struct {
	count   atomic.Int32
	mu      sync.Mutex // guards what follows. A listener's lock may be taken behind it
	list    []*Listener[E]
	isEnded bool
}

// Listener waits for the events of one name.
type Listener[E any] struct {
	of      *Listeners[E]
	name    string // "" for all events
	wake    chan struct{}
	stop    sync.Once
	stopped chan struct{}

	mu      sync.Mutex // guards what follows
	waiting fifo.Queue[E]
	isEnded bool
}

// HasAny reports whether anybody listens.
func (s *Listeners[E]) HasAny() bool { return s.count.Load() > 0 }

// Listen adds a listener for the events of a name, or for all events if the name is empty. The
// caller calls Stop once it listens no more.
func (s *Listeners[E]) Listen(name string) *Listener[E] {
	l := &Listener[E]{of: s, name: name, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.isEnded = s.isEnded; !l.isEnded {
		s.list = append(s.list, l)
		s.count.Add(1)
	}
	return l
}

// Emit hands an event to the listeners that want events of its name. It returns how many older
// events were dropped for it.
func (s *Listeners[E]) Emit(name string, event E) (dropped int) {
	if !s.HasAny() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.list {
		if l.name == "" || l.name == name {
			dropped += l.put(event)
		}
	}
	return dropped
}

// End lets each listener have the events that wait for it, and no more.
func (s *Listeners[E]) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isEnded = true
	for _, l := range s.list {
		l.end()
	}
	s.list = nil
	s.count.Store(0)
}

func (s *Listeners[E]) remove(l *Listener[E]) {
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

func (l *Listener[E]) put(event E) (dropped int) {
	l.mu.Lock()
	if l.waiting.Len() == Buffer {
		l.waiting.Pop()
		dropped = 1
	}
	l.waiting.Push(event)
	l.mu.Unlock()
	l.notify()
	return dropped
}

func (l *Listener[E]) end() {
	l.mu.Lock()
	l.isEnded = true
	l.mu.Unlock()
	l.notify()
}

// notify wakes the goroutine that calls Next, or lets its next call look again.
func (l *Listener[E]) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next event, and returns it. ok is false after Stop, and after End once no
// event is left. One goroutine at a time may call it.
func (l *Listener[E]) Next() (event E, ok bool) {
	for {
		event, ok, ended := l.pop()
		if ok || ended {
			return event, ok
		}
		select {
		case <-l.wake:
		case <-l.stopped:
			return event, false
		}
	}
}

// pop takes the oldest event out. isEnded says that there will be none any more.
func (l *Listener[E]) pop() (event E, ok, isEnded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting.Len() > 0 {
		return l.waiting.Pop(), true, false
	}
	return event, false, l.isEnded
}

// Stop ends the listening. It may be called any number of times.
func (l *Listener[E]) Stop() {
	l.stop.Do(func() {
		l.of.remove(l)
		close(l.stopped)
	})
}

// Stopped returns a channel that is closed by Stop.
func (l *Listener[E]) Stopped() <-chan struct{} { return l.stopped }
