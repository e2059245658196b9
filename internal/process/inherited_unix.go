//go:build unix

package process

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// dropInherited gives up what came with the start and no worker needs: descriptors, and dumps of its memory.
func dropInherited() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	open, err := openDescriptors()
	if err != nil {
		return fmt.Errorf("listing descriptors: %w", err)
	}
	for _, fd := range open {
		// A descriptor that exec has not closed lacks the flag. Those of Go's runtime, and what packages
		// opened since, have it.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// openDescriptors returns the descriptors that are open above the standard ones; where the system has no list, all that
// may be.
func openDescriptors() (list []int, err error) {
	entries, err := os.ReadDir("/dev/fd")
	if err == nil {
		for _, e := range entries {
			if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
				list = append(list, fd)
			}
		}
		return list, nil
	}
	const most = 1 << 16 // those that are looked at, whatever the limit: 5 ms
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	for fd := 3; uint64(fd) < min(uint64(limit.Cur), most); fd++ {
		list = append(list, fd)
	}
	return list, nil
}
