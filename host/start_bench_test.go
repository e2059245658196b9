//go:build linux

package host_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypertoken/host"
)

// How long it takes until something answers, and what it takes of memory.

// lap gathers what each round took.
type lap []time.Duration

// report says what half of the rounds took at most, and 95 of 100.
func (l lap) report(b *testing.B) {
	slices.Sort(l)
	b.ReportMetric(float64(l[len(l)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(l[len(l)*95/100].Microseconds())/1000, "p95-ms")
}

func quietHost(b *testing.B, o host.Options) *host.Host {
	b.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	h, err := host.New(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	return h
}

// From host.New to the first answer of its worker, the compiled core being in the cache.
func BenchmarkColdStart(b *testing.B) {
	var l lap
	setup := deck(52)
	for b.Loop() {
		began := time.Now()
		h := quietHost(b, host.Options{Workers: 1})
		e := open(b, h, "e", setup)
		dispatch(b, e, "stack:draw", nil)
		l = append(l, time.Since(began))
		_ = h.Shutdown(context.Background())
	}
	l.report(b)
}

// From SIGKILL to the next answer, with a journal of 1,000 actions.
func BenchmarkRecovery(b *testing.B) {
	for _, c := range []struct {
		name            string
		actions, spares int
	}{{"journal_0", 0, 0}, {"journal_1000", 1000, 0}, {"journal_1000_spare", 1000, 1}} {
		b.Run(c.name, func(b *testing.B) {
			h := quietHost(b, host.Options{Workers: 1, Spares: c.spares, MaxRestarts: 1 << 20, RestartWindow: 1,
				SnapshotBytes: 1 << 30, ReplayBudget: time.Hour})
			defer func() { _ = h.Shutdown(context.Background()) }()
			e := open(b, h, "e", deck(52))
			record(b, e, c.actions)
			var l lap
			for b.Loop() {
				b.StopTimer()
				pid := worker(b, h)
				b.StartTimer()
				began := time.Now()
				_ = syscall.Kill(pid, syscall.SIGKILL)
				dispatch(b, e, "stack:peek", nil)
				l = append(l, time.Since(began))
			}
			l.report(b)
		})
	}
}

// record has an engine draw and reset n times.
func record(b *testing.B, e *host.Engine, n int) {
	b.Helper()
	futures := make([]*host.Future, 0, n)
	for k := range n {
		action := "stack:draw"
		if k%52 == 51 {
			action = "stack:reset"
		}
		futures = append(futures, e.DispatchAsync(b.Context(), action, nil))
	}
	if _, err := host.All(b.Context(), futures...); err != nil {
		b.Fatal(err)
	}
}

// worker returns the process of the host's worker, once that runs, and the spares too.
func worker(b *testing.B, h *host.Host) int {
	b.Helper()
	starts := func(w host.WorkerStats) bool { return w.State != host.WorkerReady }
	for {
		if s := h.Stats(); !starts(s.Workers[0]) && !slices.ContainsFunc(s.Spares, starts) {
			return s.Workers[0].PID
		}
		runtime.Gosched()
	}
}

// What an engine replays of its journal in a second: it is taken from worker to worker by a kill.
func BenchmarkReplay(b *testing.B) {
	const actions = 60_000
	h := quietHost(b, host.Options{Workers: 1, MaxRestarts: 1 << 20, RestartWindow: 1, SnapshotBytes: 1 << 30,
		ReplayBudget: time.Hour})
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, short := open(b, h, "e", deck(52)), open(b, h, "short", deck(52))
	record(b, e, actions)
	var took time.Duration
	n := 0
	for b.Loop() {
		_ = syscall.Kill(worker(b, h), syscall.SIGKILL)
		dispatch(b, short, "stack:peek", nil) // the worker is there again
		began := time.Now()
		dispatch(b, e, "stack:peek", nil)
		took += time.Since(began)
		n++
	}
	b.ReportMetric(float64(n*actions)/took.Seconds(), "actions/s")
}

var pss = regexp.MustCompile(`(?m)^Pss:\s+(\d+) kB$`)

// share returns a process's memory, what it shares divided by who shares it, in bytes.
func share(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	m := pss.FindSubmatch(text)
	if m == nil {
		b.Fatalf("no Pss in %s", text)
	}
	kib, _ := strconv.Atoi(string(m[1]))
	return float64(kib) * 1024
}

// A worker's memory with one engine, and what each of a thousand idle ones adds.
func BenchmarkWorkerMemory(b *testing.B) {
	const engines = 1000
	setup := deck(52)
	for b.Loop() {
		h := quietHost(b, host.Options{Workers: 1, IdleAfter: -1})
		dispatch(b, open(b, h, "first", setup), "stack:draw", nil)
		pid := worker(b, h)
		time.Sleep(200 * time.Millisecond) // what its start has left is freed
		one := share(b, pid)
		for k := range engines {
			dispatch(b, open(b, h, fmt.Sprint("e", k), setup), "stack:draw", nil)
		}
		b.ReportMetric(one/(1<<20), "MiB/worker")
		b.ReportMetric((share(b, pid)-one)/engines/1024, "KiB/engine")
		_ = h.Shutdown(context.Background())
	}
}

// What an engine of 52 tokens costs its host once it is taken out, and how long its next answer takes.
func BenchmarkTakenOut(b *testing.B) {
	for _, engines := range []int{5_000, 100_000} {
		b.Run(fmt.Sprint("engines_", engines), func(b *testing.B) {
			setup := deck(52)
			for b.Loop() {
				h := quietHost(b, host.Options{Workers: 1, IdleAfter: time.Nanosecond})
				pid := worker(b, h)
				heap, resident := heapBytes(), share(b, os.Getpid())
				list := make([]*host.Engine, engines)
				var opening sync.WaitGroup
				const callers = 4
				for c := range callers {
					opening.Go(func() {
						for k := c; k < engines; k += callers {
							list[k] = open(b, h, fmt.Sprint("e", k), setup)
							dispatch(b, list[k], "stack:draw", nil)
						}
					})
				}
				opening.Wait()
				for h.Stats().Engines[host.PlaceOut] < engines {
					runtime.Gosched()
					time.Sleep(10 * time.Millisecond)
				}
				b.ReportMetric((heapBytes()-heap)/float64(engines)/1024, "KiB/engine")
				b.ReportMetric((share(b, os.Getpid())-resident)/(1<<20), "MiB-host")
				b.ReportMetric(share(b, pid)/(1<<20), "MiB-worker")
				var l lap
				for range 1000 {
					e := list[rand.IntN(engines)]
					began := time.Now()
					dispatch(b, e, "stack:peek", nil)
					l = append(l, time.Since(began))
				}
				l.report(b)
				_ = h.Shutdown(context.Background())
			}
		})
	}
}

// What a host and its worker use of a CPU while nobody asks their engines anything.
func BenchmarkIdle(b *testing.B) {
	const engines = 1000
	for _, out := range []bool{false, true} {
		b.Run(map[bool]string{false: "placed", true: "taken_out"}[out], func(b *testing.B) {
			for b.Loop() {
				o := host.Options{Workers: 1, IdleAfter: -1}
				if out {
					o.IdleAfter = time.Millisecond
				}
				h := quietHost(b, o)
				for k := range engines {
					dispatch(b, open(b, h, fmt.Sprint("e", k), deck(52)), "stack:draw", nil)
				}
				for out && h.Stats().Engines[host.PlaceOut] < engines {
					time.Sleep(10 * time.Millisecond)
				}
				pid := worker(b, h)
				time.Sleep(time.Second) // what was there to be freed is
				began, inHost, inWorker := time.Now(), ran(b, os.Getpid()), ran(b, pid)
				time.Sleep(4 * time.Second)
				whole := float64(time.Since(began)) / 100
				b.ReportMetric(float64(ran(b, os.Getpid())-inHost)/whole, "%CPU-host")
				b.ReportMetric(float64(ran(b, pid)-inWorker)/whole, "%CPU-worker")
				_ = h.Shutdown(context.Background())
			}
		})
	}
}

// ran returns how long a process's threads have run.
func ran(b *testing.B, pid int) (sum time.Duration) {
	b.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range list {
		var ns time.Duration
		if text, err := os.ReadFile(path); err == nil {
			_, _ = fmt.Sscan(string(text), &ns)
		}
		sum += ns
	}
	return sum
}

func heapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}
