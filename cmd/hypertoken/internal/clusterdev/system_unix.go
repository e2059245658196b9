//go:build unix

package clusterdev

import (
	"os"
	"os/exec"
	"syscall"
)

func sendStop(p *os.Process) error     { return p.Signal(syscall.SIGSTOP) }
func sendContinue(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
func sendTerm(p *os.Process) error     { return p.Signal(syscall.SIGTERM) }

// canInherit reports whether a process can be started with descriptors beside the standard ones.
const canInherit = true

// leadGroup makes a process the first one of a group of its own. A terminal's signals do not reach it.
func leadGroup(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// joinGroup puts a process into the group of another one.
func joinGroup(c *exec.Cmd, leader int) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: leader}
}

// wakeGroup lets the stopped processes of this one's group go on.
func wakeGroup() { _ = syscall.Kill(0, syscall.SIGCONT) }

// keepDescriptor keeps the held descriptor from the processes that this one starts.
func keepDescriptor() { syscall.CloseOnExec(heldDescriptor) }

// lock locks a file until unlock is called, or this process ends.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
