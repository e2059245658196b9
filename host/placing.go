package host

import (
	"hypertoken/ipc"
)

// How an engine's journal gets to its place: opened, fed, replayed, ready, in pieces that fit into frames.

// cursor is how far a placing has come.
type cursor struct {
	stage   ipc.Kind // what is sent next
	at, end int      // end is where a piece of the replay ends, once that is known
	// unanswered counts pieces.
	unanswered int
	pieces     fifo[uint64] // their IDs
}

// piece appends the next frame's body of a placing to b. It does not move the cursor.
func (m *engineMachine) piece(b []byte) (ipc.Kind, []byte) {
	s, at := m.loaded, m.cursor.at
	switch m.cursor.stage {
	case ipc.Open:
		l := m.limits.limits
		o := ipc.OpenBody{Snapshot: s.Snapshot, MaxStateBytes: l.MaxStateBytes, MaxResult: l.MaxResult, MaxDepth: l.MaxDepth, Sequence: s.Sequence}
		return ipc.Open, o.Append(b)
	case ipc.Feed:
		piece := s.Data[at:min(at+ipc.ChunkSize, len(s.Data))]
		return ipc.Feed, append(ipc.AppendBytes(b, len(piece)), piece...)
	case ipc.Replay:
		end := m.replayEnd()
		return ipc.Replay, append(b, s.Entries[at:end]...)
	}
	return ipc.Ready, b
}

// replaySize is how many bytes of entries go into a frame, but for a single one that is larger: several frames fit into the pipe's
// window, so that a worker replays one while the next arrives.
const replaySize = ipc.ChunkSize / 4

// replayEnd returns where the entries end that go into the next frame: one at least.
func (m *engineMachine) replayEnd() int {
	if m.cursor.end <= m.cursor.at {
		m.cursor.end = m.findReplayEnd()
	}
	return m.cursor.end
}

func (m *engineMachine) findReplayEnd() int {
	rest, at := m.loaded.Entries[m.cursor.at:], m.cursor.at
	for len(rest) > 0 {
		_, after, err := ipc.ReadEntry(rest)
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
func (m *engineMachine) pieceSent(id uint64) {
	c := &m.cursor
	c.unanswered++
	c.pieces.push(id)
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
	m.pump()
}

func (m *engineMachine) pieceAnswered(ev engineEvent) {
	c := &m.cursor
	if ev.kind != evAnswer || c.pieces.len() == 0 || c.pieces.all()[0] != ev.id {
		m.violation("an answer to request %d while the engine is placed", ev.id)
		return
	}
	c.pieces.pop()
	c.unanswered--
	if ev.flags&(ipc.FlagFailed|ipc.FlagLost) != 0 {
		f, err := ipc.ReadFailure(ev.body)
		if err != nil {
			m.violation("%v", err)
			return
		}
		m.placingFailed(failureError(&f))
		return
	}
	o, err := ipc.ReadOutcome(ev.body)
	if err != nil {
		m.violation("%v", err)
		return
	}
	m.place.ran(o.RunTime)
	if c.stage == 0 && c.unanswered == 0 {
		if o.Sequence != m.sequence {
			m.violation("the engine is placed with the sequence %d, its journal ends with %d", o.Sequence, m.sequence)
			return
		}
		m.reached = m.sequence
		m.effect(engineEffect{kind: effPlaced, place: m.place, id: m.loaded.Count})
		m.state, m.placeBy, m.attempts, m.placeDeath, m.loaded = engineLive, 0, 0, nil, nil
		m.pump()
	}
}

// placingFailed counts a placing that its own engine made fail.
func (m *engineMachine) placingFailed(err error) {
	m.leave()
	if m.attempts++; m.attempts >= m.limits.maxAttempts {
		m.broken(err)
		return
	}
	m.need()
}
