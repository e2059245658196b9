package engine

import "slices"

// Details is how a machine is, in full: for tests and for reports of what hangs. It is a copy, but for the requests.
type Details struct {
	View
	// Queued, Sent and Answered are the requests that are not with the store, Group those that are.
	Queued, Sent, Answered, Group []*Request
	// IsFull says that the pipe has no room, IsAlone that nothing else runs at the place, IsMoving that
	// the engine leaves as soon as nothing runs, IsInDoubt that the store has to say what it has,
	// IsInstalling that it has a snapshot to install.
	IsFull, IsAlone, IsMoving, IsInDoubt, IsInstalling bool
	// Capacity is how many requests, records, effects and pieces the machine has memory for, of each at most.
	Capacity int
}

// Details returns how the machine is, in full.
func (m *Machine) Details() Details {
	return Details{View: m.View(), Queued: slices.Clone(m.queued.All()), Sent: slices.Clone(m.sent.All()),
		Answered: slices.Clone(m.answered.All()), Group: slices.Clone(m.group), IsFull: m.isFull, IsAlone: m.isAlone,
		IsMoving: m.isMoving, IsInDoubt: m.isInDoubt, IsInstalling: m.install != nil,
		Capacity: max(m.queued.Cap(), m.sent.Cap(), m.answered.Cap(), cap(m.group), cap(m.records), cap(m.effects),
			m.cursor.pieces.Cap())}
}

// Suspicion returns the death of a worker that the request was last suspected of, and how many
// workers died while it ran alone; nil if it is not suspected of any.
func (r *Request) Suspicion() (d *Death, deaths int) { return r.death, r.deaths }

// IsSuspect reports whether the request has to run alone.
func (r *Request) IsSuspect() bool { return r.isSuspect() }

// IsCleared reports whether another request was found guilty of the death.
func (d *Death) IsCleared() bool { return d.isCleared.Load() }
