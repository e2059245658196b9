package workerproc_test

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mayFail are attempts that some kernels refuse to everybody.
var mayFail = map[string]bool{
	"io_uring": true, "BPF": true, "a key": true, "fork by clone3": true, "unshare": true, "perf events": true,
	"userfaultfd":            true,
	"read the host's memory": true, "trace the host": true, "a call of x32": true, "the host's descriptors": true,
	"TCP by fast open":                     true,
	"a copy of a descriptor of the host's": true, "a queued signal to the host": true, "comparing with the host": true,
	"the host's robust list": true, "writing the host's memory": true, "its group": true, "its session": true,
	"executable memory by a key": true, "the kernel's log": true, "another root": true, "a mount": true,
	"a tree of mounts": true,
	"a namespace":      true, "a module": true, "a file by its handle": true, "another signal of a descriptor": true,
	// A host that is root has capabilities that its worker lacks. So these calls fail without the
	// filter, too.
	"the host's scheduling": os.Geteuid() == 0, "the host's priority": os.Geteuid() == 0,
	"the host's CPUs": os.Geteuid() == 0,
}

// attack makes system calls that a worker does not need, and returns the error of each. Before a
// worker is confined, it can make them; then they change nothing.
func (r *readers) attack(dir string) map[string]error {
	host := os.Getppid()
	there := filepath.Join(dir, "there")
	tried := map[string]error{}
	call := func(name string, nr uintptr, arguments ...uintptr) uintptr {
		var a [6]uintptr
		copy(a[:], arguments)
		result, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if tried[name] = nil; errno != 0 {
			tried[name] = errno
		}
		return result
	}
	opened := func(name string, nr uintptr, arguments ...uintptr) {
		if fd := call(name, nr, arguments...); tried[name] == nil {
			_ = syscall.Close(int(fd))
		}
	}

	// Limits and scheduling of the host. They are set to the values that they have.
	for name, resource := range map[string]int{
		"the host's CPU time": unix.RLIMIT_CPU, "the host's address space": unix.RLIMIT_AS,
		"the host's files": unix.RLIMIT_NOFILE,
	} {
		var limit unix.Rlimit
		if tried[name] = unix.Prlimit(host, resource, nil, &limit); tried[name] == nil {
			tried[name] = unix.Prlimit(host, resource, &limit, nil)
		}
	}
	own := unix.Rlimit{}
	_ = unix.Getrlimit(unix.RLIMIT_FSIZE, &own)
	tried["its own limits"] = unix.Prlimit(0, unix.RLIMIT_FSIZE, &own, nil)
	var none [64]byte
	null := uintptr(unsafe.Pointer(&none))
	const other = 0 // as nearly all processes are
	call("the host's scheduling", unix.SYS_SCHED_SETSCHEDULER, uintptr(host), other, null)
	call("its own scheduling", unix.SYS_SCHED_SETSCHEDULER, 0, other, null)
	tried["the host's priority"] = unix.Setpriority(unix.PRIO_PROCESS, host, 0)
	var mask unix.CPUSet
	_ = unix.SchedGetaffinity(0, &mask)
	tried["the host's CPUs"] = unix.SchedSetaffinity(host, &mask)

	// Network, with sockets that were there before.
	address, _ := net.ResolveTCPAddr("tcp", os.Getenv("TCP"))
	to := &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}
	sockets := r.tcp[:3]
	r.tcp = r.tcp[3:]
	tried["TCP by fast open"] = unix.Sendto(sockets[0], []byte("x"), unix.MSG_FASTOPEN, to)
	tried["listen without bind"] = unix.Listen(sockets[1], 1)
	opened("a socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
	opened("a socket of the kernel's", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0)
	var pair [2]int32
	call("a pair of sockets", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, uintptr(unsafe.Pointer(&pair)))
	_ = unix.Close(int(pair[0]))
	_ = unix.Close(int(pair[1]))

	// Objects that outlive a process, or reach other processes.
	const private, create, remove = 0, 0o1000, 0
	if id := call("shared memory", unix.SYS_SHMGET, private, 4096, create|0o600); tried["shared memory"] == nil {
		_, _, _ = syscall.Syscall(unix.SYS_SHMCTL, id, remove, 0)
	}
	if id := call("a queue of messages", unix.SYS_MSGGET, private, create|0o600); tried["a queue of messages"] == nil {
		_, _, _ = syscall.Syscall(unix.SYS_MSGCTL, id, remove, 0)
	}
	if id := call("semaphores", unix.SYS_SEMGET, private, 1, create|0o600); tried["semaphores"] == nil {
		_, _, _ = syscall.Syscall(unix.SYS_SEMCTL, id, 0, remove)
	}
	_, tried["a key"] = unix.AddKey("user", "hypertoken", []byte("x"), unix.KEY_SPEC_THREAD_KEYRING)
	opened("io_uring", unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(new([128]byte))))
	attribute := [128]byte{0: 2, 4: 4, 8: 4, 12: 1} // an array of one value of four bytes
	opened("BPF", unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attribute)), 64)
	opened("perf events", unix.SYS_PERF_EVENT_OPEN,
		uintptr(unsafe.Pointer(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE,
			Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))})), 0, ^uintptr(0), ^uintptr(0), 0)
	opened("userfaultfd", unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1)
	_, tried["read the host's memory"] = unix.ProcessVMReadv(host, []unix.Iovec{{Base: &none[0], Len: 0}}, nil, 0)
	opened("the host's descriptors", unix.SYS_PIDFD_OPEN, uintptr(host), 0)
	tried["signal the host's thread"] = unix.Tgkill(host, host, 0)
	_, tried["signals by a descriptor"] = unix.FcntlInt(uintptr(sockets[2]), unix.F_SETOWN, host)

	// Files.
	tried["a file's times"] = unix.UtimesNanoAt(unix.AT_FDCWD, there, []unix.Timespec{{}, {}}, 0)
	tried["a file's attributes"] = unix.Setxattr(there, "user.x", []byte("x"), 0)
	tried["a file's mode"] = unix.Chmod(there, 0o600)
	_, tried["whether a file is there"] = os.Stat(there)
	tried["a file in memory"] = memoryFile()

	// Processes and code.
	tried["fork"] = fork()
	tried["fork by clone3"] = fork3()
	call("unshare", unix.SYS_UNSHARE, unix.CLONE_FS)
	call("another personality", unix.SYS_PERSONALITY, 0xffffffff)
	tried["another prctl"] = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if tried["executable memory"] = err; err == nil {
		_ = unix.Munmap(code)
	}
	data, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Mprotect(data, unix.PROT_READ|unix.PROT_EXEC)
		_ = unix.Munmap(data)
	}
	tried["memory made executable"] = err
	maps.Copy(tried, r.more(host))
	return tried
}

// more makes further attempts, and returns the error of each. If they succeed, they change
// nothing.
func (r *readers) more(host int) map[string]error {
	tried := map[string]error{}
	call := func(name string, nr uintptr, arguments ...uintptr) {
		var a [6]uintptr
		copy(a[:], arguments)
		result, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if tried[name] = nil; errno != 0 {
			tried[name] = errno
		}
		if errno == 0 && opens[name] {
			_ = syscall.Close(int(result))
		}
	}
	var zeros [256]byte
	null, pair := uintptr(unsafe.Pointer(&zeros)), r.pair

	// Descriptors, and ways to pass them on.
	const fionread = 0x541b
	tried["a descriptor handed on"] = unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(pair[0]), nil, 0)
	tried["a message"] = unix.Sendmsg(pair[0], []byte("x"), nil, nil, 0)
	tried["an option of a socket"] = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	call("an ioctl", unix.SYS_IOCTL, uintptr(pair[0]), fionread, null)
	call("another flag of a descriptor", unix.SYS_FCNTL, uintptr(pair[0]), unix.F_SETFD, unix.FD_CLOEXEC)
	call("another signal of a descriptor", unix.SYS_FCNTL, uintptr(pair[0]), unix.F_SETSIG, 0)
	call("a copy of a descriptor", unix.SYS_DUP, uintptr(pair[0]))
	call("a copy by fcntl", unix.SYS_FCNTL, uintptr(pair[0]), unix.F_DUPFD_CLOEXEC, 0)
	call("a copy of a descriptor of the host's", unix.SYS_PIDFD_GETFD, ^uintptr(0), 1, 0)
	call("epoll", unix.SYS_EPOLL_CREATE1, unix.EPOLL_CLOEXEC)
	call("an event", unix.SYS_EVENTFD2, 0, unix.EFD_CLOEXEC)
	call("inotify", unix.SYS_INOTIFY_INIT1, unix.IN_CLOEXEC)
	call("a timer's descriptor", unix.SYS_TIMERFD_CREATE, unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	call("a signal's descriptor", unix.SYS_SIGNALFD4, ^uintptr(0), null, 8, unix.SFD_CLOEXEC)

	// Others, by numbers of which half is not looked at.
	const high = 1 << 32
	call("a signal to the host, with more bits", unix.SYS_KILL, uintptr(host)|high, 0)
	call("a queued signal to the host", unix.SYS_RT_SIGQUEUEINFO, uintptr(host), 0, null)
	call("a signal to a thread", unix.SYS_TKILL, uintptr(host), 0)
	call("the host's limits, with more bits", unix.SYS_PRLIMIT64, uintptr(host)|high, unix.RLIMIT_CORE, 0, null)
	call("the host's robust list", unix.SYS_GET_ROBUST_LIST, uintptr(host), null, null)
	call("writing the host's memory", unix.SYS_PROCESS_VM_WRITEV, uintptr(host), null, 0, null, 0, 0)
	call("comparing with the host", unix.SYS_KCMP, uintptr(host), uintptr(host), 0, 0, 0)
	call("the host's input and output", unix.SYS_IOPRIO_GET, 1, uintptr(host))
	call("the host's group", unix.SYS_GETPGID, uintptr(host))
	call("the host's session", unix.SYS_GETSID, uintptr(host))

	// The process as a whole.
	call("its user", unix.SYS_SETUID, uintptr(os.Getuid()))
	call("its file mode", unix.SYS_UMASK, 0o022)
	call("its group", unix.SYS_SETPGID, 0, 0)
	call("its session", unix.SYS_SETSID)
	call("its capabilities", unix.SYS_CAPGET, null, 0)
	call("another filter", unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0,
		uintptr(unsafe.Pointer(new(uint32(unix.SECCOMP_RET_ERRNO)))))
	call("locked memory", unix.SYS_MLOCK, null, 0)
	call("executable memory by a key", unix.SYS_PKEY_MPROTECT, 0, 0, unix.PROT_EXEC, ^uintptr(0))
	call("the machine", unix.SYS_SYSINFO, uintptr(unsafe.Pointer(new(unix.Sysinfo_t))))
	call("the machine's name", unix.SYS_UNAME, uintptr(unsafe.Pointer(new(unix.Utsname))))
	call("the kernel's log", unix.SYS_SYSLOG, 10)
	call("writing all files", unix.SYS_SYNC)
	call("another root", unix.SYS_CHROOT, null)
	call("a mount", unix.SYS_MOUNT, null, null, null, 0, 0)
	call("a tree of mounts", unix.SYS_FSOPEN, null, 0)
	call("a namespace", unix.SYS_SETNS, ^uintptr(0), 0)
	call("a module", unix.SYS_FINIT_MODULE, ^uintptr(0), null, 0)
	call("a file by its handle", unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), null, 0)
	return tried
}

// opens are the attempts that leave a descriptor.
var opens = map[string]bool{"a copy of a descriptor": true, "a copy by fcntl": true, "epoll": true, "an event": true,
	"inotify": true, "a timer's descriptor": true, "a signal's descriptor": true}

func memoryFile() error {
	fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// fork makes a process that ends at once.
func fork() error {
	pid, errno := rawFork(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0)
	return reap(pid, errno)
}

func fork3() error {
	arguments := [11]uint64{4: uint64(unix.SIGCHLD)}
	pid, errno := rawFork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&arguments)), unsafe.Sizeof(arguments))
	return reap(pid, errno)
}

// rawFork forks. The new process has this thread only, so it runs no code of Go's runtime.
//
//go:norace
//go:nosplit
func rawFork(nr, a, b uintptr) (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(nr, a, b, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		for {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return pid, errno
}

func reap(pid uintptr, errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}
