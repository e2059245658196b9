//go:build unix

package process

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// dropInherited gives up two things that a worker inherits and does not need: open descriptors,
// and the right to write core dumps.
func dropInherited() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	open, err := openDescriptors()
	if err != nil {
		return fmt.Errorf("listing descriptors: %w", err)
	}
	for _, fd := range open {
		// exec has closed all descriptors with this flag, so an inherited one lacks it. The
		// descriptors that Go's runtime and packages have opened since have the flag.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// openDescriptors returns the open descriptors other than the standard ones. If the system has no
// list of them, it returns all numbers that may be open.
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
	const most = 1 << 16 // the most that are looked at, even if the limit is higher; they take 5 ms
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	for fd := 3; uint64(fd) < min(uint64(limit.Cur), most); fd++ {
		list = append(list, fd)
	}
	return list, nil
}
