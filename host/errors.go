package host

import (
	"context"
	"fmt"

	"hypertoken/internal/fault"
)

// ActionError is what the core answers to an action that failed: a stable code, and a message that names the field, the
// value and the limit. The engine's state is as it was before the action.
type ActionError = fault.ActionError

// Error is an error of the host: a stable Code, a Message that names the value, the limit and the
// next step, and the cause in Err, or nil. Errors of one code match each other under [errors.Is],
// so the values below tell them apart. [CodeOf] returns the code of any error.
type Error = fault.Error

// The errors of the host, one for each code. They are for [errors.Is] and must not be changed.
var (
	// ErrBadInput is returned for input that can't be meant: an option out of bounds, an empty name, a
	// payload that can't be encoded, contains itself or is nested deeper than MaxDepth, or an option of
	// a batch that is for its members or the other way round.
	ErrBadInput = fault.ErrBadInput
	// ErrTimeout is returned if an action was not committed in time. It is also [context.DeadlineExceeded].
	ErrTimeout = fault.ErrTimeout
	// ErrCanceled is returned if a context was canceled before the action was committed. It is also [context.Canceled].
	ErrCanceled = fault.ErrCanceled
	// ErrBroken is returned by an engine that could not be placed MaxAttempts times, or whose journal
	// can't be loaded. Engine.Reopen tries again.
	ErrBroken = fault.ErrBroken
	// ErrPayloadTooLarge is returned for a payload above Options.MaxPayload.
	ErrPayloadTooLarge = fault.ErrPayloadTooLarge
	// ErrBatchAborted is the error of the other members of an atomic batch that failed. It wraps a *BatchError.
	ErrBatchAborted = fault.ErrBatchAborted
	// ErrShutdown is returned after Host.Shutdown, and by an engine after Close.
	ErrShutdown = fault.ErrShutdown
	// ErrDiverged is returned if a replay gave other results than those that were acknowledged.
	ErrDiverged = fault.ErrDiverged
	// ErrOverloaded is returned by DispatchAsync while Options.MaxQueue requests, or MaxQueueBytes, are
	// unanswered; and for what is dispatched to an engine that is held back, see Options.MaxKills.
	ErrOverloaded = fault.ErrOverloaded
	// ErrKeyReused is returned for an action with the Key of another one.
	ErrKeyReused = fault.ErrKeyReused
	// ErrCoreMismatch is returned for a journal that this host's core can't replay.
	ErrCoreMismatch = fault.ErrCoreMismatch
	// ErrPoisoned is returned for an action that killed each worker it was run on, MaxAttempts times, with nothing else
	// running there.
	ErrPoisoned = fault.ErrPoisoned
	// ErrWorkerUnavailable is returned for an action that must not run in this process if there is no worker: because a
	// worker died that may have run it, or because Options.NoFallback is set and its time is up.
	ErrWorkerUnavailable = fault.ErrWorkerUnavailable
	// ErrConflict is returned for an action whose IfSequence is not the engine's sequence.
	ErrConflict = fault.ErrConflict
	// ErrOutcomeUnknown is returned for an action of which the store could not say whether it is stored.
	ErrOutcomeUnknown = fault.ErrOutcomeUnknown
	// ErrStoreFull is returned for an action that the store has no room for. Actions that change nothing
	// go on. See [journal.ErrFull], which it wraps.
	ErrStoreFull = fault.ErrStoreFull
	// ErrStoreRefused is returned for an action that the store has refused for another reason. See
	// [journal.ErrRefused], which it wraps.
	ErrStoreRefused = fault.ErrStoreRefused
	// ErrMoved is returned if the store says that another owner has the engine's journal: another host,
	// or one that has opened the engine since. What fails with it had no effect. The engine has closed
	// itself. [Host.Open] takes it in again, if the store allows that. It wraps the store's error, a
	// [journal.ErrNotOwner].
	ErrMoved = fault.ErrMoved
	// ErrEngineNotFound is returned by [Host.Open] with [OpenExisting] for a name that the store does not
	// know.
	ErrEngineNotFound = fault.ErrEngineNotFound
	// ErrEngineExists is returned by [Host.Open] with [OpenNew] for a name that the store knows.
	ErrEngineExists = fault.ErrEngineExists
	// ErrHistoryTrimmed is returned for a part of an engine's history that the store does not keep
	// any more. See [journal.ErrTrimmed], which it wraps.
	ErrHistoryTrimmed = fault.ErrHistoryTrimmed

	// ErrUnknownAction is the core's error for an action that it does not have.
	ErrUnknownAction = &ActionError{Code: "unknown_action"}
)

// BatchError is the error of an atomic batch: the error of the member that failed first, and its index.
type BatchError struct {
	Index int
	Err   error
}

func (e *BatchError) Error() string { return fmt.Sprintf("member %d of the batch: %v", e.Index, e.Err) }

// Unwrap returns the member's error.
func (e *BatchError) Unwrap() error { return e.Err }

// CodeOf returns the code of an error of the host or of a core, and "" for any other error.
func CodeOf(err error) string { return fault.CodeOf(err) }

func badInput(format string, args ...any) error { return fault.ErrBadInput.With(format, args...) }

// ended turns the end of a context into the host's error for it. what names the action.
func ended(ctx context.Context, what string) error { return fault.Ended(ctx, what) }
