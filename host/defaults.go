package host

import (
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"hypertoken/internal/pool"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// The defaults of [Options], each under the name of its field. Sizes are in bytes.
const (
	DefaultTimeout      = 30 * time.Second
	DefaultOpenTimeout  = time.Minute
	DefaultStartTimeout = 10 * time.Second
	DefaultStoreTimeout = 10 * time.Second
	DefaultIdleAfter    = 5 * time.Minute
	DefaultPollFor      = 50 * time.Microsecond

	DefaultMaxPayload      = 16 << 20
	DefaultMaxResult       = 16 << 20
	DefaultMaxDepth        = 64
	DefaultMaxStateBytes   = 256 << 20
	DefaultMaxEngineMemory = 1 << 30

	DefaultMaxWorkerMemory = 4 << 30
	DefaultMaxQueue        = 1 << 16
	DefaultMaxQueueBytes   = 256 << 20
	DefaultWindowRequests  = 256
	DefaultWindowBytes     = 1 << 20
	DefaultMaxInProcess    = 1024

	DefaultMaxAttempts   = 2
	DefaultBusyAfter     = 20 * time.Millisecond
	DefaultKillGrace     = 250 * time.Millisecond
	DefaultMaxKills      = 2
	DefaultHoldFor       = time.Second
	DefaultStallAfter    = time.Second
	DefaultMaxRestarts   = 5
	DefaultRestartWindow = 10 * time.Second
	DefaultSuspectWait   = time.Second

	DefaultBatchWindow   = 10 * time.Millisecond
	DefaultKeyWindow     = 1024
	DefaultKeyBytes      = 16 << 20
	DefaultMaxKeyBytes   = 256 << 20
	DefaultSnapshotBytes = 64 << 10
)

func (o *Options) setDefaults() {
	set(&o.Timeout, DefaultTimeout)
	set(&o.OpenTimeout, DefaultOpenTimeout)
	set(&o.MaxPayload, DefaultMaxPayload)
	set(&o.MaxResult, DefaultMaxResult)
	set(&o.MaxDepth, DefaultMaxDepth)
	set(&o.MaxStateBytes, DefaultMaxStateBytes)
	set(&o.MaxEngineMemory, DefaultMaxEngineMemory)
	set(&o.MaxInProcess, DefaultMaxInProcess)
	set(&o.MaxAttempts, DefaultMaxAttempts)
	set(&o.SnapshotBytes, DefaultSnapshotBytes)
	set(&o.ReplayBudget, o.OpenTimeout/4)
	set(&o.Workers, min(runtime.GOMAXPROCS(0), mostWorkers))
	set(&o.MaxFrame, max(ipc.DefaultMaxFrame, o.MaxPayload+frameSlack, o.MaxResult+frameSlack))
	set(&o.MaxWorkerMemory, DefaultMaxWorkerMemory)
	set(&o.MaxQueue, DefaultMaxQueue)
	set(&o.MaxQueueBytes, DefaultMaxQueueBytes)
	set(&o.WindowRequests, DefaultWindowRequests)
	set(&o.WindowBytes, DefaultWindowBytes)
	set(&o.PollFor, DefaultPollFor)
	set(&o.BusyAfter, DefaultBusyAfter)
	set(&o.KillGrace, DefaultKillGrace)
	set(&o.MaxKills, DefaultMaxKills)
	set(&o.HoldFor, DefaultHoldFor)
	set(&o.StallAfter, DefaultStallAfter)
	set(&o.StartTimeout, DefaultStartTimeout)
	set(&o.MaxRestarts, DefaultMaxRestarts)
	set(&o.RestartWindow, DefaultRestartWindow)
	set(&o.SuspectWait, DefaultSuspectWait)
	set(&o.IdleAfter, DefaultIdleAfter)
	set(&o.BatchWindow, DefaultBatchWindow)
	set(&o.StoreTimeout, DefaultStoreTimeout)
	set(&o.KeyWindow, DefaultKeyWindow)
	set(&o.KeyBytes, DefaultKeyBytes)
	set(&o.MaxKeyBytes, DefaultMaxKeyBytes)
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
		{"StallAfter", int64(o.StallAfter), int64(pool.StallEvery), 1 << 62},
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
