package pool

import (
	"slices"
	"sync/atomic"
	"time"

	"hypertoken/internal/histogram"
)

// What a pool counts and measures.

// counts are what a pool counts.
type counts struct {
	ends                [Shutdown + 1]atomic.Uint64
	inFlight, takeovers atomic.Uint64
}

// Counts is what a pool has counted since it was started.
type Counts struct {
	// Ends counts the ends of processes by reason.
	Ends map[Reason]uint64
	// InFlight counts the requests that were unanswered when their worker ended.
	InFlight uint64
	// Takeovers counts the times that a spare replaced a worker.
	Takeovers uint64
}

// Counts returns what the pool has counted.
func (p *Pool) Counts() Counts {
	c := Counts{Ends: map[Reason]uint64{}, InFlight: p.counts.inFlight.Load(), Takeovers: p.counts.takeovers.Load()}
	for r := range p.counts.ends {
		c.Ends[Reason(r)] = p.counts.ends[r].Load()
	}
	return c
}

// Status is how a worker, or a spare, is.
type Status struct {
	// ID is that of the slot, Process the number of the process, 0 if there has been none.
	ID, Process int
	State       State
	// PID is that of its process, 0 if there is none.
	PID int
	// Engines are placed there, Pending requests unanswered, without a ping. Resident is its memory in bytes, 0 if
	// it is not known.
	Engines, Pending int
	Resident         uint64
}

// Status returns how the workers and the spares are, in the order of their IDs.
func (p *Pool) Status() (workers, spares []Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.workers {
		workers = append(workers, s.statusLocked())
	}
	for _, s := range p.spares {
		spares = append(spares, s.statusLocked())
	}
	return workers, spares
}

// statusLocked returns how the slot is. The pool's lock is held.
func (s *slot) statusLocked() Status {
	w := s.worker
	st := Status{ID: s.id, State: s.supervisor.state}
	if w == nil {
		return st
	}
	st.Process = w.number
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link != nil && !w.isDead {
		st.PID, st.Engines, st.Pending, st.Resident = w.link.PID(), len(w.tenants), w.conn.Requests(), w.watch.resident
	}
	return st
}

// Traffic is what processes have had to do with: frames and bytes, with the headers of frames, the
// requests that they have answered, without pings, and for how long they ran those.
type Traffic struct {
	FramesSent, BytesSent, FramesReceived, BytesReceived uint64
	Answered                                             uint64
	Busy                                                 time.Duration
}

func (t *Traffic) add(o Traffic) {
	t.FramesSent += o.FramesSent
	t.BytesSent += o.BytesSent
	t.FramesReceived += o.FramesReceived
	t.BytesReceived += o.BytesReceived
	t.Answered += o.Answered
	t.Busy += o.Busy
}

// traffic returns that of the process.
func (w *Worker) traffic() (t Traffic) {
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	if conn != nil {
		t.FramesSent, t.BytesSent, t.Answered = conn.Traffic()
	}
	t.FramesReceived, t.BytesReceived = w.framesReceived.Load(), w.bytesReceived.Load()
	t.Busy = time.Duration(w.busy.Load())
	return t
}

// foldLocked adds to the slot what its process has had, which has ended. The pool's lock is held.
func (s *slot) foldLocked(w *Worker) {
	s.past.add(w.traffic())
	var answers histogram.Snapshot
	w.answers.AddTo(&answers)
	s.answers.Add(&answers)
	w.isFolded = true
}

// Measurement is what is measured of a worker or a spare, over all its processes but for
// StartedAt.
type Measurement struct {
	Status
	Traffic
	// StartedAt is when its process was started, if it has one, and HeardAt when it was heard of
	// last, 0 for never: both on the clock of measurements.
	StartedAt, HeardAt time.Duration
	// Restarts counts its processes that ended, but for the end of the host.
	Restarts uint64
	// Answers is from the pipe to the answer, of actions and batches.
	Answers histogram.Snapshot
}

// Measure returns what is measured of the workers, and the traffic of all workers and spares.
func (p *Pool) Measure() (workers []Measurement, total Traffic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range slices.Concat(p.workers, p.spares) {
		m := s.measureLocked()
		total.add(m.Traffic)
		if !s.isSpare {
			workers = append(workers, m)
		}
	}
	return workers, total
}

// measureLocked returns what is measured of the slot. The pool's lock is held.
func (s *slot) measureLocked() Measurement {
	m := Measurement{Status: s.statusLocked(), Traffic: s.past, Restarts: s.restarts}
	s.answers.AddTo(&m.Answers)
	if w := s.worker; w != nil {
		if !w.isFolded {
			m.Traffic.add(w.traffic())
			w.answers.AddTo(&m.Answers)
			m.StartedAt = time.Duration(w.startedAt.Load())
		}
		s.heardAt = max(s.heardAt, time.Duration(w.seenAt.Load()))
	}
	m.HeardAt = s.heardAt
	return m
}
