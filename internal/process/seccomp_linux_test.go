//go:build linux && (amd64 || arm64)

package process

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestTheFilterDecidesByItsRules runs the program of the filter as the kernel does, on calls of
// both sides of each rule.
func TestTheFilterDecidesByItsRules(t *testing.T) {
	const self, other = 4711, 1
	program, err := assemble(rules(self))
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	decide := func(arch, nr uint32, arguments ...uint64) uint32 {
		// Words as the kernel has them in memory, but each in the byte order of the machine that
		// interprets the program.
		var data [64]byte
		binary.BigEndian.PutUint32(data[numberOffset:], nr)
		binary.BigEndian.PutUint32(data[archOffset:], arch)
		for n, a := range arguments {
			binary.BigEndian.PutUint32(data[argumentsOffset+8*n:], uint32(a))
			binary.BigEndian.PutUint32(data[argumentsOffset+8*n+4:], uint32(a>>32))
		}
		action, err := vm.Run(data[:])
		if err != nil {
			t.Fatal(err)
		}
		return uint32(action)
	}
	const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD
	const ok, no, absent = allowed, refused | uint32(unix.EPERM), refused | uint32(unix.ENOSYS)
	for _, c := range []struct {
		name      string
		nr        uint32
		arguments []uint64
		want      uint32
	}{
		{"read", unix.SYS_READ, nil, ok},
		{"the last of those without conditions", calls[len(calls)-1], nil, ok},
		{"a call that is not on the list", unix.SYS_OPENAT, nil, no},
		{"a number that no call has", 0xffffffff, nil, no},
		{"a thread of Go", unix.SYS_CLONE, []uint64{thread | unix.CLONE_SYSVSEM}, ok},
		{"a thread of the C library", unix.SYS_CLONE, []uint64{0x3d0f00}, ok},
		{"a process", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, no},
		{"a process that shares memory", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}, no},
		{"a thread that leaves its files", unix.SYS_CLONE, []uint64{thread &^ unix.CLONE_FILES}, no},
		{"a thread in another namespace", unix.SYS_CLONE, []uint64{thread | unix.CLONE_NEWNET}, no},
		{"a thread that is traced", unix.SYS_CLONE, []uint64{thread | unix.CLONE_PTRACE}, no},
		{"clone3", unix.SYS_CLONE3, nil, absent},
		{"memory", unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, ok},
		{"memory that is executed", unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, no},
		{"memory that becomes writable", unix.SYS_MPROTECT, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, ok},
		{"memory that becomes executable", unix.SYS_MPROTECT, []uint64{0, 4096, unix.PROT_EXEC}, no},
		{"a signal to itself", unix.SYS_KILL, []uint64{self, 9}, ok},
		{"a signal to another", unix.SYS_KILL, []uint64{other, 9}, no},
		{"a signal to all", unix.SYS_KILL, []uint64{^uint64(0), 9}, no},
		{"a signal to its group", unix.SYS_KILL, []uint64{0, 9}, no},
		{"a signal to a thread of its own", unix.SYS_TGKILL, []uint64{self, 5, 23}, ok},
		{"a signal to a thread of another", unix.SYS_TGKILL, []uint64{other, 5, 23}, no},
		{"a limit of its own, to read", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_NOFILE, 0, 1 << 40}, ok},
		{"the same by its number", unix.SYS_PRLIMIT64, []uint64{self, unix.RLIMIT_NOFILE, 0, 1 << 40}, ok},
		{"a limit of another, to read", unix.SYS_PRLIMIT64, []uint64{other, unix.RLIMIT_NOFILE, 0, 1 << 40}, no},
		{"a limit of its own, to write", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_NOFILE, 4096}, no},
		{"the same, from a high address", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_NOFILE, 1 << 40}, no},
		{"its CPUs", unix.SYS_SCHED_GETAFFINITY, []uint64{0}, ok},
		{"another's CPUs", unix.SYS_SCHED_GETAFFINITY, []uint64{other}, no},
		{"a descriptor's flags", unix.SYS_FCNTL, []uint64{3, unix.F_GETFL}, ok},
		{"who gets a descriptor's signals", unix.SYS_FCNTL, []uint64{3, unix.F_SETOWN, other}, no},
		{"a name for memory", unix.SYS_PRCTL, []uint64{unix.PR_SET_VMA}, ok},
		{"another prctl", unix.SYS_PRCTL, []uint64{unix.PR_SET_PDEATHSIG}, no},
	} {
		if got := decide(auditArch, c.nr, c.arguments...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	// A process may make system calls of another architecture, in which the same numbers mean
	// other calls.
	if got := decide(unix.AUDIT_ARCH_I386, unix.SYS_READ); got != no {
		t.Errorf("a call of 32 bits: %#x, want %#x", got, no)
	}
	const x32 = 0x40000000
	if got := decide(auditArch, x32|unix.SYS_READ); got != no {
		t.Errorf("a call of x32: %#x, want %#x", got, no)
	}
}
