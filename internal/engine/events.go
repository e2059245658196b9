package engine

import (
	"time"

	"hypertoken/internal/fault"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// The events of a machine. Each takes the time, on the host's clock; a time before that of an
// earlier event counts as that one. The caller holds the engine's lock and calls Perform
// afterwards.

func (m *Machine) begin(now time.Duration) { m.now = max(m.now, now) }

// Dispatch takes a new request in. The machine owns it until it is resolved.
func (m *Machine) Dispatch(now time.Duration, r *Request) {
	m.begin(now)
	switch {
	case m.lostTo != nil:
		m.resolve(r, fault.Moved(r.What, m.lostTo))
	case m.state == Closed || m.isClosing:
		m.resolve(r, fault.Shutdown())
	case m.state == Broken:
		m.resolve(r, m.cause)
	case m.isHeld():
		m.resolve(r, m.heldError(r.What))
	default:
		m.queued.Push(r)
		m.askForPlace()
	}
	m.end()
}

// Withdraw ends a request with err, unless its outcome is with the store already.
func (m *Machine) Withdraw(now time.Duration, r *Request, err error) {
	m.begin(now)
	m.withdraw(r, err)
	m.end()
}

// WithdrawEach calls ended for each request that is not with the store, and withdraws those for
// which it returns an error.
func (m *Machine) WithdrawEach(now time.Duration, ended func(*Request) error) {
	m.begin(now)
	m.withdrawEach(ended)
	m.end()
}

// EachOverdue calls f, once for each, with the requests of which the store has not said for
// StoreTimeout, after their time was up, whether it has them. The callers need not wait any longer.
// The machine goes on with the requests, and resolves them once the store has said.
func (m *Machine) EachOverdue(now time.Duration, f func(*Request)) {
	m.begin(now)
	m.eachOverdue(f)
}

// Tick lets time pass: it ends what is past its deadline.
func (m *Machine) Tick(now time.Duration) {
	m.begin(now)
	m.tick()
	m.end()
}

// Grant gives the engine a place, as AskPlace asked for. alone says that nothing else runs there.
// If the engine does not wait any more, the place is abandoned at once.
func (m *Machine) Grant(now time.Duration, p Place, alone bool) {
	m.begin(now)
	m.granted(p, alone)
	m.end()
}

// Room says that there is room again where a send found none.
func (m *Machine) Room(now time.Duration) {
	m.begin(now)
	m.isFull = false
	m.end()
}

// Answer is an answer as it came from a place. The machine copies what it keeps of Body.
type Answer struct {
	Place Place
	// ID is that of the request, as Send returned it.
	ID    uint64
	Flags ipc.Flags
	Body  []byte
	// Seen is when it was read, on the clock of measurements; 0 if nothing is measured.
	Seen time.Duration
}

// Answer takes in the answer to a request or to a piece of a placing. An answer from a place that
// the engine has left does not count. It returns for how long the place says that it ran, 0 if the
// answer does not count or can't be read.
func (m *Machine) Answer(now time.Duration, a Answer) (ran time.Duration) {
	m.begin(now)
	if m.isPlaced() && m.place == a.Place {
		if m.state == Placing {
			ran = m.pieceAnswered(a)
		} else if r := m.nextSent(a.ID); r != nil {
			ran = m.answer(r, a)
		}
	}
	m.end()
	return ran
}

// Chunk takes in a piece of a stream: of a state or a snapshot. The machine copies body.
func (m *Machine) Chunk(now time.Duration, p Place, id uint64, body []byte) {
	m.begin(now)
	if m.isPlaced() && m.place == p {
		if m.state == Placing {
			m.violation("a chunk for request %d while the engine is placed", id)
		} else if r := m.nextSent(id); r != nil {
			m.chunk(r, body)
		}
	}
	m.end()
}

// Dropped says that a place has dropped a request which had not begun, as Recall asked for.
func (m *Machine) Dropped(now time.Duration, p Place, id uint64) {
	m.begin(now)
	if m.isPlaced() && m.place == p {
		if m.state == Placing {
			m.violation("request %d is dropped while the engine is placed", id)
		} else if !m.dropped(id) {
			m.violation("request %d is dropped, which was not recalled", id)
		}
	}
	m.end()
}

// PlaceLost says that a place is gone. d is the death of its worker if the worker died by itself,
// which makes suspects of the requests that were sent there; it is nil if the host ended the
// worker, or gave the place up.
func (m *Machine) PlaceLost(now time.Duration, p Place, d *Death) {
	m.begin(now)
	if m.isPlaced() && m.place == p {
		m.lost(d)
	}
	m.end()
}

// Loaded is the store's answer to Load. isForeign says that another host has owned the journal meanwhile.
func (m *Machine) Loaded(now time.Duration, s *journal.Stored, isForeign bool, err error) {
	m.begin(now)
	if m.state == Loading {
		m.storeBy = 0
		m.checkLoaded(s, isForeign, err)
	}
	m.end()
}

// Appended is the store's answer to Append.
func (m *Machine) Appended(now time.Duration, err error) {
	m.begin(now)
	m.appended(err)
	m.end()
}

// Installed is the store's answer to Install.
func (m *Machine) Installed(now time.Duration, err error) {
	m.begin(now)
	m.snapshotInstalled(err)
	m.end()
}

// Superseded says that the store has refused a call because another owner has the journal.
func (m *Machine) Superseded(now time.Duration, err error) {
	m.begin(now)
	m.supersede(err)
	m.end()
}

// Opened tells a machine that is out what the store has of its journal. The first placing uses it
// if it comes soon, and loads nothing.
func (m *Machine) Opened(s *journal.Stored) {
	m.opened, m.openedUntil = s, 0
	m.sequence = s.Sequence + s.Count
	m.baseBytes, m.recordBytes, m.keyBytes, m.keyNumber = len(s.Data), len(s.Entries), keysWeight(s.Recent),
		s.NewestKeyNumber()
}

// Created tells a machine what its engine begins with, which is not stored yet. Until Kept is told
// that it is, every placing uses s.
func (m *Machine) Created(s *journal.Stored) {
	m.Opened(s)
	m.isDetached = true
}

// ReadsPast tells a machine that is out which part of a journal it reads. Every placing uses s,
// and the machine never asks anything of the store. Only questions may be dispatched.
func (m *Machine) ReadsPast(s *journal.Stored) {
	m.Opened(s)
	m.isDetached = true
}

// Kept tells a machine that the store has what its engine began with.
func (m *Machine) Kept() { m.isDetached, m.opened = false, nil }

// Move gives the place up at once, for a better one, if anything waits there.
func (m *Machine) Move(now time.Duration) {
	m.begin(now)
	if m.isPlaced() && !m.isAlone && !m.isIdle() {
		m.leave()
		m.askForPlace()
	}
	m.end()
}

// MoveWhenIdle gives the place up as soon as nothing runs there. An engine that is being placed
// first answers something.
func (m *Machine) MoveWhenIdle(now time.Duration) {
	m.begin(now)
	switch {
	case !m.isPlaced() || m.isAlone:
	case m.state == Placing || m.sent.Len() > 0:
		m.isMoving = true
	default:
		m.leave()
		m.askForPlace()
	}
	m.end()
}

// TakeOut frees the instance of an engine that has nothing to do, after a snapshot if its journal has grown.
func (m *Machine) TakeOut(now time.Duration) {
	m.begin(now)
	m.takeOut()
	m.end()
}

// KeysShed says that keys were forgotten which the store's base still has: a snapshot without them is due.
func (m *Machine) KeysShed(now time.Duration) {
	m.begin(now)
	m.areKeysShed = true
	m.snapshotIfDue()
	m.end()
}

// ChargeKill says that a worker was killed for what the engine ran there past its deadline.
func (m *Machine) ChargeKill(now time.Duration) {
	m.begin(now)
	if m.state != Closed {
		m.chargeKill()
	}
	m.end()
}

// NoWorker says that no worker can run, and why, and that the engine has to wait for one.
func (m *Machine) NoWorker(now time.Duration, why error) {
	m.begin(now)
	if m.state == Waiting {
		m.unable = why
	}
	m.end()
}

// Forsake says that no worker can run the suspects. They fail; the rest of the engine may be placed anywhere.
func (m *Machine) Forsake(now time.Duration) {
	m.begin(now)
	m.forsake()
	m.end()
}

// Reopen makes a broken engine try again to be placed.
func (m *Machine) Reopen(now time.Duration) {
	m.begin(now)
	if m.state == Broken {
		m.state, m.attempts, m.placeDeath, m.cause = Out, 0, nil, nil
		m.askForPlace()
	}
	m.end()
}

// Close ends the engine once everything that it has is answered and a snapshot was tried.
func (m *Machine) Close(now time.Duration) {
	m.begin(now)
	m.isClosing = true
	m.end()
}

// Stop ends the engine at once. Its requests fail with err; what is with the store has an outcome that nobody knows.
func (m *Machine) Stop(now time.Duration, err error) {
	m.begin(now)
	m.stop(err)
	m.end()
}
