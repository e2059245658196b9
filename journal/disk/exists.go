package disk

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Exists reports whether a directory has a store, open or not. It writes nothing, so it is for
// programs that must not create one, as [Open] does. It fails with [ErrFormat] as Open does.
func Exists(dir string) (bool, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.IsDir():
		return false, fmt.Errorf("disk: %s is a file, and a store is a directory", dir)
	}
	version, err := readFormat(vfs.Default, dir, FormatVersion)
	return version > 0, err
}
