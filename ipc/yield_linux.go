package ipc

import "syscall"

// yield lets another thread that waits for this core run. That thread may be the other side of
// the pipe.
func yield() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
