package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/host"
	"hypertoken/internal/storeload"
	"hypertoken/journal"
	"hypertoken/journal/disk"
)

// The shapes in which the stores are called.
var (
	shapeSingle  = storeload.Shape{Engines: 1, InFlight: 1}
	shapeSome    = storeload.Shape{Engines: 16, InFlight: 64}
	shapeMany    = storeload.Shape{Engines: 256, InFlight: 64}
	shapeScatter = storeload.Shape{Engines: 256, InFlight: 1}
)

// The stores that are compared.
const (
	storeMemory = "memory"
	storeDisk   = "disk"
	storeSQLite = "sqlite"
)

// storeProbe names the probe of a store that is called in a shape.
func storeProbe(store string, s storeload.Shape) string { return store + "_" + s.String() }

// storeProbes are the probes of a shape on the stores.
func storeProbes(s storeload.Shape, about string) []probe {
	return []probe{
		{name: storeProbe(storeMemory, s), about: about + ": the store in memory", needs: drawing, open: onStore(memoryStore, s)},
		{name: storeProbe(storeDisk, s), about: about + ": the store on disk", needs: drawing, open: onStore(diskStore, s)},
		{name: storeProbe(storeSQLite, s), about: about + ": SQLite with a WAL, synced at each commit", needs: drawing, open: openSQLite(s)},
	}
}

// dir returns a new directory on the disk that is measured. It is removed when the group ends.
func (r *room) dir() (string, error) {
	base := r.config.Dir
	if base == "" {
		base = os.TempDir()
	}
	if isInMemory(base) {
		return "", unavailable{fmt.Sprintf("%s is in memory (tmpfs): name a directory on a disk, with --dir", base)}
	}
	dir, err := os.MkdirTemp(base, "hypertoken-bench-")
	if err == nil {
		r.closing(func() { _ = os.RemoveAll(dir) })
	}
	return dir, err
}

// storeHost is a host on a store.
type storeHost struct {
	host *host.Host
	disk *disk.Store // nil if the store is in memory
}

// memoryStore and diskStore return a host on such a store, which the probes of a group share.
func memoryStore(ctx context.Context, r *room) (*storeHost, error) {
	return r.storeHost(storeMemory, func() (*storeHost, error) {
		h, err := r.hostWith(ctx, storeload.Workers, host.Options{})
		return &storeHost{host: h}, err
	})
}

func diskStore(ctx context.Context, r *room) (*storeHost, error) {
	return r.storeHost(storeDisk, func() (*storeHost, error) {
		dir, err := r.dir()
		if err != nil {
			return nil, err
		}
		store, err := r.diskAt(filepath.Join(dir, "games"), disk.Options{})
		if err != nil {
			return nil, err
		}
		h, err := r.hostWith(ctx, storeload.Workers, host.Options{Store: store})
		return &storeHost{h, store}, err
	})
}

func (r *room) storeHost(name string, open func() (*storeHost, error)) (*storeHost, error) {
	if h := r.stores[name]; h != nil {
		return h, nil
	}
	h, err := open()
	if err == nil {
		r.stores[name] = h
	}
	return h, err
}

// diskAt opens a store on disk. It is closed when the group ends, after the hosts that were opened
// later.
func (r *room) diskAt(dir string, o disk.Options) (*disk.Store, error) {
	store, err := disk.Open(dir, o)
	if err == nil {
		r.closing(func() { _ = store.Close() })
	}
	return store, err
}

// onStore calls engines of a host in a shape.
func onStore(open func(context.Context, *room) (*storeHost, error),
	shape storeload.Shape) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		h, err := open(ctx, r)
		if err != nil {
			return nil, err
		}
		l, err := storeload.Open(ctx, h.host, shape.String()+"-", shape)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, d time.Duration, s *sample) error {
			result, err := l.Run(ctx, d)
			s.loaded(&result)
			return errors.Join(err, onWorkers(h.host))
		}, nil
	}
}

// loaded takes the result of a load.
func (s *sample) loaded(r *storeload.Result) {
	s.laps = r.Laps
	s.rate(r.Count, time.Duration(r.NS))
}

// openSQLite has the program of --sqlite call engines of its own in a shape.
func openSQLite(shape storeload.Shape) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		if r.config.SQLite == "" {
			return nil, unavailable{"SQLite is no part of this program: build examples/sqlitestore/measure, " +
				"and name the program with --sqlite"}
		}
		if r.config.Core != nil {
			return nil, unavailable{"another program can't have this core"}
		}
		if r.sqlite == nil {
			var err error
			if r.sqlite, err = r.startSQLite(ctx); err != nil {
				return nil, err
			}
		}
		return func(_ context.Context, d time.Duration, s *sample) error {
			result, err := r.sqlite(shape, d)
			s.loaded(&result)
			return err
		}, nil
	}
}

// measureStore gives an order to the program of --sqlite, and returns its answer.
type measureStore func(storeload.Shape, time.Duration) (storeload.Result, error)

// startSQLite starts the program.
func (r *room) startSQLite(ctx context.Context) (measureStore, error) {
	dir, err := r.dir()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, r.config.SQLite)
	c.Stderr = os.Stderr
	detach(c)
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("--sqlite: %w", err)
	}
	r.closing(func() {
		_ = in.Close()
		_ = c.Wait()
	})
	orders, answers := json.NewEncoder(in), json.NewDecoder(out)
	return func(shape storeload.Shape, d time.Duration) (result storeload.Result, err error) {
		err = orders.Encode(storeload.Order{Shape: shape, Milliseconds: d.Seconds() * 1e3, Dir: dir,
			CorePath: r.config.CorePath})
		if err == nil {
			err = answers.Decode(&result)
		}
		if err != nil {
			err = fmt.Errorf("the program of --sqlite has ended: %w", err)
		}
		return result, err
	}, nil
}

// syncFile is how large the file is that openSync writes to: a small part of it at a time.
const syncFile = 16 << 20

// openSync writes as many bytes as the store on disk writes for an action, to a file that was
// written before, and syncs them: what the disk itself takes.
func openSync(ctx context.Context, r *room) (slice, error) {
	size, err := bytesOfOne(ctx, r)
	if err != nil {
		return nil, err
	}
	dir, err := r.dir()
	if err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	r.closing(func() { _ = f.Close() })
	if _, err := f.Write(make([]byte, syncFile)); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	row, at := make([]byte, size), 0
	return func(ctx context.Context, d time.Duration, s *sample) error {
		s.value("size", "bytes", float64(size))
		return each(ctx, d, s, func() error {
			if at += size; at+size > syncFile {
				at = 0
			}
			if _, err := f.WriteAt(row, int64(at)); err != nil {
				return err
			}
			return syncData(f)
		})
	}, nil
}

// bytesOfOne returns how many bytes the store on disk writes to its log for an action that is
// stored by itself.
func bytesOfOne(ctx context.Context, r *room) (int, error) {
	h, err := diskStore(ctx, r)
	if err != nil {
		return 0, err
	}
	l, err := storeload.Open(ctx, h.host, "size-", shapeSingle)
	if err != nil {
		return 0, err
	}
	before := h.disk.Stats()
	_, err = l.Run(ctx, 100*time.Millisecond)
	after := h.disk.Stats()
	if n := after.Batches - before.Batches; n > 0 {
		return int((after.WrittenBytes - before.WrittenBytes) / n), err
	}
	return 0, errors.Join(err, errors.New("nothing was stored on the disk"))
}

// counted is a store on disk that counts the bytes of the records that it is given, encoded as
// entries of a journal.
type counted struct {
	*disk.Store
	records, bytes atomic.Uint64
}

// Append implements journal.Store.
func (c *counted) Append(name string, o journal.Owner, newest uint64, group []journal.Record, done journal.Done) {
	for k := range group {
		if r := &group[k]; r.Action != nil {
			c.records.Add(1)
			c.bytes.Add(uint64(len(r.Action) + len(journal.AppendEntry(nil, nil, r.Checksum))))
		}
	}
	c.Store.Append(name, o, newest, group, done)
}

// openWritten measures how many bytes this process writes to the disk for a byte of the records
// that it stores. It counts all from the first action on, logs and compactions included. The
// operating system counts whole pages, so a sync of a few records costs a page. For the same records
// files has what was written to files, rows what the rows of groups have, and batch how many of them
// were synced together.
func openWritten(ctx context.Context, r *room) (slice, error) {
	if _, err := writtenBytes(); err != nil {
		return nil, unavailable{fmt.Sprintf("this system does not count what a process writes to the disk: %v", err)}
	}
	dir, err := r.dir()
	if err != nil {
		return nil, err
	}
	store, err := r.diskAt(filepath.Join(dir, "games"), disk.Options{})
	if err != nil {
		return nil, err
	}
	c := &counted{Store: store}
	h, err := r.hostWith(ctx, storeload.Workers, host.Options{Store: c})
	if err != nil {
		return nil, err
	}
	l, err := storeload.Open(ctx, h, "written-", shapeScatter)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	first, err := writtenBytes()
	return func(ctx context.Context, d time.Duration, s *sample) error {
		if _, err := l.Run(ctx, d); err != nil {
			return err
		}
		last, err := writtenBytes()
		records, bytes := c.records.Load(), c.bytes.Load()
		stats := store.Stats()
		s.value("ratio", "ratio", float64(last-first)/float64(bytes))
		s.value("files", "ratio", float64(stats.WrittenBytes)/float64(bytes))
		s.value("rows", "ratio", float64(stats.GroupBytes)/float64(bytes))
		s.value("batch", "records", float64(records)/float64(stats.Batches))
		s.value("record", "bytes", float64(bytes)/float64(records))
		s.value("bytes", "bytes", float64(last-first))
		s.value("records", "records", float64(records))
		s.value("compactions", "compactions", float64(stats.Compactions))
		s.value("time", "us", float64(time.Since(began).Microseconds()))
		return errors.Join(err, onWorkers(h))
	}, err
}

// openDirectory measures what a new directory takes on the disk, once a game was played in it.
func openDirectory(ctx context.Context, r *room) (slice, error) {
	if _, err := blocksOf(os.TempDir()); err != nil {
		return nil, unavailable{fmt.Sprintf("this system does not tell what a file takes on the disk: %v", err)}
	}
	return func(ctx context.Context, _ time.Duration, s *sample) (err error) {
		parent, err := r.dir()
		if err != nil {
			return err
		}
		dir := filepath.Join(parent, "games")
		store, err := disk.Open(dir, disk.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		h, err := r.newHost(ctx, inProcess, host.Options{Store: store})
		if err != nil {
			return err
		}
		defer shutdown(h)
		l, err := storeload.Open(ctx, h, "new-", shapeSingle)
		if err == nil {
			_, err = l.Run(ctx, 10*time.Millisecond)
		}
		if err != nil {
			return err
		}
		taken, err := blocksOf(dir)
		s.value("bytes", "bytes", float64(taken))
		return err
	}, nil
}

// The size of the game whose past is read, and of the batches in which it is played.
const (
	pastActions = 100_000
	pastBatch   = 1000
)

// openLong returns a long game on a store on disk.
func openLong(ctx context.Context, r *room) (*host.Host, *host.Engine, error) {
	h, e, err := openStored(ctx, r, disk.SyncInterval) // no loss of power has to be outlived here
	if err != nil {
		return nil, nil, err
	}
	for played := 0; played < pastActions; {
		batch := make([]host.Action, pastBatch)
		for k := range batch {
			batch[k].Type = storeload.Next(played)
			played++
		}
		if _, err := e.DispatchBatch(ctx, host.BatchIndependent, batch); err != nil {
			return nil, nil, err
		}
	}
	return h, e, nil
}

// openStored returns a game on a store on disk.
func openStored(ctx context.Context, r *room, sync disk.Sync) (*host.Host, *host.Engine, error) {
	dir, err := r.dir()
	if err != nil {
		return nil, nil, err
	}
	store, err := r.diskAt(filepath.Join(dir, "games"), disk.Options{Sync: sync})
	if err != nil {
		return nil, nil, err
	}
	h, err := r.hostWith(ctx, 1, host.Options{Store: store})
	if err != nil {
		return nil, nil, err
	}
	e, err := h.Open(ctx, "game", host.EngineOptions{Setup: storeload.Setup()})
	return h, e, err
}

// openFork measures how long it takes to begin a game with a state of a long one.
func openFork(ctx context.Context, r *room) (slice, error) {
	h, e, err := openLong(ctx, r)
	if err != nil {
		return nil, err
	}
	n := uint64(0)
	return func(ctx context.Context, d time.Duration, s *sample) error {
		err := each(ctx, d, s, func() error {
			n++
			_, err := h.Fork(ctx, e.Name(), n*7919%(pastActions+1), fmt.Sprint("fork-", n))
			return err
		})
		return errors.Join(err, onWorkers(h))
	}, nil
}

// openUndo measures how long an undo takes until the game has gone on behind it.
func openUndo(ctx context.Context, r *room) (slice, error) {
	h, e, err := openStored(ctx, r, disk.SyncAlways)
	if err != nil {
		return nil, err
	}
	n := 0
	next := func() error {
		n++
		_, err := e.Dispatch(ctx, storeload.Next(n), nil)
		return err
	}
	if err := next(); err != nil {
		return nil, err
	}
	return func(ctx context.Context, d time.Duration, s *sample) error {
		err := each(ctx, d, s, func() error {
			if _, err := e.Undo(ctx); err != nil {
				return err
			}
			return next()
		})
		return errors.Join(err, onWorkers(h))
	}, nil
}

// openPast measures how long a state of the past takes, at sequences all over a long game.
func openPast(ctx context.Context, r *room) (slice, error) {
	h, e, err := openLong(ctx, r)
	if err != nil {
		return nil, err
	}
	n := uint64(0)
	return func(ctx context.Context, d time.Duration, s *sample) error {
		err := each(ctx, d, s, func() error {
			n++
			_, err := e.StateAt(ctx, n*7919%(pastActions+1))
			return err
		})
		return errors.Join(err, onWorkers(h))
	}, nil
}

// The engines that are open when a host is shut down, and how many actions each of them has played.
const (
	shutdownEngines = 10_000
	shutdownActions = 10
	openers         = 512
)

// openShutdown measures how long the shutdown of a host takes whose engines have played a little.
func openShutdown(name string) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		return func(ctx context.Context, d time.Duration, s *sample) error {
			o, closeStore := host.Options{}, func() error { return nil }
			if name == storeDisk {
				parent, err := r.dir()
				if err != nil {
					return err
				}
				store, err := disk.Open(filepath.Join(parent, "games"), disk.Options{})
				if err != nil {
					return err
				}
				o.Store, closeStore = store, store.Close
			}
			h, err := r.newHost(ctx, storeload.Workers, o)
			if err != nil {
				return errors.Join(err, closeStore())
			}
			n, err := openPlayed(ctx, h, d)
			if err == nil {
				err = onWorkers(h)
			}
			began := time.Now()
			err = errors.Join(err, h.Shutdown(context.Background()), closeStore())
			s.lap(time.Since(began))
			s.value("engines", "engines", float64(n))
			return err
		}, nil
	}
}

// openPlayed opens the engines, as many as it can in the time d, and returns how many are open.
func openPlayed(ctx context.Context, h *host.Host, d time.Duration) (int, error) {
	var opened atomic.Int64
	var opening sync.WaitGroup
	failed, until := make([]error, openers), time.Now().Add(d)
	for k := range openers {
		opening.Go(func() {
			for n := k; n < shutdownEngines && (n < openers || time.Now().Before(until)); n += openers {
				e, err := h.Open(ctx, fmt.Sprint("played-", n), host.EngineOptions{Setup: storeload.Setup()})
				for played := 0; err == nil && played < shutdownActions; played++ {
					_, err = e.Dispatch(ctx, storeload.Next(played), nil)
				}
				if failed[k] = err; err != nil {
					return
				}
				opened.Add(1)
			}
		})
	}
	opening.Wait()
	return int(opened.Load()), errors.Join(failed...)
}
