package host_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hypertoken/host"
)

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// The workers of a host need no more descriptors than Descriptors says, and not many fewer.
func TestDescriptorsSaysHowManyAreNeeded(t *testing.T) {
	t.Run(onWorkers, testDescriptorsSaysHowManyAreNeeded)
}

func testDescriptorsSaysHowManyAreNeeded(t *testing.T) {
	before := openDescriptors(t)
	o := host.Options{Workers: 3, Spares: 1}
	h := newHost(t, o)
	dispatch(t, open(t, h, "e", deck(5)), "stack:draw", nil)
	for ready := 0; ready < 4; {
		ready = 0
		s := h.Stats()
		for _, w := range append(s.Workers, s.Spares...) {
			if w.State == host.WorkerReady {
				ready++
			}
		}
	}
	if used, need := openDescriptors(t)-before, host.Descriptors(o); used > need || used < need/3 {
		t.Errorf("%d descriptors are open, Descriptors says %d", used, need)
	}
}

// A worker is started though this process may open nothing any more; and if it can't be, the error says why.
func TestWorkersAreStartedFromTheReserve(t *testing.T) {
	t.Run(onWorkers, testWorkersAreStartedFromTheReserve)
}

func testWorkersAreStartedFromTheReserve(t *testing.T) {
	program, gate := gatedWorker(t)
	target := gate + "-target"
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, host.Options{NoFallback: true, WorkerPath: program, Workers: 1, MaxRestarts: 1})
	state := func() host.WorkerState { return h.Stats().Workers[0].State }
	for state() != host.WorkerGivenUp {
		runtime.Gosched()
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		l := old
		l.Cur = n
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { limit(old.Cur) }()
	fill := func() (filled []int) {
		for {
			fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				if !errors.Is(err, unix.EMFILE) {
					t.Fatal(err)
				}
				return filled
			}
			filled = append(filled, fd)
		}
	}
	limit(256)
	filled := fill()
	defer func() {
		for _, fd := range filled {
			_ = unix.Close(fd)
		}
	}()

	// Not even what is in reserve may be used: the reason is in the error.
	limit(3)
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := h.Open(ctx, "e", host.EngineOptions{Setup: deck(5)})
		return err
	}
	err := ask()
	for !strings.Contains(err.Error(), "RLIMIT_NOFILE") {
		if !errors.Is(err, host.ErrWorkerUnavailable) && !errors.Is(err, host.ErrTimeout) {
			t.Fatal(err)
		}
		err = ask()
	}
	for _, want := range []string{"too many open files", "may have 3 file descriptors",
		"with 1 workers and 0 spares needs 48"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}

	limit(256)
	if err := os.Symlink(target, gate); err != nil { // which needs no descriptor
		t.Fatal(err)
	}
	for err = ask(); err != nil; err = ask() {
		if !errors.Is(err, host.ErrWorkerUnavailable) && !errors.Is(err, host.ErrTimeout) {
			t.Fatal(err)
		}
	}
}
