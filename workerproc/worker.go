// Package workerproc is the worker process. It runs engines on a core for the host that started
// it, one request after the other.
//
// An application that embeds the host is its own worker if its main begins with [Main]:
//
//	func main() {
//		workerproc.Main()
//		...
//	}
//
// A worker ends when its standard input ends, so it does not outlive its host.
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

// Main runs this process as a worker, and exits, if a host has started it as one. Otherwise it
// notes that this program can be its own worker, and returns. Call it first in main: each worker
// also runs everything that main does before this call.
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
	// If nobody reads its standard error any more, the worker goes on, and its log is lost.
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

// serve runs the loop on the pipes until the host has closed them.
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
	// The loop holds running, except while it waits for the host. A goroutine that frees memory
	// holds it, too, so the two never run at once.
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
				gc.collectIdle(loop.Engines())
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
			return nil // nobody reads the answers: the host has ended
		}
		if ran {
			gc.noteRequest(w.appended)
			w.appended = 0
		}
	}
}

// configured is a runtime that also applies the settings that the host has sent for the process:
// the level of the log, polling, and the limit of memory.
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
	// Compiling leaves more garbage than anything else that a worker does, so it is given back to
	// the system. That happens a little later, so that the first answers do not wait for it.
	time.AfterFunc(settleAfter, func() {
		c.running.Lock()
		defer c.running.Unlock()
		debug.FreeOSMemory()
	})
	return err
}

// settleAfter is the time between the start of a worker and the freeing of the memory that it
// took.
const settleAfter = 50 * time.Millisecond

// confine gives up the file system, and everything else that a core must not reach if it ever
// breaks out of WebAssembly. If that fails, the worker still runs engines. Otherwise they would
// run in the host's own process, which is confined less.
func confine(log *slog.Logger) {
	_ = time.Local.String() // loads the log's time zone from its file, while files can be opened
	taken, err := process.Confine()
	if err != nil {
		log.Warn("the worker is not confined as it should be", "error", err)
	}
	log.Debug("the worker is confined", "landlock", taken.Landlock, "seccomp", taken.Seccomp)
}

// worker takes the loop's answers and gathers them. An answer that is not flushed otherwise is
// flushed after flushAfter.
type worker struct {
	writer  *ipc.Writer
	flusher *time.Timer
	armed   atomic.Bool
	// gathered is the number of answers since the last Flush.
	gathered int
	// appended is the number of bytes of answers since the collector was told of them.
	appended int
}

const flushAfter = 5 * time.Millisecond

// flushSize (in bytes) and flushAnswers are how much is gathered before it is written. So the host
// can take in the first answers while the next actions run.
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
	moved  int    // bytes read and written since the last check: large messages leave large buffers behind
	last   uint64 // bytes allocated up to the last collection
	live   uint64 // bytes that were live at the last collection
	most   int    // the most engines since memory was last given back to the system
}

const (
	// checkEvery is how many requests run before the collector checks how much was allocated.
	checkEvery = 256
	// minGarbage is the least that is allocated between two collections, in bytes.
	minGarbage = 8 << 20
	// fewEngines is the least number of closed engines for which memory is given back to the
	// system.
	fewEngines = 32
)

// noteRequest counts a request that ran, and the bytes of its answer. It collects if enough was
// allocated.
func (c *collector) noteRequest(answered int) {
	c.moved += answered
	if c.runs++; c.runs >= checkEvery || c.moved >= minGarbage {
		c.collectIfDue(1)
	}
}

// collectIdle is called when no request waits, and collects earlier than noteRequest does. Closing
// an engine allocates nothing, so closed engines are counted: if they were a third of all engines,
// their memory goes back to the system.
func (c *collector) collectIdle(engines int) {
	if c.most = max(c.most, engines); c.most-engines >= max(fewEngines, engines/2) {
		c.most = engines
		debug.FreeOSMemory()
	}
	if c.runs >= checkEvery/4 || c.moved >= minGarbage/4 {
		c.collectIfDue(2)
	}
}

// collectIfDue collects if as much was allocated since the last collection as was live then, and
// at least minGarbage. eager divides this threshold.
func (c *collector) collectIfDue(eager uint64) {
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
