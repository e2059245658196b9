package leaks

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"hypertoken/host"
)

// watched has the tests that have called Check.
var watched sync.Map

func check(t *testing.T) {
	t.Helper()
	if _, twice := watched.LoadOrStore(t, true); twice {
		return
	}
	// The name is short: the name of a worker's socket has to fit into 108 bytes.
	temporary, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temporary)
	// The first worker of a program leaves what the program keeps: the thread that forks, the runtime's poller.
	if err := startFirstWorker(); err != nil {
		t.Fatal(err)
	}
	ignore := goleak.IgnoreCurrent()
	files := Descriptors()
	t.Cleanup(func() {
		watched.Delete(t)
		goleak.VerifyNone(t, ignore)
		if left := Children(); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
		if now := Descriptors(); len(now) > len(files) {
			t.Errorf("descriptors are left: %v, before %v", now, files)
		}
		if left, _ := filepath.Glob(filepath.Join(temporary, "*")); len(left) > 0 {
			t.Errorf("files are left: %v", left)
		}
		if err := os.RemoveAll(temporary); err != nil {
			t.Error(err)
		}
	})
}

// startFirstWorker starts a worker and ends it again. Only the first call does so.
var startFirstWorker = sync.OnceValue(func() error {
	ctx := context.Background()
	h, err := host.New(ctx, host.Options{Workers: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if _, err = h.Open(ctx, "warm", host.EngineOptions{}); err != nil {
		_ = h.Shutdown(ctx)
		return err
	}
	return h.Shutdown(ctx)
})

// Descriptors returns the open descriptors of this process, each with what it stands for.
func Descriptors() (list []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			list = append(list, e.Name()+" "+to)
		}
	}
	return list
}

// Children returns the processes that this process has started and not reaped.
func Children() []string {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", os.Getpid()))
	var all []string
	for _, name := range tasks {
		b, _ := os.ReadFile(name)
		all = append(all, strings.Fields(string(b))...)
	}
	return all
}
