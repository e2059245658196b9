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

// program returns what to start. A program that is replaced on disk goes on starting what it is itself.
func program(path string) (string, error) {
	if path == "" {
		if _, err := os.Stat("/proc/self/exe"); err == nil {
			return "/proc/self/exe", nil
		}
	}
	return lookUp(path)
}

// attributes keeps a terminal's Ctrl-C from the workers, which their host ends, and has the kernel kill them with it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// starts is served by one goroutine on one thread, as long as the process lives: the parent's death signal comes when
// the thread that forked ends, not the process. What that thread starts has no capabilities and gets no new privileges,
// whatever it executes. The rest of this process keeps its own: Go clones no thread from one that is locked.
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

// giveUpPrivileges takes privileges from what this thread starts.
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
