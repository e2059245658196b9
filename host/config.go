package host

import (
	"context"
	"log/slog"
	"math"
	"runtime"

	"hypertoken/internal/clock"
	"hypertoken/internal/driver"
	"hypertoken/internal/engine"
	"hypertoken/internal/inproc"
	"hypertoken/internal/payload"
	"hypertoken/internal/placement"
	"hypertoken/internal/pool"
	"hypertoken/wasm"
)

// What the packages that run engines get of the options.

// config returns what the engines of a host go by. The options have their defaults. It fails if
// there is no such core, or if another one is pinned.
func (o *Options) config() (driver.Config, error) {
	code, hash, err := o.readCore()
	if err != nil {
		return driver.Config{}, err
	}
	log := o.logger()
	cacheDir := o.cacheDir(log)
	isDebug := o.Logger.Enabled(context.Background(), slog.LevelDebug)
	return driver.Config{
		Core: inproc.CoreConfig{Code: code, Name: o.coreName(), CacheDir: cacheDir, CheckOnly: o.NoFallback,
			MemoryLimit: uint64(o.MaxEngineMemory), StartTimeout: o.StartTimeout, Log: log},
		CoreHash: hash, Cores: o.Cores,
		Machine: engine.Config{Limits: o.limits(), OpenTimeout: o.OpenTimeout, KillGrace: o.KillGrace,
			StoreTimeout: o.StoreTimeout, MaxAttempts: o.MaxAttempts, SnapshotBytes: o.SnapshotBytes,
			ReplayBudget: o.ReplayBudget, KeyBytes: o.KeyBytes, MaxKills: o.MaxKills, HoldFor: o.HoldFor},
		Pool: pool.Config{
			Workers: o.Workers, Spares: o.Spares, WorkerPath: o.WorkerPath, WorkerSHA256: o.WorkerSHA256,
			Core: code, CoreHash: hash, CacheDir: cacheDir, TellActions: o.NoFallback, IsDebug: isDebug,
			MaxEngineMemory: o.MaxEngineMemory, MaxWorkerMemory: o.MaxWorkerMemory, MaxFrame: o.MaxFrame,
			WindowRequests: o.WindowRequests, WindowBytes: o.WindowBytes, PollFor: o.PollFor, BusyAfter: o.BusyAfter,
			KillGrace: o.KillGrace, StallAfter: o.StallAfter, IdleAfter: o.IdleAfter, StartTimeout: o.StartTimeout,
			RestartWindow: o.RestartWindow, MaxRestarts: o.MaxRestarts, IdleTick: clock.IdleTickEvery, Log: log},
		Rules: placement.Rules{InProcess: o.InProcess, NoFallback: o.NoFallback, SuspectWait: o.SuspectWait,
			Cores: runtime.GOMAXPROCS(0)},
		Payload:  o.payloads(),
		MaxQueue: o.MaxQueue, MaxQueueBytes: o.MaxQueueBytes, MaxInProcess: o.MaxInProcess,
		Timeout: o.Timeout, OpenTimeout: o.OpenTimeout, StartTimeout: o.StartTimeout, IdleAfter: o.IdleAfter,
		Store: o.Store, KeyWindow: o.KeyWindow, KeyBytes: o.KeyBytes, MaxKeyBytes: o.MaxKeyBytes, Now: o.Clock,
		BatchError: func(index int, err error) error { return &BatchError{Index: index, Err: err} },
		Tracer:     o.Tracer, Log: log, IsDebug: isDebug,
	}, nil
}

func (o *Options) payloads() payload.Limits {
	return payload.Limits{Depth: o.MaxDepth, MaxDepth: o.MaxDepth, Bytes: o.MaxPayload, Option: "MaxPayload"}
}

func (o *Options) limits() wasm.Limits {
	return wasm.Limits{
		MaxStateBytes: uint64(o.MaxStateBytes),
		MaxResult:     uint32(o.MaxResult),
		MaxDepth:      uint32(o.MaxDepth),
	}
}

// forEngine returns what an engine goes by that is opened with e.
func (o *Options) forEngine(e *EngineOptions) driver.OpenOptions {
	d := driver.OpenOptions{Opening: driver.Opening(e.Mode), Timeout: e.Timeout,
		GathersActions: o.EnableBatching || e.EnableBatching,
		Window:         o.BatchWindow, Mode: driver.Mode(o.BatchMode)}
	if e.BatchWindow > 0 {
		d.Window = e.BatchWindow
	}
	if e.BatchMode != BatchAtomic {
		d.Mode = driver.Mode(e.BatchMode)
	}
	return d
}

// setupDepth is how much deeper than a payload a setup may be nested: it has tokens in lists.
const setupDepth = 16

// encodeSetup encodes what an engine starts from.
func (o *Options) encodeSetup(setup any) ([]byte, error) {
	switch s := setup.(type) {
	case nil:
		return nil, nil
	case Raw:
		return s, nil
	}
	most := min(2*o.MaxStateBytes+engine.StreamSlack, int64(math.MaxInt))
	return new(payload.Buffer).Encode("EngineOptions.Setup", setup, payload.Limits{Depth: o.MaxDepth + setupDepth,
		MaxDepth: o.MaxDepth, Bytes: int(most), Option: "MaxStateBytes"})
}
