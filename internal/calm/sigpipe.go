package calm

import (
	"os"
	"os/signal"
	"syscall"
)

// withoutSIGPIPE calls f and returns its error. Go ends a process that writes to a standard output
// or a standard error that nobody reads any more, unless somebody takes SIGPIPE. While f runs, this
// package takes it: the write fails with EPIPE, and the process goes on. An application that has
// taken or ignored SIGPIPE keeps what it has asked for.
func withoutSIGPIPE(f func() error) error {
	if signal.Ignored(syscall.SIGPIPE) {
		return f() // Stop would undo that
	}
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGPIPE)
	defer signal.Stop(taken)
	return f()
}
