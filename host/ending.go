package host

// How an engine gives its instance up when nobody needs it, and how it ends.

// takeOut frees the instance of an engine that has nothing to do, after a snapshot if its journal has grown.
func (m *engineMachine) takeOut() {
	if m.state == engineLive && m.idle() {
		m.taking = true
		if m.entryBytes > 0 {
			m.takeSnapshot()
		}
	}
}

// idle reports whether nothing is on its way.
func (m *engineMachine) idle() bool {
	return m.queued.len() == 0 && m.sent.len() == 0 && m.answered.len() == 0 && len(m.group) == 0 && m.install == nil
}

// settle ends what waits for the engine to be idle.
func (m *engineMachine) settle() {
	if m.queued.len() > 0 && m.queued.all()[0] != m.snapshot {
		m.taking = false
	}
	if !m.idle() || m.state == engineLoading || m.state == engineClosed {
		return
	}
	switch {
	case m.closing && m.state == engineLive && m.entryBytes > 0 && !m.saved:
		m.saved = true
		m.takeSnapshot()
	case m.closing:
		m.end()
	case m.taking && m.state == engineLive:
		m.taking = false
		m.leave()
		// A burst of actions leaves its room behind, and the engine may be out for long.
		m.queued, m.sent, m.answered, m.cursor.pieces = fifo[*request]{}, fifo[*request]{}, fifo[*request]{}, fifo[uint64]{}
		m.group, m.records = nil, nil
	}
}

func (m *engineMachine) end() {
	if m.state == engineWaiting {
		m.effect(engineEffect{kind: effUnask})
	}
	m.leave()
	m.state = engineClosed
	m.effect(engineEffect{kind: effClosed})
}

// stop ends everything now. What is with the store has an outcome that nobody knows.
func (m *engineMachine) stop(err error) {
	if m.state == engineClosed {
		return // it has ended by itself meanwhile
	}
	m.failAll(err)
	for _, r := range m.group {
		m.resolve(r, &Error{Code: ErrOutcomeUnknown.Code, Message: r.what + ": the store has not said whether it is stored"})
	}
	m.group, m.install = nil, nil
	m.end()
}
