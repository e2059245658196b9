package host

import (
	"errors"
	"time"

	"hypertoken/ipc"
)

// How what was answered gets into the journal, one group after the other, and how the journal is kept short.

// settleUncertain says what has become of the group whose append failed: the store has all of it, or nothing. stored is the
// sequence of the store's last entry, keys the number of its last key, which tells of a group of notes alone. Where another
// host has owned the journal meanwhile, what is there may be that host's.
func (m *engineMachine) settleUncertain(stored, keys uint64, foreign bool) {
	m.uncertain = false
	if foreign {
		m.disown()
		return
	}
	group := m.group
	m.group = nil
	isStored := stored >= m.sequence+m.appending
	if m.appending == 0 {
		isStored = keys >= m.keyNumber
	}
	m.appending = 0
	if isStored {
		for _, r := range group {
			m.finish(r)
		}
		return
	}
	m.requeue(group)
}

// disown ends what was with the store when the journal was taken over.
func (m *engineMachine) disown() {
	for _, r := range m.group {
		m.resolve(r, &Error{Code: ErrOutcomeUnknown.Code, Err: ErrNotOwner,
			Message: r.what + ": another host has taken the journal over before the store said whether it is stored"})
	}
	m.group, m.appending = nil, 0
}

// commit hands the next group to the store, and resolves what waits for nothing.
func (m *engineMachine) commit() {
	if len(m.group) > 0 || m.uncertain {
		return
	}
	for m.answered.len() > 0 && !m.answered.all()[0].isStored() {
		m.finish(m.answered.pop())
	}
	if m.answered.len() == 0 {
		return
	}
	m.records = m.records[:0]
	for m.answered.len() > 0 {
		r := m.answered.pop()
		m.group = append(m.group, r)
		m.records = r.records(m.records)
		if r.keyed != nil && len(m.records) > 0 && m.records[len(m.records)-1].Keyed == r.keyed {
			m.keyNumber++
			r.keyed.Number = m.keyNumber
		}
	}
	m.appending = entries(m.records)
	m.storeBy = m.now + m.limits.storeTimeout
	m.effect(engineEffect{kind: effAppend, id: m.sequence})
}

func (m *engineMachine) wasAppended(err error) {
	if len(m.group) == 0 || m.uncertain {
		return
	}
	m.storeBy = 0
	switch {
	case errors.Is(err, ErrNotOwner):
		m.leave()
		m.requeue(m.answered.cut(0))
		m.disown()
		m.broken(ErrNotOwner)
		return
	case err != nil:
		m.doubt()
		return
	}
	m.sequence += m.appending
	m.appending = 0
	for _, r := range m.group {
		m.runTime += time.Duration(r.outcome.RunTime)
		m.finish(r)
	}
	m.entryBytes += entrySize(m.records)
	for k := range m.records {
		if r := m.records[k].Keyed; r != nil {
			m.keyBytes += r.weight()
		}
	}
	clear(m.group)
	m.group = m.group[:0]
	clear(m.records)
	m.records = m.records[:0]
	m.due()
	m.commit()
	m.need()
	m.pump()
}

// entries returns how many of the records take a sequence.
func entries(records []Record) (n uint64) {
	for k := range records {
		if records[k].Action != nil {
			n++
		}
	}
	return n
}

// entrySize returns about what records take in the store, in bytes.
func entrySize(records []Record) (n int) {
	for k := range records {
		n += len(records[k].Action) + 10
	}
	return n
}

// doubt fences the engine: the store has to say what it holds.
func (m *engineMachine) doubt() {
	m.uncertain = true
	m.records = nil // the store may still read them
	for _, r := range m.group {
		r.kept = true
	}
	m.leave()
	m.requeue(m.answered.cut(0))
	m.load(true)
}

// finish ends a request whose outcome is durable. A snapshot is handed to the store.
func (m *engineMachine) finish(r *request) {
	if r == m.snapshot && r.err == nil {
		m.snapshot = nil
		m.install, m.installBy = r, m.now+m.limits.storeTimeout
		m.effect(engineEffect{kind: effInstall, req: r, id: r.outcome.Sequence})
		return
	}
	m.resolve(r, r.err)
}

// keysWeight returns about what records of keys take, in bytes.
func keysWeight(list []KeyRecord) (n int64) {
	for k := range list {
		n += list[k].weight()
	}
	return n
}

// due sends a snapshot if the entries cost more than they should, or the store keeps more of keys than it should.
func (m *engineMachine) due() {
	if m.now < m.snapshotAt {
		return
	}
	if m.entryBytes > max(m.baseBytes, m.limits.snapshotBytes) || m.runTime > m.limits.replayBudget ||
		m.keyBytes > m.limits.keyBytes || m.keysShed {
		m.takeSnapshot()
	}
}

func (m *engineMachine) takeSnapshot() {
	if m.snapshot != nil || m.install != nil || (m.state != engineLive && !(m.keysShed && m.state == engineOut && m.idle() && !m.closing)) {
		return
	}
	m.snapshot = &request{kind: ipc.Snapshot, what: "snapshot", deadline: m.now + m.limits.openTimeout, allowed: m.limits.openTimeout, limit: "OpenTimeout"}
	m.queued.unpop([]*request{m.snapshot})
	m.need()
	m.pump()
}

func (m *engineMachine) wasInstalled(err error) {
	r := m.install
	if r == nil {
		return
	}
	m.install, m.installBy = nil, 0
	if err == nil {
		m.baseBytes, m.entryBytes, m.runTime, m.keyBytes = len(r.data), 0, 0, 0
		m.keysShed = false
	} else {
		m.snapshotAt = m.now + m.limits.storeTimeout
	}
	m.effect(engineEffect{kind: effResolve, req: r, err: err})
	m.need()
}
