//go:build unix

package bench

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-plugin"
)

// detach makes a terminal's signals not reach a child. Its host ends it, once the host has written
// its report.
func detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// hostDescriptor is the descriptor of a pipe in a child. Its host holds the other end as long as
// it lives. Standard input can't be used for that, because go-plugin passes the host's own on.
const hostDescriptor = 3

// tie gives a child that is about to be started such a pipe. The pipe ends when this process ends,
// for whatever reason.
func tie(r *room, c *exec.Cmd) error {
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	r.closing(func() { _, _ = in.Close(), out.Close() })
	c.ExtraFiles = []*os.File{in}
	return nil
}

// endWithHost starts a goroutine that waits until the host has ended. It then removes the
// directory of this process's socket, and ends the process.
func endWithHost() {
	// If the host has ended, nobody reads the handshake. Then SIGPIPE would end this process
	// before the directory is removed.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(hostDescriptor, "the host"))
		if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
			_ = os.RemoveAll(dir)
		}
		os.Exit(0)
	}()
}
