package ipc

import (
	"time"
)

// Source gives the bytes that a side reads: a pipe, or a stand-in for one. One goroutine at a
// time may read.
type Source interface {
	// Read waits for bytes, and returns how many it put into b.
	Read(b []byte) (int, error)
	// TryRead reads what is there without waiting: 0 bytes if there are none yet, [io.EOF] if
	// there will be no more.
	TryRead(b []byte) (int, error)
}

// Spinner reads from a source whose bytes mostly come within microseconds. It polls the source
// before it parks, because waking a parked thread takes longer than most actions. It does so only
// while that pays: if bytes came too late twice in a row, it parks without polling, until bytes
// come so soon again that polling would have caught them. So a side that has nothing to do polls
// twice at most, and if there are more busy processes than cores, no side polls.
type Spinner struct {
	// For is how long it polls at most; 0 is not at all.
	For time.Duration
	// missed is how often in a row polling found nothing.
	missed int
	// shared is true if another thread used this core when the spinner last yielded it. That may
	// be the other side, so the spinner yields again before it polls.
	shared bool
}

// patience is how often in a row polling may find nothing before it stops.
const patience = 2

// Pays reports whether polling is worth it at present.
func (s *Spinner) Pays() bool { return s.For > 0 && s.missed < patience }

// Try polls for bytes, if that pays; otherwise it looks once. It returns 0 bytes if none came in
// time.
func (s *Spinner) Try(from Source, b []byte) (int, error) {
	if !s.Pays() {
		return from.TryRead(b)
	}
	var began time.Time
	for k := 0; ; k++ {
		if s.shared || k >= alone {
			before := time.Now()
			yield()
			after := time.Now()
			s.shared = after.Sub(before) > switched
			if began.IsZero() {
				began = before
			} else if after.Sub(began) >= s.For {
				s.missed++
				return 0, nil
			}
		}
		if n, err := from.TryRead(b); n > 0 || err != nil {
			s.missed = 0
			return n, err
		}
	}
}

const (
	// alone is how often a side polls before it yields its core to others.
	alone = 8
	// switched is how long a yield takes at least if another thread used the core meanwhile.
	switched = time.Microsecond
)

// Wait waits for bytes without polling. It notes whether polling would have caught them.
func (s *Spinner) Wait(from Source, b []byte) (int, error) {
	began := time.Now()
	n, err := from.Read(b)
	if time.Since(began) < s.For {
		s.missed = 0
	}
	return n, err
}

// Read polls for bytes if that pays, and then waits for them.
func (s *Spinner) Read(from Source, b []byte) (int, error) {
	if s.Pays() {
		if n, err := s.Try(from, b); n > 0 || err != nil {
			return n, err
		}
	}
	return s.Wait(from, b)
}
