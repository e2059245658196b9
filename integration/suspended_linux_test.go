package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hypertoken/host"
)

func init() {
	roles["suspended"] = suspendedApplication
	roles["busy"] = busyApplication
}

const (
	suspendedTimeout = 2 * time.Second
	suspendedRounds  = 200_000_000
)

// suspendedApplication is stopped while an action runs on a worker, and other calls wait: for their
// turn, for room in the queue, and for an engine to open.
func suspendedApplication() int {
	ctx := context.Background()
	a := newApp(host.Options{Workers: 1, MaxQueue: 2, Timeout: suspendedTimeout, OpenTimeout: suspendedTimeout})
	e, f := a.open("e", deck(5)), a.open("f", deck(5))
	runs := e.DispatchAsync(ctx, "test:work", dict{"rounds": suspendedRounds})
	waits := f.DispatchAsync(ctx, "stack:draw", nil)
	type outcome struct {
		what string
		err  error
	}
	outcomes := make(chan outcome)
	go func() {
		_, err := f.Dispatch(ctx, "stack:draw", nil)
		outcomes <- outcome{"room in the queue", err}
	}()
	go func() {
		_, err := a.host.Open(ctx, "g", host.EngineOptions{Setup: deck(5)})
		outcomes <- outcome{"an engine that opens", err}
	}()
	a.until(func(s host.Stats) bool { return s.InFlight == 2 && s.Workers[0].Pending >= 3 })
	a.say(said{What: "runs"})
	go func() {
		_, err := runs.Wait(ctx)
		outcomes <- outcome{"what runs", err}
	}()
	go func() {
		_, err := waits.Wait(ctx)
		outcomes <- outcome{"what waits", err}
	}()
	s := said{What: "resumed"}
	for range 4 {
		if o := <-outcomes; o.err != nil {
			s.Error += fmt.Sprintf("%s: %v\n", o.what, o.err)
		}
	}
	a.say(s)
	if err := a.host.Shutdown(ctx); err != nil {
		return 1
	}
	return 0
}

// An application that is stopped until everything it waits for is past its time, and the worker has answered, gets its
// answers when it goes on.
func TestASuspendedHostTimesNothingOut(t *testing.T) {
	c, _, out := application(t, home(t), "suspended")
	s := hear(t, out, "runs")
	stop(t, c.Process.Pid)
	since := time.Now()
	asleep(t, s.Workers[0])
	t.Logf("the worker has nothing to do after %v", time.Since(since))
	<-time.After(time.Until(since.Add(suspendedTimeout + suspendedTimeout/4)))
	signal(t, c.Process.Pid, syscall.SIGCONT)
	if s = hear(t, out, "resumed"); s.Error != "" {
		t.Errorf("timed out, though it could be answered: %s", s.Error)
	}
	ends := s.Stats.Restarts
	if ends[host.RestartStalled]+ends[host.RestartDeadline]+ends[host.RestartDied] > 0 {
		t.Errorf("got %v", s.Stats.Restarts)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// asleep waits until a process has nothing to do: each of its threads sleeps, and goes on to.
func asleep(t *testing.T, pid int) {
	t.Helper()
	switches := func() (all []byte) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, name := range tasks {
			b, err := os.ReadFile(name)
			if err != nil || !bytes.Contains(b, []byte("State:\tS")) {
				return nil
			}
			_, after, _ := bytes.Cut(b, []byte("voluntary_ctxt_switches"))
			all = append(all, after...)
		}
		return all
	}
	for before, same := switches(), 0; same < 100; betweenLooks() {
		now := switches()
		if same++; now == nil || !bytes.Equal(now, before) {
			before, same = now, 0
		}
	}
}

// busyApplication has workers that spin, and one with nothing to do.
func busyApplication() int {
	ctx := context.Background()
	a := newApp(host.Options{Workers: 3})
	a.until(func(s host.Stats) bool {
		ready := 0
		for _, w := range s.Workers {
			if w.State == host.WorkerReady {
				ready++
			}
		}
		return ready == 3
	})
	for k := range 2 {
		a.open(fmt.Sprint(k), nil).DispatchAsync(ctx, "test:spin", nil)
		a.until(func(s host.Stats) bool {
			busy := 0
			for _, w := range s.Workers {
				busy += w.Pending
			}
			return busy == k+1
		})
	}
	a.say(said{What: "busy"})
	select {}
}

// Within a second of the end of an application that is killed no process is left, whatever its workers do.
func TestAnApplicationIsKilledWithBusyWorkers(t *testing.T) {
	c, _, out := application(t, home(t), "busy")
	s := hear(t, out, "busy")
	var spin int
	var fds []int
	for _, pid := range s.Workers {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		fds = append(fds, fd)
	}
	for _, w := range s.Stats.Workers {
		spin += w.Pending
	}
	if spin != 2 || len(fds) != 3 {
		t.Fatalf("%d workers of %d spin", spin, len(fds))
	}
	signal(t, c.Process.Pid, syscall.SIGKILL)
	since := time.Now()
	for k, fd := range fds {
		if !ended(fd, mostAfterwards-time.Since(since)) {
			t.Errorf("the worker %d is still there after %v", s.Workers[k], mostAfterwards)
		}
	}
	t.Logf("no worker is left after %v", time.Since(since))
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
}
