package engine

import (
	"time"

	"hypertoken/internal/fault"
	"hypertoken/internal/fifo"
)

// How an engine gives its instance up when nobody needs it, and how it ends.

// isIdle reports whether nothing is on its way.
func (m *Machine) isIdle() bool {
	return m.queued.Len() == 0 && m.sent.Len() == 0 && m.answered.Len() == 0 && len(m.group) == 0 && m.install == nil
}

func (m *Machine) takeOut() {
	if m.state == Live && m.isIdle() {
		m.isTakingOut = true
		if !m.isReplayCheap() {
			m.takeSnapshot()
		}
	}
}

const (
	cheapReplayBytes = 16 << 10
	cheapReplayTime  = time.Millisecond
)

// isReplayCheap reports whether the records since the base cost so little to replay that a snapshot
// before the engine leaves is not worth writing. A machine that is detached writes none.
func (m *Machine) isReplayCheap() bool {
	return m.isDetached || m.recordBytes <= cheapReplayBytes && m.runTime <= cheapReplayTime && !m.areKeysShed
}

// end is the end of each step: it does what waits for the engine to be idle.
func (m *Machine) end() {
	if m.queued.Len() > 0 && m.queued.All()[0] != m.snapshot {
		m.isTakingOut = false
	}
	if !m.isIdle() || m.state == Loading || m.state == Closed {
		return
	}
	switch {
	case m.isClosing && m.state == Live && !m.isReplayCheap() && !m.triedToSave:
		m.triedToSave = true
		m.takeSnapshot()
	case m.isClosing:
		m.closeDown()
	case m.isTakingOut && m.state == Live:
		m.isTakingOut = false
		m.leave()
		// A burst of actions leaves its memory behind, and the engine may be out for long.
		m.queued, m.sent, m.answered = fifo.Queue[*Request]{}, fifo.Queue[*Request]{}, fifo.Queue[*Request]{}
		m.cursor.pieces = fifo.Queue[uint64]{}
		m.group, m.records = nil, nil
	}
}

func (m *Machine) closeDown() {
	if m.state == Waiting {
		m.emitTakeAskBack()
	}
	m.leave()
	m.state = Closed
	m.emitClosed()
}

func (m *Machine) stop(err error) {
	if m.state == Closed {
		return // it has ended by itself meanwhile
	}
	m.failAll(err)
	for _, r := range m.group {
		if m.isVerifying {
			m.resolve(r, err) // nothing of it is with the store
			continue
		}
		m.resolve(r, fault.ErrOutcomeUnknown.With("%s: the store has not said whether it is stored", r.What))
	}
	m.group, m.install = nil, nil
	m.closeDown()
}
