//go:build unix

package process_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// stop stops a process as SIGSTOP does, and waits until it is.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for state(pid) == "S" || state(pid) == "R" {
	}
}

// state returns the letter of a process's state in /proc; "" if there is no such process.
func state(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
}

// alive reports whether a process runs. A zombie does not run.
func alive(pid int) bool {
	s := state(pid)
	return s != "" && s != "Z" && s != "X"
}
