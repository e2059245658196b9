package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"hypertoken/host"
	"hypertoken/internal/node"
	"hypertoken/journal"
	"hypertoken/journal/disk"
)

// byteSize is a flag whose value is a number of bytes, such as 1048576, 1MiB or 1.5GB.
type byteSize int64

func (b *byteSize) String() string { return humanize.IBytes(uint64(*b)) }
func (b *byteSize) Type() string   { return "bytes" }
func (b *byteSize) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > 1<<62 {
		return fmt.Errorf("%q is not a size in bytes, such as 1048576 or 16MiB", s)
	}
	*b = byteSize(n)
	return nil
}

// hostFlags are the flags of every command that runs engines. If workers is set before register,
// it is the default of --workers. The log of a server also has lines at info level, which say that
// a problem is over.
type hostFlags struct {
	core, coreSHA256, cacheDir, data           string
	timeout                                    time.Duration
	debug, inProcess, noFallback               bool
	maxPayload, maxResult, maxState, maxMemory byteSize
	maxDepth, workers                          int
	server                                     bool
	history                                    historyFlag
}

func (f *hostFlags) register(flags *pflag.FlagSet) {
	f.maxPayload, f.maxResult, f.maxState, f.maxMemory = 16<<20, 16<<20, 256<<20, 1<<30
	flags.StringVar(&f.core, "core", "", "run the core in this WebAssembly `file` instead of the built-in one")
	flags.StringVar(&f.coreSHA256, "core-sha256", "", "run only a core with this SHA-256, in `hexadecimal`"+f.severalPins())
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long an action may take, 0 for no limit")
	f.workers = max(f.workers, 1)
	flags.IntVar(&f.workers, "workers", f.workers, "how many worker processes run the engines")
	flags.BoolVar(&f.inProcess, "in-process", false, "run the engines in this process, without workers")
	flags.BoolVar(&f.noFallback, "no-fallback", false,
		"never run an engine in this process, not even if no worker can run: for cores that are not trusted")
	flags.BoolVar(&f.debug, "debug", false, "log what the host does to standard error")
	flags.StringVar(&f.cacheDir, "cache-dir", "",
		"keep compiled code in this `directory`, \"off\" for nowhere (default the user's cache)")
	flags.Var(&f.maxPayload, "max-payload", "how large a payload may be, as MessagePack")
	flags.Var(&f.maxResult, "max-result", "how large a result may be, as MessagePack")
	flags.IntVar(&f.maxDepth, "max-depth", 64, "how deep a payload may be nested")
	flags.Var(&f.maxState, "max-state", "how large the state of an engine may be")
	flags.Var(&f.maxMemory, "max-engine-memory", "how much memory an engine may take")
}

// severalPins ends the usage of --core-sha256.
func (f *hostFlags) severalPins() string {
	if f.server {
		return "; with --cluster one of several, which commas divide"
	}
	return ""
}

// registerData adds the flags of commands whose engines may outlive them.
func (f *hostFlags) registerData(flags *pflag.FlagSet) {
	flags.StringVar(&f.data, "data", "",
		"keep the journals of the engines in this `directory`, so that games outlive this program (default in memory)")
	inMemory, stored := byteSize(f.kept().Bytes), "all with --data"
	if f.server {
		stored = "all with --data or --cluster"
	}
	flags.Var(&f.history, "history", "keep so `much` of what came before the newest snapshot of a game: all, "+
		"since-base, a size (64MiB), an age (30d), or 64MiB,30d (default "+stored+", "+inMemory.String()+
		" of a game in memory)")
}

// data is the store of --data.
type data struct {
	journal.Store
	disk *disk.Store // the same; nil if there is no --data
}

// openData opens the store of --data, which may have maxFiles files open; 0 for its default. The
// caller closes it once the host is shut down.
func (f *hostFlags) openData(maxFiles int) (d data, err error) {
	if f.data == "" {
		if f.history.isSet {
			d.Store = journal.NewMemoryWith(journal.MemoryOptions{History: f.history.History})
		}
		return d, nil
	}
	o := disk.Options{History: f.history.History, Logger: f.logger(), MaxFiles: maxFiles}
	d.disk, err = disk.Open(f.data, o)
	if err != nil {
		return d, fmt.Errorf("--data: %w", err)
	}
	d.Store = d.disk
	return d, nil
}

// close closes the store, and logs an error. Acknowledged actions are stored, even if close fails.
func (d data) close(log *slog.Logger) {
	if d.disk == nil {
		return
	}
	if err := d.disk.Close(); err != nil && !errors.Is(err, journal.ErrFailed) {
		log.Warn("the store could not be closed", "error", err)
	}
}

// open starts a host on a store, or on the store in memory if store is nil. If an option is out of
// bounds, the error is a usage error.
func (f *hostFlags) open(ctx context.Context, store journal.Store) (*host.Host, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	if o.Store = store; store == nil {
		o.Store = f.memoryStore()
	}
	h, err := host.New(ctx, o)
	if errors.Is(err, host.ErrBadInput) {
		return nil, usageError{err}
	}
	return h, err
}

// openCore is open with the code of a core instead of --core.
func (f *hostFlags) openCore(ctx context.Context, store journal.Store, code []byte) (*host.Host, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	return node.NewHost(ctx, o, store, code)
}

// How much of the history of an engine is kept in memory, in bytes, so that it can go back.
const (
	ownHistory    = 64 << 20 // of the one engine of 'hypertoken run'
	servedHistory = 1 << 20  // of each engine of a server
)

// kept says how much of a history is kept in memory by default.
func (f *hostFlags) kept() journal.History {
	if f.server {
		return journal.History{Bytes: servedHistory}
	}
	return journal.History{Bytes: ownHistory}
}

// memoryStore returns a store in memory.
func (f *hostFlags) memoryStore() journal.Store {
	return journal.NewMemoryWith(journal.MemoryOptions{History: f.kept()})
}

// options returns the options of the host. A value that only a flag can have is a usage error.
func (f *hostFlags) options() (host.Options, error) {
	timeout := f.timeout
	if timeout == 0 {
		timeout = -1
	}
	if f.workers < 1 {
		return host.Options{}, usageError{fmt.Errorf(
			"--workers is %d, below 1; use --in-process to run without workers", f.workers)}
	}
	return host.Options{
		Workers:         f.workers,
		InProcess:       f.inProcess,
		NoFallback:      f.noFallback,
		CorePath:        f.core,
		CoreSHA256:      f.coreSHA256,
		Timeout:         timeout,
		MaxPayload:      int(f.maxPayload),
		MaxResult:       int(f.maxResult),
		MaxDepth:        f.maxDepth,
		MaxStateBytes:   int64(f.maxState),
		MaxEngineMemory: int64(f.maxMemory),
		CacheDir:        f.cacheDir,
		Logger:          f.logger(),
	}, nil
}

// logger returns a logger that writes to standard error.
func (f *hostFlags) logger() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case f.debug:
		level = slog.LevelDebug
	case f.server:
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(standardError, &slog.HandlerOptions{Level: level}))
}

// openFile opens a file for reading, or standard input for "-". If ctx ends before a named pipe
// has a writer, openFile fails with the cause of ctx.
func openFile(ctx context.Context, name string, stdin io.Reader) (in io.ReadCloser, err error) {
	if name == "-" {
		return io.NopCloser(stdin), nil
	}
	opened := make(chan *os.File, 1)
	err = untilDone(ctx, func(context.Context) error {
		f, err := os.Open(name)
		opened <- f
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-opened, nil
}

// untilDone calls f and returns its error. If ctx ends first, it returns the cause of ctx at once.
// It is for calls that cannot be interrupted, such as a read of standard input: the goroutine that
// runs f then stays until the process ends.
func untilDone(ctx context.Context, f func(context.Context) error) error {
	failed := make(chan error, 1)
	go func() { failed <- f(ctx) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
