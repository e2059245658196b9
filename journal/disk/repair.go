package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Repaired is a log that [Repair] has cut.
type Repaired struct {
	// Log is the path of the log, Saved that of a copy of what it was.
	Log, Saved string
	// Kept is the number of bytes before the first record that cannot be read. Cut is the number
	// of bytes from there on: they may have had records that can.
	Kept, Cut int64
}

// Repair makes a directory open again whose logs are damaged, so that [Open] fails with an error
// about a log. It cuts each such log before the first record that cannot be read, and keeps a copy
// of what it was. It changes nothing else, and nothing if all logs are whole.
//
// What was cut off is lost. An engine that misses records in the middle fails with
// [journal.ErrDamaged], and its history before the hole can be read. An engine whose newest
// records are missing goes on before them. An engine that was created there is gone, and one that
// was deleted there is back. Other engines are whole. So a backup is better, if there is one.
//
// The directory must not be open. A directory that is damaged elsewhere has to be restored from a
// backup.
func Repair(dir string, o Options) (logs []Repaired, err error) {
	o.setDefaults()
	fs := o.fs
	if version, err := readFormat(fs, dir, o.newestFormat()); err != nil {
		return nil, err
	} else if version == 0 {
		return nil, fmt.Errorf("%w: %s has no file %s", ErrFormat, dir, formatName)
	}
	lock, err := lockDirectory(fs, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	folder := filepath.Join(dir, pebbleDir)
	found, err := listLogs(fs, folder)
	if err != nil {
		return nil, err
	}
	for k, log := range found {
		path, whole := filepath.Join(folder, log.name), wholeRecords
		if k == len(found)-1 {
			whole = wholeNewest
		}
		kept, isWhole, err := whole(fs, path, log.number)
		if err != nil {
			return logs, fmt.Errorf("disk: reading %s: %w", path, err)
		}
		if isWhole {
			continue
		}
		r, err := cutLog(fs, folder, log.name, kept)
		if err != nil {
			return logs, fmt.Errorf("disk: cutting %s: %w", path, err)
		}
		o.Logger.Warn("a damaged log was cut", "log", r.Log, "saved", r.Saved, "kept", r.Kept, "cut", r.Cut)
		logs = append(logs, r)
	}
	// What was cut off may have been synced.
	if err := fs.Remove(filepath.Join(dir, syncedName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return logs, err
	}
	return logs, nil
}

// cutLog cuts a log, and keeps a copy.
func cutLog(fs vfs.FS, folder, name string, kept int64) (Repaired, error) {
	r := Repaired{Log: filepath.Join(folder, name), Saved: filepath.Join(folder, name+".damaged"), Kept: kept}
	info, err := fs.Stat(r.Log)
	if err != nil {
		return r, err
	}
	r.Cut = info.Size() - kept
	if err := vfs.Copy(fs, r.Log, r.Saved); err != nil { // syncs the copy
		return r, err
	}
	return r, truncate(fs, folder, name, kept)
}
