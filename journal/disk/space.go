package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// ballastName is the file that is removed once the disk is full, so that pebble can write what it
// has in memory.
const ballastName = "BALLAST"

// space watches the room on the disk. Below Options.MinFree the store takes nothing more, and goes
// on by itself once there is more.
type space struct {
	full atomic.Pointer[error] // why the store takes nothing; nil if it does
	// unchecked is the number of bytes written since the last look at the disk.
	unchecked atomic.Uint64
	// urgent asks for a look at the disk at once. It has room for one.
	urgent chan struct{}

	mu sync.Mutex // guards what follows
	// free is what was free at the last look, isKnown whether there was one.
	free    uint64
	isKnown bool
	used    uint64 // by the store's files
	// isTableRefused says that a table could not be written since the last look.
	isTableRefused bool
	hasBallast     bool
}

// err returns why nothing is stored, or nil.
func (p *space) err() error {
	if err := p.full.Load(); err != nil {
		return *err
	}
	return nil
}

// wrote counts bytes, and looks at the disk each time that a quarter of MinFree may be gone.
func (p *space) wrote(s *Store, n uint64) {
	// A byte is written to the log, to a table, and by compactions to other tables.
	if p.unchecked.Add(n) > s.o.MinFree/16 {
		p.check(s)
	}
}

// refuseTables notes that a table could not be written. It waits for nothing.
func (p *space) refuseTables() {
	err := fmt.Errorf("a table could not be written: %w", journal.ErrFull)
	p.full.CompareAndSwap(nil, &err)
	p.mu.Lock()
	p.isTableRefused = true
	p.mu.Unlock()
	select {
	case p.urgent <- struct{}{}:
	default:
	}
}

// check looks at the disk.
func (p *space) check(s *Store) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unchecked.Store(0)
	fs := s.gate.FS
	usage, err := fs.GetDiskUsage(s.dir)
	if err != nil {
		if !errors.Is(err, vfs.ErrUnsupported) {
			s.o.Logger.Warn("the free space could not be read", "dir", s.dir, "err", err)
		}
		if p.isTableRefused {
			p.isTableRefused = false
			p.letTables(s)
		}
		return
	}
	p.free, p.isKnown = usage.AvailBytes, true
	ballast := filepath.Join(s.dir, ballastName)
	switch {
	case p.hasBallast && (p.isTableRefused || p.free < s.o.MinFree/4):
		if err := fs.Remove(ballast); err != nil {
			s.o.Logger.Warn("the ballast could not be removed", "dir", s.dir, "err", err)
			break
		}
		p.hasBallast = false
		p.free += uint64(s.o.ballast)
		s.o.Logger.Warn("the disk is nearly full: the ballast was removed, to finish what was begun", "dir", s.dir)
	case !p.hasBallast && !p.isTableRefused && p.free >= s.o.MinFree+2*uint64(s.o.ballast):
		if err := writeBallast(fs, ballast, s.o.ballast); err != nil {
			s.o.Logger.Warn("the ballast could not be written", "dir", s.dir, "err", err)
			break
		}
		p.hasBallast = true
	}
	p.isTableRefused = false
	p.set(s)
}

// set says whether the store takes calls, and whether tables may be written. p.mu is held.
func (p *space) set(s *Store) {
	if p.free < s.o.MinFree {
		err := fmt.Errorf("%w: %d MiB are free in %s, MinFree is %d MiB", journal.ErrFull, p.free>>20, s.dir,
			s.o.MinFree>>20)
		if old := p.full.Swap(&err); old == nil {
			s.o.Logger.Error("the disk is full: the store takes nothing until there is room", "dir", s.dir,
				"free", p.free, "min_free", s.o.MinFree)
		}
	} else if old := p.full.Swap(nil); old != nil {
		s.o.Logger.Info("the disk has room again: the store goes on", "dir", s.dir, "free", p.free)
	}
	if p.free >= min(s.o.MinFree, 2*s.o.memTable) {
		p.letTables(s)
	}
}

// letTables lets tables be written again.
func (p *space) letTables(s *Store) {
	if !p.isKnown {
		p.full.Store(nil)
	}
	s.gate.setFull(false)
}

// writeBallast writes the file whose removal makes room.
func writeBallast(fs vfs.FS, name string, size int64) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	for b := make([]byte, 1<<20); size > 0 && err == nil; size -= int64(len(b)) {
		_, err = f.Write(b[:min(int64(len(b)), size)])
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = fs.Remove(name)
	}
	return err
}

// checkBeforeOpen fails if pebble has not the room to open the directory: it would write tables,
// and never give up. The ballast goes first.
func (p *space) checkBeforeOpen(s *Store) error {
	fs := s.gate.FS
	ballast := filepath.Join(s.dir, ballastName)
	if _, err := fs.Stat(ballast); err == nil {
		p.hasBallast = true
	}
	usage, err := fs.GetDiskUsage(s.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	} else if err != nil {
		return err
	}
	if usage.AvailBytes < leastFree && p.hasBallast {
		if err := fs.Remove(ballast); err != nil {
			return err
		}
		p.hasBallast = false
		if usage, err = fs.GetDiskUsage(s.dir); err != nil {
			return err
		}
	}
	if least := min(uint64(leastFree), s.o.MinFree); usage.AvailBytes < least {
		return fmt.Errorf("%w: %d MiB are free in %s, opening it takes up to %d MiB: make room and open it again",
			journal.ErrFull, usage.AvailBytes>>20, s.dir, least>>20)
	}
	return nil
}
