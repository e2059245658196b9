package host

import (
	"context"
	"sync"
	"time"

	"hypertoken/internal/measure"
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

// learn has the list of actions asked for, unless it is known, or was asked for a moment ago in vain.
// It returns a channel that is closed when the attempt under way has ended, nil if there is none.
func (l *learning) learn(h *Host, m *measure.Recorder) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attempt != nil || m.KnowsActions() || h.life.Err() != nil || time.Now().Before(l.next) {
		return l.attempt
	}
	ended := make(chan struct{})
	l.attempt = ended
	h.spawn(func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(h.life, h.options.StartTimeout)
		defer cancel()
		list, err := h.Actions(ctx)
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
		var names []string
		for _, a := range list {
			names = append(names, a.Name)
		}
		m.Learn(names)
	})
	return ended
}

// measuring returns the host's measure. The first call begins with that, and waits for the list of
// actions as long as a start may take; each later one has it asked for again if it is not known.
func (h *Host) measuring() *measure.Recorder {
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
