package driver

import (
	"context"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/measure"
	"hypertoken/wasm"
)

// How a host that is measured learns the names of the core's actions.

// learning asks for the core's list of actions, again and again until it is known.
type learning struct {
	mu       sync.Mutex    // guards what follows
	attempt  chan struct{} // closed with the attempt under way; nil if there is none
	attempts int
	next     time.Time // no attempt before
}

const (
	firstLearning = time.Second
	mostLearning  = time.Minute
)

// learn has the list of actions asked for, unless it is known, or was asked for a moment ago in
// vain. It returns a channel that is closed when the attempt under way has ended, nil if there is
// none.
func (l *learning) learn(h *Engines, m *measure.Recorder) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attempt != nil || m.KnowsActions() || h.life.Err() != nil || time.Now().Before(l.next) {
		return l.attempt
	}
	ended := make(chan struct{})
	l.attempt = ended
	h.spawn(func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(h.life, h.config.StartTimeout)
		defer cancel()
		names, err := actionNames(ctx, h)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.attempt = nil
		if err != nil {
			wait := min(firstLearning<<min(l.attempts, 10), mostLearning)
			l.next = time.Now().Add(wait)
			l.attempts++
			if h.life.Err() == nil {
				h.log.Warn("actions are not told apart in measurements yet: the core can't be asked for them",
					"error", err, "next_try", wait)
			}
			return
		}
		m.Learn(names)
	})
	return ended
}

// Measure returns what is measured. The first call begins with that, and waits for the list of
// actions as long as a start may take; each later one has it asked for again if it is not known.
func (h *Engines) Measure() *measure.Recorder {
	m := h.measure.Load()
	first := m == nil
	if first {
		m = measure.New()
		if !h.measure.CompareAndSwap(nil, m) {
			m = h.measure.Load()
		}
	}
	if attempt := h.learning.learn(h, m); first && attempt != nil {
		<-attempt
	}
	return m
}

// actionNames asks the core for the names of its actions.
func actionNames(ctx context.Context, h *Engines) (names []string, err error) {
	encoded, err := h.Actions(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := wasm.Scan(encoded); err != nil {
		return nil, err
	}
	var list []struct {
		Name string `msgpack:"name"`
	}
	if err := msgpack.Unmarshal(encoded, &list); err != nil {
		return nil, err
	}
	for _, a := range list {
		names = append(names, a.Name)
	}
	return names, nil
}
