package pool

import (
	"hypertoken/internal/fast"
	"hypertoken/internal/fifo"
	"hypertoken/ipc"
)

// Flow control: who may send to a worker, and who waits for room in its pipe. A worker that is
// reserved for a suspect takes requests from nobody else.

// sender is an engine at its placement: it waits for an answer, or for room. No two placements of
// a host have the same ID.
type sender struct {
	tenant    Tenant
	placement uint64
}

// flow is what a worker knows of those that send to it. The worker's lock guards all but worker.
type flow struct {
	worker *Worker
	// reserved is the placement beside which nobody else may send, or 0. isAlone says that its
	// engine has got the place.
	reserved uint64
	isAlone  bool
	// blocked are those that found no room, in their order.
	blocked fifo.Queue[sender]
	// turn is the placement of one that was blocked and may send now, 0 if there is none. hasSent
	// says that it has sent something since, isFull that it found no room again.
	turn            uint64
	hasSent, isFull bool
	// isServing says that a goroutine goes through blocked, mustServeAgain that it has to once
	// more.
	isServing, mustServeAgain bool
}

// AddTenant lets an engine be placed here. It returns false if the worker has ended.
func (w *Worker) AddTenant(t Tenant, placement uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isDead {
		return false
	}
	w.tenants[placement] = t
	return true
}

// RemoveTenant takes a placement off, and ends its reservation. Unblock has to be called
// afterwards, without an engine's lock.
func (w *Worker) RemoveTenant(placement uint64) {
	w.mu.Lock()
	delete(w.tenants, placement)
	w.mu.Unlock()
	w.EndReservation(placement)
}

// Reserve lets nobody send here but a placement, which nobody has yet. What was sent before is
// still answered.
func (w *Worker) Reserve(placement uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flow.reserved, w.flow.isAlone = placement, false
}

// GrantAlone says that an engine gets the placement that the worker is reserved for.
func (w *Worker) GrantAlone(placement uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flow.reserved == placement {
		w.flow.isAlone = true
	}
}

// EndReservation lets others send again beside a placement. Unblock has to be called afterwards,
// without an engine's lock.
func (w *Worker) EndReservation(placement uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flow.reserved == placement {
		w.flow.reserved, w.flow.isAlone = 0, false
	}
}

// Send puts a request into the pipe, and returns the ID under which the answer will come. Write
// sends it. If there is no room, or it is the turn of another engine, it returns false, and
// HandleRoom says when to try again.
func (w *Worker) Send(t Tenant, kind ipc.Kind, flags ipc.Flags, placement uint64, body []byte) (id uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isDead {
		return 0, false // HandleLoss is on its way
	}
	me, f := sender{t, placement}, &w.flow
	hasTurn := f.turn == placement
	may := hasTurn || f.blocked.Len() == 0
	if f.reserved != 0 {
		may = f.reserved == placement
	}
	if may {
		if id, ok = w.conn.Send(me, kind, flags, placement, body); ok {
			f.hasSent = f.hasSent || hasTurn
			return id, true
		}
	}
	// A request that does not fit is not overtaken. One that has sent its share lets the others
	// send.
	if hasTurn && !f.hasSent {
		f.isFull = may
		f.blocked.PushFront([]sender{me})
	} else {
		f.blocked.Push(me)
	}
	return 0, false
}

// Write writes what is ready for the process. Requests may wait for more to come as long as the
// process has other ones to run; whoever reads an answer writes them then.
func (w *Worker) Write() {
	if w.pool.config.Off.Has(fast.Gather) {
		w.conn.Flush()
	} else {
		w.conn.Push()
	}
}

// Flush writes all that is ready for the process.
func (w *Worker) Flush() { w.conn.Flush() }

// Unblock lets those send that wait for room, in their order. No engine's lock is held.
func (w *Worker) Unblock() {
	f := &w.flow
	w.mu.Lock()
	if f.isServing {
		f.mustServeAgain = true
		w.mu.Unlock()
		return
	}
	f.isServing = true
	for rounds := f.blocked.Len(); ; rounds-- {
		if f.mustServeAgain {
			f.mustServeAgain, rounds = false, f.blocked.Len()
		}
		k := f.nextLocked()
		// An engine that was blocked meanwhile has its turn when the next answer comes, if one
		// will.
		if k < 0 || (rounds <= 0 && w.conn.Pending() > 0) {
			break
		}
		next := f.blocked.All()[k]
		f.blocked.Remove(k)
		f.turn, f.hasSent, f.isFull = next.placement, false, false
		w.mu.Unlock()
		next.tenant.HandleRoom(w.number, next.placement)
		w.mu.Lock()
		f.turn = 0
		if f.isFull && !f.mustServeAgain {
			break // something is under way, whose answer goes on here
		}
	}
	f.isServing = false
	w.mu.Unlock()
	w.conn.Flush()
}

// nextLocked returns which of those that are blocked may send, or -1. The worker's lock is held.
func (f *flow) nextLocked() int {
	if f.worker.isDead || !f.worker.conn.Room() {
		return -1
	}
	for k, b := range f.blocked.All() {
		if f.reserved == 0 || f.reserved == b.placement {
			return k
		}
	}
	return -1
}

// offerIfDone lets a suspect have the worker that is reserved for it, once the worker has answered
// everything.
func (f *flow) offerIfDone() {
	w := f.worker
	w.mu.Lock()
	isWaitedFor := f.reserved != 0 && !f.isAlone
	w.mu.Unlock()
	if isWaitedFor && w.conn.Pending() == 0 {
		w.pool.owner.HandleFreePlaces()
	}
}
