package driver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/marker"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// How an engine goes back to a state of its past. Such a call is called a rewind. Its state becomes
// the base of the next sequence, so nothing is ever lost from the history.
//
// A step is an action, a whole batch, or a revert. A step that is current is undone by an undo; its
// parent is the step that was current before it, and is current then. What was undone can be redone
// until a new step is made. A marker has the current step and those to redo. Elsewhere the current
// step is the newest record, and there is none to redo.

// rewindKind says which state a rewind leads to.
type rewindKind byte

const (
	toSequence rewindKind = iota
	toParent              // an undo
	toUndone              // a redo
	toBase                // that of an import
)

// target is what a rewind leads to.
type target struct {
	kind     rewindKind
	sequence uint64
	base     journal.Base // of toBase
}

// Revert sets the engine to the state that it had at a sequence, and returns the sequence and the
// digest of that state. It fails with ErrBadInput for a sequence beyond the newest, and with
// ErrHistoryTrimmed if the store does not keep the history that far back.
func (e *Driver) Revert(ctx context.Context, to uint64, d Choice) (Result, error) {
	return e.rewind(ctx, "revert", &target{kind: toSequence, sequence: to}, d)
}

// Undo undoes the current step. It fails with ErrConflict if there is none, and otherwise as Revert
// does.
func (e *Driver) Undo(ctx context.Context, d Choice) (Result, error) {
	return e.rewind(ctx, "undo", &target{kind: toParent}, d)
}

// Redo makes the step current that was undone last. It fails with ErrConflict if there is none, and
// otherwise as Revert does.
func (e *Driver) Redo(ctx context.Context, d Choice) (Result, error) {
	return e.rewind(ctx, "redo", &target{kind: toUndone}, d)
}

// Restore sets the engine to the state of a base that is a marker, as an import has it.
func (e *Driver) Restore(ctx context.Context, base journal.Base) (Result, error) {
	return e.rewind(ctx, "restore", &target{kind: toBase, base: base}, Choice{IsConditional: true,
		IfSequence: base.Sequence - 1})
}

// rewind sends a rewind, and waits for its outcome.
func (e *Driver) rewind(ctx context.Context, what string, t *target, d Choice) (Result, error) {
	if d.HasNow || d.HasEntropy || d.WantsDigest {
		return Result{}, badInput("%s: Key and IfSequence are its only options", what)
	}
	if err := d.checkKey(what); err != nil {
		return Result{}, err
	}
	c := &Call{isHidden: true, driver: e, target: t}
	e.meter.begin(ctx, &c.times, what, 1)
	r := &c.request
	r.Kind, r.What, r.IsRewind, r.IsConditional, r.IfSequence = ipc.Dispatch, what, true, d.IsConditional, d.IfSequence
	if d.HasKey {
		sum := engine.NewSum(engine.SumOfRewind)
		engine.AddToSum(sum, binary.LittleEndian.AppendUint64([]byte{byte(t.kind)}, t.sequence))
		r.Keyed = engine.NewKey(d.Key, sum)
	}
	c.setBounds(ctx, e)
	if err := c.takeRoom(ctx); err != nil {
		e.refused(c, what, err)
		return Result{}, err
	}
	e.submit(c, true)
	result, err := c.await(ctx)
	if err != nil {
		return Result{}, err
	}
	var answer rewindResult
	if err := msgpack.Unmarshal(result.Raw, &answer); err != nil {
		return Result{}, fmt.Errorf("%s: its result can't be read: %w", what, err)
	}
	result.HasDigest, result.Digest = true, answer.Digest
	return result, nil
}

// rewindResult is the result of a rewind, for its event and for what is remembered of its key.
type rewindResult struct {
	To     uint64 `msgpack:"to"`
	Digest uint64 `msgpack:"digest"`
}

// findInBackground finds the base that a rewind leads to, in a goroutine of its own. sequence is the
// newest one. found is called with the base and with the result that the caller gets.
func (e *Driver) findInBackground(r *engine.Request, sequence uint64, found func(*journal.Base, Raw, error)) {
	e.engines.spawn(func() {
		ctx := context.Background()
		if r.Context != nil {
			ctx = r.Context
		}
		limited, cancel := e.engines.limitOpening(ctx)
		defer cancel()
		t := r.Owner.(*Call).target
		base, m, err := e.findBase(limited, r.What, t, sequence)
		if err != nil {
			found(nil, nil, err)
			return
		}
		result, err := msgpack.Marshal(rewindResult{To: m.To, Digest: m.Digest})
		found(base, result, err)
	})
}

// findBase returns the base that a target leads to from a sequence, which is the newest, and its
// marker.
func (e *Driver) findBase(ctx context.Context, what string, t *target,
	newest uint64) (*journal.Base, *marker.Marker, error) {
	if t.kind == toBase {
		return e.checkImported(ctx, what, t.base)
	}
	m := &marker.Marker{Kind: marker.Revert}
	var err error
	switch t.kind {
	case toParent:
		err = e.engines.undone(ctx, what, e.name, newest, m)
	case toUndone:
		err = e.engines.redone(ctx, what, e.name, newest, m)
	default:
		if t.sequence > newest {
			return nil, nil, badInput("%s to %d: the engine has the sequences 0 to %d", what, t.sequence, newest)
		}
		m.To, m.Current = t.sequence, newest+1
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := e.engines.snapshotAt(ctx, what, e.name, m.To)
	if err != nil {
		return nil, nil, err
	}
	m.Digest = s.Digest
	return &journal.Base{Snapshot: true, Data: s.Raw, Details: m.Encode()}, m, nil
}

// snapshotAt returns a snapshot of the state that an engine had at a sequence, for this host's core,
// and the digest.
func (h *Engines) snapshotAt(ctx context.Context, what, name string, sequence uint64) (Result, error) {
	s, err := h.loadAt(ctx, what, name, sequence)
	if err != nil {
		return Result{}, err
	}
	r, err := h.askLoaded(ctx, ipc.Snapshot, what, name, s)
	if err != nil || s.Core == "" || s.Core == h.config.CoreHash {
		return r, err
	}
	// The snapshot is another core's: this one restores it.
	return h.restored(ctx, what, name, journal.Base{Sequence: sequence, Snapshot: true, Data: r.Raw})
}

// restored returns a snapshot of what this host's core makes of a base, and the digest.
func (h *Engines) restored(ctx context.Context, what, name string, base journal.Base) (Result, error) {
	base.Core = ""
	return h.askLoaded(ctx, ipc.Snapshot, what, name, &journal.Stored{Base: base})
}

// checkImported returns the base of a marker that is imported, if its state has the digest that the
// marker says.
func (e *Driver) checkImported(ctx context.Context, what string,
	base journal.Base) (*journal.Base, *marker.Marker, error) {
	m, err := marker.Read(&base)
	if err != nil {
		return nil, nil, badInput("%s: %v", what, err)
	}
	for k := range base.Keys {
		key := Choice{HasKey: true, Key: base.Keys[k].Key}
		if err := key.checkKey(what); err != nil {
			return nil, nil, err
		}
	}
	r, err := e.engines.restored(ctx, what, e.name, base)
	if err != nil {
		return nil, nil, err
	}
	if r.Digest != m.Digest {
		return nil, nil, fault.ErrDiverged.With("%s: the state of sequence %d has the digest %016x, its marker says %016x",
			what, base.Sequence, r.Digest, m.Digest)
	}
	return &base, &m, nil
}

// undone sets in m what an undo leads to.
func (h *Engines) undone(ctx context.Context, what, name string, newest uint64, m *marker.Marker) error {
	now, err := h.stepAt(ctx, what, name, newest)
	if err != nil {
		return err
	}
	if now.current == 0 {
		return fault.ErrConflict.With("there is nothing to undo: the engine is as it began")
	}
	first, err := h.firstOf(ctx, what, name, &now)
	if err != nil {
		return err
	}
	before, err := h.stepAt(ctx, what, name, first-1)
	if err != nil {
		return err
	}
	m.Current, m.To, m.Redo = before.current, before.current, append(now.redo, now.current)
	return nil
}

// redone sets in m what a redo leads to.
func (h *Engines) redone(ctx context.Context, what, name string, newest uint64, m *marker.Marker) error {
	now, err := h.stepAt(ctx, what, name, newest)
	if err != nil {
		return err
	}
	last := len(now.redo) - 1
	if last < 0 {
		return fault.ErrConflict.With("there is nothing to redo: the newest step is no undo")
	}
	m.To, m.Current, m.Redo = now.redo[last], now.redo[last], now.redo[:last]
	return nil
}

// step is what is current at a sequence.
type step struct {
	// current is the sequence of the last record of the current step; 0 if there is none. redo are the
	// steps to redo.
	current uint64
	redo    []uint64
	// part is what the store has of the record current, if it was read; its Count is 0 otherwise.
	part journal.Part
}

// stepAt returns the step that is current at a sequence.
func (h *Engines) stepAt(ctx context.Context, what, name string, at uint64) (step, error) {
	if _, canRead := h.config.Store.(journal.Historian); at == 0 || !canRead {
		return step{current: at}, nil
	}
	part, err := h.readHistory(ctx, what, name, at, 1)
	switch {
	case errors.Is(err, fault.ErrHistoryTrimmed):
		return step{current: at}, nil // the state itself may be kept
	case err != nil || part.Marker == nil:
		return step{current: at, part: part}, err
	}
	m, err := marker.Read(part.Marker)
	if err != nil {
		return step{}, fmt.Errorf("%s: %w", what, err)
	}
	s := step{current: m.Current, redo: m.Redo}
	if s.current == at {
		s.part = part
	}
	return s, nil
}

// firstOf returns the sequence of the first record of the current step.
func (h *Engines) firstOf(ctx context.Context, what, name string, s *step) (_ uint64, err error) {
	part := s.part
	if part.Count == 0 {
		if part, err = h.readHistory(ctx, what, name, s.current, 1); err != nil {
			return 0, err
		}
	}
	for _, b := range part.Batches {
		if b.First <= s.current && s.current <= b.Last {
			return b.First, nil
		}
	}
	return s.current, nil
}
