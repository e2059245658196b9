// Package placement decides which worker gets which engine. [Decide] is a function over a snapshot
// of the pool of workers: it has no state, no lock, no clock, and does no I/O. Its caller carries
// the decision out.
package placement

import "time"

// Worker is a worker that runs requests, as it was when the snapshot was taken.
type Worker struct {
	// Number is that of the worker's process. It is never 0, and never used twice in a host.
	Number int
	// Pending is how many requests it has not answered, Engines how many engines are placed there.
	Pending, Engines int
	// IsLaden says that it runs a long action, or has half of the memory that it may have.
	IsLaden bool
}

// Pool is a snapshot of the pool of workers.
type Pool struct {
	// Workers run requests and take engines.
	Workers []Worker
	// Reserved is the worker that is reserved for a suspect, which is none of Workers. Its Number
	// is 0 if there is none.
	Reserved Worker
	// IsAble says that a worker runs requests, or will within moments.
	IsAble bool
}

// Rules are the options of the host that a decision goes by.
type Rules struct {
	// InProcess says that there are no workers: engines run in this process, suspects too.
	InProcess bool
	// NoFallback says that no engine runs in this process for want of a worker.
	NoFallback bool
	// Cores is how many workers run at the same time.
	Cores int
	// SuspectWait is how long a suspect waits if no worker can run.
	SuspectWait time.Duration
}

// Ask is an engine that wants a place.
type Ask struct {
	// IsAlone says that nothing else may run there: the engine has a suspect.
	IsAlone bool
	// Reserved is the number of the worker that is reserved for it, 0 if none is.
	Reserved int
	// NoneSince is since when no worker can run the suspect; 0 if one can, or that is not known
	// yet.
	NoneSince time.Duration
}

// Verdict is what is decided for an engine that wants a place.
type Verdict uint8

const (
	// Wait: nothing can be done for it now.
	Wait Verdict = iota
	// OnWorker: it gets a place on Decision.Worker, beside others.
	OnWorker
	// Alone: it gets a place on Decision.Worker, which is reserved for it.
	Alone
	// Reserve: Decision.Worker is to be reserved for it, instead of the one that was. Then decide
	// again on a new snapshot: what was sent up to the reservation has to be answered first.
	Reserve
	// InProcess: it gets a place in this process, as soon as there is one.
	InProcess
	// NoWorker: it has to wait until a worker can run, and may be told why none can.
	NoWorker
	// Probe: its suspect needs a worker, and none can run. One that was given up is to be tried.
	// Then decide again, with the time as NoneSince.
	Probe
	// Forsake: its suspect has waited for a worker for long enough, and fails.
	Forsake
)

// String returns the name of the verdict.
func (v Verdict) String() string {
	return [...]string{"wait", "on worker", "alone", "reserve", "in process", "no worker", "probe", "forsake"}[v]
}

// Decision is a verdict.
type Decision struct {
	Verdict Verdict
	// Worker is the number of the worker that the verdict names, 0 if it names none.
	Worker int
}

// Decide decides about one engine. now is the time on the clock of NoneSince.
func Decide(p *Pool, r *Rules, a Ask, now time.Duration) Decision {
	if a.IsAlone && !r.InProcess {
		return forSuspect(p, r, a, now)
	}
	if w := leastLoaded(mayTake(p.Workers, r.Cores)); w != nil {
		return Decision{OnWorker, w.Number}
	}
	switch {
	case p.IsAble:
		return Decision{Verdict: Wait}
	case r.NoFallback:
		return Decision{Verdict: NoWorker}
	}
	return Decision{Verdict: InProcess}
}

// mayTake returns the workers that take engines: no more than there are cores, since processes
// that take turns on a core lose more than they gain. Those that have engines come first. One that
// is laden leaves its place to the next. If all are laden, all may take engines.
func mayTake(workers []Worker, cores int) []*Worker {
	var list []*Worker
	for _, hasEngines := range []bool{true, false} {
		for k := range workers {
			if w := &workers[k]; !w.IsLaden && w.Engines > 0 == hasEngines && len(list) < cores {
				list = append(list, w)
			}
		}
	}
	if len(list) == 0 {
		return each(workers)
	}
	return list
}

func each(workers []Worker) []*Worker {
	var list []*Worker
	for k := range workers {
		list = append(list, &workers[k])
	}
	return list
}

// leastLoaded returns the worker with the fewest unanswered requests, of those the one with the
// fewest engines, of those the first; nil if the list is empty.
func leastLoaded(list []*Worker) *Worker {
	var best *Worker
	for _, w := range list {
		if best == nil || w.Pending < best.Pending || (w.Pending == best.Pending && w.Engines < best.Engines) {
			best = w
		}
	}
	return best
}

// forSuspect finds a worker on which nothing else runs, for one suspect at a time. If all are
// busy, one is reserved, and given to the suspect once it has answered everything.
func forSuspect(p *Pool, r *Rules, a Ask, now time.Duration) Decision {
	reserved := p.Reserved.Number
	owns := reserved != 0 && a.Reserved == reserved // if it does not, what was reserved for it has died
	if reserved != 0 && !owns {
		return Decision{Verdict: Wait}
	}
	if !owns || p.Reserved.Pending > 0 {
		if best := leastLoaded(each(p.Workers)); best != nil && (!owns || best.Pending == 0) {
			return Decision{Reserve, best.Number}
		}
	}
	switch {
	case owns && p.Reserved.Pending == 0:
		return Decision{Alone, reserved}
	case owns || p.IsAble:
		return Decision{Verdict: Wait}
	case a.NoneSince == 0:
		return Decision{Verdict: Probe}
	case now-a.NoneSince >= r.SuspectWait:
		return Decision{Verdict: Forsake}
	}
	return Decision{Verdict: Wait}
}
