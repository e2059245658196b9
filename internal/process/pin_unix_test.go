//go:build unix

package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hypertoken/internal/process"
)

// A program starts as long as it has the pinned SHA-256.
func TestAPinnedWorker(t *testing.T) {
	self, err := os.ReadFile(must(os.Executable())(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(path, self, 0o700); err != nil {
		t.Fatal(err)
	}
	pin := must(process.SHA256(path))(t)
	c := process.Config{Path: path, SHA256: pin, Env: []string{"ROLE=echo"}}
	leaves(t, func() {
		p, err := process.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		echo(t, p)
		if runtime.GOOS == "linux" {
			// The process runs a copy. A change of the file does not affect it.
			exe := fmt.Sprintf("/proc/%d/exe", p.Pid())
			if to, err := os.Readlink(exe); err != nil || !strings.HasPrefix(to, "/memfd:worker") {
				t.Errorf("it runs %s, %v", to, err)
			}
			if hash := must(process.SHA256(exe))(t); hash != pin {
				t.Errorf("what runs has the SHA-256 %s, and %s is pinned", hash, pin)
			}
			if f, err := os.OpenFile(exe, os.O_WRONLY, 0); err == nil {
				_ = f.Close()
				t.Error("what runs can be written")
			}
		}
		finish(p)
	})
	if err := os.WriteFile(path, append(self, 0), 0o700); err != nil {
		t.Fatal(err)
	}
	other := must(process.SHA256(path))(t)
	leaves(t, func() {
		_, err := process.Start(t.Context(), c)
		for _, part := range []string{path, "its SHA-256 is " + other, pin + " is pinned"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("got %v, want %q", err, part)
			}
		}
	})
	c.SHA256 = other
	p, err := process.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	finish(p)
	c.Path += "-no"
	if _, err := process.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "can't be started") {
		t.Errorf("got %v", err)
	}
	// This program itself.
	p, err = process.Start(t.Context(), process.Config{SHA256: pin, Env: []string{"ROLE=echo"}})
	if err != nil {
		t.Fatal(err)
	}
	finish(p)
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
