//go:build unix

package coredev

import (
	"os/exec"
	"syscall"
	"time"
)

// interruptible makes the end of a command's context the end of all that it started: cargo starts compilers.
func interruptible(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
}
