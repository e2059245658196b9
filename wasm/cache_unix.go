//go:build unix

package wasm

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// private fails if a file or directory belongs to another user, or if others may write it.
func private(info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("belongs to user %d, not to %d", stat.Uid, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("has mode %#o, others may write there", mode)
	}
	return nil
}

// lock waits until no other process has locked a directory, and locks it. After atMost, or if the
// directory can't be locked, it returns without a lock. The lock ends with unlock, or with the
// process.
func lock(dir string, atMost time.Duration) (unlock func()) {
	const again = 2 * time.Millisecond
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for waited := time.Duration(0); ; waited += again {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }
		}
		if (err != syscall.EWOULDBLOCK && err != syscall.EINTR) || waited >= atMost {
			_ = f.Close()
			return func() {}
		}
		time.Sleep(again)
	}
}
