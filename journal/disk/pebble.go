package disk

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// pebbleDir is the folder with pebble's files.
const pebbleDir = "db"

// pebbleOptions returns how pebble is to be opened. README.md says why.
func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                          s.gate,
		CacheSize:                   s.o.Cache,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                s.o.memTable,
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       2 * s.o.runs, // pebble compacts at half of it
		L0StopWritesThreshold:       1000,
		MaxOpenFiles:                s.o.MaxFiles - otherFiles,
		FlushDelayDeleteRange:       10 * time.Second,
		Logger:                      pebbleLogger{s},
		EventListener: &pebble.EventListener{
			// By default this ends the program.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.stats.damages.Add(1)
				s.o.Logger.Error("a file of the journals' store is damaged", "path", info.Path, "err", info.Details)
			},
			BackgroundError: func(err error) {
				if s.Err() == nil {
					s.o.Logger.Warn("the journals' store could not tidy up, and tries again", "dir", s.dir, "err", err)
				}
			},
			CompactionEnd: func(pebble.CompactionInfo) { s.stats.compactions.Add(1) },
		},
	}
	for k := range o.Levels {
		o.Levels[k].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[k].Compression = func() *sstable.CompressionProfile { return sstable.ZstdCompression }
	}
	return o
}

// pebbleLogger is pebble's logger. It never ends the program.
type pebbleLogger struct{ s *Store }

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) { l.log(slog.LevelDebug, format, args) }

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) { l.log(slog.LevelWarn, format, args) }

// Fatalf implements pebble.Logger. pebble expects that it does not return. It does: the gate is
// shut, so nothing that pebble does then has an effect, and the store uses pebble no more.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.s.fail(fmt.Errorf("pebble: "+format, args...))
}

func (l pebbleLogger) log(level slog.Level, format string, args []any) {
	if log := l.s.o.Logger; log.Enabled(context.Background(), level) {
		log.Log(context.Background(), level, "pebble: "+fmt.Sprintf(format, args...))
	}
}
