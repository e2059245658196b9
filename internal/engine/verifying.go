package engine

import (
	"errors"

	"hypertoken/journal"
)

// Answers that changed nothing, if the store may give the journal to another owner at any time.
//
// Such an answer may be of a state that is not the newest any more. So it waits for a barrier: the
// store says, after the answer is there, that the journal is still this host's. The answers that wait
// for one barrier are a group without records; what is answered meanwhile waits for the next barrier, or
// for its append. An append that is stored says the same as a barrier.
//
// A request of such a group can be withdrawn, since it changed nothing.

// needsStore reports whether an answered request has to wait for the store: for its records, or for
// a barrier. A snapshot needs no barrier, because a base is stored by an owner only. A machine that is
// detached has no journal that anybody could own.
func (m *Machine) needsStore(r *Request) bool {
	return r.needsStore() || m.config.HasBarrier && !m.isDetached && r != m.snapshot
}

// verified takes in what the store says of a barrier.
func (m *Machine) verified(err error) {
	m.isVerifying = false
	switch {
	case errors.Is(err, journal.ErrNotOwner):
		m.supersede(err)
		return
	case errors.Is(err, journal.ErrFailed):
		m.leave()
		m.requeue(m.answered.CutFrom(0))
		group := m.group
		m.group = nil
		m.requeue(group) // none of it had an effect
		m.breakDown(err, "the store has failed")
		return
	case err != nil:
		m.retryLater(err)
		m.appendAgain()
		return
	}
	m.retry.failures = 0
	for _, r := range m.group {
		m.finish(r)
	}
	m.endVerified()
}

// endVerified goes on after a group without records.
func (m *Machine) endVerified() {
	clear(m.group)
	m.group, m.isVerifying, m.storeBy = m.group[:0], false, 0
	m.commit()
	m.askForPlace()
}

// verifying returns the requests that wait for a barrier.
func (m *Machine) verifying() []*Request {
	if m.isVerifying {
		return m.group
	}
	return nil
}

// withdrawVerifying ends the k-th request that waits for a barrier.
func (m *Machine) withdrawVerifying(k int, err error) {
	r := m.group[k]
	m.group = append(m.group[:k], m.group[k+1:]...)
	m.resolve(r, err)
	if len(m.group) == 0 {
		m.endVerified() // the barrier that is under way is not waited for any more
	}
}
