package host

import (
	"context"
	"errors"
	"fmt"

	"hypertoken/wasm"
)

// ActionError is what the core answers to an action that failed: a stable code, and a message that names the field, the
// value and the limit. The engine's state is as it was before the action.
type ActionError = wasm.ActionError

// Error is an error of the host. Errors of one code match each other under [errors.Is], so the values below serve to
// tell them apart; [CodeOf] returns the code of any error.
type Error struct {
	// Code is stable; README.md lists the codes.
	Code string
	// Message names the value, the limit and the next step.
	Message string
	// Err is the cause, or nil.
	Err error
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether the target is an error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// The errors of the host, one a code.
var (
	// ErrBadInput is what was handed to the host and can't be meant: an option, a name, a payload that can't be
	// encoded, that contains itself or is nested deeper than MaxDepth, an option of a batch that is for its members
	// or the other way round.
	ErrBadInput = &Error{Code: "bad_input", Message: "bad input"}
	// ErrTimeout is also [context.DeadlineExceeded].
	ErrTimeout = &Error{Code: "timeout", Message: "timed out", Err: context.DeadlineExceeded}
	// ErrCanceled is also [context.Canceled].
	ErrCanceled = &Error{Code: "canceled", Message: "canceled", Err: context.Canceled}
	// ErrBroken is the error of an engine that could not be placed; Engine.Reopen tries again.
	ErrBroken = &Error{Code: "broken", Message: "the engine is broken"}
	// ErrPayloadTooLarge is a payload above Options.MaxPayload.
	ErrPayloadTooLarge = &Error{Code: "payload_too_large", Message: "the payload is too large"}
	// ErrBatchAborted is the error of an atomic batch's other members; it wraps a *BatchError.
	ErrBatchAborted = &Error{Code: "batch_aborted", Message: "the batch was aborted"}
	// ErrShutdown is returned after Shutdown, and by an engine after Close.
	ErrShutdown = &Error{Code: "shutdown", Message: "shut down"}
	// ErrDiverged is a replay whose results differ from those that were acknowledged.
	ErrDiverged = &Error{Code: "diverged", Message: "the replay diverged"}
	// ErrOverloaded is returned by DispatchAsync while Options.MaxQueue requests, or MaxQueueBytes, are unanswered; and for
	// what is dispatched to an engine that is held back, see Options.MaxKills.
	ErrOverloaded = &Error{Code: "overloaded", Message: "the host is overloaded"}
	// ErrKeyReused is an action with the Key of another one.
	ErrKeyReused = &Error{Code: "key_reused", Message: "the key belongs to another action"}
	// ErrCoreMismatch is a journal that this host's core can't replay.
	ErrCoreMismatch = &Error{Code: "core_mismatch", Message: "the journal needs another core"}
	// ErrPoisoned is an action that every worker died of which ran it alone, MaxAttempts times.
	ErrPoisoned = &Error{Code: "poisoned", Message: "the action kills workers"}
	// ErrWorkerUnavailable is an action that must not run in this process, if there is no worker: because a worker
	// died that may have run it, or because Options.NoFallback is set and its time is up.
	ErrWorkerUnavailable = &Error{Code: "worker_unavailable", Message: "there is no worker"}
	// ErrConflict is an action whose IfSequence is not the engine's sequence.
	ErrConflict = &Error{Code: "conflict", Message: "the engine has another sequence"}
	// ErrOutcomeUnknown is an action of which the store could not say whether it is stored.
	ErrOutcomeUnknown = &Error{Code: "outcome_unknown", Message: "it is not known whether the action is stored"}

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

// CodeOf returns the code of an error of the host or of a core, and "" for any other.
func CodeOf(err error) string {
	if err == nil {
		return ""
	}
	var h *Error
	if errors.As(err, &h) {
		return h.Code
	}
	var a *ActionError
	if errors.As(err, &a) {
		return a.Code
	}
	return ""
}

func badInput(format string, args ...any) error {
	return &Error{Code: ErrBadInput.Code, Message: fmt.Sprintf(format, args...)}
}

// ownCause is why the host itself ended a context. What else stands there is the caller's, and may be any error.
type ownCause struct{ err *Error }

func (c ownCause) Error() string { return c.err.Error() }

// ended turns the end of a context into the host's error for it. what names the action.
func ended(ctx context.Context, what string) error {
	cause := context.Cause(ctx)
	if own, ok := cause.(ownCause); ok {
		return &Error{Code: own.err.Code, Message: what + ": " + own.err.Message, Err: own.err.Err}
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		why := "the context's deadline passed"
		if cause != ctx.Err() {
			why = cause.Error()
		}
		return &Error{Code: ErrTimeout.Code, Message: what + ": " + why, Err: context.DeadlineExceeded}
	default:
		return &Error{Code: ErrCanceled.Code, Message: what + ": the context was canceled", Err: errors.Join(context.Canceled, cause)}
	}
}
