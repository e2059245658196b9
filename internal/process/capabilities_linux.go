package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// giveUpCapabilities takes from this thread what the programs that it executes would inherit: they
// have no capability from their first instruction on, as root too. It needs no_new_privs, without
// which a program may bring capabilities of its own.
//
// A thread that may shrink its bounding set keeps its own capabilities up to then, so that it can
// execute a program in a directory of another user.
func giveUpCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil &&
		!errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clearing ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var own [2]unix.CapUserData
	if err := unix.Capget(&header, &own[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	for n := range own {
		own[n].Inheritable = 0
	}
	for c := 0; ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // there are no more
		}
		if err != nil {
			own = [2]unix.CapUserData{} // a program gets at most what its starter has, with no_new_privs
			break
		}
	}
	if err := unix.Capset(&header, &own[0]); err != nil {
		return fmt.Errorf("giving up capabilities: %w", err)
	}
	return nil
}
