package driver

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"hypertoken/internal/engine"
	"hypertoken/internal/fast"
	"hypertoken/internal/inproc"
	"hypertoken/internal/payload"
	"hypertoken/internal/placement"
	"hypertoken/internal/pool"
	"hypertoken/journal"
)

// Config is what the engines of a host go by. Options of the host that have the same names say
// more.
type Config struct {
	// Core is the core in this process, CoreHash its SHA-256. Cores are those that wrote journals
	// which have to be taken over.
	Core     inproc.CoreConfig
	CoreHash string
	Cores    [][]byte
	// Machine, Pool and Rules are those of the packages that they belong to. Pool is not used if
	// Rules.InProcess is set.
	Machine engine.Config
	Pool    pool.Config
	Rules   placement.Rules
	// Payload bounds the payload of an action, and those of a batch together.
	Payload payload.Limits

	MaxQueue      int
	MaxQueueBytes int64
	MaxInProcess  int
	// Timeout is that of the engines that have none of their own.
	Timeout, OpenTimeout, StartTimeout, IdleAfter time.Duration

	Store                 journal.Store
	KeyWindow             int
	KeyBytes, MaxKeyBytes int64
	// Now is where an action's clock comes from.
	Now func() time.Time
	// BatchError makes the error of an atomic batch out of that of its member with the index.
	BatchError func(index int, err error) error

	// Tracer is nil if there is none.
	Tracer  trace.Tracer
	Log     *slog.Logger
	IsDebug bool
	// Off are the ways to be fast that are not used.
	Off fast.Set
	// FindBase, if it is not nil, finds what rewinds lead to. Only a simulation has one.
	FindBase func(e *Driver, r *engine.Request, sequence uint64, found func(*journal.Base, Raw, error))
	// Places, if it has an Instantiate or a Spawn, replaces those of this process. Only a simulation
	// does.
	Places inproc.Config
}

// Opening says what is opened.
type Opening int

const (
	// OpenOrCreate opens the engine that the store knows, or creates it.
	OpenOrCreate Opening = iota
	// OpenExisting opens the engine that the store knows, and fails otherwise.
	OpenExisting
	// OpenNew creates the engine, and fails if the store knows it.
	OpenNew
)

// OpenOptions are those of one engine.
type OpenOptions struct {
	Opening Opening
	// Timeout is how long an action may take; 0 for Config.Timeout, negative for any time.
	Timeout time.Duration
	// GathersActions says that what is dispatched within Window from the first action on becomes one
	// batch of Mode.
	GathersActions bool
	Window         time.Duration
	Mode           Mode
}
