package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open opens a directory, and creates it if it does not exist. It fails with [ErrLocked] if the
// directory is open already, with [ErrFormat] if a newer program has written it, and with
// [journal.ErrFull] if the disk has not the room to open it. The caller closes the store, after
// the host that uses it has shut down.
func Open(dir string, o Options) (*Store, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	fs := o.fs
	if err := makeDir(fs, dir); err != nil {
		return nil, fmt.Errorf("disk: creating %s: %w", dir, err)
	}
	if _, err := readFormat(fs, dir, o.newestFormat()); err != nil { // before anything is written
		return nil, err
	}
	lock, err := lockDirectory(fs, dir)
	if err != nil {
		return nil, err
	}
	s, err := open(fs, dir, o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

// open opens a directory that is locked.
func open(fs vfs.FS, dir string, o Options, lock *directoryLock) (*Store, error) {
	version, err := readFormat(fs, dir, o.newestFormat())
	if err == nil && version == 0 {
		version = o.newestFormat()
		err = writeFormat(fs, dir, version)
	}
	if err != nil {
		return nil, fmt.Errorf("disk: the format of %s: %w", dir, err)
	}
	s := newStore(fs, dir, o, lock)
	if err := s.space.checkBeforeOpen(s); err != nil {
		return nil, err
	}
	up, err := s.beginUpgrade(version)
	if err != nil {
		return nil, fmt.Errorf("disk: upgrading %s: %w", dir, err)
	}
	s.gate.open(true)
	if err := s.openPebble(up); err != nil {
		s.gate.shut()
		s.answered.Wait()
		s.gate.releaseLocks()
		s.gate.logs.synced.close()
		return nil, fmt.Errorf("disk: opening %s: %w", dir, err)
	}
	s.gate.open(false)
	s.space.check(s)
	s.measureUsed()
	s.countEngines()
	s.goroutine.committing.Go(s.commit)
	s.goroutine.syncing.Go(s.sync)
	for range readers {
		s.goroutine.reading.Go(s.read)
	}
	s.goroutine.watching.Go(s.watch)
	if !s.keepsAll() {
		s.goroutine.trimming.Go(s.trimHistories)
		s.goroutine.trimming.Go(s.walk)
	}
	return s, nil
}

func newStore(fs vfs.FS, dir string, o Options, lock *directoryLock) *Store {
	s := &Store{
		o: o, dir: dir, lock: lock,
		placeholders: map[*head]bool{}, heads: map[string]*head{},
		failed: make(chan struct{}), closing: make(chan struct{}), stop: make(chan struct{}),
		syncs: make(chan *flight, depth-1), now: o.now,
	}
	s.space.urgent = make(chan struct{}, 1)
	s.arrived.L = &s.mu
	s.trims.start()
	s.reads.arrived.L = &s.reads.mu
	s.gate = newGate(fs, filepath.Join(dir, pebbleDir), &logSyncs{
		isDelayed: o.Sync == SyncInterval, observe: s.stats.observeSync, files: map[*logFile]bool{},
		synced: &syncedNote{fs: fs, path: filepath.Join(dir, syncedName)},
		fillTo: int64(o.memTable + o.memTable/10), // what pebble allots
	})
	s.gate.onFailure, s.gate.onNoSpace = s.fail, s.space.refuseTables
	return s
}

// openPebble opens pebble, repairs what a death of the process may have left, and carries the
// upgrade out. up is nil if there is none. If openPebble fails, pebble is closed.
func (s *Store) openPebble(up *upgrade) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
	}()
	path := filepath.Join(s.dir, pebbleDir)
	if err := makeDir(s.gate, path); err != nil {
		return err
	}
	cut, err := cutTornLog(s.gate.FS, s.dir)
	if err != nil {
		return err
	}
	if cut > 0 {
		s.o.Logger.Warn("the end of the newest log was torn and is cut off", "dir", s.dir, "bytes", cut)
	}
	if err := checkSynced(s.gate.FS, s.dir); err != nil {
		return err
	}
	isDelayed := s.o.Sync == SyncInterval
	if isDelayed { // before a log is written
		if err := noteDelayed(s.gate.FS, s.dir, true); err != nil {
			return err
		}
	}
	desc, err := pebble.Peek(path, s.gate.FS)
	if err != nil {
		return err
	}
	if s.db, err = pebble.Open(path, s.pebbleOptions()); err != nil {
		return errors.Join(s.Err(), err)
	}
	if err = s.prepare(!desc.Exists, up); err == nil && !isDelayed {
		err = noteDelayed(s.gate.FS, s.dir, false)
	}
	if failure := s.Err(); failure != nil {
		err = failure
	}
	if err != nil {
		return errors.Join(err, s.closePebble())
	}
	return nil
}

// prepare makes an open database ready.
func (s *Store) prepare(isNew bool, up *upgrade) error {
	if isNew {
		// pebble writes the first log of a new database in its oldest format, in which damage
		// reads like the end of the log. The flush begins another log, in the newest format.
		if err := s.db.Set([]byte{kindMeta}, nil, pebble.Sync); err != nil {
			return err
		}
		if err := s.db.Flush(); err != nil {
			return err
		}
	}
	if up != nil { // before any row is read
		if err := s.runUpgrade(up); err != nil {
			return err
		}
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	err = errors.Join(s.dropPending(it, b), s.findNextID(it), it.Close())
	if err == nil && !b.Empty() {
		err = s.db.Apply(b, pebble.Sync)
	}
	return errors.Join(err, b.Close())
}

// dropPending removes the pieces of bases that were being installed when the process died.
func (s *Store) dropPending(it *pebble.Iterator, b *pebble.Batch) error {
	for ok := it.SeekGE([]byte{kindPending}); ok && it.Key()[0] == kindPending; ok = it.Next() {
		id, set, err := parsePendingKey(it.Key())
		if err != nil {
			return err
		}
		_ = b.DeleteRange(appendSet(nil, id, set), appendSet(nil, id, set+1), nil)
		_ = b.Delete(bytes.Clone(it.Key()), nil)
		s.nextID = max(s.nextID, id)
	}
	return it.Error()
}

// findNextID finds the greatest ID of an engine.
func (s *Store) findNextID(it *pebble.Iterator) error {
	if it.SeekLT([]byte{kindEngine + 1}) {
		if key := it.Key(); key[0] == kindEngine && len(key) >= engineKeySize {
			s.nextID = max(s.nextID, binary.BigEndian.Uint64(key[1:]))
		}
	}
	return it.Error()
}

// countEngines begins to count the names, for Stats. It takes a second for a million.
func (s *Store) countEngines() {
	it, err := s.db.NewIter(nil) // of this moment: what is created later is counted when it is created
	if err != nil {
		return
	}
	s.inUse.Go(func() {
		n, err := s.names(it)
		if err = errors.Join(err, it.Close()); err == nil {
			s.stats.engines.Add(n)
			s.stats.isCounted.Store(true)
		}
	})
}
