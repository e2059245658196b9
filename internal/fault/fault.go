// Package fault has the errors of the host: their type, their codes, and one value for each code. Package host gives
// them to applications; the packages below it make them.
package fault

import (
	"context"
	"errors"
	"fmt"

	"hypertoken/wasm"
)

// ActionError is what the core answers to an action that failed.
type ActionError = wasm.ActionError

// Error is an error with a stable code. Errors of one code match each other under [errors.Is].
type Error struct {
	// Code is stable. README.md lists the codes.
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

// The errors of the host that an action can end with, one for each code. Package host documents
// them.
var (
	ErrBadInput          = &Error{Code: "bad_input", Message: "bad input"}
	ErrTimeout           = &Error{Code: "timeout", Message: "timed out", Err: context.DeadlineExceeded}
	ErrCanceled          = &Error{Code: "canceled", Message: "canceled", Err: context.Canceled}
	ErrOverloaded        = &Error{Code: "overloaded", Message: "the host is overloaded"}
	ErrPoisoned          = &Error{Code: "poisoned", Message: "the action kills workers"}
	ErrBroken            = &Error{Code: "broken", Message: "the engine is broken"}
	ErrPayloadTooLarge   = &Error{Code: "payload_too_large", Message: "the payload is too large"}
	ErrBatchAborted      = &Error{Code: "batch_aborted", Message: "the batch was aborted"}
	ErrShutdown          = &Error{Code: "shutdown", Message: "shut down"}
	ErrWorkerUnavailable = &Error{Code: "worker_unavailable", Message: "there is no worker"}
	ErrDiverged          = &Error{Code: "diverged", Message: "the replay diverged"}
	ErrConflict          = &Error{Code: "conflict", Message: "the engine has another sequence"}
	ErrKeyReused         = &Error{Code: "key_reused", Message: "the key belongs to another action"}
	ErrCoreMismatch      = &Error{Code: "core_mismatch", Message: "the journal needs another core"}
	ErrOutcomeUnknown    = &Error{Code: "outcome_unknown", Message: "it is not known whether the action is stored"}
	ErrStoreFull         = &Error{Code: "store_full", Message: "the store has no room"}
	ErrStoreRefused      = &Error{Code: "store_refused", Message: "the store has refused the action"}
	ErrMoved             = &Error{Code: "moved", Message: "another owner has the engine"}
)

// The errors of opening an engine, and of reading its history. No action ends with one, so they
// are no outcomes.
var (
	ErrEngineNotFound = &Error{Code: "engine_not_found", Message: "the store does not know the engine"}
	ErrEngineExists   = &Error{Code: "engine_exists", Message: "the store knows the engine already"}
	ErrHistoryTrimmed = &Error{Code: "history_trimmed", Message: "the history is not kept that far back"}
)

// All returns the errors of actions, in the order in which outcomes are listed.
func All() []*Error {
	return []*Error{ErrBadInput, ErrTimeout, ErrCanceled, ErrOverloaded, ErrPoisoned, ErrBroken, ErrPayloadTooLarge,
		ErrBatchAborted,
		ErrShutdown, ErrWorkerUnavailable, ErrDiverged, ErrConflict, ErrKeyReused, ErrCoreMismatch, ErrOutcomeUnknown,
		ErrStoreFull, ErrStoreRefused, ErrMoved}
}

// With returns an error with the code of e and a message.
func (e *Error) With(format string, args ...any) *Error {
	return &Error{Code: e.Code, Message: fmt.Sprintf(format, args...)}
}

// Because returns an error with the code of e, a message, and a cause.
func (e *Error) Because(cause error, format string, args ...any) *Error {
	return &Error{Code: e.Code, Message: fmt.Sprintf(format, args...), Err: cause}
}

// CodeOf returns the code of an error of the host or of a core, and "" for any other error.
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

// Shutdown returns the error of a request to an engine that is closed.
func Shutdown() *Error { return ErrShutdown.With("the engine is closed, or its host shut down") }

// Moved returns the error of a call that a store has refused because another owner has the journal.
// what names the call, which had no effect.
func Moved(what string, cause error) *Error {
	var of *Error
	if errors.As(cause, &of) && of.Code == ErrMoved.Code {
		cause = of.Err
	}
	return ErrMoved.Because(cause, "%s: another owner has the engine's journal, and nothing was done; open the engine "+
		"again, or ask the other owner: %v", what, cause)
}

// OwnCause is the cause of a context that the host itself ended. Every other cause is the caller's,
// and may be any error.
type OwnCause struct{ Err *Error }

func (c OwnCause) Error() string { return c.Err.Error() }

// Ended turns the end of ctx into the host's error for it: ErrTimeout or ErrCanceled, or what OwnCause says. what names
// the action.
func Ended(ctx context.Context, what string) error {
	cause := context.Cause(ctx)
	if own, ok := cause.(OwnCause); ok {
		return &Error{Code: own.Err.Code, Message: what + ": " + own.Err.Message, Err: own.Err.Err}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		why := "the context's deadline passed"
		if cause != ctx.Err() {
			why = cause.Error()
		}
		return &Error{Code: ErrTimeout.Code, Message: what + ": " + why, Err: context.DeadlineExceeded}
	}
	return &Error{Code: ErrCanceled.Code, Message: what + ": the context was canceled",
		Err: errors.Join(context.Canceled, cause)}
}
