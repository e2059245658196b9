package host

import (
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"hypertoken/internal/engine"
	"hypertoken/internal/payload"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Options configure a host. The zero value is a host with the built-in core, a worker for each CPU, and the defaults below.
type Options struct {
	// Workers is how many worker processes run engines. Default [runtime.GOMAXPROCS] when the host starts, which
	// follows the limits of a container, at most 1,024. Engines are spread over as many
	// as there are cores ([runtime.GOMAXPROCS] when the host starts); others take those in that are behind a long action
	// (BusyAfter), or where a worker has ended or has half of MaxWorkerMemory.
	Workers int
	// Spares is how many worker processes are kept started beside them, idle. Where a worker ends, a spare replaces it at once, and
	// another one is started. A spare takes the memory of a worker without engines. Default none, at most 1,024.
	Spares int
	// WorkerPath is the program that they run, which calls workerproc.Main. Default this program itself, which must.
	WorkerPath string
	// WorkerSHA256 pins that program: its SHA-256, in hexadecimal. A program that has another one is not started, at no
	// restart either. On Linux what runs is what was hashed, a copy in memory for each worker. Default any.
	WorkerSHA256 string
	// InProcess runs the engines in this process, without workers. There a core that hangs is interrupted, which costs
	// some 3 % of its speed, and one that takes too much memory takes it from this process.
	InProcess bool

	// NoFallback keeps engines out of this process, for cores that are not trusted: none runs here if no worker can, and the
	// core is compiled here and never run. Then requests wait as long as their time lasts, for a worker that can run them, and
	// fail with [ErrWorkerUnavailable]. Not with InProcess, nor with Cores, whose journals are replayed here.
	NoFallback bool

	// CorePath names a file with a core of one's own; Core holds one. Neither means the built-in core.
	CorePath string
	Core     []byte
	// CoreSHA256 pins the core, the built-in one too: its SHA-256, in hexadecimal. Default any.
	CoreSHA256 string

	// Cores are those that wrote journals which this host loads, beside its own: each such journal is replayed by the core that
	// wrote it, once, and then goes on with this host's. Default none: Open fails with [ErrCoreMismatch] for them.
	Cores [][]byte

	// Timeout is how long an action may take, its wait included, where its context has no earlier deadline.
	// Default 30 s; negative for none.
	Timeout time.Duration
	// OpenTimeout is how long placing an engine may take: restoring its snapshot and replaying its journal.
	// Default 60 s.
	OpenTimeout time.Duration

	// MaxPayload bounds an action's payload as MessagePack, and those of a batch together, in bytes. Default 16 MiB,
	// at most 48 MiB.
	MaxPayload int
	// MaxResult bounds an action's result, and those of a batch together, in bytes. Default 16 MiB.
	MaxResult int
	// MaxDepth bounds how deep a payload is nested. Default 64, at most 128.
	MaxDepth int
	// MaxStateBytes bounds an engine's state, in logical bytes. Default 256 MiB.
	MaxStateBytes int64
	// MaxEngineMemory bounds an engine's linear memory, in bytes. Default 1 GiB, at least 2 MiB, at most 4 GiB.
	MaxEngineMemory int64
	// MaxFrame bounds a frame between host and worker, in bytes. Default 17 MiB, or 1 MiB more than MaxPayload or MaxResult
	// where those are larger; at least that.
	MaxFrame int
	// MaxWorkerMemory bounds a worker process, in bytes of resident memory. From four fifths on its idle engines are taken
	// out; above, it is replaced, and nothing is lost. Default 4 GiB, at least 64 MiB.
	MaxWorkerMemory int64
	// MaxQueue bounds the requests that are dispatched and unanswered, MaxQueueBytes what they take. Beyond it Dispatch
	// waits, and DispatchAsync fails with [ErrOverloaded]. Default 65,536 and 256 MiB.
	MaxQueue      int
	MaxQueueBytes int64
	// WindowRequests and WindowBytes bound what is in a worker's pipe; the rest waits in the host, where withdrawing it is
	// free. Default 256 and 1 MiB.
	WindowRequests, WindowBytes int
	// PollFor is how long a host and a worker that expect bytes from each other poll for them before they park, at most: waking
	// a thread takes longer than most actions. They stop by themselves where it does not pay, and poll once at most where
	// there is nothing to do. Default 50 us, at most 10 ms; negative for never, which makes an action that is dispatched by
	// itself slower.
	PollFor time.Duration
	// MaxInProcess bounds how many engines have an instance in this process at once. Those that were idle longest are
	// taken out: their next action places them again. Default 1,024.
	MaxInProcess int
	// MaxAttempts is how often placing an engine may fail before it is broken, and how many workers may die while an action
	// runs alone before it fails with [ErrPoisoned]. Default 2, at most 100.
	MaxAttempts int

	// BusyAfter is how long an action runs before the engines behind it go to another worker, if one is free. Default 20 ms.
	BusyAfter time.Duration
	// KillGrace is how long a worker may owe an answer past its deadline before it is killed. Default 250 ms.
	KillGrace time.Duration
	// MaxKills is how many workers may be killed for actions of one engine that run past their deadline,
	// before that engine is held back: for HoldFor, and for twice as long with each further one, up to 64 times. Meanwhile what
	// is dispatched to it fails with [ErrOverloaded], and no other engine is touched. Kills are
	// forgotten once there was none for 60 times HoldFor. Default 2 kills and 1 s, at most 1,000 and 1 hour.
	MaxKills int
	HoldFor  time.Duration
	// StallAfter is how long a worker may owe an answer while its CPU time stands still before it is killed. Default 1 s.
	StallAfter time.Duration
	// StartTimeout is how long a worker may take until it is ready, and the first instance of the core in this process.
	// Default 10 s.
	StartTimeout time.Duration
	// MaxRestarts is how many deaths of a worker within RestartWindow it takes to give it up. It is tried again after
	// a second, then after two, up to a minute. Default 5 within 10 s.
	MaxRestarts   int
	RestartWindow time.Duration
	// SuspectWait is how long an action that a worker may have died of waits for one, where none can run. Default 1 s.
	SuspectWait time.Duration
	// IdleAfter is how long an engine is idle before its instance is freed: its next action places it again. Default 5
	// minutes; negative for never.
	IdleAfter time.Duration

	// EnableBatching gathers what is dispatched to an engine within BatchWindow (default 10 ms) from the first into one batch
	// of BatchMode (default [BatchAtomic]). State, Digest and DispatchBatch close it at once; so does an action with a Key or
	// IfSequence, which is sent by itself.
	EnableBatching bool
	BatchWindow    time.Duration
	BatchMode      BatchMode

	// Store keeps the journals. Default [journal.NewMemory].
	Store journal.Store
	// StoreTimeout is how long the store may take for a call before the host asks it what it has. Default 10 s.
	StoreTimeout time.Duration
	// KeyWindow is how many keys an engine remembers. Default 1,024.
	KeyWindow int
	// KeyBytes is how many bytes of keys and results an engine remembers, but for its newest one, which it always does; MaxKeyBytes
	// is how many all open engines of the host remember together. What is beyond is forgotten, oldest first, of the engine that
	// has most: [Host.Stats] counts that. The store in memory may take as much again. Default 16 MiB and 256 MiB.
	KeyBytes, MaxKeyBytes int64

	// SnapshotBytes is how many bytes of journal an engine gathers at least before a new snapshot. Default 64 KiB.
	SnapshotBytes int
	// ReplayBudget is how much run time a journal gathers before a new snapshot. Default a quarter of OpenTimeout.
	ReplayBudget time.Duration

	// CacheDir keeps compiled code between processes; only this user may write there. Default hypertoken in
	// [os.UserCacheDir]; "off" for none. A directory that can't be used costs time, and a warning in the log.
	CacheDir string

	// Tracer, where there is one, gets a span for each call of Dispatch, DispatchAsync and DispatchBatch: hypertoken.dispatch, with
	// the events queue, run and wire, where each of those has ended and how long it took.
	Tracer trace.Tracer
	// Logger gets what the host has to say: what happens again and again ten times, and then once a second, with how many were
	// left out. Default [slog.Default].
	Logger *slog.Logger
	// Debug logs every placing, snapshot and failure to standard error where Logger is nil.
	Debug bool

	// Clock is what an action's now comes from. Default [time.Now].
	Clock func() time.Time
}

func (o *Options) setDefaults() {
	set(&o.Timeout, 30*time.Second)
	set(&o.OpenTimeout, time.Minute)
	set(&o.MaxPayload, 16<<20)
	set(&o.MaxResult, 16<<20)
	set(&o.MaxDepth, 64)
	set(&o.MaxStateBytes, 256<<20)
	set(&o.MaxEngineMemory, 1<<30)
	set(&o.MaxInProcess, 1024)
	set(&o.MaxAttempts, 2)
	set(&o.SnapshotBytes, 64<<10)
	set(&o.ReplayBudget, o.OpenTimeout/4)
	set(&o.Workers, min(runtime.GOMAXPROCS(0), mostWorkers))
	set(&o.MaxFrame, max(ipc.DefaultMaxFrame, o.MaxPayload+frameSlack, o.MaxResult+frameSlack))
	set(&o.MaxWorkerMemory, 4<<30)
	set(&o.MaxQueue, 1<<16)
	set(&o.MaxQueueBytes, 256<<20)
	set(&o.WindowRequests, 256)
	set(&o.WindowBytes, 1<<20)
	set(&o.PollFor, 50*time.Microsecond)
	set(&o.BusyAfter, 20*time.Millisecond)
	set(&o.KillGrace, 250*time.Millisecond)
	set(&o.MaxKills, 2)
	set(&o.HoldFor, time.Second)
	set(&o.StallAfter, time.Second)
	set(&o.StartTimeout, 10*time.Second)
	set(&o.MaxRestarts, 5)
	set(&o.RestartWindow, 10*time.Second)
	set(&o.SuspectWait, time.Second)
	set(&o.IdleAfter, 5*time.Minute)
	set(&o.BatchWindow, 10*time.Millisecond)
	set(&o.StoreTimeout, 10*time.Second)
	set(&o.KeyWindow, 1024)
	set(&o.KeyBytes, 16<<20)
	set(&o.MaxKeyBytes, 256<<20)
	o.WorkerSHA256, o.CoreSHA256 = strings.ToLower(o.WorkerSHA256), strings.ToLower(o.CoreSHA256)
	if o.Store == nil {
		o.Store = journal.NewMemory()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
		if o.Debug {
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate checks options that have their defaults.
func (o *Options) validate() error {
	if o.CorePath != "" && o.Core != nil {
		return badInput("Options.CorePath and Options.Core are both set: name the core once")
	}
	switch {
	case o.NoFallback && o.InProcess:
		return badInput("Options.NoFallback and Options.InProcess are both set: one keeps engines out of this process, the other in it")
	case o.NoFallback && len(o.Cores) > 0:
		return badInput("Options.NoFallback and Options.Cores are both set: the %d cores would be run in this process; "+
			"load their journals once with a host that has no NoFallback", len(o.Cores))
	}
	if err := o.validatePins(); err != nil {
		return err
	}
	for _, f := range []struct {
		name             string
		value, min, most int64
	}{
		{"OpenTimeout", int64(o.OpenTimeout), 1, 1 << 62},
		{"MaxPayload", int64(o.MaxPayload), 1, 48 << 20},
		{"MaxResult", int64(o.MaxResult), 1, 1 << 30},
		{"MaxDepth", int64(o.MaxDepth), 1, 128},
		{"MaxStateBytes", o.MaxStateBytes, 1, 2 << 30},
		{"MaxEngineMemory", o.MaxEngineMemory, 2 << 20, 4 << 30},
		{"Workers", int64(o.Workers), 1, mostWorkers},
		{"Spares", int64(o.Spares), 0, 1024},
		{"MaxFrame", int64(o.MaxFrame), int64(max(2<<20, o.MaxPayload+frameSlack, o.MaxResult+frameSlack)), 1<<31 - 1},
		{"MaxWorkerMemory", o.MaxWorkerMemory, 64 << 20, 1 << 50},
		{"MaxQueue", int64(o.MaxQueue), 1, 1 << 31},
		{"MaxQueueBytes", o.MaxQueueBytes, 1 << 10, 1 << 50},
		{"WindowRequests", int64(o.WindowRequests), 1, 1 << 20},
		{"WindowBytes", int64(o.WindowBytes), 1, 1 << 31},
		{"PollFor", int64(max(o.PollFor, 0)), 0, int64(10 * time.Millisecond)},
		{"BusyAfter", int64(o.BusyAfter), 1, 1 << 62},
		{"KillGrace", int64(o.KillGrace), 1, 1 << 62},
		{"MaxKills", int64(o.MaxKills), 1, 1000},
		{"HoldFor", int64(o.HoldFor), 1, int64(time.Hour)},
		{"StallAfter", int64(o.StallAfter), int64(stallEvery), 1 << 62},
		{"StartTimeout", int64(o.StartTimeout), 1, 1 << 62},
		{"MaxRestarts", int64(o.MaxRestarts), 1, 1 << 31},
		{"RestartWindow", int64(o.RestartWindow), 1, 1 << 62},
		{"SuspectWait", int64(o.SuspectWait), 1, 1 << 62},
		{"BatchWindow", int64(o.BatchWindow), 1, 1 << 62},
		{"BatchMode", int64(o.BatchMode), int64(BatchAtomic), int64(BatchIndependent)},
		{"StoreTimeout", int64(o.StoreTimeout), 1, 1 << 62},
		{"KeyWindow", int64(o.KeyWindow), 1, 1 << 20},
		{"KeyBytes", o.KeyBytes, 1, 1 << 50},
		{"MaxKeyBytes", o.MaxKeyBytes, 1, 1 << 50},
		{"MaxInProcess", int64(o.MaxInProcess), 1, 1 << 31},
		{"MaxAttempts", int64(o.MaxAttempts), 1, 100},
		{"SnapshotBytes", int64(o.SnapshotBytes), 1, 1 << 40},
		{"ReplayBudget", int64(o.ReplayBudget), 1, 1 << 62},
	} {
		if f.value < f.min || f.value > f.most {
			return badInput("Options.%s: %d is outside %d to %d", f.name, f.value, f.min, f.most)
		}
	}
	return nil
}

// mostWorkers is how many workers a host may have.
const mostWorkers = 1024

// frameSlack is what a frame needs beside a payload or a result, in bytes.
const frameSlack = 1 << 20

func (o *Options) machineConfig() engine.Config {
	return engine.Config{Limits: o.limits(), OpenTimeout: o.OpenTimeout, KillGrace: o.KillGrace, StoreTimeout: o.StoreTimeout,
		MaxAttempts: o.MaxAttempts, SnapshotBytes: o.SnapshotBytes, ReplayBudget: o.ReplayBudget, KeyBytes: o.KeyBytes,
		MaxKills: o.MaxKills, HoldFor: o.HoldFor}
}

func (o *Options) limits() wasm.Limits {
	return wasm.Limits{
		MaxStateBytes: uint64(o.MaxStateBytes),
		MaxResult:     uint32(o.MaxResult),
		MaxDepth:      uint32(o.MaxDepth),
	}
}

// setupDepth is how much deeper than a payload a setup may be nested: it has tokens in lists.
const setupDepth = 16

func (o *Options) payloadLimits() payload.Limits {
	return payload.Limits{Depth: o.MaxDepth, MaxDepth: o.MaxDepth, Bytes: o.MaxPayload, Option: "MaxPayload"}
}

func (o *Options) setupLimits() payload.Limits {
	most := min(2*o.MaxStateBytes+engine.StreamSlack, int64(math.MaxInt))
	return payload.Limits{Depth: o.MaxDepth + setupDepth, MaxDepth: o.MaxDepth, Bytes: int(most), Option: "MaxStateBytes"}
}
