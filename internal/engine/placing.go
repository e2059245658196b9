package engine

import (
	"errors"
	"fmt"
	"time"

	"hypertoken/internal/fault"
	"hypertoken/internal/fifo"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// How an engine gets a place, and how its journal gets there: opened, fed, replayed, ready, in
// pieces that fit into frames.

// askForPlace begins the way to a place, if the engine is out and anything is queued.
func (m *Machine) askForPlace() {
	if m.state == Out && m.queued.Len() > 0 && !m.isRewindNext() && len(m.group) == 0 && m.install == nil &&
		!m.isHeld() {
		m.load(false)
	}
}

// openedFor is for how long a machine keeps what was loaded when its engine was opened.
const openedFor = 100 * time.Millisecond

// forgetOpened gives up what was loaded when the engine was opened, some time later.
func (m *Machine) forgetOpened() {
	switch {
	case m.opened == nil || m.isDetached:
	case m.openedUntil == 0:
		m.openedUntil = m.now + openedFor
	case m.now >= m.openedUntil:
		m.opened, m.openedUntil = nil, 0
	}
}

// checkLoaded takes in the store's answer to a load.
func (m *Machine) checkLoaded(s *journal.Stored, isForeign bool, err error) {
	if err == nil && s == nil {
		err = errors.New("the store does not know the engine any more")
	}
	if err == nil {
		err = s.CheckEntries()
	}
	switch {
	case err == nil:
		m.retry.loadsUntil = 0
		m.loadedJournal(s, isForeign)
	case isPassing(err) && m.now < m.retry.loadsUntil:
		m.retryLater(err)
		m.load(m.retry.asNewOwner)
	case errors.Is(err, journal.ErrNotOwner):
		m.supersede(err)
	default:
		m.breakDown(err, "the engine's journal can't be loaded")
	}
}

// isPassing reports whether a call of the store that failed with an error, and had no effect, may succeed
// later. A store that writes to see that it still is the owner needs room for a load, too.
func isPassing(err error) bool {
	return errors.Is(err, journal.ErrUnavailable) || errors.Is(err, journal.ErrFull)
}

// loadedJournal takes in what the store has.
func (m *Machine) loadedJournal(s *journal.Stored, isForeign bool) {
	m.loaded = s
	stored := s.Sequence + s.Count
	if m.isInDoubt {
		m.endDoubt(stored, s.NewestKeyNumber(), isForeign)
	}
	m.sequence = stored
	m.bounds = m.config.Limits
	if s.Snapshot {
		if l, err := wasm.SnapshotLimits(s.Data); err == nil {
			m.bounds = l
		}
	}
	m.baseBytes, m.recordBytes, m.keyBytes, m.keyNumber = len(s.Data), len(s.Entries), keysWeight(s.Recent),
		s.NewestKeyNumber()
	if m.queued.Len() == 0 || m.isRewindNext() {
		m.state = Out
		return
	}
	m.state, m.unable = Waiting, nil
	m.emitAskPlace(m.needsToBeAlone())
}

// granted takes in the place that was asked for.
func (m *Machine) granted(p Place, alone bool) {
	if m.state != Waiting {
		m.emitAbandon(p)
		return
	}
	m.state, m.place, m.isAlone, m.isFull, m.hasAnswered, m.unable = Placing, p, alone, false, false, nil
	m.cursor = cursor{stage: ipc.Open, pieces: m.cursor.pieces}
	for m.cursor.pieces.Len() > 0 {
		m.cursor.pieces.Pop()
	}
	m.placeBy = m.now + m.config.OpenTimeout
}

// cursor is how far a placing has come.
type cursor struct {
	stage   ipc.Kind // what is sent next; 0 if everything is sent
	at, end int      // end is where a piece of the replay ends, once that is known
	// pieces has the IDs of the pieces that are unanswered.
	pieces fifo.Queue[uint64]
}

// piece appends the body of the next frame of a placing to b. It does not move the cursor.
func (m *Machine) piece(b []byte) (ipc.Kind, []byte) {
	s, at := m.loaded, m.cursor.at
	switch m.cursor.stage {
	case ipc.Open:
		l := m.config.Limits
		o := ipc.OpenBody{Snapshot: s.Snapshot, MaxStateBytes: l.MaxStateBytes, MaxResult: l.MaxResult,
			MaxDepth: l.MaxDepth,
			Sequence: s.Sequence}
		return ipc.Open, o.Append(b)
	case ipc.Feed:
		piece := s.Data[at:min(at+ipc.ChunkSize, len(s.Data))]
		return ipc.Feed, append(ipc.AppendBytes(b, len(piece)), piece...)
	case ipc.Replay:
		return ipc.Replay, append(b, s.Entries[at:m.replayEnd()]...)
	}
	return ipc.Ready, b
}

// replaySize is how many bytes of records go into a frame, unless a single record is larger.
// Several frames fit into the pipe's window, so that a worker replays one while the next arrives.
const replaySize = ipc.ChunkSize / 4

// replayEnd returns where the records end that go into the next frame: one at least.
func (m *Machine) replayEnd() int {
	if m.cursor.end <= m.cursor.at {
		m.cursor.end = m.findReplayEnd()
	}
	return m.cursor.end
}

func (m *Machine) findReplayEnd() int {
	rest, at := m.loaded.Entries[m.cursor.at:], m.cursor.at
	for len(rest) > 0 {
		_, after, err := journal.ReadEntry(rest)
		if err != nil {
			return len(m.loaded.Entries) // the worker will say so
		}
		size := len(rest) - len(after)
		if at > m.cursor.at && at-m.cursor.at+size > replaySize {
			break
		}
		at += size
		rest = after
	}
	return at
}

// pieceSent moves the cursor behind the piece that was sent.
func (m *Machine) pieceSent(id uint64) {
	c := &m.cursor
	c.pieces.Push(id)
	switch c.stage {
	case ipc.Open:
		c.stage, c.at = ipc.Feed, 0
	case ipc.Feed:
		c.at = min(c.at+ipc.ChunkSize, len(m.loaded.Data))
	case ipc.Replay:
		c.at = m.replayEnd()
	case ipc.Ready:
		c.stage = 0
	}
	if c.stage == ipc.Feed && c.at == len(m.loaded.Data) {
		c.stage, c.at = ipc.Replay, 0
	}
	if c.stage == ipc.Replay && c.at == len(m.loaded.Entries) {
		c.stage = ipc.Ready
	}
}

// pieceAnswered takes in the answer to a piece, and returns for how long the place ran.
func (m *Machine) pieceAnswered(a Answer) (ran time.Duration) {
	c := &m.cursor
	if c.pieces.Len() == 0 || c.pieces.All()[0] != a.ID {
		m.violation("an answer to request %d while the engine is placed", a.ID)
		return 0
	}
	c.pieces.Pop()
	if a.Flags&(ipc.FlagFailed|ipc.FlagLost) != 0 {
		f, err := ipc.ReadFailure(a.Body)
		if err != nil {
			m.violation("%v", err)
			return 0
		}
		m.placingFailed(failureError(&f))
		return 0
	}
	o, err := ipc.ReadOutcome(a.Body)
	if err != nil {
		m.violation("%v", err)
		return 0
	}
	if c.stage == 0 && c.pieces.Len() == 0 {
		if o.Sequence != m.sequence {
			m.violation("the engine is placed with the sequence %d, its journal ends with %d", o.Sequence, m.sequence)
			return time.Duration(o.RunTime)
		}
		m.reached = m.sequence
		m.emitPlaced(m.place, m.loaded.Count)
		m.state, m.placeBy, m.attempts, m.placeDeath, m.loaded = Live, 0, 0, nil, nil
	}
	return time.Duration(o.RunTime)
}

// placingFailed counts a placing that failed because of its own engine.
func (m *Machine) placingFailed(err error) {
	m.leave()
	if m.attempts++; m.attempts >= m.config.MaxAttempts {
		m.breakDown(err, m.couldNotBePlaced())
		return
	}
	m.askForPlace()
}

func (m *Machine) couldNotBePlaced() string {
	return fmt.Sprintf("the engine could not be placed %d times (MaxAttempts)", m.config.MaxAttempts)
}

// breakDown makes the engine broken for the reason why, and fails its requests. What became of those
// that are with the store is not known.
func (m *Machine) breakDown(err error, why string) {
	m.disown(err, why)
	m.state, m.isInDoubt, m.retry.loadsUntil = Broken, false, 0
	m.cause = fault.ErrBroken.Because(err, "%s, Reopen tries again: %v", why, err)
	m.emitBroken(m.cause)
	m.failAll(m.cause)
}
