package engine

import "hypertoken/internal/fault"

// How a note is stored that is known already: that of a batch with a key, from an export.
//
// Such a request has the kind of a batch without members, and is not sent to a place. Once the engine
// is live, the request is the first in the queue and all before it is answered, it counts as answered
// by what the note says. So it is stored as the note of a batch is that has just run.

// isNoteNext reports whether the request that is queued first has a note.
func (m *Machine) isNoteNext() bool { return m.queued.Len() > 0 && m.queued.All()[0].Note != nil }

// takeNote answers the request that is queued first by its note, once all before it is answered.
func (m *Machine) takeNote() {
	if m.sent.Len() > 0 {
		return
	}
	r := m.queued.Pop()
	if r.Note.Sequence != m.reached {
		m.resolve(r, fault.ErrDiverged.With("%s: the note has the sequence %d, and the engine %d", r.What,
			r.Note.Sequence, m.reached))
		return
	}
	r.Outcome.Sequence, r.Outcome.Result, r.HasChanged = r.Note.Sequence, r.Note.Result, r.Note.Changed
	m.answered.Push(r)
	m.commit()
}
