package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// With SyncInterval, pebble believes that its log is on the disk before it is. It notes that in
// the log, so after a loss of power the end of the newest log may look damaged, and not torn.
// pebble would not open it. A file says that the directory was open with SyncInterval. Then the
// newest log is cut behind its last whole record. All logs before it are on the disk: each is
// synced before the next one begins.

// delayedName is the file that says that logs were synced by turns.
const delayedName = "DELAYED"

// noteDelayed notes how logs will be synced from now on. It is called while no log is open.
func noteDelayed(fs vfs.FS, dir string, isDelayed bool) error {
	if isDelayed {
		return writeFile(fs, dir, delayedName, "The logs in "+pebbleDir+" may be torn.\n")
	}
	err := fs.Remove(filepath.Join(dir, delayedName))
	if err == nil {
		return syncDir(fs, dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// cutTornLog cuts the newest log if the directory says that it may be torn. It returns the number
// of bytes that were cut off.
func cutTornLog(fs vfs.FS, dir string) (cut int64, err error) {
	if _, err := fs.Stat(filepath.Join(dir, delayedName)); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	folder := filepath.Join(dir, pebbleDir)
	logs, err := listLogs(fs, folder)
	if err != nil || len(logs) == 0 {
		return 0, err
	}
	newest := logs[len(logs)-1]
	path := filepath.Join(folder, newest.name)
	size, isWhole, err := wholeNewest(fs, path, newest.number)
	if err != nil || isWhole {
		return 0, err
	}
	info, err := fs.Stat(path)
	if err != nil {
		return 0, err
	}
	if err := truncate(fs, folder, newest.name, size); err != nil {
		return 0, fmt.Errorf("cutting %s: %w", path, err)
	}
	return info.Size() - size, nil
}

// pebbleLog is one of pebble's logs.
type pebbleLog struct {
	name   string
	number uint64
}

// listLogs lists pebble's logs, oldest first. There are none if there is no folder.
func listLogs(fs vfs.FS, folder string) (logs []pebbleLog, err error) {
	names, err := fs.List(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	for _, name := range names {
		digits, isLog := strings.CutSuffix(name, ".log")
		if n, err := strconv.ParseUint(digits, 10, 64); isLog && err == nil {
			logs = append(logs, pebbleLog{name, n})
		}
	}
	slices.SortFunc(logs, func(a, b pebbleLog) int { return cmp.Compare(a.number, b.number) })
	return logs, nil
}

// wholeRecords returns how many bytes of a log have whole records, and whether the log ends there.
func wholeRecords(fs vfs.FS, path string, number uint64) (size int64, isWhole bool, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := numbered(record.NewReader, f, number)
	for {
		next, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, next)
		} else if errors.Is(err, io.EOF) {
			return size, true, nil
		}
		if err != nil {
			if !isInvalid(err) {
				return 0, false, err
			}
			return size, false, nil
		}
		size = r.Offset()
	}
}

// wholeNewest does the same for the newest log. It is whole, too, if there are only zeros behind its
// last record: they were written before there was more to write.
func wholeNewest(fs vfs.FS, path string, number uint64) (size int64, isWhole bool, err error) {
	if size, isWhole, err = wholeRecords(fs, path, number); err != nil || isWhole {
		return size, isWhole, err
	}
	f, err := fs.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	block := make([]byte, logBlock)
	for at := size; ; {
		n, err := f.ReadAt(block, at)
		if !isZero(block[:n]) {
			return size, false, nil
		}
		if at += int64(n); errors.Is(err, io.EOF) {
			return size, true, nil
		} else if err != nil {
			return 0, false, err
		}
	}
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// isInvalid reports whether an error says that a record is not whole. record.IsInvalidRecord does
// not see an error that says more, as of a flipped bit.
func isInvalid(err error) bool {
	for _, invalid := range []error{record.ErrInvalidChunk, record.ErrZeroedChunk, record.ErrUnexpectedEOF,
		io.ErrUnexpectedEOF} {
		if errors.Is(err, invalid) {
			return true
		}
	}
	return false
}

// numbered calls record.NewReader, whose type of a log's number has no name outside of pebble.
func numbered[N ~uint64](newReader func(io.Reader, N) *record.Reader, f io.Reader, number uint64) *record.Reader {
	return newReader(f, N(number))
}

// truncate replaces a file by its first bytes, whole or not at all.
func truncate(fs vfs.FS, folder, name string, size int64) error {
	path := filepath.Join(folder, name)
	from, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := fs.Create(path+".cut", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.LimitReader(from, size))
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".cut", path); err != nil {
		return err
	}
	return syncDir(fs, folder)
}
