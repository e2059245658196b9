//go:build unix

package torture

import "syscall"

func (k Kind) possible() bool { return true }

func stopProcess(pid int)     { _ = syscall.Kill(pid, syscall.SIGSTOP) }
func continueProcess(pid int) { _ = syscall.Kill(pid, syscall.SIGCONT) }

// running reports whether there is a process of that number, dead and unreaped ones included.
func running(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }
