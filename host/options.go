package host

import (
	"log/slog"
	"os"
	"time"

	"hypertoken/wasm"
)

// Options configure a host. The zero value is a host with the built-in core and the defaults below.
type Options struct {
	// CorePath names a file with a core of one's own; Core holds one. Neither means the built-in core.
	CorePath string
	Core     []byte

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
	// MaxInProcess bounds how many engines have an instance in this process at once. Those that were idle longest are
	// taken out: their next action places them again. Default 1,024.
	MaxInProcess int
	// MaxAttempts is how often placing an engine may fail before it is broken. Default 2.
	MaxAttempts int

	// SnapshotBytes is how many bytes of journal an engine gathers at least before a new snapshot. Default 64 KiB.
	SnapshotBytes int
	// ReplayBudget is how much run time a journal gathers before a new snapshot. Default a quarter of OpenTimeout.
	ReplayBudget time.Duration

	// CacheDir keeps compiled code between processes; only this user may write there. Default hypertoken in
	// [os.UserCacheDir]; "off" for none. A directory that can't be used costs time, and a warning in the log.
	CacheDir string

	// Logger gets what the host has to say. Default [slog.Default].
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

func (o *Options) limits() wasm.Limits {
	return wasm.Limits{
		MaxStateBytes: uint64(o.MaxStateBytes),
		MaxResult:     uint32(o.MaxResult),
		MaxDepth:      uint32(o.MaxDepth),
	}
}
