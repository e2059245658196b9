package disk

import (
	"fmt"

	"hypertoken/journal"
)

// After a write or a sync that failed, nobody knows what the disk has, and memory may show what it
// does not have. So the store fails for good: every call does, loads too. The program opens the
// directory again, best in a new process. What the disk has shows then.

// fail makes the store fail for good. Any goroutine may call it, with whatever lock of pebble's
// held: it waits for nothing.
func (s *Store) fail(cause error) {
	err := fmt.Errorf("%w: %w", journal.ErrFailed, cause)
	s.answered.Add(1)
	isFirst := s.failure.CompareAndSwap(nil, &err)
	// Only now: once the gate is shut, pebble is told that syncs succeed. The syncing goroutine
	// has to see the failure then.
	s.gate.shut()
	if !isFirst {
		s.answered.Done()
		return
	}
	close(s.failed)
	go func() {
		defer s.answered.Done()
		s.o.Logger.Error("the journals' store has failed and takes nothing any more; open it again",
			"dir", s.dir, "err", cause)
		s.failCalls(err)
	}()
}

// failCalls ends all calls that are under way. The goroutines that would end them may wait for
// pebble, which may wait for ever.
func (s *Store) failCalls(err error) {
	s.mu.Lock()
	ops := s.queue
	s.queue = nil
	for _, f := range s.flights {
		// While a batch is being made, groups are read. The committing goroutine ends these calls
		// itself.
		if f.stage == stageSyncing && !f.isReported {
			f.isReported = true
			for k := range f.ops {
				ops = append(ops, f.ops[k].callOnly())
			}
		}
	}
	for h := range s.placeholders {
		ops = append(ops, h.waiting...)
		h.waiting = nil
	}
	large := s.large
	s.large = nil
	s.arrived.Signal()
	s.mu.Unlock()
	for k := range ops {
		ops[k].report(err)
	}
	for _, o := range large {
		o.report(err)
	}
}

// Failed returns a channel that is closed when the store has failed for good.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why the store has failed for good, an error that wraps [journal.ErrFailed]. It
// returns nil if it has not.
func (s *Store) Err() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Health implements [journal.HealthChecker].
func (s *Store) Health() error {
	if err := s.Err(); err != nil {
		return err
	}
	return s.space.err()
}

func panicked(r any) error {
	if err, ok := r.(error); ok {
		return fmt.Errorf("pebble has panicked: %w", err)
	}
	return fmt.Errorf("pebble has panicked: %v", r)
}
