package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrLocked is the error of [Open] for a directory that is open, in this process or in another
// one.
var ErrLocked = errors.New("disk: the directory is open in another process")

const (
	lockName = "LOCK"
	pidName  = "PID"
)

// directoryLock keeps other processes out of a directory. The operating system gives it up when
// the process ends, however it ends.
type directoryLock struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
}

// lockDirectory takes the lock, and writes this process' PID beside it. It does not wait: if the
// lock is taken, the error names the process that has it.
func lockDirectory(fs vfs.FS, dir string) (*directoryLock, error) {
	lock, err := fs.Lock(filepath.Join(dir, lockName))
	if err != nil {
		holder := ""
		if pid, readErr := readFile(fs, filepath.Join(dir, pidName)); readErr == nil {
			holder = ", PID " + strings.TrimSpace(pid)
		}
		return nil, fmt.Errorf("%w: %s%s: %w", ErrLocked, dir, holder, err)
	}
	l := &directoryLock{fs, dir, lock}
	if err := writeFile(fs, dir, pidName, fmt.Sprintln(os.Getpid())); err != nil {
		return nil, errors.Join(fmt.Errorf("disk: writing %s: %w", filepath.Join(dir, pidName), err), lock.Close())
	}
	return l, nil
}

func (l *directoryLock) release() error {
	// A file that stays is replaced by the next process.
	_ = l.fs.Remove(filepath.Join(l.dir, pidName))
	return l.lock.Close()
}
