package disk

import (
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logFile is one of pebble's logs.
type logFile struct {
	logs *logSyncs
	file vfs.File
	name string
	// number is the log's, written the number of bytes that were written to it.
	number  uint64
	written atomic.Int64
	// filled is the offset up to which the file has bytes, also zeros. The goroutine that writes uses
	// it. It is negative if the file is not filled with zeros.
	filled int64

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
	// synced notes how far logs are synced.
	synced *syncedNote
	// fillTo is the size in bytes up to which new logs are filled with zeros.
	fillTo int64

	mu    sync.Mutex // guards files
	files map[*logFile]bool
}

// begin returns what is needed to sync a file, or nil if it is no log.
func (l *logSyncs) begin(f vfs.File, name string) *logFile {
	if !isLog(name) {
		return nil
	}
	log := &logFile{logs: l, file: f, name: name, filled: -1}
	log.number, _ = strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".log"), 10, 64)
	l.mu.Lock()
	l.files[log] = true
	l.mu.Unlock()
	return log
}

// fillSize is how many zeros are written at once behind the end of a new log.
const fillSize = 1 << 20

// fillPage is the size of one write of zeros. Linux keeps what was written at once as one piece, and
// takes all of it for changed, and may write it anew, when a part of it changes.
const fillPage = 4 << 10

var zeros [fillPage]byte

// fill writes zeros behind the next n bytes of a new log, if there are none yet. A sync of bytes that
// replace others is faster than a sync of bytes that the file has not had before: the file system
// writes its own records for these, and waits for the disk twice. pebble allots the blocks of a new
// log, but does not write them. It writes new logs over old ones as soon as it has some.
func (f *logFile) fill(n int) {
	end := f.written.Load() + int64(n)
	if f.filled < 0 || end <= f.filled || end >= f.logs.fillTo {
		return
	}
	from := max(f.filled, end)
	size := min(fillSize, f.logs.fillTo-from)
	for at := from; at < from+size; {
		n := min(fillPage-at%fillPage, from+size-at)
		if _, err := f.file.WriteAt(zeros[:n], at); err != nil {
			f.filled = -1 // what was written is behind the end, and does no harm
			return
		}
		at += n
	}
	f.filled = from + size
}

// sync syncs a log now, or notes that a turn has to.
func (f *logFile) sync(sync func() error) error {
	if f.logs.isDelayed {
		f.mu.Lock()
		f.isDirty = true
		f.mu.Unlock()
		return nil
	}
	return f.syncNow(sync)
}

// syncNow syncs what was written so far, and notes that.
func (f *logFile) syncNow(sync func() error) error {
	written, start := f.written.Load(), time.Now()
	err := sync()
	f.logs.observe(time.Since(start))
	if err == nil {
		f.logs.synced.note(f.number, written)
	}
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
	return f.syncNow(f.file.SyncData)
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
		_ = g.change("syncing", f.name, f.turn)
	}
}
