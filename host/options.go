package host

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"hypertoken/journal"
)

// Options configure a host. The zero value is a host with the built-in core and a worker for each
// processor. A field that is zero has its default, which its comment names. The fields stand in
// groups: workers, the core, time, limits of an engine, limits of the host, supervision, batching,
// the journal, and what is observed. [New] fails with [ErrBadInput] for a value out of bounds.
type Options struct {
	// Workers is how many worker processes run engines, at most 1,024. Default [runtime.GOMAXPROCS]
	// when the host starts, which follows the limits of a container. Engines are spread over as many
	// workers as there are processors; further workers take engines in that are behind a long action
	// (BusyAfter), or that have lost their worker, or whose worker has half of MaxWorkerMemory.
	Workers int
	// Spares is how many worker processes are kept started beside them, idle, at most 1,024. If a
	// worker ends, a spare replaces it at once, and another spare is started. A spare takes the memory
	// of a worker without engines. Default none.
	Spares int
	// WorkerPath is the program that the workers run, which calls workerproc.Main. Default this program
	// itself, which must call it.
	WorkerPath string
	// WorkerSHA256 pins that program: its SHA-256, in hexadecimal. A program that has another one is not started, at no
	// restart either. On Linux the workers run what was hashed: a copy in memory for each worker. Default any.
	WorkerSHA256 string
	// InProcess runs the engines in this process, without workers. There a core that hangs is interrupted, which costs
	// some 3 % of its speed, and one that takes too much memory takes it from this process.
	InProcess bool
	// NoFallback keeps engines out of this process, for cores that are not trusted: no engine runs here
	// if no worker can, and the core is compiled here and never run. Then requests wait as long as
	// their time lasts for a worker that can run them, and fail with [ErrWorkerUnavailable]. It
	// excludes InProcess, and Cores, whose journals are replayed here.
	NoFallback bool

	// CorePath names a file with a core of one's own; Core holds one. Default the built-in core.
	CorePath string
	Core     []byte
	// CoreSHA256 pins the core, the built-in one too: its SHA-256, in hexadecimal. Default any.
	CoreSHA256 string
	// Cores are those that wrote journals which this host loads, beside its own core: each such journal
	// is replayed by the core that wrote it, once, and then goes on with this host's. Default none:
	// Open fails with [ErrCoreMismatch] for them.
	Cores [][]byte
	// CacheDir keeps compiled code between processes; only this user may write there. Default hypertoken in
	// [os.UserCacheDir]; "off" for none. A directory that can't be used costs time, and a warning in the log.
	CacheDir string

	// Timeout is how long an action may take, its wait included, unless its context has an earlier deadline.
	// Default [DefaultTimeout]; negative for none.
	Timeout time.Duration
	// OpenTimeout is how long placing an engine may take: restoring its snapshot and replaying its journal.
	// Default [DefaultOpenTimeout].
	OpenTimeout time.Duration
	// StartTimeout is how long a worker may take until it is ready, and the first instance of the core in this process.
	// Default [DefaultStartTimeout].
	StartTimeout time.Duration
	// StoreTimeout is how long the store may take for a call before the host asks it what it has.
	// Default [DefaultStoreTimeout].
	StoreTimeout time.Duration
	// IdleAfter is how long an engine is idle before its instance is freed: its next action places it again.
	// Default [DefaultIdleAfter]; negative for never.
	IdleAfter time.Duration
	// PollFor is how long a host and a worker that expect bytes from each other poll for them before
	// they park, at most 10 ms: waking a thread takes longer than most actions. They stop by themselves
	// if it does not pay, and poll once at most if there is nothing to do. Default [DefaultPollFor];
	// negative for never, which makes a single action slower.
	PollFor time.Duration

	// MaxPayload bounds an action's payload as MessagePack, and those of a batch together, in bytes, at most 48 MiB.
	// Default [DefaultMaxPayload].
	MaxPayload int
	// MaxResult bounds an action's result, and those of a batch together, in bytes. Default [DefaultMaxResult].
	MaxResult int
	// MaxDepth bounds how deep a payload is nested, at most 128. Default [DefaultMaxDepth].
	MaxDepth int
	// MaxStateBytes bounds an engine's state, in logical bytes. Default [DefaultMaxStateBytes].
	MaxStateBytes int64
	// MaxEngineMemory bounds an engine's linear memory, in bytes, from 2 MiB to 4 GiB. Default
	// [DefaultMaxEngineMemory].
	MaxEngineMemory int64

	// MaxFrame bounds a frame between host and worker, in bytes. Default 17 MiB, or 1 MiB more than
	// MaxPayload or MaxResult if those are larger; at least that.
	MaxFrame int
	// MaxWorkerMemory bounds a worker process, in bytes of resident memory, at least 64 MiB. From four
	// fifths on its idle engines are taken out; above, the worker is replaced, and nothing is lost.
	// Default [DefaultMaxWorkerMemory].
	MaxWorkerMemory int64
	// MaxQueue bounds the requests that are dispatched and unanswered, MaxQueueBytes the bytes that
	// they take. Beyond it Dispatch waits, and DispatchAsync fails with [ErrOverloaded]. Default
	// [DefaultMaxQueue] and [DefaultMaxQueueBytes].
	MaxQueue      int
	MaxQueueBytes int64
	// WindowRequests and WindowBytes bound what is in a worker's pipe. The rest waits in the host,
	// where withdrawing it costs nothing. Default [DefaultWindowRequests] and [DefaultWindowBytes].
	WindowRequests, WindowBytes int
	// MaxInProcess bounds how many engines have an instance in this process at once. Those that were idle longest are
	// taken out: their next action places them again. Default [DefaultMaxInProcess].
	MaxInProcess int

	// MaxAttempts is how often placing an engine may fail before it is broken, and how many workers may
	// die while an action runs alone before the action fails with [ErrPoisoned], at most 100. Default
	// [DefaultMaxAttempts].
	MaxAttempts int
	// BusyAfter is how long an action runs before the engines behind it go to another worker, if one is free.
	// Default [DefaultBusyAfter].
	BusyAfter time.Duration
	// KillGrace is how long a worker may owe an answer past its deadline before it is killed. Default
	// [DefaultKillGrace].
	KillGrace time.Duration
	// MaxKills is how many workers may be killed for actions of one engine that run past their
	// deadline, before that engine is held back: for HoldFor, and for twice as long with each further
	// one, up to 64 times. Meanwhile what is dispatched to it fails with [ErrOverloaded], and no other
	// engine is touched. Kills are forgotten once there was none for 60 times HoldFor. Default
	// [DefaultMaxKills] and [DefaultHoldFor], at most 1,000 and 1 hour.
	MaxKills int
	HoldFor  time.Duration
	// StallAfter is how long a worker may owe an answer while its CPU time stands still before it is
	// killed, at least 100 ms. A worker that has nothing to do is pinged every 10 s, and is killed if
	// it does not answer within StallAfter. Default [DefaultStallAfter].
	StallAfter time.Duration
	// MaxRestarts is how many deaths of a worker within RestartWindow it takes to give it up. It is tried again after
	// a second, then after two, up to a minute. Default [DefaultMaxRestarts] within [DefaultRestartWindow].
	MaxRestarts   int
	RestartWindow time.Duration
	// SuspectWait is how long an action that a worker may have died of waits for a worker, if none can run.
	// Default [DefaultSuspectWait].
	SuspectWait time.Duration

	// EnableBatching gathers what is dispatched to an engine within BatchWindow (default
	// [DefaultBatchWindow]) from the first action into one batch of BatchMode (default [BatchAtomic]).
	// State, Digest and DispatchBatch close the batch at once; so does an action with a Key or
	// IfSequence, which is sent by itself.
	EnableBatching bool
	BatchWindow    time.Duration
	BatchMode      BatchMode

	// Store keeps the journals. Default [journal.NewMemory].
	Store journal.Store
	// KeyWindow is how many keys an engine remembers. Default [DefaultKeyWindow].
	KeyWindow int
	// KeyBytes is how many bytes of keys and results an engine remembers, except for its newest key,
	// which it always remembers. MaxKeyBytes is how many all open engines of the host remember
	// together. What is beyond is forgotten, oldest first, of the engine that has most: [Host.Stats]
	// counts that. The store in memory may take as much again. Default [DefaultKeyBytes] and
	// [DefaultMaxKeyBytes].
	KeyBytes, MaxKeyBytes int64
	// SnapshotBytes is how many bytes of journal an engine gathers at least before a new snapshot.
	// Default [DefaultSnapshotBytes].
	SnapshotBytes int
	// ReplayBudget is for how long the actions of a journal ran before a new snapshot. Default a
	// quarter of OpenTimeout.
	ReplayBudget time.Duration
	// Clock is where an action's now comes from. Default [time.Now].
	Clock func() time.Time

	// Tracer, if it is set, gets a span for each call of Dispatch, DispatchAsync and DispatchBatch:
	// hypertoken.dispatch, with the events queue, run and wire, at the end of each of them, with how
	// long it took.
	Tracer trace.Tracer
	// Logger gets what the host has to say. A line that repeats is logged ten times, and then once a
	// second, with how many were left out. Default [slog.Default].
	Logger *slog.Logger
	// Debug logs every placing, snapshot and failure to standard error if Logger is nil.
	Debug bool
}
