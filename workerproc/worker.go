// Package workerproc is the worker process: it runs engines on a core, one request after the other, for the host that
// started it.
//
// An application that embeds the host is its own worker where its main begins with [Main]:
//
//	func main() {
//		workerproc.Main()
//		...
//	}
//
// A worker ends when its standard input does, so none survives its host.
package workerproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hypertoken/internal/process"
	"hypertoken/internal/version"
	"hypertoken/ipc"
	"hypertoken/wasm"
)

// Main runs this process as a worker, and exits, where a host has started it as one. Otherwise it
// notes that this program can be its own worker, and returns. Call it first in main: what a program
// does before, each of its workers does too.
func Main() {
	if !process.InWorker() {
		process.DeclareWorker()
		return
	}
	os.Exit(run())
}

// Exit statuses of a worker.
const (
	exitFailed    = 1
	exitMalformed = 3
)

func run() int {
	// A worker whose standard error nobody reads runs on: what it logs is lost.
	signal.Ignore(syscall.SIGPIPE)
	go wasm.Hash(wasm.Builtin()) // for hello, while go-plugin's server starts
	in, out, err := process.Serve()
	if err != nil {
		fmt.Fprintf(os.Stderr, "hypertoken worker: %v\n", err)
		return exitFailed
	}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if err := serve(in, out, level, log); err != nil {
		log.Error("the worker ends", "error", err)
		var malformed *ipc.MalformedError
		if errors.As(err, &malformed) {
			return exitMalformed
		}
		return exitFailed
	}
	return 0
}

// serve runs the loop on the pipes until the host is gone.
func serve(in, out *os.File, level *slog.LevelVar, log *slog.Logger) error {
	source, err := ipc.NewPipe(in)
	if err != nil {
		return err
	}
	sink, err := ipc.NewPipe(out)
	if err != nil {
		return err
	}
	// Compiled WebAssembly has no safe points: a collection that begins while an action runs stops
	// every goroutine until the action ends. So this process collects between actions.
	debug.SetGCPercent(-1)
	w := &worker{writer: ipc.NewWriter(sink)}
	w.flusher = time.AfterFunc(time.Hour, w.flushLate)
	w.flusher.Stop()
	wait := new(ipc.Spinner)
	// Whoever collects holds it, and so does the loop, but for when it waits for the host.
	running := new(sync.Mutex)
	running.Lock()
	loop := NewLoop(&configured{wazeroRuntime{log: log, compiled: func() { confine(log) }}, level, wait, running}, w,
		log)
	loop.Hello(ipc.HelloBody{Protocol: ipc.Version, Build: version.String(), Core: wasm.Hash(wasm.Builtin()),
		PID: os.Getpid()})
	gc := collector{live: minGarbage}
	ctx := context.Background()
	for {
		if idle := loop.Idle(); idle || loop.Due() {
			n, err := 0, error(nil)
			if idle {
				w.Flush()
				gc.idle(loop.Engines())
				running.Unlock()
				n, err = wait.Read(source, loop.Space())
				running.Lock()
			} else {
				n, err = source.TryRead(loop.Space())
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("reading from the host: %w", err)
			}
			gc.moved += n
			if err := loop.Filled(n); err != nil {
				w.Flush()
				return err
			}
		}
		ran, err := loop.Run(ctx)
		if err != nil {
			w.Flush()
			return err
		}
		if err := w.writer.Err(); err != nil {
			return nil // nobody reads: the host is gone
		}
		if ran {
			gc.ran(w.appended)
			w.appended = 0
		}
	}
}

// configured sets what the host has configured for the process itself.
type configured struct {
	wazeroRuntime
	level   *slog.LevelVar
	wait    *ipc.Spinner
	running *sync.Mutex
}

func (c *configured) Use(ctx context.Context, b ipc.ConfigureBody, core []byte) error {
	if b.Debug {
		c.level.Set(slog.LevelDebug)
	}
	c.wait.For = time.Duration(b.PollFor)
	if b.WorkerMemory > 0 {
		debug.SetMemoryLimit(b.WorkerMemory)
	}
	err := c.wazeroRuntime.Use(ctx, b, core)
	// What compiling left behind is most of what a worker would ever hold. Its first answers do not wait for that.
	time.AfterFunc(settleAfter, func() {
		c.running.Lock()
		defer c.running.Unlock()
		debug.FreeOSMemory()
	})
	return err
}

// settleAfter is how long after its start a worker frees what that took.
const settleAfter = 50 * time.Millisecond

// confine gives up the file system, and what else a core must not reach if it ever breaks out of
// WebAssembly. A worker that can't still runs engines: without one they would run in the host's own
// process.
func confine(log *slog.Logger) {
	_ = time.Local.String() // the time zone of the log, which is a file
	taken, err := process.Confine()
	if err != nil {
		log.Warn("the worker keeps what its user may do", "error", err)
	}
	log.Debug("the worker is confined", "landlock", taken.Landlock, "seccomp", taken.Seccomp)
}

// worker is where the loop's answers go. What is not flushed by then is flushed within flushAfter.
type worker struct {
	writer  *ipc.Writer
	flusher *time.Timer
	armed   atomic.Bool
	// gathered are the answers since the last flush of the loop's.
	gathered int
	// appended is how many bytes were answered since the collector was told.
	appended int
}

const flushAfter = 5 * time.Millisecond

// flushSize and flushAnswers are how much is gathered before it is written without further reason,
// in bytes and answers: the host takes the first answers in while the next actions run.
const (
	flushSize    = 48 << 10
	flushAnswers = 32
)

func (w *worker) Append(h ipc.Header, parts ...[]byte) int {
	n := w.writer.Append(h, parts...)
	for _, p := range parts {
		w.appended += len(p)
	}
	if w.gathered++; n > flushSize || w.gathered >= flushAnswers {
		w.Flush()
	} else if !w.armed.Load() {
		w.armed.Store(true)
		w.flusher.Reset(flushAfter)
	}
	return n
}

func (w *worker) flushLate() {
	w.armed.Store(false)
	w.writer.Flush()
}

func (w *worker) Flush() {
	w.gathered = 0
	w.writer.Flush()
}

func (w *worker) Drain(limit int) { w.writer.Drain(limit) }

// collector runs the garbage collector between actions.
type collector struct {
	sample [1]metrics.Sample
	runs   int
	moved  int    // bytes that came and went since it last looked: large ones leave large buffers behind
	last   uint64 // bytes allocated up to the last collection
	live   uint64
	most   int // engines since the last time that memory was given back
}

const (
	// looksEvery is how many actions run before the collector looks.
	looksEvery = 256
	// minGarbage is what is allocated at least between two collections.
	minGarbage = 8 << 20
	// fewEngines is how many engines have to go at least before their memory is given back.
	fewEngines = 32
)

// ran takes note of a request that ran, and of the bytes of its answer.
func (c *collector) ran(answered int) {
	c.moved += answered
	if c.runs++; c.runs >= looksEvery || c.moved >= minGarbage {
		c.look(1)
	}
}

// idle collects earlier, when nobody waits. Engines that have gone leave no trace in what was
// allocated: where they are a third of those that there were, what they had goes back to the
// system.
func (c *collector) idle(engines int) {
	if c.most = max(c.most, engines); c.most-engines >= max(fewEngines, engines/2) {
		c.most = engines
		debug.FreeOSMemory()
	}
	if c.runs >= looksEvery/4 || c.moved >= minGarbage/4 {
		c.look(2)
	}
}

func (c *collector) look(eager uint64) {
	c.runs, c.moved = 0, 0
	c.sample[0].Name = "/gc/heap/allocs:bytes"
	metrics.Read(c.sample[:])
	if allocated := c.sample[0].Value.Uint64(); allocated-c.last > max(c.live, minGarbage)/eager {
		c.last = allocated
		runtime.GC()
		c.sample[0].Name = "/gc/heap/live:bytes"
		metrics.Read(c.sample[:])
		c.live = min(c.sample[0].Value.Uint64(), math.MaxInt64)
	}
}
