// Package engine is the state machine of one engine. It decides what waits, what is sent, what is stored and what is
// answered, and what happens when a worker dies, a deadline passes or the store fails.
//
// A [Machine] has no lock, no goroutine, no clock, and does no I/O. Its owner holds one lock, calls
// one event method ([Machine.Dispatch], [Machine.Answer], ...), and then [Machine.Perform], which
// hands the effects of the step to an implementation of [Effects]. A step never begins inside
// another one, and an effect is never carried out inside a step.
//
// The life of a request: queued, sent, answered, and, if it changed anything, in the group that is with the store. A
// request that ran for nothing goes back to the front of the queue, with the same clock and entropy. See request.go for
// who owns a request when.
package engine

import (
	"context"
	"time"

	"hypertoken/internal/fault"
	"hypertoken/internal/fifo"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// State is where an engine is. ARCHITECTURE.md has the table of the transitions.
type State uint8

const (
	// Out: the engine has no instance. Its journal is all there is.
	Out State = iota
	// Loading: the store was asked for the journal.
	Loading
	// Waiting: a place was asked for.
	Waiting
	// Placing: the journal is on its way to the place.
	Placing
	// Live: requests run.
	Live
	// Broken: placing failed MaxAttempts times. Only Reopen leads out.
	Broken
	// Closed: the engine has ended for good.
	Closed
)

// String returns the state's name in lower case.
func (s State) String() string {
	return [...]string{"out", "loading", "waiting", "placing", "live", "broken", "closed"}[s]
}

// Place says where an engine is, or is about to be. The zero Place is nowhere.
type Place struct {
	// Worker is the number of the worker process; 0 is this process.
	Worker int
	// Placement is the ID of the placement there. It is never used twice in a host; 0 is no place.
	Placement uint64
}

// IsLocal reports whether the place is in this process.
func (p Place) IsLocal() bool { return p.Worker == 0 }

// Config has the options of the host that a machine goes by.
type Config struct {
	Limits wasm.Limits
	// OpenTimeout bounds a placing, KillGrace is how long a worker may owe an answer that is withdrawn,
	// StoreTimeout is how long the store may take for a call.
	OpenTimeout, KillGrace, StoreTimeout time.Duration
	// MaxAttempts is how often a placing may fail, and how many workers may die of a request that runs alone.
	MaxAttempts int
	// A snapshot is due once the records since the base take more than SnapshotBytes (and more than the
	// base), or ran for longer than ReplayBudget, or once the keys since the base take more than
	// KeyBytes.
	SnapshotBytes int
	ReplayBudget  time.Duration
	KeyBytes      int64
	// MaxKills is how many workers may be killed for the engine before it is held back for HoldFor.
	MaxKills int
	HoldFor  time.Duration
	// HasBarrier says that answers which changed nothing wait for a barrier of the store.
	HasBarrier bool
}

// Machine owns an engine. Only its event methods change it, and only View says how it is. See the package's comment for
// how it is driven.
type Machine struct {
	config  *Config
	state   State
	place   Place
	effects []effect

	// A request goes from queued to sent, to answered, and, if it changed anything, to group, which is with the store.
	queued, sent, answered fifo.Queue[*Request]
	group                  []*Request
	records                []journal.Record

	// sequence is that of the last record that the store has. appending is how many records are with it. reached is the
	// sequence of the instance, as far as it has answered.
	sequence, appending, reached uint64
	// bounds are the engine's own limits: another host may have opened it with others.
	bounds wasm.Limits
	// loaded is what the store had when it was last asked. cursor is how far the placing has come in it.
	loaded *journal.Stored
	cursor cursor
	// opened is what the store had when the engine was opened: the first placing needs no load. It is
	// given up at openedUntil.
	opened      *journal.Stored
	openedUntil time.Duration
	// rewinding is the rewind for whose base was asked; it is still queued, or has been withdrawn.
	rewinding *Request
	// isDetached says that every placing uses opened, and that nothing is asked of the store: it
	// does not have the engine yet, or the engine only reads the past.
	isDetached bool
	// recordBytes, baseBytes and runTime say what a replay would cost.
	recordBytes, baseBytes int
	runTime                time.Duration
	// keyBytes is what the store has of keys since its base. areKeysShed says that the base has keys
	// that are forgotten.
	keyBytes    int64
	areKeysShed bool
	// keyNumber is the number of the newest key that is stored, or with the store.
	keyNumber uint64

	isFull      bool // the pipe has no room
	isAlone     bool // nothing else runs at the place
	isMoving    bool // the engine leaves as soon as nothing runs
	hasAnswered bool // something was answered at the place
	isClosing   bool
	triedToSave bool // the snapshot before the end was tried
	// isTakingOut says that the engine is taken out once its snapshot is stored.
	isTakingOut bool
	snapshot    *Request      // the snapshot that is on its way
	install     *Request      // the snapshot that is with the store
	installBy   time.Duration // when the store is overdue with it
	snapshotAt  time.Duration // no snapshot before that
	// placeDeath makes the placing a suspect. attempts counts the placings that failed.
	placeDeath *Death
	attempts   int
	placeBy    time.Duration // when the placing is overdue
	now        time.Duration
	cause      error // why the engine is broken
	// lostTo is what the store said when it said that another owner has the journal; nil if it did not.
	lostTo    error
	hold      hold
	unable    error         // why no worker can run; nil unless the engine waits for one
	storeBy   time.Duration // when the store is overdue
	isInDoubt bool          // an append failed: the store must say whether it has the group
	// isVerifying says that the group has no records, and waits for a barrier.
	isVerifying bool
	retry       retry
}

// New returns a machine for an engine that is out.
func New(c *Config) Machine { return Machine{config: c} }

// View is how a machine is at one moment.
type View struct {
	State State
	Place Place
	// Sequence is that of the last record that the store has.
	Sequence uint64
	// IsIdle says that nothing is on its way. IsResting says that no time has to pass for the engine.
	IsIdle, IsResting bool
	// HasWork says that requests are queued or sent.
	HasWork bool
	// IsClosing says that nothing more is taken in. IsTakingOut says that the engine is on its way out.
	IsClosing, IsTakingOut bool
}

// View returns how the machine is. Nothing of it changes when the machine does.
func (m *Machine) View() View {
	idle := m.isIdle()
	isUnopened := m.opened == nil || m.isDetached
	return View{State: m.state, Place: m.place, Sequence: m.sequence, IsIdle: idle,
		IsResting: idle && m.state != Loading && m.state != Placing && m.snapshot == nil && isUnopened,
		HasWork:   m.sent.Len() > 0 || m.queued.Len() > 0, IsClosing: m.isClosing, IsTakingOut: m.isTakingOut}
}

// isPlaced reports whether the engine has a place.
func (m *Machine) isPlaced() bool { return m.state == Placing || m.state == Live }

// resolve ends a request.
func (m *Machine) resolve(r *Request, err error) {
	if r == m.snapshot {
		m.snapshot = nil
	}
	r.Err = err
	m.emitResolve(r, err)
}

// failAll ends every request that is not with the store.
func (m *Machine) failAll(err error) {
	for _, q := range m.pending() {
		for q.Len() > 0 {
			if r := q.Pop(); !r.isWithdrawn {
				m.resolve(r, err)
			}
		}
	}
}

// pending returns the queues of the requests that are not with the store, those that came furthest first.
func (m *Machine) pending() [3]*fifo.Queue[*Request] {
	return [3]*fifo.Queue[*Request]{&m.answered, &m.sent, &m.queued}
}

// tick ends what is past its deadline.
func (m *Machine) tick() {
	m.endHold()
	m.forgetOpened()
	m.tickStore()
	if m.install != nil && m.now >= m.installBy {
		m.snapshotInstalled(fault.ErrTimeout.With(
			"the store did not say within %v (StoreTimeout) that the snapshot is stored", m.config.StoreTimeout))
	}
	if m.placeBy > 0 && m.now >= m.placeBy {
		err := fault.ErrTimeout.Because(context.DeadlineExceeded, "placing: not done after %v (OpenTimeout)",
			m.config.OpenTimeout)
		if m.cursor.pieces.Len() > 0 {
			m.emitOverdue(m.place, m.cursor.pieces.All()[0])
		}
		m.placingFailed(err)
	}
	m.withdrawEach(func(r *Request) error {
		if r.Deadline > 0 && m.now >= r.Deadline {
			return r.Late()
		}
		return nil
	})
	if m.sent.Len() > 0 {
		if r := m.sent.All()[0]; r.isWithdrawn && m.now >= r.killAt {
			r.killAt = m.now + m.config.KillGrace
			m.emitOverdue(m.place, r.id)
		}
	}
}
