package calls

import (
	"context"
	"errors"

	"hypertoken/host"
	"hypertoken/journal"
)

// Failure is an error on its way to another node: the error there has the same type, code, message
// and causes.
type Failure struct {
	Kind    kind   `msgpack:"k"`
	Code    string `msgpack:"c,omitempty"`
	Message string `msgpack:"m,omitempty"`
	// Index is that of a member of a batch.
	Index int `msgpack:"i,omitempty"`
	// Causes are the errors that the error wraps.
	Causes []*Failure `msgpack:"w,omitempty"`
}

// kind is the type of an error.
type kind uint8

const (
	isText   kind = iota // any other error
	isOfHost             // *host.Error
	isOfCore             // *host.ActionError
	isBatch              // *host.BatchError
	isKnown              // one of known
	isJoined             // several errors
)

// known are errors that callers compare with, by name.
var known = map[string]error{
	"deadline": context.DeadlineExceeded, "canceled": context.Canceled,
	"refused": journal.ErrRefused, "not owner": journal.ErrNotOwner, "full": journal.ErrFull,
	"unavailable": journal.ErrUnavailable, "failed": journal.ErrFailed, "damaged": journal.ErrDamaged,
	"exists": journal.ErrExists, "trimmed": journal.ErrTrimmed,
}

// FailureOf returns an error as it is sent, nil for no error.
func FailureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	switch e := err.(type) { //nolint:errorlint // each cause is sent by itself
	case *host.Error:
		return &Failure{Kind: isOfHost, Code: e.Code, Message: e.Message, Causes: causes(e.Err)}
	case *host.ActionError:
		return &Failure{Kind: isOfCore, Code: e.Code, Message: e.Message, Index: e.Index}
	case *host.BatchError:
		return &Failure{Kind: isBatch, Index: e.Index, Causes: causes(e.Err)}
	case interface{ Unwrap() []error }:
		return &Failure{Kind: isJoined, Message: err.Error(), Causes: causes(e.Unwrap()...)}
	}
	for name, sentinel := range known {
		if err == sentinel { //nolint:errorlint // what it wraps is sent by itself
			return &Failure{Kind: isKnown, Code: name}
		}
	}
	return &Failure{Kind: isText, Message: err.Error(), Causes: causes(errors.Unwrap(err))}
}

func causes(list ...error) (failures []*Failure) {
	for _, err := range list {
		if err != nil {
			failures = append(failures, FailureOf(err))
		}
	}
	return failures
}

// Err returns the error; nil for nil.
func (f *Failure) Err() error {
	if f == nil {
		return nil
	}
	var inner []error
	for _, c := range f.Causes {
		inner = append(inner, c.Err())
	}
	var cause error
	if len(inner) > 0 {
		cause = inner[0]
	}
	switch {
	case f.Kind == isOfHost:
		return &host.Error{Code: f.Code, Message: f.Message, Err: cause}
	case f.Kind == isOfCore:
		return &host.ActionError{Code: f.Code, Message: f.Message, Index: f.Index}
	case f.Kind == isBatch:
		return &host.BatchError{Index: f.Index, Err: cause}
	case f.Kind == isKnown && known[f.Code] != nil:
		return known[f.Code]
	case f.Kind == isJoined:
		if joined := errors.Join(inner...); joined != nil && joined.Error() == f.Message {
			return joined
		}
	}
	return &remote{f.Message, inner}
}

// remote is an error of another node that has no type of its own.
type remote struct {
	message string
	causes  []error
}

// Error implements error.
func (e *remote) Error() string { return e.message }

// Unwrap returns the causes.
func (e *remote) Unwrap() []error { return e.causes }
