package journal

import (
	"errors"
	"fmt"
)

// The errors with a meaning of their own. Stores return them, or errors that wrap them and say more.
// They are for [errors.Is] and must not be changed.
var (
	// ErrRefused is the error of a call that had no effect and would be refused again.
	ErrRefused = errors.New("journal: the store has refused the call, which had no effect")
	// ErrNotOwner is an [ErrRefused]: the call was made for an owner who does not own the journal, or
	// not any more.
	ErrNotOwner error = &refusal{"another owner has taken the journal over"}
	// ErrFull is an [ErrRefused]: the store has no room for what would be stored. It goes on by itself
	// once there is room.
	ErrFull error = &refusal{"the store has no room left"}
	// ErrTrimmed is an [ErrRefused]: what is asked for was in the history, which is not kept that far
	// back.
	ErrTrimmed error = &refusal{"the history is not kept that far back"}
	// ErrExists is an [ErrRefused]: a journal has that name already.
	ErrExists error = &refusal{"a journal has that name already"}
	// ErrNotTarget is an [ErrRefused]: the journals of the store are not to be with this core.
	ErrNotTarget error = &refusal{"the journals of this store are to be with another core"}
	// ErrUnavailable is the error of a call that had no effect and may succeed later.
	ErrUnavailable = errors.New("journal: the store is not available, the call had no effect")
	// ErrFailed is the error of every call of a store that has failed for good. The program opens the
	// store again, best in a new process. Whether a call that was under way had an effect shows then.
	ErrFailed = errors.New("journal: the store has failed for good")
	// ErrDamaged is the error of a call for a journal whose stored bytes are not those that were
	// written. Other journals of the store are not affected.
	ErrDamaged = errors.New("journal: what is stored is damaged")
)

// refusal is a reason to refuse a call.
type refusal struct{ reason string }

// Error implements error.
func (r *refusal) Error() string { return "journal: " + r.reason }

// Unwrap says that every refusal is an ErrRefused.
func (r *refusal) Unwrap() error { return ErrRefused }

// Refused returns an [ErrRefused] that says why.
func Refused(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }
