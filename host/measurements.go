package host

import (
	"time"

	"hypertoken/internal/histogram"
)

// Histogram is how many durations there were of which length: as both kinds of Prometheus
// histogram, see package metrics.
type Histogram = histogram.Snapshot

// Measurements are what a host has measured since the first call of [Host.Measure].
type Measurements struct {
	// Stats has what a host counts anyway, since it was started.
	Stats
	// Dispatched counts actions that callers asked for, members of batches included; ActionsInFlight
	// those of them that have no outcome yet.
	Dispatched      uint64
	ActionsInFlight int64
	// ByAction has the actions of which there was one, in the order of the core's list; those that it
	// does not have are "other".
	ByAction []ActionMeasurements
	// Queue is from dispatch until a request is in its worker's pipe; Wire is from there to its answer,
	// without what it ran for. A batch is one request.
	Queue, Wire Histogram
	// Queued is how many requests wait in this process: for room in its queue, for their engine, or for
	// room in the pipe.
	Queued int64
	// MaxQueue and MaxQueueBytes are the options.
	MaxQueue, MaxQueueBytes int64
	// Batches counts batches, those that were gathered in a window included.
	Batches    []BatchCount
	BatchSizes BatchSizes
	// Recovery is from the end of a worker until an engine that had something to do there was placed again.
	Recovery Histogram
	// Replayed counts actions that were replayed to place engines.
	Replayed uint64
	// FallenBack is how many engines run in this process for want of a worker, MovedBack counts those
	// that have left it since.
	FallenBack int
	MovedBack  uint64
	// Records and RecordBytes count what was appended to journals, Snapshots and SnapshotBytes what replaced them.
	Records, RecordBytes     uint64
	Snapshots, SnapshotBytes uint64
	// FramesSent and so on count what went to workers, and came from them.
	FramesSent, BytesSent, FramesReceived, BytesReceived uint64
	// MeasuredWorkers has more about each of Workers.
	MeasuredWorkers []WorkerMeasurements
}

// ActionMeasurements are those of an action.
type ActionMeasurements struct {
	Action string
	// Outcomes counts them as [OutcomeOf] says.
	Outcomes map[string]uint64
	// Duration is from dispatch to outcome. Run is what the core took, for those that were not in a batch.
	Duration, Run Histogram
	// Exemplars are the last traces of actions, one at most for each classic bucket of Duration.
	Exemplars []Exemplar
}

// Exemplar is a trace in which an action took that long.
type Exemplar struct {
	TraceID, SpanID string
	Value           time.Duration
	At              time.Time
}

// BatchCount counts batches of a mode, "atomic" or "independent", and an outcome.
type BatchCount struct {
	Mode, Outcome string
	Count         uint64
}

// BatchSizes counts batches by their size.
type BatchSizes struct {
	// AtMost counts those of 1, those of at most 2, 4 and so on to 4,096, and all.
	AtMost [14]uint64
	// Members are all actions of them.
	Members uint64
}

// WorkerMeasurements are those of a worker, over all its processes but for Started.
type WorkerMeasurements struct {
	WorkerStats
	// Started is when its process was, zero where there is none.
	Started time.Time
	// Restarts counts its processes that ended, but for the host's end.
	Restarts uint64
	// Busy is for how long it ran what it has answered.
	Busy time.Duration
	// Answered counts requests, those of placings and snapshots included, and pings not. LastAnswer
	// is when the host read something from it last, which may be the answer to a ping.
	Answered   uint64
	LastAnswer time.Time
	// Answers is from the pipe to the answer, of actions and batches.
	Answers Histogram
}

// RecentError is an error that a caller was told.
type RecentError struct {
	At             time.Time
	Engine, Action string
	Code           string
	// Message is cut after 512 bytes, as Action is.
	Message string
}

// Measure returns what the host has measured. The first call begins with that, and waits for the
// core's list of actions, no longer than StartTimeout; if that comes later, actions are measured as
// "other" until then. It may be called at any time, also after Shutdown.
func (h *Host) Measure() Measurements {
	m := h.engines.Measure()
	c := &Measurements{Stats: h.Stats()}
	c.MaxQueue, c.MaxQueueBytes = h.engines.Queue().Bounds()
	t := m.Totals()
	c.Dispatched, c.ActionsInFlight, c.Queue, c.Wire = t.Dispatched, t.InFlight, t.Queue, t.Wire
	for _, a := range t.Actions {
		of := ActionMeasurements{Action: a.Name, Outcomes: a.Outcomes, Duration: a.Duration, Run: a.Run}
		for _, x := range a.Exemplars {
			of.Exemplars = append(of.Exemplars, Exemplar(x))
		}
		c.ByAction = append(c.ByAction, of)
	}
	for _, b := range t.Batches {
		c.Batches = append(c.Batches, BatchCount{BatchMode(b.Mode).String(), b.Outcome, b.Count})
	}
	c.BatchSizes = BatchSizes(t.Sizes)
	m.Recovery.AddTo(&c.Recovery)
	c.Replayed, c.MovedBack = m.Replayed.Load(), m.MovedBack.Load()
	c.Records, c.RecordBytes = m.Records.Load(), m.RecordBytes.Load()
	c.Snapshots, c.SnapshotBytes = m.Snapshots.Load(), m.SnapshotBytes.Load()
	c.addWorkers(h)
	return *c
}

// addWorkers fills in what is measured of workers.
func (c *Measurements) addWorkers(h *Host) {
	workers, total := h.engines.Pool().Measure()
	pending := 0
	for k := range workers {
		w := &workers[k]
		m := WorkerMeasurements{WorkerStats: statsOf(w.Status), Restarts: w.Restarts, Busy: w.Busy,
			Answered: w.Answered, Answers: w.Answers}
		if m.PID != 0 {
			m.Started = h.engines.Started().Add(w.StartedAt)
		}
		if w.HeardAt > 0 {
			m.LastAnswer = h.engines.Started().Add(w.HeardAt)
		}
		c.MeasuredWorkers = append(c.MeasuredWorkers, m)
		pending += m.Pending
	}
	if !h.options.InProcess {
		c.FallenBack = h.engines.Residents()
	}
	c.FramesSent, c.BytesSent = total.FramesSent, total.BytesSent
	c.FramesReceived, c.BytesReceived = total.FramesReceived, total.BytesReceived
	inFlight, _ := h.engines.Queue().InFlight()
	c.Queued = h.engines.Queue().Waiting() + max(0, inFlight-int64(pending))
}

// RecentErrors returns the last 32 errors that callers were told since the first call of [Host.Measure], newest first.
func (h *Host) RecentErrors() []RecentError {
	m := h.engines.Recorder()
	if m == nil {
		return nil
	}
	var list []RecentError
	for _, r := range m.RecentErrors() {
		list = append(list, RecentError(r))
	}
	return list
}
