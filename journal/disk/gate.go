package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gate is the file system that pebble gets. Everything that changes a file goes through it.
//
// The first write or sync that fails shuts the gate. From then on no file is changed any more, and
// pebble is told that everything has succeeded. So no retry can cover up what was lost, nothing
// that pebble does after an error can remove a file that the disk still refers to, and pebble does
// not panic, as it does if it cannot begin a new log. The store knows that it has failed before
// pebble is told anything.
//
// A table that could not be written because the disk is full is no failure: its contents are still
// in the log. pebble would try again at once and for ever, so the next table waits at the gate
// until there is room. Tables also wait while the gate is shut.
type gate struct {
	vfs.FS
	// dir is the folder whose files are guarded. A backup goes elsewhere, and may fail.
	dir string
	// logs measures and, with SyncInterval, delays the syncs of pebble's logs.
	logs *logSyncs
	// written counts the bytes that were written.
	written atomic.Uint64
	// onFailure is called with each failure. It notes it and shuts the gate, in this order, and
	// must not wait.
	onFailure func(error)
	// onNoSpace is called when a table cannot be written for want of space. It must not wait.
	onNoSpace func()

	mu       sync.Mutex // guards what follows
	changed  sync.Cond  // of mu: something of what follows has changed
	isShut   bool
	isFull   bool
	isOpened bool // said of tables: none waits, because pebble is being opened or closed
	locks    []io.Closer
}

func newGate(fs vfs.FS, dir string, logs *logSyncs) *gate {
	g := &gate{FS: fs, dir: dir, logs: logs}
	g.changed.L = &g.mu
	return g
}

// Unwrap implements vfs.FS.
func (g *gate) Unwrap() vfs.FS { return g.FS }

// shut lets nothing through any more.
func (g *gate) shut() {
	g.mu.Lock()
	g.isShut = true
	g.changed.Broadcast()
	g.mu.Unlock()
}

// setFull says whether the disk has room for tables.
func (g *gate) setFull(isFull bool) {
	g.mu.Lock()
	g.isFull = isFull
	g.changed.Broadcast()
	g.mu.Unlock()
}

// open says whether tables are let through at once, whatever comes of it, because pebble is being
// opened or closed.
func (g *gate) open(isOpened bool) {
	g.mu.Lock()
	g.isOpened = isOpened
	g.changed.Broadcast()
	g.mu.Unlock()
}

// releaseLocks gives pebble's lock up if pebble has not.
func (g *gate) releaseLocks() {
	g.mu.Lock()
	locks := g.locks
	g.locks = nil
	g.mu.Unlock()
	for _, l := range locks {
		_ = l.Close()
	}
}

// guards reports whether a file is one of the store.
func (g *gate) guards(name string) bool {
	rest, isInside := strings.CutPrefix(name, g.dir)
	return isInside && (rest == "" || os.IsPathSeparator(rest[0]))
}

func isTable(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".sst" || ext == ".blob"
}

func isLog(name string) bool { return filepath.Ext(name) == ".log" }

// isMarker reports whether a file's name, and nothing in it, says which other file of its directory
// is in force.
func isMarker(name string) bool { return strings.HasPrefix(filepath.Base(name), "marker.") }

// passes reports whether a file may be changed. If not, the caller pretends that it was.
func (g *gate) passes(name string) bool {
	if !g.guards(name) {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.isShut
}

// passesNew does the same for a file that is to be created. A table may have to wait.
func (g *gate) passesNew(name string) bool {
	if g.guards(name) && isTable(name) {
		g.mu.Lock()
		for (g.isFull || g.isShut) && !g.isOpened {
			g.changed.Wait()
		}
		g.mu.Unlock()
	}
	return g.passes(name)
}

// check shuts the gate if err is a failure of the disk. It returns what pebble is told: nil if the
// gate is shut.
func (g *gate) check(what, name string, err error) error {
	switch {
	case err == nil || !g.guards(name):
		return err
	case isTable(name) && vfs.IsNoSpaceError(err):
		g.setFull(true)
		g.onNoSpace()
		return err
	}
	g.onFailure(fmt.Errorf("%s %s: %w", what, name, err))
	return nil
}

func (g *gate) wrap(f vfs.File, name string) vfs.File {
	return &gateFile{File: f, gate: g, name: name, log: g.logs.begin(f, name)}
}

// created returns a file that was created, or one that is nowhere if that has shut the gate.
func (g *gate) created(what, name string, create func() (vfs.File, error)) (vfs.File, error) {
	if !g.passesNew(name) {
		return g.nowhere(name)
	}
	f, err := create()
	if err == nil {
		return g.wrap(f, name), nil
	}
	if err := g.check(what, name, err); err != nil {
		return nil, err
	}
	return g.nowhere(name)
}

// nowhere returns a file that is on no disk.
func (g *gate) nowhere(name string) (vfs.File, error) {
	f, err := vfs.NewMem().Create("nowhere", vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return &gateFile{File: f, gate: g, name: name}, nil
}

// change makes a change, unless the gate is shut.
func (g *gate) change(what, name string, change func() error) error {
	if !g.passes(name) {
		return nil
	}
	return g.check(what, name, change())
}

// Create implements vfs.FS. The file that a marker names is new: its name is forced onto the disk
// before the marker is there. Pebble itself does that behind the marker only, so a loss of power
// between the two could leave a marker of a file that is not there.
func (g *gate) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.created("creating", name, func() (vfs.File, error) {
		if isMarker(name) {
			if err := syncDir(g.FS, filepath.Dir(name)); err != nil {
				return nil, err
			}
		}
		return g.FS.Create(name, category)
	})
	if f, isGate := f.(*gateFile); isGate && f.log != nil && g.guards(name) {
		f.log.filled = 0
	}
	return f, err
}

// OpenReadWrite implements vfs.FS.
func (g *gate) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.created("opening", name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (g *gate) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.created("reusing", newname, func() (vfs.File, error) {
		return g.FS.ReuseForWrite(oldname, newname, category)
	})
}

// OpenDir implements vfs.FS.
func (g *gate) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return g.wrap(f, name), nil
}

// Link implements vfs.FS.
func (g *gate) Link(oldname, newname string) error {
	return g.change("linking", newname, func() error { return g.FS.Link(oldname, newname) })
}

// Rename implements vfs.FS.
func (g *gate) Rename(oldname, newname string) error {
	return g.change("renaming", newname, func() error { return g.FS.Rename(oldname, newname) })
}

// Remove implements vfs.FS. A file that cannot be removed costs space only.
func (g *gate) Remove(name string) error {
	if !g.passes(name) {
		return nil
	}
	return g.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (g *gate) RemoveAll(name string) error {
	if !g.passes(name) {
		return nil
	}
	return g.FS.RemoveAll(name)
}

// MkdirAll implements vfs.FS.
func (g *gate) MkdirAll(name string, perm os.FileMode) error {
	return g.change("creating", name, func() error { return g.FS.MkdirAll(name, perm) })
}

// Lock implements vfs.FS. If pebble cannot be closed after a failure, the gate gives the lock up.
func (g *gate) Lock(name string) (io.Closer, error) {
	lock, err := g.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	once := &closeOnce{closer: lock}
	g.mu.Lock()
	g.locks = append(g.locks, once)
	g.mu.Unlock()
	return once, nil
}

// closeOnce is a Closer that may be closed more than once.
type closeOnce struct {
	once   sync.Once
	closer io.Closer
	err    error
}

func (c *closeOnce) Close() error {
	c.once.Do(func() { c.err = c.closer.Close() })
	return c.err
}

// gateFile is a file that was opened through the gate to be changed.
type gateFile struct {
	vfs.File
	gate *gate
	name string
	log  *logFile // nil if the file is no log
}

// Write implements vfs.File.
func (f *gateFile) Write(b []byte) (int, error) {
	return f.write(b, f.File.Write)
}

// WriteAt implements vfs.File.
func (f *gateFile) WriteAt(b []byte, offset int64) (int, error) {
	return f.write(b, func(b []byte) (int, error) { return f.File.WriteAt(b, offset) })
}

func (f *gateFile) write(b []byte, write func([]byte) (int, error)) (int, error) {
	if !f.gate.passes(f.name) {
		return len(b), nil
	}
	if f.log != nil {
		f.log.fill(len(b))
	}
	n, err := write(b)
	f.gate.written.Add(uint64(n))
	if f.log != nil {
		f.log.written.Add(int64(n))
	}
	if err == nil {
		return n, nil
	}
	if err = f.gate.check("writing", f.name, err); err == nil {
		n = len(b)
	}
	return n, err
}

// Sync implements vfs.File.
func (f *gateFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *gateFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *gateFile) sync(sync func() error) error {
	return f.gate.change("syncing", f.name, func() error {
		if f.log == nil {
			return sync()
		}
		return f.log.sync(sync)
	})
}

// SyncTo implements vfs.File.
func (f *gateFile) SyncTo(length int64) (isFull bool, err error) {
	err = f.gate.change("syncing", f.name, func() (err error) {
		isFull, err = f.File.SyncTo(length)
		return err
	})
	return isFull, err
}

// Close implements vfs.File. An error of Close says nothing of what was synced before.
func (f *gateFile) Close() error {
	var err error
	if f.log != nil {
		err = f.gate.change("syncing", f.name, f.log.end)
	}
	return errors.Join(err, f.File.Close())
}
