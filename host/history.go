package host

import (
	"context"

	"hypertoken/internal/driver"
	"hypertoken/internal/marker"
	"hypertoken/journal"
)

// Revert sets the engine to the state that it had at a sequence, and returns the position of that
// state. It is one more record in the journal, a marker, with a sequence of its own: nothing is lost
// from the history, and StateAt still returns the states in between. Keys that were used stay used.
//
// It runs behind the actions that were dispatched before, and before those that are dispatched
// afterwards. The state is computed as [Engine.StateAt] does. The options are [Key] and
// [IfSequence]; a repetition with the same key returns the first one's position. It raises
// engine:action and state:updated with the Action "revert".
//
// It fails with [ErrBadInput] for a sequence beyond the newest, and as StateAt and Dispatch do.
// After an error the engine is as it was.
func (e *Engine) Revert(ctx context.Context, to uint64, opts ...DispatchOption) (Position, error) {
	return positionOf(e.seam.Revert(ctx, to, chosen(opts)))
}

// Undo takes the current step back, and returns the position of the state before it. A step is an
// action, a whole batch, or a [Engine.Revert]; actions that were gathered into independent batches
// are steps of their own, and so are the members of a batch that had to be run one by one. Undo
// after Undo goes further back. It is a marker in the journal, as Revert is, and takes the same
// options. [ErrConflict] says that there is nothing to undo, [ErrHistoryTrimmed] that the store does
// not keep the state before the step: the one in memory keeps what follows the newest snapshot or
// marker, unless it was made by [journal.NewMemoryWith].
func (e *Engine) Undo(ctx context.Context, opts ...DispatchOption) (Position, error) {
	return positionOf(e.seam.Undo(ctx, chosen(opts)))
}

// Redo does the step again that was undone last, and returns the position of the state after it. It
// takes the same options as [Engine.Revert]. [ErrConflict] says that there is nothing to redo: a new
// step forgets all that was undone before it. At most 4,096 steps are remembered.
func (e *Engine) Redo(ctx context.Context, opts ...DispatchOption) (Position, error) {
	return positionOf(e.seam.Redo(ctx, chosen(opts)))
}

// AddNote stores a note of another engine's history, see [Entry]: what is remembered of a batch that
// had a key. The same batch with the same key is answered as the note says then, and runs nothing. It
// is for programs that play a history again on an open engine; [Import.Add] takes notes, too. The
// note's Number is not looked at, and the note must not be changed afterwards.
//
// AddNote fails with [ErrDiverged] unless the engine has the note's sequence once all that was
// dispatched before has ended; with [ErrBadInput] for a note that no batch leaves; with [ErrKeyReused]
// if the key belongs to something else; and as [Engine.Dispatch] does.
func (e *Engine) AddNote(ctx context.Context, note *journal.KeyRecord) error {
	return e.seam.AddNote(ctx, note)
}

func positionOf(r driver.Result, err error) (Position, error) {
	return Position{Sequence: r.Sequence, Digest: Digest(r.Digest)}, err
}

// Fork creates the engine of a name from the state that another one had at a sequence, and returns
// the position of the new engine, which has the sequence 0. The other engine may be open, or only
// stored. The new one is not open; it takes no keys with it. It fails with [ErrEngineExists] if the
// name is taken, with [ErrEngineNotFound] if the store does not know from, and as [Engine.StateAt]
// does.
func (h *Host) Fork(ctx context.Context, from string, at uint64, name string) (Position, error) {
	if err := checkName("Fork", name); err != nil {
		return Position{}, err
	}
	return positionOf(h.engines.Fork(ctx, from, at, name))
}

// The kinds of a [Marker].
const (
	// MarkerRevert is left by Revert, Undo and Redo.
	MarkerRevert = marker.Revert
	// MarkerUpgrade is left when another core goes on with a journal.
	MarkerUpgrade = marker.Upgrade
	// MarkerFork is what an engine begins with that was made by [Host.Fork].
	MarkerFork = marker.Fork
)

// Marker is an item of a history that sets the state, where an action changes it.
type Marker struct {
	// Kind is one of the constants above.
	Kind string
	// To is the sequence that a MarkerRevert went back to.
	To uint64
	// FromCore is the SHA-256, in hexadecimal, of the core before a MarkerUpgrade, and DigestBefore the
	// digest that this one gave.
	FromCore     string
	DigestBefore Digest
	// FromEngine and FromSequence say what a MarkerFork is a copy of.
	FromEngine   string
	FromSequence uint64
	// Digest is that of the state.
	Digest Digest
	// Current is the sequence of the step that Undo would undo, 0 if there is none. Redo has the
	// sequences of the steps that can be redone, the next one last.
	Current uint64
	Redo    []uint64
	// Base is the state, with the keys that are remembered. It must not be changed.
	Base *journal.Base
}

// markerOf returns the marker of a base that is one.
func markerOf(base *journal.Base) (*Marker, error) {
	m, err := marker.Read(base)
	if err != nil {
		return nil, ErrBroken.Because(err, "history: %v", err)
	}
	return &Marker{Kind: m.Kind, To: m.To, FromCore: m.FromCore, DigestBefore: Digest(m.DigestBefore),
		FromEngine: m.FromEngine, FromSequence: m.FromSequence, Digest: Digest(m.Digest), Current: m.Current,
		Redo: m.Redo, Base: base}, nil
}

// details returns the marker as a base's Details.
func (m *Marker) details() []byte {
	in := marker.Marker{Kind: m.Kind, To: m.To, FromCore: m.FromCore, DigestBefore: uint64(m.DigestBefore),
		FromEngine: m.FromEngine, FromSequence: m.FromSequence, Digest: uint64(m.Digest), Current: m.Current,
		Redo: m.Redo}
	return in.Encode()
}
