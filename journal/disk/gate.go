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
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gate is the file system that pebble gets. Everything that changes a file goes through it.
//
// After the first write or sync that failed, the gate is shut: nothing is changed any more. So no
// retry can cover up what was lost, and nothing that pebble does after an error of its own, such as
// tidying up, can remove a file that the disk still refers to.
//
// A table that could not be written because the disk is full is no such failure: its contents are
// still in the log. Then the next table waits at the gate until there is room.
type gate struct {
	vfs.FS
	// dir is the folder whose files are guarded. A backup goes elsewhere, and may fail.
	dir string
	// logs measures and, with SyncInterval, delays the syncs of pebble's logs.
	logs *logSyncs
	// written counts the bytes that were written.
	written atomic.Uint64
	// onFailure is called with the first failure, once the gate is shut. It must not wait.
	onFailure func(error)
	// onNoSpace is called when a table cannot be written for want of space. It must not wait.
	onNoSpace func()

	mu       sync.Mutex // guards what follows
	changed  sync.Cond  // of mu: something of what follows has changed
	isShut   bool
	isFull   bool
	isOpened bool // said of the waiting tables: they are let through, in order to fail
	locks    []io.Closer
}

var errShut = errors.New("nothing is written any more after a failure")

func newGate(fs vfs.FS, dir string, logs *logSyncs) *gate {
	g := &gate{FS: fs, dir: dir, logs: logs}
	g.changed.L = &g.mu
	return g
}

// Unwrap implements vfs.FS.
func (g *gate) Unwrap() vfs.FS { return g.FS }

// shut lets nothing through any more. It returns false if the gate was shut before.
func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	wasShut := g.isShut
	g.isShut = true
	g.changed.Broadcast()
	return !wasShut
}

// setFull says whether the disk has room for tables.
func (g *gate) setFull(isFull bool) {
	g.mu.Lock()
	g.isFull = isFull
	g.changed.Broadcast()
	g.mu.Unlock()
}

// open lets the tables that wait at the gate through for good, so that pebble can be closed.
func (g *gate) open() {
	g.mu.Lock()
	g.isOpened = true
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
func (g *gate) guards(name string) bool { return strings.HasPrefix(name, g.dir) }

func isTable(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".sst" || ext == ".blob"
}

func isLog(name string) bool { return filepath.Ext(name) == ".log" }

// enter waits if a table has to wait. It fails if the gate is shut.
func (g *gate) enter(name string, isCreated bool) error {
	if !g.guards(name) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if isCreated && isTable(name) {
		// pebble retries at once, and for ever.
		for (g.isFull || g.isShut) && !g.isOpened {
			g.changed.Wait()
		}
	}
	if g.isShut {
		return errShut
	}
	return nil
}

// check passes an error on, and shuts the gate if it is a failure of the disk.
func (g *gate) check(what, name string, err error) error {
	switch {
	case err == nil || !g.guards(name) || errors.Is(err, errShut):
		return err
	case isTable(name) && vfs.IsNoSpaceError(err):
		g.setFull(true)
		g.onNoSpace()
	default:
		if g.shut() {
			g.onFailure(fmt.Errorf("%s %s: %w", what, name, err))
		}
	}
	return err
}

func (g *gate) wrap(f vfs.File, name string) *gateFile {
	return &gateFile{File: f, gate: g, name: name, log: g.logs.begin(f, name)}
}

// Create implements vfs.FS.
func (g *gate) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.enter(name, true); err != nil {
		return nil, err
	}
	f, err := g.FS.Create(name, category)
	if err != nil {
		return nil, g.check("creating", name, err)
	}
	return g.wrap(f, name), nil
}

// OpenReadWrite implements vfs.FS.
func (g *gate) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := g.enter(name, true); err != nil {
		return nil, err
	}
	f, err := g.FS.OpenReadWrite(name, category, opts...)
	if err != nil {
		return nil, g.check("opening", name, err)
	}
	return g.wrap(f, name), nil
}

// ReuseForWrite implements vfs.FS.
func (g *gate) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.enter(newname, true); err != nil {
		return nil, err
	}
	f, err := g.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, g.check("reusing", newname, err)
	}
	return g.wrap(f, newname), nil
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
	if err := g.enter(newname, false); err != nil {
		return err
	}
	return g.check("linking", newname, g.FS.Link(oldname, newname))
}

// Rename implements vfs.FS.
func (g *gate) Rename(oldname, newname string) error {
	if err := g.enter(newname, false); err != nil {
		return err
	}
	return g.check("renaming", newname, g.FS.Rename(oldname, newname))
}

// Remove implements vfs.FS. A file that cannot be removed costs space only.
func (g *gate) Remove(name string) error {
	if err := g.enter(name, false); err != nil {
		return err
	}
	return g.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (g *gate) RemoveAll(name string) error {
	if err := g.enter(name, false); err != nil {
		return err
	}
	return g.FS.RemoveAll(name)
}

// MkdirAll implements vfs.FS.
func (g *gate) MkdirAll(name string, perm os.FileMode) error {
	if err := g.enter(name, false); err != nil {
		return err
	}
	return g.check("creating", name, g.FS.MkdirAll(name, perm))
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
	if err := f.gate.enter(f.name, false); err != nil {
		return 0, err
	}
	n, err := f.File.Write(b)
	f.gate.written.Add(uint64(n))
	return n, f.gate.check("writing", f.name, err)
}

// WriteAt implements vfs.File.
func (f *gateFile) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.gate.enter(f.name, false); err != nil {
		return 0, err
	}
	n, err := f.File.WriteAt(b, offset)
	f.gate.written.Add(uint64(n))
	return n, f.gate.check("writing", f.name, err)
}

// Sync implements vfs.File.
func (f *gateFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *gateFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *gateFile) sync(sync func() error) error {
	if err := f.gate.enter(f.name, false); err != nil {
		return err
	}
	if f.log == nil {
		return f.gate.check("syncing", f.name, sync())
	}
	return f.gate.check("syncing", f.name, f.log.sync(sync))
}

// SyncTo implements vfs.File.
func (f *gateFile) SyncTo(length int64) (isFull bool, err error) {
	if err := f.gate.enter(f.name, false); err != nil {
		return false, err
	}
	isFull, err = f.File.SyncTo(length)
	return isFull, f.gate.check("syncing", f.name, err)
}

// Close implements vfs.File.
func (f *gateFile) Close() error {
	var err error
	if f.log != nil && f.gate.enter(f.name, false) == nil {
		err = f.gate.check("syncing", f.name, f.log.end())
	}
	return errors.Join(err, f.File.Close())
}

// logFile is one of pebble's logs.
type logFile struct {
	logs *logSyncs
	file vfs.File

	mu       sync.Mutex // guards what follows; held while the file is synced by turns
	isDirty  bool
	isClosed bool
}

// logSyncs is how logs are synced.
type logSyncs struct {
	// isDelayed says that logs are synced by turns, and not when pebble asks for it.
	isDelayed bool
	// observe is told how long each sync took.
	observe func(time.Duration)

	mu    sync.Mutex // guards files
	files map[*logFile]bool
}

// begin returns what is needed to sync a file, or nil if it is no log.
func (l *logSyncs) begin(f vfs.File, name string) *logFile {
	if !isLog(name) {
		return nil
	}
	log := &logFile{logs: l, file: f}
	l.mu.Lock()
	l.files[log] = true
	l.mu.Unlock()
	return log
}

// sync syncs a log now, or notes that a turn has to.
func (f *logFile) sync(sync func() error) error {
	if f.logs.isDelayed {
		f.mu.Lock()
		f.isDirty = true
		f.mu.Unlock()
		return nil
	}
	return f.logs.measure(sync)
}

func (l *logSyncs) measure(sync func() error) error {
	start := time.Now()
	err := sync()
	l.observe(time.Since(start))
	return err
}

// turn syncs a log if it needs it.
func (f *logFile) turn() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isDirty || f.isClosed {
		return nil
	}
	f.isDirty = false
	return f.logs.measure(f.file.SyncData)
}

// end syncs a log before it is closed: the next log may only have what follows it.
func (f *logFile) end() error {
	err := f.turn()
	f.mu.Lock()
	f.isClosed = true
	f.mu.Unlock()
	f.logs.mu.Lock()
	delete(f.logs.files, f)
	f.logs.mu.Unlock()
	return err
}

// syncLogs syncs all logs that need it.
func (g *gate) syncLogs() {
	g.logs.mu.Lock()
	files := make([]*logFile, 0, len(g.logs.files))
	for f := range g.logs.files {
		files = append(files, f)
	}
	g.logs.mu.Unlock()
	for _, f := range files {
		if g.enter(g.dir, false) == nil {
			_ = g.check("syncing", g.dir, f.turn())
		}
	}
}
