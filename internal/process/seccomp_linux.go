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

// The system calls that a worker may still make once its core is compiled. Every other call returns EPERM.

// rule allows a system call, if all of its checks hold. A call may have several rules; the first
// one that matches decides.
type rule struct {
	nr   uint32
	when []check
	// errno is what the call returns instead of being made; 0 makes it.
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

// without holds if the argument has none of the bits.
func without(argument uint32, bits uint32) check { return check{argument: argument, mask: bits} }

// null holds for a null pointer.
func null(argument uint32) []check {
	return []check{equals(argument, 0), {argument: argument, high: true, mask: ^uint32(0)}}
}

// calls are those that are allowed whatever their arguments, the most frequent ones first.
var calls = append([]uint32{
	// Calls by which Go's runtime waits, reads and writes.
	unix.SYS_FUTEX, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_SCHED_YIELD, unix.SYS_PPOLL, unix.SYS_EPOLL_PWAIT,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_RESTART_SYSCALL, unix.SYS_EPOLL_CTL,
	unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_CLOSE, unix.SYS_FSTAT,
	// Its clocks, if the kernel does not offer them without a call.
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
	// Its memory. mmap and mprotect have rules of their own.
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MREMAP, unix.SYS_BRK,
	// Its signals and threads. clone, kill and tgkill have rules of their own.
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID,
	unix.SYS_GETEGID,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_GETRANDOM,
	// go-plugin's socket, which listens already.
	unix.SYS_ACCEPT4, unix.SYS_GETSOCKNAME, unix.SYS_GETSOCKOPT, unix.SYS_SHUTDOWN,
}, archCalls...)

// threadFlags are the flags that a new thread has: those that make it share what a process does
// not, and those that tell where its number goes.
const (
	threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD
	threadExtra = unix.CLONE_SYSVSEM | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_SETTID |
		unix.CLONE_CHILD_CLEARTID | unix.CLONE_DETACHED
)

// rules returns all that the process of a number may do.
func rules(pid uint32) []rule {
	var list []rule
	for _, nr := range calls {
		list = append(list, rule{nr: nr})
	}
	allow := func(nr uint32, when ...check) { list = append(list, rule{nr: nr, when: when}) }
	// Memory that can be executed was made when the core was compiled.
	allow(unix.SYS_MMAP, without(2, unix.PROT_EXEC))
	allow(unix.SYS_MPROTECT, without(2, unix.PROT_EXEC))
	// Threads, but no processes. Go does without clone3 if there is none; its flags lie in memory,
	// where no filter sees them.
	allow(unix.SYS_CLONE, check{argument: 0, mask: threadFlags, want: threadFlags},
		without(0, ^uint32(threadFlags|threadExtra)))
	list = append(list, rule{nr: unix.SYS_CLONE3, errno: unix.ENOSYS})
	// Signals to itself.
	allow(unix.SYS_KILL, equals(0, pid))
	allow(unix.SYS_TGKILL, equals(0, pid))
	// Limits of its own, to read.
	for _, self := range []uint32{0, pid} {
		allow(unix.SYS_PRLIMIT64, append(null(2), equals(0, self))...)
	}
	// The CPUs that it may use, by which Go's runtime adapts.
	allow(unix.SYS_SCHED_GETAFFINITY, equals(0, 0))
	// Calls that say what a descriptor is. F_SETOWN would have the kernel send signals to others.
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

// assemble returns the program of the rules. It refuses what is not a call of this machine's own
// kind, such as those of 32 bits, with all the rest.
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

// filterCalls has the kernel refuse, for all threads of this process and for good, what no worker
// needs. It returns false if the kernel has no such filters, or if there is no list for this kind
// of CPU.
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
	// The thread that asks needs the bit; the kernel gives it to the others with the filter.
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
