package engine

import (
	"errors"
	"time"

	"hypertoken/internal/fault"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// How answers get into the journal, one group after the other, and how the journal is kept short.

// commit resolves the answers that need nothing of the store, up to the first one that needs a record,
// and hands all others to the store as one group. It does nothing while a group is in flight or in
// doubt.
func (m *Machine) commit() {
	if len(m.group) > 0 || m.isInDoubt {
		return
	}
	for m.answered.Len() > 0 && !m.needsStore(m.answered.All()[0]) {
		m.finish(m.answered.Pop())
	}
	if m.answered.Len() == 0 {
		return
	}
	m.records = m.records[:0]
	for m.answered.Len() > 0 {
		r := m.answered.Pop()
		m.group = append(m.group, r)
		m.records = r.appendRecords(m.records)
		if r.Keyed != nil && len(m.records) > 0 && m.records[len(m.records)-1].Keyed == r.Keyed {
			m.keyNumber++
			r.Keyed.Number = m.keyNumber
		}
	}
	m.appending = countActions(m.records)
	m.storeBy = m.now + m.config.StoreTimeout
	if m.isVerifying = len(m.records) == 0; m.isVerifying {
		m.emitBarrier()
		return
	}
	m.emitAppend(m.sequence)
}

// appended takes in what the store says of the group.
func (m *Machine) appended(err error) {
	if len(m.group) == 0 || m.isInDoubt {
		return
	}
	m.storeBy = 0
	if m.isVerifying {
		m.verified(err)
		return
	}
	switch {
	case errors.Is(err, journal.ErrNotOwner):
		m.supersede(err) // the group is not stored
		return
	case errors.Is(err, journal.ErrFailed):
		m.leave()
		m.requeue(m.answered.CutFrom(0))
		m.breakDown(err, "the store has failed")
		return
	case errors.Is(err, journal.ErrRefused):
		m.refused(err)
		return
	case errors.Is(err, journal.ErrUnavailable):
		m.retryLater(err)
		m.appendAgain()
		return
	case err != nil:
		m.retryLater(err)
		m.doubt()
		return
	}
	m.retry.failures = 0
	m.emitRecordsStored(m.appending, recordsSize(m.records))
	m.sequence += m.appending
	m.appending = 0
	for _, r := range m.group {
		m.runTime += time.Duration(r.Outcome.RunTime)
		m.finish(r)
	}
	if r := m.group[0]; r.IsRewind {
		m.basedOn(r.Base.Data)
	}
	m.recordBytes += recordsSize(m.records)
	for k := range m.records {
		if r := m.records[k].Keyed; r != nil {
			m.keyBytes += keyWeight(r)
		}
	}
	clear(m.group)
	m.group = m.group[:0]
	clear(m.records)
	m.records = m.records[:0]
	m.snapshotIfDue()
	m.commit()
	m.askForPlace()
}

// countActions returns how many of the records take a sequence.
func countActions(records []journal.Record) (n uint64) {
	for k := range records {
		if records[k].Action != nil {
			n++
		}
	}
	return n
}

// recordsSize returns about what records take in the store, in bytes.
func recordsSize(records []journal.Record) (n int) {
	for k := range records {
		n += len(records[k].Action) + 10
	}
	return n
}

// doubt fences the engine after an append that failed, or took too long: the store has to say what it holds.
func (m *Machine) doubt() {
	m.isInDoubt = true
	m.records = nil // the store may still read them
	for _, r := range m.group {
		r.isKept = true
	}
	m.leave()
	m.requeue(m.answered.CutFrom(0))
	m.load(true)
}

// endDoubt decides whether the group is stored whose append failed: the store has all of it, or
// nothing. If the group has actions, stored decides, the sequence of the store's last record. If it
// has only notes, newestKey decides, the number of the store's newest key. If isForeign, another
// host has owned the journal meanwhile, and nothing can be known.
func (m *Machine) endDoubt(stored, newestKey uint64, isForeign bool) {
	m.isInDoubt = false
	if isForeign {
		m.disown(journal.ErrNotOwner, takenOver)
		return
	}
	group := m.group
	m.group = nil
	isStored := stored >= m.sequence+m.appending
	if m.appending == 0 {
		isStored = newestKey >= m.keyNumber
	}
	m.appending = 0
	if !isStored {
		m.requeue(group)
		return
	}
	for _, r := range group {
		m.finish(r)
	}
}

const takenOver = "another host took the journal over"

// supersede ends the engine because the store has said that another owner has its journal. What is
// not stored had no effect, and fails. If it is not known whether the store has the group, neither
// is it known what became of that.
func (m *Machine) supersede(err error) {
	if m.state == Closed {
		return
	}
	m.lostTo = err
	m.emitSuperseded(err) // first: who is told may open the engine again
	if m.isInDoubt {
		m.disown(err, takenOver)
	}
	for _, r := range m.group {
		m.resolve(r, fault.Moved(r.What, err))
	}
	m.group, m.appending, m.isInDoubt, m.install, m.storeBy = nil, 0, false, nil, 0
	for _, q := range m.pending() {
		for q.Len() > 0 {
			if r := q.Pop(); !r.isWithdrawn {
				m.resolve(r, fault.Moved(r.What, err))
			}
		}
	}
	m.closeDown()
}

// disown ends the requests that are with the store, and says why nobody will know what became of
// them.
func (m *Machine) disown(cause error, why string) {
	for _, r := range m.group {
		m.resolve(r, fault.ErrOutcomeUnknown.Because(cause,
			"%s: %s, and it is not known whether the action was stored: %v", r.What, why, cause))
	}
	m.group, m.appending = nil, 0
}

// refused ends the requests whose records the store has refused. They had no effect. All that ran
// behind them has seen their effect, and runs again.
func (m *Machine) refused(err error) {
	code := fault.ErrStoreRefused
	if errors.Is(err, journal.ErrFull) {
		code = fault.ErrStoreFull
	}
	var readers []*Request
	for _, r := range m.takeGroupBack() {
		if r.needsStore() {
			m.resolve(r, code.Because(err, "%s: nothing was stored: %v", r.What, err))
		} else {
			readers = append(readers, r)
		}
	}
	m.requeue(readers)
	m.askForPlace()
}

// appendAgain has the requests that were with the store run again. Nothing of them is stored, so until
// then they can be withdrawn.
func (m *Machine) appendAgain() {
	m.requeue(m.takeGroupBack())
	if m.queued.Len() > 0 {
		m.load(false)
	}
}

// takeGroupBack takes the requests back that were with the store, of which nothing is stored. All that
// ran behind them is queued again.
func (m *Machine) takeGroupBack() []*Request {
	group := m.group
	m.group, m.appending = nil, 0
	clear(m.records)
	m.records = m.records[:0]
	m.leave()
	m.requeue(m.answered.CutFrom(0))
	return group
}

// finish resolves a request that does not have to wait for the store any more. For a snapshot, it
// begins the installation instead.
func (m *Machine) finish(r *Request) {
	if r == m.snapshot && r.Err == nil {
		m.snapshot = nil
		m.install, m.installBy = r, m.now+m.config.StoreTimeout
		m.emitInstall(r)
		return
	}
	m.resolve(r, r.Err)
}

// snapshotIfDue takes a snapshot if a replay of the records would cost more than it should, if the
// keys since the base take more than KeyBytes, or if the host has shed keys that the base still
// has.
func (m *Machine) snapshotIfDue() {
	if m.now < m.snapshotAt {
		return
	}
	if m.recordBytes > max(m.baseBytes, m.config.SnapshotBytes) || m.runTime > m.config.ReplayBudget ||
		m.keyBytes > m.config.KeyBytes || m.areKeysShed {
		m.takeSnapshot()
	}
}

// takeSnapshot queues a snapshot in front of everything else. It does nothing if a snapshot is
// under way, or if the machine is detached. An engine without an instance is placed for a snapshot
// only if keys were shed.
func (m *Machine) takeSnapshot() {
	mayPlace := m.areKeysShed && m.state == Out && m.isIdle() && !m.isClosing
	if m.isDetached || m.isRewindNext() || m.snapshot != nil || m.install != nil || (m.state != Live && !mayPlace) {
		return
	}
	m.snapshot = &Request{Kind: ipc.Snapshot, What: "snapshot", Deadline: m.now + m.config.OpenTimeout,
		Allowed: m.config.OpenTimeout, Limit: "OpenTimeout"}
	m.queued.PushFront([]*Request{m.snapshot})
	m.askForPlace()
}

// snapshotInstalled takes in what the store says of the snapshot.
func (m *Machine) snapshotInstalled(err error) {
	r := m.install
	if r == nil {
		return
	}
	m.install, m.installBy = nil, 0
	if errors.Is(err, journal.ErrNotOwner) && len(m.group) == 0 {
		m.supersede(err) // if a group is with the store, its answer says the same
		return
	}
	if err != nil {
		m.snapshotAt = m.now + m.config.StoreTimeout
		m.emitSnapshotFailed(err)
	} else {
		m.emitSnapshotStored(len(r.Data))
		m.basedOn(r.Data)
	}
	m.askForPlace()
}

// basedOn takes in that the store has a new base, with the keys that are remembered.
func (m *Machine) basedOn(data []byte) {
	m.baseBytes, m.recordBytes, m.runTime, m.keyBytes = len(data), 0, 0, 0
	m.areKeysShed = false
}
