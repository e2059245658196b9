package disk

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// Sync says when what is stored is forced onto the disk.
type Sync int

const (
	// SyncAlways forces a call's bytes onto the disk before the call is reported. It is the
	// default. Neither the death of the process nor a loss of power loses what was reported.
	SyncAlways Sync = iota
	// SyncInterval hands a call's bytes to the operating system before the call is reported, and
	// forces them onto the disk every Options.Interval. The death of the process loses nothing. A
	// loss of power, or a crash of the operating system, loses what was reported in the last
	// interval, and what was reported while that interval's write to the disk ran.
	SyncInterval
)

// The defaults of [Options].
const (
	// DefaultInterval is how often SyncInterval writes to the disk.
	DefaultInterval = 100 * time.Millisecond
	// DefaultMinFree is the free space below which the store takes nothing more.
	DefaultMinFree = 256 << 20
	// DefaultCache is the size of the cache of blocks that were read.
	DefaultCache = 8 << 20
	// DefaultMaxFiles is how many files the store may have open.
	DefaultMaxFiles = 1024
)

// LeastMaxFiles is the least value of Options.MaxFiles.
const LeastMaxFiles = 128

// Options configure a [Store]. The zero value is good for a server.
type Options struct {
	// Sync says when what is stored is forced onto the disk. The default is SyncAlways.
	Sync Sync
	// Interval is the time between two writes to the disk with SyncInterval: 1 ms to 1 minute. The
	// default is DefaultInterval. It has no meaning with SyncAlways.
	Interval time.Duration
	// MinFree is the space in bytes that the file system keeps free. If less is free, the store
	// refuses everything that takes room, with [journal.ErrFull], until there is room again. It
	// should hold at least what the store writes in two seconds, and 200 MiB beside, which a compaction
	// may take for a while. The default is DefaultMinFree.
	MinFree uint64
	// Cache is the size in bytes of the cache of blocks that were read: 1 MiB or more. The default
	// is DefaultCache.
	Cache int64
	// MaxFiles is how many files the store may have open at once: LeastMaxFiles or more. With fewer,
	// reads of what is stored in many files open them again more often. The process needs as many
	// file descriptors beside its others. The default is DefaultMaxFiles.
	MaxFiles int
	// History says how much is kept of what came before an engine's newest base. The default keeps
	// everything. What is not kept any more is deleted soon after a base was installed. What becomes
	// too old while no base is installed is found by a walk over all engines, which may come more than
	// an hour later. The newest base, and what follows it, is always kept.
	History journal.History
	// Logger gets what an operator has to know. The default discards it.
	Logger *slog.Logger

	fs vfs.FS // a seam for tests: the file system
	// memTable is a seam for tests: the size of pebble's table in memory.
	memTable uint64
	// runs is how many runs of tables level 0 gathers before they are compacted.
	runs int
	// ballast is a seam for tests: the size of the file that gives room once the disk is full.
	ballast int64
	now     func() time.Time // a seam for tests
	// steps is a seam for tests: the steps between the versions of the format.
	steps []step
}

// The sizes that one directory is made of. New directories take at most 128 MiB.
const (
	defaultMemTable = 16 << 20
	defaultBallast  = 16 << 20
	// memTables is the number of tables in memory, of which one is filled and the others are
	// written to disk.
	memTables = 3
	// defaultRuns is how many runs of tables level 0 gathers. Tests with small tables have smallRuns, so
	// that compactions run in them.
	defaultRuns, smallRuns = 16, 4
	// leastFree is the space that pebble needs to write its tables in memory to the disk.
	leastFree = memTables * defaultMemTable
	// otherFiles is how many files the store itself and a backup have open, beside those of pebble.
	otherFiles = 16
)

// setDefaults replaces zero values.
func (o *Options) setDefaults() {
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.MinFree = cmp.Or(o.MinFree, DefaultMinFree)
	o.Cache = cmp.Or(o.Cache, DefaultCache)
	o.MaxFiles = cmp.Or(o.MaxFiles, DefaultMaxFiles)
	if o.memTable == 0 {
		o.runs = defaultRuns
	}
	o.runs = cmp.Or(o.runs, smallRuns)
	o.memTable = cmp.Or(o.memTable, defaultMemTable)
	o.ballast = cmp.Or(o.ballast, defaultBallast)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.steps == nil {
		o.steps = formatSteps
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
}

// newestFormat is the newest version of a directory's layout that the steps lead to.
func (o *Options) newestFormat() int { return 1 + len(o.steps) }

// validate fails if a value is out of its bounds.
func (o *Options) validate() error {
	switch {
	case o.Sync != SyncAlways && o.Sync != SyncInterval:
		return fmt.Errorf("disk: Options.Sync is %d, want SyncAlways or SyncInterval", o.Sync)
	case o.Interval < time.Millisecond || o.Interval > time.Minute:
		return fmt.Errorf("disk: Options.Interval is %v, want 1ms to 1m", o.Interval)
	case o.Cache < 1<<20:
		return fmt.Errorf("disk: Options.Cache is %d bytes, want 1 MiB or more", o.Cache)
	case o.MaxFiles < LeastMaxFiles:
		return fmt.Errorf("disk: Options.MaxFiles is %d, want %d or more", o.MaxFiles, LeastMaxFiles)
	case o.History.Age < 0:
		return fmt.Errorf("disk: Options.History.Age is %v, want 0 or more", o.History.Age)
	}
	return nil
}
