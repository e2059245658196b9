package calm

import (
	"os"
	"os/signal"
	"syscall"
)

// withoutSIGPIPE calls f and returns its error. If a process writes to a standard output or a
// standard error that nobody reads any more, Go ends the process, unless the program handles
// SIGPIPE. While f runs, this package handles SIGPIPE, so the write fails with EPIPE instead. An
// application that handles or ignores SIGPIPE keeps what it has asked for.
func withoutSIGPIPE(f func() error) error {
	if signal.Ignored(syscall.SIGPIPE) {
		return f() // signal.Stop would end the ignoring
	}
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGPIPE)
	defer signal.Stop(taken)
	return f()
}
