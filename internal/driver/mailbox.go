package driver

import (
	"sync"
	"sync/atomic"
)

// mailbox is for what happens while the lock may be held by the same goroutine, such as a store
// that answers at once. What is posted is taken in before the engine's lock is released.
type mailbox struct {
	driver *Driver
	mu     sync.Mutex // guards what follows; a leaf
	// appends are the ends of appends: there is one for nearly every action. events are all others.
	appends []callEnd
	events  []func()
	isFull  atomic.Bool
	read    []callEnd // memory for appends; the engine's lock guards it
}

// callEnd is how a call of the store ended.
type callEnd struct {
	call uint64
	err  error
}

// post hands over an event without taking the lock, which may be held by the caller. It calls an
// event method of the machine, later, with the lock held.
func (m *mailbox) post(event func()) {
	m.mu.Lock()
	m.events = append(m.events, event)
	m.isFull.Store(true)
	m.mu.Unlock()
	if m.driver.mu.TryLock() {
		m.driver.unlockAndDeliver(false)
	}
}

// postAppendEnd hands over the end of an append, without taking the lock and without an allocation.
func (m *mailbox) postAppendEnd(call uint64, err error) {
	m.mu.Lock()
	m.appends = append(m.appends, callEnd{call, err})
	m.isFull.Store(true)
	m.mu.Unlock()
	if m.driver.mu.TryLock() {
		m.driver.unlockAndDeliver(false)
	}
}

// handleAll has the machine take in what was posted. The engine's lock is held.
func (m *mailbox) handleAll() {
	e := m.driver
	for m.isFull.Load() {
		m.mu.Lock()
		appends, events := m.appends, m.events
		m.appends, m.events, m.read = m.read[:0], nil, nil
		m.isFull.Store(false)
		m.mu.Unlock()
		for _, end := range appends {
			if end.call == e.appendCall {
				e.m.Appended(e.now(), end.err)
				e.performLocked()
			}
		}
		for _, event := range events {
			event()
			e.performLocked()
		}
		clear(appends)
		m.read = appends[:0]
	}
}
