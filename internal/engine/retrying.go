package engine

import (
	"time"

	"hypertoken/internal/fault"
)

// How a machine asks a store again that fails: at once the first time, then after a wait that grows.

// retry is how far a machine has come in asking a store again.
type retry struct {
	// failures counts the calls that failed since the last append that did not.
	failures int
	// at is when the next load may begin; 0 if it may begin now. asNewOwner is the parameter of that
	// load.
	at         time.Duration
	asNewOwner bool
	// loadsUntil is until when loads are repeated; 0 if there is no load under way.
	loadsUntil time.Duration
}

const (
	firstRetry = 10 * time.Millisecond
	mostRetry  = time.Second
)

// retryLater has the next load wait, unless this is the first failure and the store may be there.
func (m *Machine) retryLater(err error) {
	r := &m.retry
	r.failures++
	if r.failures > 1 || isPassing(err) {
		r.at = m.now + min(firstRetry<<min(r.failures-1, 10), mostRetry)
	}
}

// load asks the store for the journal, or lets the tick ask once the wait is over. asNewOwner fences
// what was sent to the store before.
func (m *Machine) load(asNewOwner bool) {
	if s := m.opened; s != nil {
		if !m.isDetached {
			m.opened = nil
		}
		if m.isDetached || !asNewOwner {
			m.checkLoaded(s, false, nil)
			return
		}
	}
	m.state = Loading
	r := &m.retry
	if r.loadsUntil == 0 {
		r.loadsUntil = m.now + m.config.StoreTimeout
	}
	if r.asNewOwner = asNewOwner; r.at > m.now {
		return
	}
	r.at = 0
	m.storeBy = m.now + m.config.StoreTimeout
	m.emitLoad(asNewOwner)
}

// eachOverdue calls f once for each request that is with the store and whose time was up StoreTimeout
// ago. One that waits for a barrier is withdrawn when its time is up.
func (m *Machine) eachOverdue(f func(*Request)) {
	if m.isVerifying {
		return
	}
	for _, r := range m.group {
		if r.Deadline > 0 && m.now >= r.Deadline+m.config.StoreTimeout && !r.isOverdue {
			r.isOverdue, r.isKept = true, true
			f(r)
		}
	}
}

// tickStore asks the store again once the wait is over, and ends calls of the store that are
// overdue.
func (m *Machine) tickStore() {
	if r := &m.retry; r.at > 0 && m.now >= r.at {
		r.at = 0
		if m.state == Loading {
			m.load(r.asNewOwner)
		}
	}
	if m.storeBy == 0 || m.now < m.storeBy {
		return
	}
	m.storeBy = 0
	switch {
	case m.state == Loading:
		m.load(true)
	case len(m.group) > 0 && m.isVerifying:
		m.verified(fault.ErrTimeout.With("the store did not say within %v (StoreTimeout) who owns the journal",
			m.config.StoreTimeout))
	case len(m.group) > 0 && !m.isInDoubt:
		m.doubt()
	}
}
