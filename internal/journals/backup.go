package journals

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
)

// temporaryBackup is how the names of directories begin in which backups are made.
const temporaryBackup = ".backup-"

// nameForm is the form of a backup's name. It can't lead out of a directory.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// The errors of [Backup] that are the caller's.
var (
	ErrBackupName   = errors.New("a backup's name has 1 to 128 letters, digits, dots, dashes or underscores, a letter or a digit first")
	ErrBackupExists = errors.New("it exists already: choose another name, or remove it")
)

// Copier is a store that can write a copy of itself to a directory that does not exist yet, while
// calls go on. It copies all that was reported before the call.
type Copier interface {
	Backup(dir string) error
}

// Backup writes a copy of a store to the directory name in parent, which exists. The directory
// gets its name once the copy is complete, and not before. It returns the bytes of the copy's
// files. If the process dies meanwhile, a directory stays whose name begins with ".backup-"; it
// may be removed.
//
// It fails with [ErrBackupName] or [ErrBackupExists], or with the error of the store. Nothing is
// left then.
func Backup(s Copier, parent, name string) (bytes uint64, err error) {
	to := filepath.Join(parent, name)
	if !nameForm.MatchString(name) || !filepath.IsLocal(name) {
		return 0, fmt.Errorf("%q: %w", name, ErrBackupName)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%q: %w", name, ErrBackupExists)
	}
	temporary, err := os.MkdirTemp(parent, temporaryBackup+"*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	complete := filepath.Join(temporary, "journals")
	if err := s.Backup(complete); err != nil {
		return 0, err
	}
	if bytes, err = Size(complete); err != nil {
		return 0, err
	}
	// A directory that another process has made meanwhile is replaced if it is empty, and nothing
	// else is.
	if err := os.Rename(complete, to); err != nil {
		return 0, err
	}
	return bytes, syncDir(parent)
}

// Size returns the bytes of all files below a directory.
func Size(dir string) (bytes uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += uint64(info.Size())
		}
		return err
	})
	return bytes, err
}

// syncDir makes a new name in a directory last. Windows has no such call.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
