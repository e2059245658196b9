package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mostAfterwards is how long a test waits for the end of processes whose host has ended. They end
// at once, unless the machine is busy; a process that nothing ends is still there after any time.
const mostAfterwards = time.Minute

// betweenLooks passes a millisecond between two looks at something that a test waits for. A loop
// without a pause would take a core from the processes that are to bring it about.
func betweenLooks() { <-time.After(time.Millisecond) }

// session gives a command a session of its own, which its workers cannot leave: who is in it after
// the test has outlived the program, whatever became of their parent.
func session(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Setsid = true
	t.Cleanup(func() {
		if c.Process == nil {
			return
		}
		if c.ProcessState == nil {
			if !t.Failed() {
				t.Errorf("%s was not waited for", c.Path)
			}
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		temporary := os.TempDir()
		for _, v := range c.Env {
			if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok {
				temporary = dir
			}
		}
		// Not after SIGKILL either.
		if left, _ := filepath.Glob(filepath.Join(temporary, "plugin*")); len(left) > 0 {
			t.Errorf("%s has left %v", c.Path, left)
		}
		for _, pid := range members(c.Process.Pid) {
			fd, err := unix.PidfdOpen(pid, 0)
			if err == nil && !ended(fd, mostAfterwards) {
				t.Errorf("the process %d has outlived %s", pid, c.Path)
				signal(t, pid, syscall.SIGKILL)
			}
			if err == nil {
				_ = unix.Close(fd)
			}
		}
	})
}

// members returns the processes of a session.
func members(session int) (list []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it is gone
		}
		var pid, parent, group, of int
		var state string
		_, _ = fmt.Sscan(string(b), &pid)
		_, _ = fmt.Sscan(string(b[strings.LastIndex(string(b), ")")+1:]), &state, &parent, &group, &of)
		if of == session && state != "Z" && state != "X" {
			list = append(list, pid)
		}
	}
	return list
}

// pidfd returns a function that waits for the end of a process, which it names whatever becomes of its number.
func pidfd(t *testing.T, pid int) (gone func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		defer func() { _ = unix.Close(fd) }()
		if !ended(fd, mostAfterwards) {
			t.Errorf("the process %d is still there after %v", pid, mostAfterwards)
		}
	}
}

// ended waits for the end of the process that a pidfd names, but not longer than most.
func ended(fd int, most time.Duration) bool {
	for until := time.Now().Add(most); ; {
		left := max(0, time.Until(until))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n == 1 && err == nil
		}
	}
}
