package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/leaks"
	"hypertoken/internal/replay"
	"hypertoken/internal/require"
	"hypertoken/internal/trace"
)

type dict = map[string]any

// newHost returns a host on worker processes. After the test nothing of it may be left.
func newHost(t *testing.T, o host.Options) *host.Host {
	t.Helper()
	leaks.Check(t)
	if o.Core == nil {
		o.Core = cores.Test
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h, err := host.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func open(t *testing.T, h *host.Host, name string, setup any) *host.Engine {
	t.Helper()
	e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: setup})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func deck(n int) dict {
	tokens := make([]dict, n)
	for k := range tokens {
		tokens[k] = dict{"id": fmt.Sprint("t", k)}
	}
	return dict{"stack": tokens}
}

func dispatch(t *testing.T, e *host.Engine, action string, payload any, opts ...host.DispatchOption) host.Result {
	t.Helper()
	r, err := e.Dispatch(t.Context(), action, payload, opts...)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return r
}

func digest(t *testing.T, e *host.Engine) host.Digest {
	t.Helper()
	d, err := e.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}

// endless lets workers die as often as they like, and be back at once.
var endless = host.Options{MaxRestarts: 1 << 20, RestartWindow: 1}

// Every trace gives what was recorded: on one worker, on four, in batches, and with workers that
// are killed while they owe answers.
func TestTracesOnWorkers(t *testing.T) {
	traces := require.Sample(5, traces(t))
	for _, c := range []struct {
		name    string
		workers int
		modes   []trace.Mode
		kills   bool
	}{
		{"one", 1, []trace.Mode{trace.Single}, false},
		{"four", 4, []trace.Mode{trace.Single}, false},
		{"batched", 2, []trace.Mode{trace.Independent, trace.Atomic}, false},
		{"killed", 2, []trace.Mode{trace.Single}, true},
		{"killed, batched", 2, []trace.Mode{trace.Independent, trace.Atomic}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := endless
			o.Workers, o.MaxAttempts = c.workers, 100
			h := newHost(t, o)
			var stop atomic.Bool
			var killer sync.WaitGroup
			if c.kills {
				killer.Go(func() {
					// A kill each few answers, so that there is progress.
					for next := uint64(20); !stop.Load(); runtime.Gosched() {
						s := h.Stats()
						for _, w := range s.Workers {
							if s.Actions["ok"] >= next && w.Pending > 0 && w.State == host.WorkerReady {
								next = s.Actions["ok"] + 20 + rand.Uint64N(60)
								signal(t, w.PID, syscall.SIGKILL)
							}
						}
					}
				})
			}
			var running sync.WaitGroup
			limit := make(chan struct{}, 4)
			for k, tr := range traces {
				limit <- struct{}{}
				running.Go(func() {
					defer func() { <-limit }()
					for _, mode := range c.modes {
						e, err := h.Open(t.Context(), fmt.Sprint(k, mode),
							host.EngineOptions{Setup: host.Raw(tr.Setup)})
						if err != nil {
							t.Error(err)
							return
						}
						report, err := (&trace.Verifier{Mode: mode}).Verify(t.Context(), tr, replay.Engine{Engine: e})
						if err != nil {
							t.Errorf("trace %d: %v", k, err)
						} else if report.Difference != nil {
							t.Errorf("trace %d: %v", k, report.Difference)
						}
						if err := e.Close(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			running.Wait()
			stop.Store(true)
			killer.Wait()
			s := h.Stats()
			t.Logf("%d deaths, %d requests in flight then, %d placings", s.Restarts[host.RestartDied], s.Recovered,
				s.Placed)
			if c.kills && s.Recovered == 0 {
				t.Error("no worker died with requests in flight")
			}
		})
	}
}

// A worker that is stopped is neither dead nor answering. Its requests run elsewhere.
func TestAStoppedWorkerIsReplaced(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			h := newHost(t, host.Options{Workers: workers, StallAfter: 300 * time.Millisecond})
			e := open(t, h, "e", deck(5))
			stop(t, workerOf(t, h))
			if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 1 {
				t.Errorf("got %+v", r)
			}
			// Another worker may have answered before this one is found out.
			for h.Stats().Restarts[host.RestartStalled] == 0 {
				betweenLooks()
			}
		})
	}
}

// stop stops a process, and waits until it does.
func stop(t *testing.T, pid int) {
	t.Helper()
	signal(t, pid, syscall.SIGSTOP)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if state := string(stat[strings.LastIndex(string(stat), ")")+1:]); strings.HasPrefix(state, " T") {
			return
		}
		betweenLooks()
	}
}

// workerOf returns the process of the worker that has an engine.
func workerOf(t *testing.T, h *host.Host) int {
	t.Helper()
	for _, w := range h.Stats().Workers {
		if w.Engines > 0 {
			return w.PID
		}
	}
	t.Fatal("no worker has an engine")
	return 0
}

// An action that hangs fails at its deadline and has no effect; its worker is killed, and nobody else notices.
func TestAHangPastItsDeadline(t *testing.T) {
	h := newHost(t, host.Options{Workers: 1, KillGrace: 20 * time.Millisecond})
	e, f := open(t, h, "e", deck(5)), open(t, h, "f", deck(5))
	dispatch(t, e, "stack:draw", nil)
	before := digest(t, e)
	// Long enough for the action to be sent, on any machine.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	hung := e.DispatchAsync(ctx, "test:spin", nil)
	behind := f.DispatchAsync(t.Context(), "stack:draw", nil)
	if _, err := hung.Wait(t.Context()); !errors.Is(err, host.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	if _, err := behind.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if digest(t, e) != before {
		t.Error("what timed out had an effect")
	}
	if s := h.Stats(); s.Restarts[host.RestartDeadline] != 1 {
		t.Errorf("got %v", s.Restarts)
	}
}

// An action that workers die of fails, once it has killed two that ran nothing else; everybody else's actions succeed.
func TestPoisonIsContained(t *testing.T) {
	o := endless
	o.Workers = 1
	h := newHost(t, o)
	e, f := open(t, h, "e", deck(5)), open(t, h, "f", deck(50))
	poison := e.DispatchAsync(t.Context(), "test:spin", nil)
	var others []*host.Future
	for range 40 {
		others = append(others, f.DispatchAsync(t.Context(), "stack:draw", nil))
	}
	last := h.Stats()
	since := 0
	for _, _, done := poison.Result(); !done; _, _, done = poison.Result() {
		s := h.Stats()
		w := s.Workers[0]
		now := ticks(w.PID)
		if s.Actions["ok"] != last.Actions["ok"] || s.Engines[host.Placing] > 0 || w.State != host.WorkerReady ||
			w.Pending == 0 || w.PID != last.Workers[0].PID {
			since = now
		} else if now > since+spinTicks {
			// Nothing but the spin computes as long.
			signal(t, w.PID, syscall.SIGKILL)
			since = now
		}
		last = s
		betweenLooks()
	}
	if _, err, _ := poison.Result(); !errors.Is(err, host.ErrPoisoned) {
		t.Errorf("got %v", err)
	}
	if _, err := host.All(t.Context(), others...); err != nil {
		t.Error(err)
	}
	if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 1 {
		t.Errorf("got %+v", r)
	}
}

// Engines behind a long action get their answers from another worker while it still runs.
func TestALongActionDelaysItsOwnEngineOnly(t *testing.T) {
	h := newHost(t, host.Options{Workers: 2})
	var engines []*host.Engine
	for k := range 6 {
		engines = append(engines, open(t, h, fmt.Sprint(k), deck(5)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	hog := engines[0].DispatchAsync(ctx, "test:spin", nil)
	var futures []*host.Future
	for _, e := range engines[1:] {
		futures = append(futures, e.DispatchAsync(t.Context(), "stack:draw", nil))
	}
	if _, err := host.All(t.Context(), futures...); err != nil {
		t.Error(err)
	}
	if _, _, done := hog.Result(); done {
		t.Error("the long action has ended")
	}
	cancel()
	if _, err := hog.Wait(t.Context()); !errors.Is(err, host.ErrCanceled) {
		t.Errorf("got %v", err)
	}
}

// A worker that takes too much lets idle engines go, or is replaced; nothing is lost.
func TestAWorkerOverItsMemory(t *testing.T) {
	h := newHost(t, host.Options{Workers: 1, MaxWorkerMemory: 128 << 20})
	large := dict{"stack": []dict{{"id": "a", "text": strings.Repeat("x", 2<<20)}, {"id": "b"}}}
	var engines []*host.Engine
	for k := range 50 {
		engines = append(engines, open(t, h, fmt.Sprint(k), large))
	}
	for s := h.Stats(); s.Engines[host.PlaceOut] == 0 && s.Restarts[host.RestartMemory] == 0; s = h.Stats() {
		betweenLooks()
	}
	for _, e := range engines {
		if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 1 {
			t.Errorf("got %+v", r)
		}
	}
}

// Where no worker can run, engines go on in process, say why, and move back once one can.
func TestFallbackAndReturn(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "worker")
	h := newHost(t, host.Options{Workers: 1, WorkerPath: path, MaxRestarts: 1})
	e := open(t, h, "e", deck(10))
	dispatch(t, e, "stack:draw", nil)
	if s := h.Stats(); s.Engines[host.PlaceInProcess] != 1 || s.Fallbacks == 0 {
		t.Fatalf("got %+v", s)
	}
	events, stop := e.Events(host.EventStateUpdated)
	defer stop()
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	n := uint64(1)
	for h.Stats().Engines[host.PlaceWorker] == 0 {
		n++
		if r := dispatch(t, e, "stack:reverse", nil); r.Sequence != n {
			t.Fatalf("got %+v, want sequence %d", r, n)
		}
		if ev := <-events; ev.Result.Sequence != n {
			t.Fatalf("got %+v", ev)
		}
	}
	drawn, err := host.As[[]struct {
		ID string `msgpack:"id"`
	}](e.Dispatch(t.Context(), "stack:draw", nil))
	if err != nil || len(drawn) != 1 {
		t.Error(drawn, err)
	}
}

// The command line's answers are the same whenever its worker is killed, and its worker ends with it.
func TestRunWhileItsWorkerIsKilled(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	lines := []string{`{"setup":{"stack":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"},{"id":"e"}]}}`}
	for k := range 40 {
		action := []string{"stack:shuffle", "stack:draw", "stack:peek", "stack:reset"}[k%4]
		lines = append(lines, fmt.Sprintf(`{"type":%q,"now":%d,"entropy":"%032x"}`, action, 1000+k, k))
	}
	lines = append(lines, `{"digest":true}`)
	undisturbed := drive(t, program, lines, nil)
	kills := 0
	killed := drive(t, program, lines, func(n int, pid int) {
		if n%4 == 0 {
			for _, w := range childrenOf(pid) {
				kills++
				signal(t, w, syscall.SIGKILL)
			}
		}
	})
	if !slices.Equal(undisturbed, killed) || kills < 5 {
		t.Errorf("after %d kills:\n%q\nwant\n%q", kills, killed, undisturbed)
	}
}

// A worker never survives its host.
func TestWorkersEndWithAHostThatIsKilled(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	for range require.Rounds(2, 5) {
		c, in, out := start(t, program, "run")
		fmt.Fprintln(in, `{"digest":true}`)
		if !out.Scan() {
			t.Fatal("no answer")
		}
		workers := childrenOf(c.Process.Pid)
		if len(workers) != 1 {
			t.Fatalf("workers %v", workers)
		}
		gone := pidfd(t, workers[0])
		_ = c.Process.Kill()
		_ = c.Wait()
		gone()
	}
}

// The example deals the same hands whenever its worker is killed.
func TestTheExampleGoesOn(t *testing.T) {
	program := build(t, "examples/dealer")
	leaks.Check(t)
	const rounds = 300
	deal := func(kill bool) (hands []string, kills int) {
		c := exec.Command(program, "--rounds", fmt.Sprint(rounds), "--pause", "0")
		session(t, c)
		out, in := newPipe(t)
		// A third of the hands fill the pipe, so that the example can't be done before its worker
		// is killed.
		if _, err := unix.FcntlInt(out.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
		c.Stdout = in
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		_ = in.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			hand, _, _ := strings.Cut(lines.Text(), " (worker")
			hands = append(hands, hand)
			if kill && len(hands) <= 24 && len(hands)%8 == 0 {
				for _, w := range childrenOf(c.Process.Pid) {
					signal(t, w, syscall.SIGKILL)
					kills++
				}
			}
		}
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
		return hands, kills
	}
	want, _ := deal(false)
	got, kills := deal(true)
	if !slices.Equal(got, want) || kills == 0 || len(got) != rounds+1 {
		t.Errorf("after %d kills:\n%q\nwant\n%q", kills, got, want)
	}
}

// start starts a program with pipes. After the test nothing of it may be left.
func start(t *testing.T, program string, args ...string) (c *exec.Cmd, in io.WriteCloser, out *bufio.Scanner) {
	t.Helper()
	leaks.Check(t)
	c = exec.Command(program, args...)
	return begin(t, c)
}

// begin starts a command with pipes.
func begin(t *testing.T, c *exec.Cmd) (_ *exec.Cmd, in io.WriteCloser, out *bufio.Scanner) {
	t.Helper()
	session(t, c)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(stdout)
	scan.Buffer(nil, 1<<20)
	return c, in, scan
}

// drive sends lines one at a time and returns the answers. between is called before each.
func drive(t *testing.T, program string, lines []string, between func(n, pid int)) (answers []string) {
	t.Helper()
	c, in, scan := start(t, program, "run")
	for n, line := range lines {
		if between != nil {
			between(n, c.Process.Pid)
		}
		fmt.Fprintln(in, line)
		if !scan.Scan() {
			t.Fatalf("no answer to %s", line)
		}
		if !json.Valid(scan.Bytes()) {
			t.Fatalf("the answer %q", scan.Text())
		}
		answers = append(answers, scan.Text())
	}
	_ = in.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	return answers
}

func childrenOf(pid int) (list []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range tasks {
		b, _ := os.ReadFile(name)
		for _, f := range strings.Fields(string(b)) {
			var n int
			_, _ = fmt.Sscan(f, &n)
			list = append(list, n)
		}
	}
	return list
}

// build returns a program of this module.
func build(t *testing.T, folder string) string {
	t.Helper()
	path := filepath.Join(programs, filepath.Base(folder))
	if _, err := os.Stat(path); err == nil {
		return path // another test has built it
	}
	if out, err := exec.Command("go", "build", "-o", path, "hypertoken/"+folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
