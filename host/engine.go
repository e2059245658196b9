package host

import (
	"context"
	"errors"
	"iter"

	"hypertoken/internal/driver"
	"hypertoken/internal/seam"
)

// Engine is one game. Its actions run one after the other, in the order in which they were
// dispatched.
type Engine struct {
	host *Host
	// seam is what is behind the engine: a driver, or the way to the node of a cluster that has it.
	seam seam.Engine
}

// Name returns the engine's name.
func (e *Engine) Name() string { return e.seam.Name() }

// Host returns the engine's host.
func (e *Engine) Host() *Host { return e.host }

// Place returns where the engine is at this moment.
func (e *Engine) Place() Place { return Place(e.seam.Place()) }

// Dispatch runs an action and waits for its result, and for room in the host's queue first. payload is
// a map, a struct, anything that encodes to a MessagePack map, or [Raw]; nil is an empty map. If ctx
// ends before the action is committed, the action is withdrawn and has no effect.
//
// Fields of structs are named by their msgpack tags, and those without one by their json tags, with
// omitempty and "-"; a field without either is named as in Go. A payload that is nested more than
// Options.MaxDepth deep, that contains itself, or that asks its encoder for what it does not do, such
// as the option string of a json tag, fails with [ErrBadInput].
//
// An error means that the action had no effect: an [*ActionError] from the core, [ErrTimeout] after
// the engine's Timeout or at the context's deadline, [ErrCanceled], [ErrPayloadTooLarge],
// [ErrPoisoned], [ErrBroken], [ErrConflict], [ErrKeyReused], [ErrShutdown], [ErrWorkerUnavailable], or
// [ErrBadInput] for what can't be encoded. The exception is [ErrOutcomeUnknown], which the store in
// memory can't cause.
func (e *Engine) Dispatch(ctx context.Context, actionType string, payload any,
	opts ...DispatchOption) (Result, error) {
	r, err := e.seam.Dispatch(ctx, actionType, payload, chosen(opts))
	return resultOf(r), err
}

// DispatchAsync is [Engine.Dispatch] without the waiting. If the host's queue is full, the future has
// failed with [ErrOverloaded]. If ctx ends before the action's record is handed to the store, the
// action is withdrawn.
func (e *Engine) DispatchAsync(ctx context.Context, actionType string, payload any, opts ...DispatchOption) *Future {
	f := new(Future)
	e.seam.DispatchAsync(ctx, &f.call, actionType, payload, chosen(opts))
	return f
}

// DispatchBatch runs actions one after the other, nothing between them, and journals what they changed
// as one group.
//
// It returns an outcome for each member. If an atomic batch fails, the error is a [*BatchError], and
// the outcomes say the same: the member that failed has its own error, the others [ErrBatchAborted].
// An independent batch fails as a whole, and with it an atomic one without naming a member, if the
// core does not answer: [ErrTimeout], a trap, exhausted memory. Then the outcomes are nil, and no
// member had an effect. Only an independent batch that a worker died of, and that has neither a Key
// nor an IfSequence, is run member by member, and answered so.
//
// The options are for the whole batch. With [Key] all of it runs once, and a repetition gets every
// outcome of the first one, those of members that failed too; an atomic batch that fails forgets its
// key. [IfSequence] holds just before the first member. [Now] is for the members that have none.
// [Entropy] is for single members. A member's options are Now and Entropy. Anything else fails with
// [ErrBadInput], and nothing is run.
//
// The payloads together are bounded by Options.MaxPayload, the results by MaxResult.
func (e *Engine) DispatchBatch(ctx context.Context, mode BatchMode, members []Action,
	opts ...DispatchOption) (BatchResult, error) {
	r, err := e.seam.DispatchBatch(ctx, driver.Mode(mode), membersOf(members), chosen(opts))
	return batchResultOf(r), err
}

// State returns the whole state as one value: a map of agents, gameLoop, gameState, locked, stack,
// zones and so on. It sees what was dispatched before. The only option is [WithDigest], which adds
// the digest of the same state.
func (e *Engine) State(ctx context.Context, opts ...DispatchOption) (Result, error) {
	d := chosen(opts)
	if d != (dispatch{WantsDigest: d.WantsDigest}) {
		return Result{}, badInput("State: an option is for actions; WithDigest is the only one for State")
	}
	r, err := e.seam.State(ctx, d.WantsDigest)
	return resultOf(r), err
}

// Digest returns the digest of the state. It sees what was dispatched before.
func (e *Engine) Digest(ctx context.Context) (Digest, error) {
	r, err := e.seam.Position(ctx, "Digest")
	return Digest(r.Digest), err
}

// Position returns the sequence and the digest of the state, both of one moment. It sees what was
// dispatched before.
func (e *Engine) Position(ctx context.Context) (Position, error) {
	r, err := e.seam.Position(ctx, "Position")
	return Position{Sequence: r.Sequence, Digest: Digest(r.Digest)}, err
}

// StateAt returns the whole state that the engine had at a sequence, and its digest: at 0 the
// state that it began with, at the sequence of a [Result] the state after that action. It is
// computed by a replay on an instance of its own, from the nearest snapshot before, and each
// result of the replay is held against the one that was acknowledged. The engine goes on
// meanwhile. StateAt works for a broken engine, too.
//
// How long the replay is depends on how far apart snapshots are: Options.ReplayBudget and
// SnapshotBytes bound that, as long as the store takes snapshots. StateAt takes Options.OpenTimeout
// at most, and fails with [ErrTimeout] then. It fails with
// [ErrBadInput] for a sequence beyond the newest that is stored, and if the store is no
// [journal.Historian]; with [ErrHistoryTrimmed] if the store does not keep that much history: the
// one in memory keeps what follows the newest snapshot; and with [ErrDiverged] if the replay gives
// another result. A state that another core has led to is computed by that core in this process,
// so it fails with [ErrCoreMismatch] if the host does not have that core, or with
// Options.NoFallback.
func (e *Engine) StateAt(ctx context.Context, sequence uint64) (Result, error) {
	r, err := e.seam.StateAt(ctx, sequence)
	return resultOf(r), err
}

// DigestAt returns the digest of the state that the engine had at a sequence. It fails as
// [Engine.StateAt] does.
func (e *Engine) DigestAt(ctx context.Context, sequence uint64) (Digest, error) {
	r, err := e.seam.DigestAt(ctx, sequence)
	return Digest(r.Digest), err
}

// Journal returns the actions committed since the engine's last snapshot, oldest first, as they are
// now. The journal of a broken engine can be read, too.
func (e *Engine) Journal(ctx context.Context) (iter.Seq[Entry], error) {
	s, err := e.seam.Journal(ctx)
	if err != nil {
		return nil, err
	}
	return entriesOf(s), nil
}

// On calls f with every event of a name, one after the other, in a goroutine of its own; "" is for
// all. f may dispatch, and take its time: if it is more than 1,024 events behind, the oldest are
// dropped, and [Host.Stats] counts them. stop ends it; a call of f that is under way then goes on.
func (e *Engine) On(event string, f func(Event)) (stop func()) {
	events, stop := e.Events(event)
	go func() {
		for ev := range events {
			f(ev)
		}
	}()
	return stop
}

// Events is [Engine.On] as a channel. It is closed after engine:shutdown, or by stop.
func (e *Engine) Events(event string) (events <-chan Event, stop func()) {
	l := e.seam.Listen(event)
	out := make(chan Event)
	go passOn(l, out)
	return out, l.Stop
}

// Reopen makes a broken engine try again to place itself, and returns what makes it fail.
func (e *Engine) Reopen(ctx context.Context) error { return e.seam.Reopen(ctx) }

// Close lets what was dispatched end, stores a snapshot and frees the engine. Its journal stays under
// its name, from which Host.Open loads it. Later calls fail with [ErrShutdown]. If ctx ends first,
// closing goes on.
func (e *Engine) Close(ctx context.Context) error { return e.seam.Close(ctx) }

// Delete closes the engine and forgets its journal for good.
func (e *Engine) Delete(ctx context.Context) error {
	if own, ok := e.seam.(seam.Owner); ok {
		return own.Delete(ctx)
	}
	if err := e.Close(ctx); err != nil && !errors.Is(err, ErrShutdown) {
		return err
	}
	return e.host.Delete(ctx, e.Name())
}

// Shutdown shuts the engine's host down, and with it every other engine that it has: it is for an
// engine of NewEngine.
func (e *Engine) Shutdown(ctx context.Context) error {
	if own, ok := e.seam.(seam.Owner); ok {
		return own.Shutdown(ctx)
	}
	return e.host.Shutdown(ctx)
}
