//go:build unix

package pool

import "golang.org/x/sys/unix"

// descriptorLimit returns how many descriptors this process may have, 0 if that is not known.
func descriptorLimit() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
