package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
)

// Backup writes a copy of the store to a directory that does not exist yet, while calls go on. The
// copy is of one moment, and has all that was reported before Backup was called. If the directory
// is on the same file system, tables are linked and not copied. To restore, open the copy, or a
// copy of it.
func (s *Store) Backup(dir string) error {
	if err := s.Err(); err != nil {
		return err
	}
	fs := s.gate
	if _, err := fs.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = os.ErrExist
		}
		return fmt.Errorf("disk: a backup goes to a new directory: %s: %w", dir, err)
	}
	if err := s.useDB(); err != nil {
		return err
	}
	defer s.inUse.Done()
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("disk: the backup to %s: %w", dir, err)
	}
	err := s.db.Checkpoint(filepath.Join(dir, pebbleDir), pebble.WithFlushedWAL())
	if err == nil {
		// The file is written last: without it, the directory is no store.
		err = writeFormat(fs, dir, s.o.newestFormat())
	}
	if err != nil {
		return fmt.Errorf("disk: the backup to %s: %w", dir, err)
	}
	return nil
}

// useDB keeps Close from closing pebble until the caller calls inUse.Done.
func (s *Store) useDB() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		return errClosed
	}
	s.inUse.Add(1)
	return nil
}
