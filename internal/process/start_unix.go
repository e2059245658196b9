//go:build unix && !linux

package process

import (
	"os/exec"
	"syscall"
)

func program(path string) (string, error) { return lookUp(path) }

// attributes keeps a terminal's Ctrl-C from the workers. A worker whose host is killed here ends when it next reads its
// standard input: one that runs an action without end outlives it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func start(cmd *exec.Cmd) error { return cmd.Start() }
