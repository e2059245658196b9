package process

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
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
// the thread that forked ends, not the process.
var starts = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

func start(cmd *exec.Cmd) error {
	result := make(chan error)
	starts() <- func() { result <- cmd.Start() }
	return <-result
}
