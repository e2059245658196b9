package ipc

import "syscall"

// yield lets another thread run that waits for this core. It may be the other side, and on a core of its own soon.
func yield() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
