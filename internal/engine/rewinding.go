package engine

import (
	"errors"
	"time"

	"hypertoken/internal/fault"
	"hypertoken/journal"
)

// How the state of an engine is set to another one: by a revert, an undo, a redo or an import.
//
// Such a request, a rewind, is not sent to a place. Once it is the first in the queue and all before
// it has ended, the machine gives the place up and asks for the base that the rewind leads to; what
// is behind it in the queue waits. Then the base is stored, as a marker, and the engine is placed
// from it.

// isRewindNext reports whether the request that is queued first is a rewind.
func (m *Machine) isRewindNext() bool { return m.queued.Len() > 0 && m.queued.All()[0].IsRewind }

// beginRewind asks for the base of the rewind that is queued first, once all before it has ended.
func (m *Machine) beginRewind() {
	r := m.queued.All()[0]
	if m.rewinding == r || m.sent.Len() > 0 || m.answered.Len() > 0 || len(m.group) > 0 || m.install != nil {
		return
	}
	if r.IsConditional && r.IfSequence != m.sequence {
		m.queued.Pop()
		m.refuseRewind(r, fault.ErrConflict.With("the engine has the sequence %d, not %d", m.sequence, r.IfSequence))
		return
	}
	m.leave() // the state of the past needs a place, and there may be only one
	m.rewinding = r
	m.emitRewind(r)
}

// refuseRewind ends a rewind that leads nowhere, as an answer that changed nothing.
func (m *Machine) refuseRewind(r *Request, err error) {
	r.Err = err
	m.answered.Push(r)
	m.commit()
	m.askForPlace()
}

// rewound takes in the base that a rewind leads to, and has it stored behind the newest sequence.
func (m *Machine) rewound(r *Request, base *journal.Base, result []byte, err error) {
	if m.rewinding != r {
		return
	}
	m.rewinding = nil
	if m.queued.Len() == 0 || m.queued.All()[0] != r {
		return // it has been withdrawn
	}
	if errors.Is(err, journal.ErrNotOwner) {
		m.supersede(err)
		return
	}
	m.queued.Pop()
	if err != nil {
		m.refuseRewind(r, err)
		return
	}
	m.opened = nil // what is there now is not what the engine is placed from
	base.Sequence, base.IsMarker = m.sequence+1, true
	r.Base, r.HasChanged = base, true
	r.Outcome.Sequence, r.Outcome.Result = base.Sequence, result
	if k := r.remembered(); k != nil {
		m.keyNumber++
		k.Number = m.keyNumber
	}
	m.group, m.appending, m.isVerifying = append(m.group, r), 1, false
	m.storeBy = m.now + m.config.StoreTimeout
	m.emitMark(r)
}

// Rewound tells of the base that a rewind leads to, as Effects.Rewind has asked for it, and of what
// its caller gets; or why there is none. The machine sets the base's sequence. It ignores a rewind
// that has ended meanwhile.
func (m *Machine) Rewound(now time.Duration, r *Request, base *journal.Base, result []byte, err error) {
	m.begin(now)
	m.rewound(r, base, result, err)
	m.end()
}
