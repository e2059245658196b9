package process

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// program returns the path to execute. For "" that is the running program itself, even if its file
// was replaced since.
func program(path string) (string, error) {
	if path == "" {
		if _, err := os.Stat("/proc/self/exe"); err == nil {
			return "/proc/self/exe", nil
		}
	}
	return lookUp(path)
}

// attributes returns attributes for a worker's process. A terminal's Ctrl-C does not reach it,
// because its host ends it. If the host ends, the kernel kills the worker.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// starts takes functions that start processes. One goroutine runs them, on one thread that lives
// as long as the process: the kernel kills a worker when the thread that started it ends, not when
// the process does. A program that this thread starts has no capabilities and gets no new
// privileges. The other threads of this process keep theirs, because Go does not clone threads
// from a locked one.
var starts = sync.OnceValue(func() chan<- func(error) {
	c := make(chan func(error))
	go func() {
		runtime.LockOSThread()
		err := giveUpPrivileges()
		for f := range c {
			f(err)
		}
	}()
	return c
})

// giveUpPrivileges changes this thread so that the programs it starts have no privileges.
func giveUpPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding new privileges: %w", err)
	}
	return giveUpCapabilities()
}

func start(cmd *exec.Cmd) error {
	result := make(chan error)
	starts() <- func(err error) {
		if err != nil {
			result <- err
			return
		}
		result <- cmd.Start()
	}
	return <-result
}
