//go:build linux && (amd64 || arm64)

package process

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The system calls that a worker may still make once its core is compiled. Every other call
// returns EPERM.

// rule allows a system call if all of its checks hold. A call may have several rules. The first
// rule whose checks hold decides.
type rule struct {
	nr   uint32
	when []check
	// errno is the error that the call returns. If it is 0, the call is allowed.
	errno unix.Errno
}

// check compares 32 bits of an argument: argument & mask == want.
type check struct {
	argument uint32
	high     bool // the upper half of the argument
	mask     uint32
	want     uint32
}

func equals(argument uint32, want uint32) check {
	return check{argument: argument, mask: ^uint32(0), want: want}
}

// without returns a check that holds if the argument has none of the bits.
func without(argument uint32, bits uint32) check { return check{argument: argument, mask: bits} }

// null returns checks that hold for a null pointer.
func null(argument uint32) []check {
	return []check{equals(argument, 0), {argument: argument, high: true, mask: ^uint32(0)}}
}

// calls are the system calls that are allowed with any arguments, the most frequent ones first.
var calls = append([]uint32{
	// Calls by which Go's runtime waits, reads and writes.
	unix.SYS_FUTEX, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_SCHED_YIELD, unix.SYS_PPOLL, unix.SYS_EPOLL_PWAIT,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_RESTART_SYSCALL, unix.SYS_EPOLL_CTL,
	unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_FSTAT,
	// The clocks, if the kernel does not offer them without a system call.
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
	// Memory of Go's runtime. mmap and mprotect have rules of their own.
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MREMAP, unix.SYS_BRK,
	// Signals and threads of Go's runtime. clone, kill and tgkill have rules of their own.
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID,
	unix.SYS_GETEGID,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_GETRANDOM,
	// go-plugin's socket. It listens already.
	unix.SYS_ACCEPT4, unix.SYS_GETSOCKNAME, unix.SYS_GETSOCKOPT, unix.SYS_SHUTDOWN,
}, archCalls...)

// threadFlags are the flags of clone that a new thread must have, because it shares with its
// process what a new process would not share. threadExtra are further flags that it may have.
const (
	threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD
	threadExtra = unix.CLONE_SYSVSEM | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_SETTID |
		unix.CLONE_CHILD_CLEARTID | unix.CLONE_DETACHED
)

// rules returns all system calls that the process with this ID may make.
func rules(pid uint32) []rule {
	var list []rule
	for _, nr := range calls {
		list = append(list, rule{nr: nr})
	}
	allow := func(nr uint32, when ...check) { list = append(list, rule{nr: nr, when: when}) }
	// No memory becomes executable any more: the core is compiled already.
	allow(unix.SYS_MMAP, without(2, unix.PROT_EXEC))
	allow(unix.SYS_MPROTECT, without(2, unix.PROT_EXEC))
	// New threads, but no processes. clone3 does not exist for the worker, and Go then uses clone:
	// the flags of clone3 lie in memory, which a filter can't read.
	allow(unix.SYS_CLONE, check{argument: 0, mask: threadFlags, want: threadFlags},
		without(0, ^uint32(threadFlags|threadExtra)))
	list = append(list, rule{nr: unix.SYS_CLONE3, errno: unix.ENOSYS})
	// Signals to itself.
	allow(unix.SYS_KILL, equals(0, pid))
	allow(unix.SYS_TGKILL, equals(0, pid))
	// Reading its own limits.
	for _, self := range []uint32{0, pid} {
		allow(unix.SYS_PRLIMIT64, append(null(2), equals(0, self))...)
	}
	// The list of CPUs that it may use; Go's runtime adapts to it.
	allow(unix.SYS_SCHED_GETAFFINITY, equals(0, 0))
	// Reading the flags of a descriptor. With F_SETOWN, the kernel could send signals to other
	// processes.
	for _, command := range []uint32{unix.F_GETFD, unix.F_GETFL} {
		allow(unix.SYS_FCNTL, equals(1, command))
	}
	// Names of memory in /proc.
	allow(unix.SYS_PRCTL, equals(0, unix.PR_SET_VMA))
	return list
}

// Offsets of the fields that a filter reads, in the kernel's struct seccomp_data.
const (
	numberOffset    = 0
	archOffset      = 4
	argumentsOffset = 16
)

const (
	allowed = uint32(unix.SECCOMP_RET_ALLOW)
	refused = uint32(unix.SECCOMP_RET_ERRNO)
)

// assemble returns the rules as a program of the filter. The program refuses every call that no
// rule allows, and every call of another architecture, such as a call of 32 bits.
func assemble(list []rule) ([]bpf.Instruction, error) {
	load := func(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 4} }
	deny := bpf.RetConstant{Val: refused | uint32(unix.EPERM)}
	program := []bpf.Instruction{
		load(archOffset), bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1}, deny,
		load(numberOffset),
	}
	for _, r := range list {
		end := bpf.RetConstant{Val: allowed}
		if r.errno != 0 {
			end.Val = refused | uint32(r.errno)
		}
		if len(r.when) == 0 {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.nr, SkipFalse: 1}, end)
			continue
		}
		// Each check is three instructions. Those of the next rule load the number again.
		length := 3*len(r.when) + 1
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.nr, SkipFalse: uint8(length)})
		for n, c := range r.when {
			offset := argumentsOffset + 8*c.argument
			if c.high {
				offset += 4
			}
			program = append(program, load(offset), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.want, SkipFalse: uint8(length - 3*(n+1))})
		}
		program = append(program, end, load(numberOffset))
	}
	return append(program, deny), nil
}

// filterCalls installs the filter for all threads of this process, for good. It returns false if
// the kernel has no such filters.
func filterCalls() (bool, error) {
	if !seccompOffered() {
		return false, nil
	}
	instructions, err := assemble(rules(uint32(os.Getpid())))
	if err != nil {
		return false, err
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return false, err
	}
	filter := make([]unix.SockFilter, len(raw))
	for n, r := range raw {
		filter[n] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// This thread needs the bit to install a filter. The kernel sets it for the other threads,
	// together with the filter.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return false, fmt.Errorf("forbidding new privileges: %w", err)
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return false, fmt.Errorf("seccomp: %w", errno)
	}
	if thread != 0 {
		return false, fmt.Errorf("seccomp: the thread %d has another filter", thread)
	}
	return true, nil
}

// seccompOffered reports whether the kernel can filter system calls here.
func seccompOffered() bool {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0
}
