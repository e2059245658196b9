package host

import (
	"fmt"
	"slices"

	"hypertoken/internal/pool"
)

// WorkerState is how a worker, or a spare, is, over all its processes.
type WorkerState uint8

const (
	// WorkerStarting is a worker whose process is on its way, up to its readiness.
	WorkerStarting WorkerState = iota
	// WorkerReady is a worker that runs requests.
	WorkerReady
	// WorkerBackoff is a worker whose process has died. The next one starts in a moment.
	WorkerBackoff
	// WorkerGivenUp is a worker of which too many processes have died (MaxRestarts of [Options]).
	// One is tried now and then.
	WorkerGivenUp
	// WorkerProbing is a worker that was given up, while a process is tried.
	WorkerProbing
	// WorkerStopped is a worker of a host that has shut down.
	WorkerStopped
)

// WorkerStates returns all states, in the order in which metrics list them.
func WorkerStates() []WorkerState {
	return []WorkerState{WorkerStarting, WorkerReady, WorkerBackoff, WorkerGivenUp, WorkerProbing, WorkerStopped}
}

// String returns the state as metrics and logs have it: starting, ready, backoff, given_up,
// probing or stopped.
func (s WorkerState) String() string {
	if s > WorkerStopped {
		return fmt.Sprintf("state %d", uint8(s))
	}
	return pool.State(s).String()
}

// MarshalText returns the state as String does.
func (s WorkerState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state as String returns it. It fails for anything else.
func (s *WorkerState) UnmarshalText(text []byte) error {
	k := slices.IndexFunc(WorkerStates(), func(s WorkerState) bool { return s.String() == string(text) })
	if k < 0 {
		return fmt.Errorf("%q is no state of a worker", text)
	}
	*s = WorkerStates()[k]
	return nil
}

// RestartReason is why a worker process ended.
type RestartReason uint8

const (
	// RestartDied is the end of a process that crashed, exited, or broke the protocol.
	RestartDied RestartReason = iota
	// RestartDeadline is a kill of a process that owed an answer past a deadline, or was not ready
	// in time.
	RestartDeadline
	// RestartStalled is a kill of a process that owed an answer and did not run, or that did not
	// answer a ping while it had nothing to do (StallAfter of [Options]).
	RestartStalled
	// RestartMemory is a kill of a process that took too much memory (MaxWorkerMemory of
	// [Options]).
	RestartMemory
	// RestartShutdown is the end of a process for which its host was shut down. Nothing is
	// restarted then.
	RestartShutdown
)

// RestartReasons returns all reasons, in the order in which metrics list them.
func RestartReasons() []RestartReason {
	return []RestartReason{RestartDied, RestartDeadline, RestartStalled, RestartMemory, RestartShutdown}
}

// String returns the reason as metrics and logs have it: died, deadline, stalled, memory or
// shutdown.
func (r RestartReason) String() string {
	if r > RestartShutdown {
		return fmt.Sprintf("reason %d", uint8(r))
	}
	return pool.Reason(r).String()
}

// MarshalText returns the reason as String does.
func (r RestartReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a reason as String returns it. It fails for anything else.
func (r *RestartReason) UnmarshalText(text []byte) error {
	k := slices.IndexFunc(RestartReasons(), func(r RestartReason) bool { return r.String() == string(text) })
	if k < 0 {
		return fmt.Errorf("%q is no reason for the end of a worker", text)
	}
	*r = RestartReasons()[k]
	return nil
}
