package engine

import (
	"fmt"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/fault"
	"hypertoken/ipc"
)

// Reading what a place answers. Everything is checked: a worker is another process, and may send anything.

// DigestSize is the size of a digest as a worker answers it, in bytes.
const DigestSize = 8

func malformed(format string, args ...any) error {
	return &ipc.MalformedError{Message: fmt.Sprintf(format, args...)}
}

// readAnswer reads an answer into the request. It copies what it keeps of body. It fails for an
// answer that no worker may give; the request is in no defined state then.
func (r *Request) readAnswer(flags ipc.Flags, body []byte) (err error) {
	r.HasChanged, r.Err = flags&ipc.FlagChanged != 0, nil // a withdrawn request has an error already
	if flags&ipc.FlagFailed != 0 {
		f, err := ipc.ReadFailure(body)
		if err != nil {
			return err
		}
		r.Outcome = ipc.Outcome{RunTime: f.RunTime, Sequence: f.Sequence, Memory: f.Memory}
		r.Err = failureError(&f)
		return nil
	}
	if r.Outcome, err = ipc.ReadOutcome(body); err != nil {
		return err
	}
	if err := r.checkResult(); err != nil {
		return err
	}
	n := len(r.Outcome.Result)
	kept := make([]byte, 0, n+len(r.Outcome.Events))
	kept = append(append(kept, r.Outcome.Result...), r.Outcome.Events...)
	r.Outcome.Result, r.Outcome.Events = kept[:n:n], kept[n:]
	return nil
}

func (r *Request) checkResult() error {
	result := r.Outcome.Result
	switch r.Kind {
	case ipc.Dispatch, ipc.Batch, ipc.Digest:
		if sum := xxhash.Sum64(result); sum != r.Outcome.Checksum {
			return malformed("a result with the checksum %016x, the answer says %016x", sum, r.Outcome.Checksum)
		}
		if r.Kind == ipc.Digest && len(result) != DigestSize {
			return malformed("a digest of %d bytes, a digest has %d", len(result), DigestSize)
		}
	default:
		if len(result) > 0 {
			return malformed("a result of %d bytes for %v, which has none", len(result), r.Kind)
		}
	}
	if r.Kind != ipc.Batch {
		return nil
	}
	rest := result
	for k := range r.Members {
		o, after, err := ipc.ReadMemberOutcome(rest)
		if err != nil {
			return err
		}
		if o.Code == "" && xxhash.Sum64(o.Result) != o.Checksum {
			return malformed("the result of member %d has another checksum than the answer says", k)
		}
		rest = after
	}
	if len(rest) > 0 {
		return malformed("%d bytes follow the outcomes of a batch of %d", len(rest), len(r.Members))
	}
	return nil
}

// failureError makes the error of a failure that a place answered.
func failureError(f *ipc.Failure) error {
	switch f.Code {
	case ipc.CodeConflict:
		return fault.ErrConflict.With("%s", f.Message)
	case ipc.CodeDiverged:
		return fault.ErrDiverged.With("%s", f.Message)
	case ipc.CodeNotPlaced:
		return &fault.Error{Code: ipc.CodeNotPlaced, Message: f.Message}
	}
	return &fault.ActionError{Code: f.Code, Message: f.Message, Index: int(f.Index)}
}
