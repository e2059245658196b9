package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hypertoken/host"
	"hypertoken/internal/require"
)

func init() {
	roles["limited"] = limited
	roles["cached"] = cachedApplication
}

// limited plays a game, loses its worker where no other can be started, plays on, and gets one again.
func limited() int {
	ctx := context.Background()
	a := newApp(host.Options{Workers: 1, MaxRestarts: 1})
	e, f := a.open("e", deck(52)), a.open("f", deck(5))
	events, stop := e.Events(host.EventError)
	defer stop()
	results := must(playTurns(ctx, e, 0, 20))
	// A program of which a thread can't be created aborts, so these are there before.
	spare(64)
	resource, low := unix.RLIMIT_NPROC, uint64(1)
	if argument(1) == "descriptors" {
		resource, low = unix.RLIMIT_NOFILE, 3 // 0 to 2 are taken
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(resource, &old); err != nil {
		return 1
	}
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: low, Max: old.Max}); err != nil {
		return 1
	}
	// One action is in flight, which may be what the worker dies of; the other engine has nothing to do.
	running := f.DispatchAsync(ctx, "test:spin", nil)
	s := a.until(func(s host.Stats) bool { return s.Workers[0].Pending == 1 })
	_ = syscall.Kill(s.Workers[0].PID, syscall.SIGKILL)
	a.until(func(s host.Stats) bool { return s.Restarts[host.RestartDied] > 0 })
	results = append(results, must(playTurns(ctx, e, 20, 40))...)
	why := <-events
	a.say(said{What: "limited", Code: host.CodeOf(why.Err), Error: why.Err.Error()})
	_, err := running.Wait(ctx)
	r := must(f.Dispatch(ctx, "stack:draw", nil))
	a.say(said{What: "suspect", Code: host.CodeOf(err), Results: []string{fmt.Sprint(r.Sequence)}})
	if err := unix.Setrlimit(resource, &old); err != nil {
		return 1
	}
	a.until(func(s host.Stats) bool { return s.Workers[0].State == host.WorkerReady })
	results = append(results, must(playTurns(ctx, e, 40, 60))...)
	d := must(e.Digest(ctx))
	a.say(said{What: "lifted", Results: results, Digest: d.String()})
	if err := a.host.Shutdown(ctx); err != nil {
		return 1
	}
	return 0
}

// spare leaves n threads to the runtime.
func spare(n int) {
	var all, end sync.WaitGroup
	all.Add(n)
	for range n {
		end.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait()
		})
	}
	end.Wait()
}

// If no process can be forked, or there are no descriptors, engines go on in process on the same
// journal, say why, and are back on a worker once there can be one. Nothing is lost.
func TestNoProcessAndNoDescriptor(t *testing.T) {
	want, digest := undisturbedTurns(t, 60)
	for resource, reason := range map[string]string{
		"processes":   "resource temporarily unavailable",
		"descriptors": "too many open files",
	} {
		t.Run(resource, func(t *testing.T) {
			c, _, out := application(t, home(t), "limited", resource)
			s := hear(t, out, "limited")
			if s.Code != "worker_unavailable" || !strings.Contains(s.Error, reason) {
				t.Errorf("the engine goes on in process because of %s: %s", s.Code, s.Error)
			}
			if s.Stats.Engines[host.PlaceInProcess] == 0 || s.Stats.Workers[0].State != host.WorkerGivenUp &&
				s.Stats.Workers[0].State != host.WorkerProbing {
				t.Errorf("got %+v", s.Stats)
			}
			// What the worker may have died of does not run in the application.
			if s = hear(t, out, "suspect"); s.Code != "worker_unavailable" || s.Results[0] != "1" {
				t.Errorf("got %+v", s)
			}
			if s = hear(t, out, "lifted"); s.Digest != digest || !slices.Equal(s.Results, want) {
				t.Errorf("digest %s, want %s, and the results\n%v\nwant\n%v", s.Digest, digest, s.Results, want)
			}
			if s.Stats.Engines[host.PlaceWorker] != 1 || s.Stats.Engines[host.PlaceInProcess] != 0 {
				t.Errorf("got %+v", s.Stats)
			}
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// cachedApplication plays a game on a worker, and again on the next one where the argument says so.
func cachedApplication() int {
	ctx := context.Background()
	a := newApp(host.Options{Workers: 1, StartTimeout: time.Minute})
	e := a.open("e", deck(52))
	results := must(playTurns(ctx, e, 0, 20))
	if argument(1) == "again" {
		_ = syscall.Kill(a.host.Stats().Workers[0].PID, syscall.SIGKILL)
		a.until(func(s host.Stats) bool { return s.Restarts[host.RestartDied] == 1 })
	}
	results = append(results, must(playTurns(ctx, e, 20, 40))...)
	_ = a.host.CoreToolchain() // compiled, here as well
	d := must(e.Digest(ctx))
	a.say(said{What: "played", Results: results, Digest: d.String()})
	if err := a.host.Shutdown(ctx); err != nil {
		return 1
	}
	return 0
}

// A cache that can't be used costs time and a warning, whatever is wrong with it; one that is damaged is mended.
func TestCacheDirectories(t *testing.T) {
	want, digest := undisturbedTurns(t, 40)
	run := func(t *testing.T, home string, args ...string) (aboutCache []string) {
		t.Helper()
		c, _, out := application(t, home, "cached", args...)
		s := hear(t, out, "played")
		if s.Digest != digest || !slices.Equal(s.Results, want) {
			t.Errorf("digest %s, want %s", s.Digest, digest)
		}
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
		if s.Stats.Engines[host.PlaceWorker] != 1 || s.Stats.Fallbacks != 0 {
			t.Errorf("got %+v", s.Stats)
		}
		for _, line := range s.Logged {
			if strings.Contains(line, "cache") {
				aboutCache = append(aboutCache, line)
			}
		}
		return aboutCache
	}
	type useless struct {
		name, says string
		prepare    func(t *testing.T, dir string)
	}
	for _, c := range require.Sample(2, []useless{
		{"read-only", "permission denied", func(t *testing.T, dir string) {
			if err := os.Chmod(dir, 0o500); err != nil {
				t.Fatal(err)
			}
		}},
		{"somebody else's", "others may write there", func(t *testing.T, dir string) {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file", "not a directory", func(t *testing.T, dir string) {
			if err := errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}},
		{"full", "no space left on device", func(t *testing.T, dir string) {
			size := fmt.Sprintf("size=64k,mode=700,uid=%d,gid=%d", nobody, nobody)
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
				require.Missing(t, "a file system that is full, which root may mount,", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			})
		}},
	}) {
		t.Run(c.name, func(t *testing.T) {
			require.Unraced(t) // it compiles each time, which takes the race detector up to a minute
			dir := home(t)
			c.prepare(t, filepath.Join(dir, "cache"))
			if said := run(t, dir); len(said) != 1 || !strings.Contains(said[0], c.says) ||
				!strings.Contains(said[0], "starting takes longer") {
				t.Errorf("got %q, want one warning with %q", said, c.says)
			}
		})
	}
	t.Run("damaged", func(t *testing.T) {
		dir := home(t)
		if said := run(t, dir); len(said) > 0 {
			t.Errorf("got %q", said)
		}
		files, err := filepath.Glob(filepath.Join(dir, "cache", "*", "*", "*"))
		if err != nil || len(files) != 4 { // the code for the workers, that for the host, and a checksum each
			t.Fatal(files, err)
		}
		damaged := map[string][]byte{}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for k := range min(len(b), 1<<10) {
				b[k] ^= 0x55
			}
			if damaged[file] = b; len(b) > 1<<10 {
				damaged[file] = b[:len(b)/2]
			}
			if err := os.WriteFile(file, damaged[file], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if said := run(t, dir, "again"); len(said) > 0 {
			t.Errorf("got %q", said)
		}
		for file, was := range damaged {
			if b, err := os.ReadFile(file); err != nil || slices.Equal(b, was) {
				t.Errorf("%s is damaged still: %v", file, err)
			}
		}
	})
}

// An engine that no worker has the memory for: each that tries is replaced, which counts, and then it goes on in
// process. Nothing is lost.
func TestAWorkerThatIsAlwaysOverItsMemory(t *testing.T) {
	require.Unraced(t) // it looks at a limit of memory
	h := newHost(t, host.Options{Workers: 1, MaxWorkerMemory: 64 << 20, MaxRestarts: 2, RestartWindow: time.Hour,
		Timeout: -1})
	tokens := make([]dict, 64)
	for k := range tokens {
		tokens[k] = dict{"id": fmt.Sprint(k), "text": strings.Repeat("x", 1<<20)}
	}
	e := open(t, h, "e", dict{"stack": tokens})
	n := uint64(0)
	// It goes back as soon as a new worker is there, which has the memory still: what is counted stays.
	for h.Stats().Fallbacks == 0 {
		n++
		if r := dispatch(t, e, "stack:reverse", nil); r.Sequence != n {
			t.Fatalf("got %+v, want sequence %d", r, n)
		}
	}
	s := h.Stats()
	if s.Restarts[host.RestartMemory] < 3 || s.Restarts[host.RestartDied] != 0 {
		t.Errorf("got %+v", s)
	}
	if r := dispatch(t, e, "stack:draw", dict{"count": 3}); r.Sequence != n+1 {
		t.Errorf("got %+v", r)
	}
}
