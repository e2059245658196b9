//go:build unix && !linux

package process

import (
	"os/exec"
	"syscall"
)

func program(path string) (string, error) { return lookUp(path) }

// attributes returns attributes for a worker's process: a terminal's Ctrl-C does not reach it. If
// the host is killed, a worker ends when it next reads its standard input. So a worker that runs
// an endless action outlives its host on these systems.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func start(cmd *exec.Cmd) error { return cmd.Start() }
