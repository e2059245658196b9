package host

import (
	"hypertoken/internal/fault"
	"hypertoken/internal/pool"
)

// OutcomeOf returns the outcome by which an action is counted that ended with err: "ok" for nil;
// the code of an error of the host; for an [*ActionError] its code if that is one of the built-in
// actions' or "trap" or "out_of_memory", and "core" if it is the core's own, whatever it is; and
// "other" for anything else. So there are about 30 outcomes, whatever a core answers. [Stats],
// [Measurements] and package metrics count by it, each action once.
func OutcomeOf(err error) string { return fault.OutcomeOf(err) }

// Stats is what a host has counted since it was started, and how it is now.
type Stats struct {
	// Actions counts actions by their outcome, as [OutcomeOf] says.
	Actions map[string]uint64
	// InFlight is how many requests are dispatched and unanswered, InFlightBytes what they take.
	InFlight, InFlightBytes int64
	// Restarts counts the ends of worker processes by reason. It has every reason.
	Restarts map[RestartReason]uint64
	// Recovered counts the requests that were in flight when their worker ended, and went
	// elsewhere.
	Recovered uint64
	// Placed counts placings of engines that ended well.
	Placed uint64
	// Fallbacks counts engines that were placed in this process for want of a worker.
	Fallbacks uint64
	// DroppedEvents counts events that a listener was too slow for.
	DroppedEvents uint64
	// KeyBytes is what remembered keys and results of open engines take, KeysForgotten counts
	// those that were forgotten for their size (KeyBytes and MaxKeyBytes of [Options]).
	KeyBytes      int64
	KeysForgotten uint64
	// Held is how many engines are held back now, Holds counts how often one was (MaxKills of
	// [Options]).
	Held  int
	Holds uint64
	// Takeovers counts the times that a spare replaced a worker.
	Takeovers uint64
	// Workers are the workers, in the order of their IDs; Spares are the spares, which have IDs of
	// their own.
	Workers, Spares []WorkerStats
	// Engines counts the open engines by place, with a number for every place.
	Engines map[Place]int
}

// WorkerStats is how a worker, or a spare, is.
type WorkerStats struct {
	// ID is that of the worker, from 0; Process counts the processes over all workers and spares.
	// A spare that replaces a worker keeps its process, and takes over its ID.
	ID, Process int
	State       WorkerState
	// PID is that of its process, 0 where there is none.
	PID int
	// Engines are placed there, Pending requests unanswered, without a ping.
	Engines, Pending int
	// Resident is its memory, in bytes, as of about a second ago; 0 where it is not known.
	Resident uint64
}

// Stats returns what the host has counted. It may be called at any time, also after Shutdown.
func (h *Host) Stats() Stats {
	e := h.engines
	c, workers := e.Counts(), e.Pool().Counts()
	s := Stats{Actions: c.Actions(), Restarts: map[RestartReason]uint64{}, Engines: map[Place]int{},
		KeyBytes: e.KeyBytes(), KeysForgotten: c.KeysForgotten.Load(), Holds: c.Holds.Load(),
		Recovered: workers.InFlight, Takeovers: workers.Takeovers, Placed: c.Placed.Load(),
		Fallbacks: c.Fallbacks.Load(), DroppedEvents: c.DroppedEvents.Load()}
	s.InFlight, s.InFlightBytes = e.Queue().InFlight()
	for reason, n := range workers.Ends {
		s.Restarts[RestartReason(reason)] = n
	}
	s.Workers, s.Spares = workerStats(e.Pool())
	engines, held := e.ByPlace()
	for place, n := range engines {
		s.Engines[Place(place)] = n
	}
	s.Held = held
	return s
}

// workerStats returns how the workers and the spares are.
func workerStats(p *pool.Pool) (workers, spares []WorkerStats) {
	w, s := p.Status()
	for _, st := range w {
		workers = append(workers, statsOf(st))
	}
	for _, st := range s {
		spares = append(spares, statsOf(st))
	}
	return workers, spares
}

func statsOf(s pool.Status) WorkerStats {
	return WorkerStats{ID: s.ID, Process: s.Process, State: WorkerState(s.State), PID: s.PID, Engines: s.Engines,
		Pending: s.Pending, Resident: s.Resident}
}
