package pool

import (
	"time"
)

// Checks of the workers that run: whether what they run takes too long, whether they stand still,
// and what memory they take.

const (
	// sampleEvery is how often memory and idle engines are looked at.
	sampleEvery = time.Second
	// StallEvery is how often the CPU time of a worker is looked at that runs a long action.
	StallEvery = 100 * time.Millisecond
)

// watch is what is known of what a worker runs. The worker's lock guards it, except for worker and
// for the fields that say who owns them.
type watch struct {
	worker *Worker
	// oldest is the request that ran at the last tick, since then it has.
	oldest uint64
	since  time.Duration
	// condemned is the request that the worker is killed for, if it still runs at the next tick.
	// late is the one that is past its own deadline.
	condemned, late uint64
	// unwanted is the request that runs though its placement is left, unwantedSince is since when
	// that is known.
	unwanted      uint64
	unwantedSince time.Duration
	// cpu and heard are what the CPU time and Worker.heard were at cpuTime.
	cpu     float64
	heard   uint64
	cpuTime time.Duration
	// resident is the memory of the process in bytes, as of the last sample.
	resident uint64
	// quietHeard is what Worker.heard was at the last tick, quietSince is since when it is that. The
	// goroutine that calls Tick owns both.
	quietHeard uint64
	quietSince time.Duration
}

// Tick lets time pass. It returns whether time has to pass soon again.
func (p *Pool) Tick(now time.Duration) (isBusy bool) {
	workers, spares, isBusy := p.tickSupervisors(now)
	isSample := now-p.sampledAt >= sampleEvery
	if isSample {
		p.sampledAt = now
	}
	c := &p.config
	for _, w := range workers {
		w.reading.peek()
		oldest, ran := w.watch.checkDeadlines(now)
		isBusy = isBusy || oldest != 0
		if oldest != 0 && ran >= c.BusyAfter {
			relieve(w, oldest, workers)
		}
		if oldest != 0 && ran >= StallEvery {
			w.watch.checkCPU(now)
		}
		if isSample {
			w.watch.checkMemory()
		}
		w.watch.pingIfQuiet(now)
	}
	for _, w := range spares {
		oldest, _ := w.watch.checkDeadlines(now) // a ping
		isBusy = isBusy || oldest != 0
		w.watch.pingIfQuiet(now)
	}
	if isSample {
		for _, w := range spares {
			w.watch.checkMemory()
		}
		if c.IdleAfter >= 0 {
			takeIdleOut(workers, now-c.IdleAfter)
		}
	}
	return isBusy
}

// Condemn takes note that a request is past its deadline. It returns false if the request is not
// what the worker runs. Otherwise the worker is killed at the next tick, once what is in its pipe
// is read, if it still runs the request then.
func (w *Worker) Condemn(id uint64) bool {
	if w.conn.Oldest() != id {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch.condemned, w.watch.late = id, id
	return true
}

// checkDeadlines kills the worker if it still runs what it is condemned for, or does not answer a
// ping. It returns the request that has been unanswered longest, 0 if there is none, and for how
// long that is known.
func (c *watch) checkDeadlines(now time.Duration) (oldest uint64, ran time.Duration) {
	w := c.worker
	oldest = w.conn.Oldest()
	running, isOwed := w.conn.Owner(oldest)
	isPing := isOwed && running.tenant == nil
	w.mu.Lock()
	switch isWanted := oldest == 0 || isPing || w.tenants[running.placement] != nil; {
	case isWanted:
		c.unwanted = 0
	case c.unwanted != oldest:
		c.unwanted, c.unwantedSince = oldest, now
	case now-c.unwantedSince >= w.pool.config.KillGrace:
		// Nobody waits for it, so no deadline says that it takes too long; but others wait behind
		// it.
		c.condemned = oldest
	}
	if oldest != c.oldest {
		c.oldest, c.since, c.cpuTime = oldest, now, 0
	}
	ran = now - c.since
	mustKill := oldest != 0 && c.condemned == oldest && !w.isEnding
	isLate := c.late == oldest
	isSilent := isPing && ran >= w.pool.config.StallAfter && !w.isEnding
	w.mu.Unlock()
	switch {
	case mustKill:
		killForDeadline(w, running.tenant, isLate, ran)
	case isSilent:
		w.log.Warn("a worker does not answer a ping and is killed", "for", ran.Round(time.Millisecond))
		w.kill(Stalled)
	}
	return oldest, ran
}

// killForDeadline kills a worker for what a tenant runs there.
func killForDeadline(w *Worker, t Tenant, isLate bool, ran time.Duration) {
	name := ""
	if t != nil {
		name = t.Name()
		if isLate {
			t.HandleOverdueKill()
		}
	}
	message := "a worker owes an answer past its deadline and is killed"
	if !isLate {
		message = "a worker runs what its engine needs no more and is killed"
	}
	w.log.Warn(message, "ran", ran.Round(time.Millisecond), "engine", name)
	w.kill(Overdue)
}

// relieve moves the engines that wait behind a long action, if another worker is free.
func relieve(w *Worker, oldest uint64, workers []*Worker) {
	hasFree := false
	for _, other := range workers {
		hasFree = hasFree || (other != w && other.isFree())
	}
	if !hasFree {
		return
	}
	running, _ := w.conn.Owner(oldest)
	var behind []Tenant
	w.mu.Lock()
	for placement, t := range w.tenants {
		if placement != running.placement && placement != w.flow.reserved && !t.IsIdle() {
			behind = append(behind, t)
		}
	}
	w.mu.Unlock()
	for _, t := range byAge(behind) {
		t.Move(w.number)
	}
}

// isFree reports whether the worker has nothing to do and may be given something.
func (w *Worker) isFree() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.isDead && !w.isEnding && w.flow.reserved == 0 && w.conn.Pending() == 0
}

// isLadenLocked reports whether the worker runs a long action, or has more than half of the memory
// that it may have. The worker's lock is held.
func (c *watch) isLadenLocked(now time.Duration) bool {
	o := &c.worker.pool.config
	return c.resident > uint64(o.MaxWorkerMemory)/2 ||
		(c.oldest != 0 && now-c.since >= o.BusyAfter && c.worker.conn.Oldest() == c.oldest)
}

// checkCPU kills a worker that owes an answer while its CPU time stands still and nothing comes
// from it. One that waits for room in a pipe, because this host is slow to read a stream, does
// run.
func (c *watch) checkCPU(now time.Duration) {
	w := c.worker
	w.mu.Lock()
	isDue, isFirst, used := now-c.cpuTime >= StallEvery, c.cpuTime == 0, c.cpu
	w.mu.Unlock()
	if !isFirst && !isDue {
		return
	}
	cpu, err := w.pool.config.Seams.CPU(w.link.PID())
	if err != nil {
		return
	}
	heard := w.heard.Load()
	w.mu.Lock()
	if isFirst || cpu != used || heard != c.heard {
		c.cpu, c.heard, c.cpuTime = cpu, heard, now
		w.mu.Unlock()
		return
	}
	stood := now - c.cpuTime
	w.mu.Unlock()
	if stood >= w.pool.config.StallAfter {
		w.log.Warn("a worker owes an answer and does not run, and is killed", "for", stood.Round(time.Millisecond))
		w.kill(Stalled)
	}
}

// checkMemory replaces a worker that takes too much memory. Before that, from four fifths of what
// it may have on, its engines that have nothing to do are taken out.
func (c *watch) checkMemory() {
	w := c.worker
	resident, err := w.pool.config.Seams.Memory(w.link.PID())
	if err != nil {
		return
	}
	var idle []Tenant
	limit := uint64(w.pool.config.MaxWorkerMemory)
	w.mu.Lock()
	c.resident = resident
	if resident > limit/5*4 {
		for _, t := range w.tenants {
			if t.IsAtRest() {
				idle = append(idle, t)
			}
		}
	}
	w.mu.Unlock()
	if resident > limit {
		w.log.Warn("a worker is over its memory and is replaced", "resident", resident, "limit", limit)
		w.kill(OverMemory)
		return
	}
	takeOut(idle)
}

// takeIdleOut frees the instances of engines that nobody has dispatched anything to since a time.
// It looks at those that are placed on a worker: there may be any number of others.
func takeIdleOut(workers []*Worker, unusedSince time.Duration) {
	var idle []Tenant
	for _, w := range workers {
		w.mu.Lock()
		for _, t := range w.tenants {
			if t.IsAtRest() && t.LastUsed() <= unusedSince {
				idle = append(idle, t)
			}
		}
		w.mu.Unlock()
	}
	takeOut(idle)
}

// takeOut takes idle engines out.
func takeOut(idle []Tenant) {
	for _, t := range byAge(idle) {
		t.TakeOut()
	}
}
