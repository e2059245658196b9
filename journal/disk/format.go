package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FormatVersion is the newest layout of a directory that this program knows, and the one that it
// writes. README.md has what each version is.
const FormatVersion = 1

// formatName is the file that has the version of a directory's layout. It is read before pebble
// looks at its own files, so an older program says what is wrong in these words and not in
// pebble's.
const formatName = "FORMAT"

const formatPrefix = "hypertoken journals, format "

// ErrFormat is the error of [Open] for a directory that a newer program has written, or that is
// none of this package.
var ErrFormat = errors.New("disk: the directory's format is not known")

// readFormat returns the version of a directory's layout, or 0 if it has none yet. It fails if the
// version is above newest.
func readFormat(fs vfs.FS, dir string, newest int) (version int, err error) {
	text, err := readFile(fs, filepath.Join(dir, formatName))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := fs.Stat(filepath.Join(dir, pebbleDir)); err == nil {
			return 0, fmt.Errorf("%w: %s has a folder %s and no file %s", ErrFormat, dir, pebbleDir, formatName)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	digits, isOurs := strings.CutPrefix(strings.TrimSuffix(text, "\n"), formatPrefix)
	version, err = strconv.Atoi(digits)
	if !isOurs || err != nil || version < 1 {
		return 0, fmt.Errorf("%w: %s begins with %q, want %q and a number", ErrFormat,
			filepath.Join(dir, formatName), text[:min(len(text), 40)], formatPrefix)
	}
	if version > newest {
		return 0, fmt.Errorf("%w: %s has the format %d, this program knows up to %d: use a newer program",
			ErrFormat, dir, version, newest)
	}
	return version, nil
}

// writeFormat writes the version, whole or not at all.
func writeFormat(fs vfs.FS, dir string, version int) error {
	return writeFile(fs, dir, formatName, fmt.Sprintf("%s%d\n", formatPrefix, version))
}

// maxSmallFile bounds what readFile reads.
const maxSmallFile = 4096

func readFile(fs vfs.FS, name string) (string, error) {
	f, err := fs.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSmallFile))
	return string(b), errors.Join(err, f.Close())
}

// writeFile writes a small file, syncs it, and gives it its name.
func writeFile(fs vfs.FS, dir, name, text string) error {
	final := filepath.Join(dir, name)
	f, err := fs.Create(final+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(final+".new", final); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir creates a folder with its parents, so that a loss of power does not take it away again.
func makeDir(fs vfs.FS, dir string) error {
	var above []string // folders that get a new entry
	for path := dir; ; {
		if _, err := fs.Stat(path); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parent := filepath.Dir(path)
		if above = append(above, parent); parent == path {
			break
		}
		path = parent
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, path := range above {
		if err := syncDir(fs, path); err != nil {
			return err
		}
	}
	return nil
}
