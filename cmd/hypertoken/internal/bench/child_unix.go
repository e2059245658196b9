//go:build unix

package bench

import (
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/hashicorp/go-plugin"
)

// detach keeps a terminal's signals from a child: its host ends it, when it has reported what there is.
func detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// hostDescriptor is where a child has the end of a pipe whose other end its host holds as long as
// it lives. Standard input can't be that: go-plugin hands on its own.
const hostDescriptor = 3

// tie gives a child that is about to be started the pipe that ends with this process, whatever ends it.
func tie(r *room, c *exec.Cmd) error {
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	r.closing(func() { _, _ = in.Close(), out.Close() })
	c.ExtraFiles = []*os.File{in}
	return nil
}

// endWithHost ends this process, and removes the directory of its socket, as soon as its host is gone.
func endWithHost() {
	_, _ = io.Copy(io.Discard, os.NewFile(hostDescriptor, "the host"))
	if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(0)
}
