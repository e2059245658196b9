package pool

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// The reserve is given up while a worker is started, and taken back when no start is under way.
func TestTheReserveOfDescriptors(t *testing.T) {
	var r descriptorReserve
	want := func(when string, n int) {
		t.Helper()
		if len(r.files) != n {
			t.Errorf("%s: %d descriptors are in reserve, want %d", when, len(r.files), n)
		}
	}
	r.fill()
	want("filled", descriptorsOfStart)
	r.fill()
	want("filled twice", descriptorsOfStart)
	r.beginStart()
	r.beginStart()
	want("two starts", 0)
	r.endStart()
	want("one start", 0)
	r.endStart()
	want("no start", descriptorsOfStart)
	r.beginStart()
	r.close()
	r.endStart()
	want("closed", 0)
}

// A worker that can't be started for want of descriptors says which limit it was and what to do.
// Other errors stay as they are.
func TestErrorsForWantOfDescriptors(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such limit")
	}
	for _, c := range []struct {
		err   error
		parts []string
	}{
		{syscall.EMFILE, []string{"RLIMIT_NOFILE", "a host with 3 workers and 1 spares needs 72", "raise the limit, or open less"}},
		{syscall.ENFILE, []string{"no file descriptor left for any process", "fs.file-max"}},
		{syscall.ENOENT, []string{"the start: " + syscall.ENOENT.Error()}},
	} {
		err := explainDescriptors(fmt.Errorf("the start: %w", c.err), 3, 1)
		if !errors.Is(err, c.err) {
			t.Errorf("%v does not wrap %v", err, c.err)
		}
		for _, part := range c.parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not say %q: %v", part, err)
			}
		}
	}
	if n := Descriptors(0, 0); n != descriptorsOfHost {
		t.Errorf("a host without workers needs %d", n)
	}
}
