package ipc

import (
	"time"
)

// Source is where bytes come from: a pipe, or what stands before it. One goroutine at a time may read.
type Source interface {
	// Read waits for bytes.
	Read(b []byte) (int, error)
	// TryRead reads what is there without waiting: 0 bytes where there is none, [io.EOF] where none will come.
	TryRead(b []byte) (int, error)
}

// Spinner reads from a source whose bytes mostly come at once. It polls as long as that pays: once bytes came late it parks
// without polling, until some came so soon again that polling would have caught them. So a side that has nothing to do
// polls once, and where there are more busy processes than cores nobody does.
type Spinner struct {
	// For bounds the polling; 0 is none.
	For time.Duration
	// missed is how often in a row bytes came too late.
	missed int
	// shared says that another thread ran here when it was let: it may be the other side, so it is let first.
	shared bool
}

// patience is how often bytes may come too late before polling stops.
const patience = 2

// Pays reports whether polling does.
func (s *Spinner) Pays() bool { return s.For > 0 && s.missed < patience }

// Try polls for bytes. It returns 0 bytes where none came in time.
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
	// alone is how often a side polls before it lets others run on its core.
	alone = 8
	// switched is from when on a thread that let others run was not the only one.
	switched = time.Microsecond
)

// Wait waits for bytes without polling.
func (s *Spinner) Wait(from Source, b []byte) (int, error) {
	began := time.Now()
	n, err := from.Read(b)
	if time.Since(began) < s.For {
		s.missed = 0
	}
	return n, err
}

// Read polls for bytes, and then waits for them.
func (s *Spinner) Read(from Source, b []byte) (int, error) {
	if s.Pays() {
		if n, err := s.Try(from, b); n > 0 || err != nil {
			return n, err
		}
	}
	return s.Wait(from, b)
}
