//go:build unix

package serve

import "golang.org/x/sys/unix"

// FileLimit returns how many files this process may open, as Go has raised it at the start. It
// reports false if there is no limit.
func FileLimit() (uint64, bool) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0, false
	}
	return uint64(l.Cur), true //nolint:unconvert // it is signed on some systems
}
