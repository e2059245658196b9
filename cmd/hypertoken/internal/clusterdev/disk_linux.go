package clusterdev

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// diskBytes is how much a disk of this package holds, as long as it is not full.
const diskBytes = 1 << 30

// CanFill fails if this process may not make disks: that needs the rights of root.
func CanFill() error {
	dir, err := os.MkdirTemp("", "hypertoken-disk-")
	if err != nil {
		return err
	}
	err = mountDisk(dir)
	if err == nil {
		err = unmountDisk(dir)
	}
	return errors.Join(err, os.Remove(dir))
}

// mountDisk mounts an empty disk in memory on a directory.
func mountDisk(dir string) error { return setDisk(dir, diskBytes, 0) }

func setDisk(dir string, bytes uint64, flags uintptr) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		return &os.PathError{Op: "mount tmpfs", Path: dir, Err: err}
	}
	return nil
}

// unmountDisk removes a disk and all that is on it. A process that still has a file of it keeps that file.
func unmountDisk(dir string) error {
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		return &os.PathError{Op: "unmount", Path: dir, Err: err}
	}
	return nil
}

// fillDisk makes a disk as small as what is on it.
func fillDisk(dir string) (err error) {
	// The server may write meanwhile what does not fit.
	const tries = 100
	for range tries {
		var s syscall.Statfs_t
		if err := syscall.Statfs(dir, &s); err != nil {
			return &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		if err = setDisk(dir, (s.Blocks-s.Bfree)*uint64(s.Bsize), syscall.MS_REMOUNT); err == nil {
			return nil
		}
	}
	return err
}

// freeDisk gives a full disk its room back.
func freeDisk(dir string) error { return setDisk(dir, diskBytes, syscall.MS_REMOUNT) }
