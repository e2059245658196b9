package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// giveUpCapabilities changes this thread so that the programs it executes have no capability from
// their first instruction on, even as root. The caller has set no_new_privs; without it, a program
// file may bring capabilities of its own.
//
// If the thread may shrink its bounding set, it keeps its own capabilities: it may need them to
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
			break // the kernel has no further capabilities
		}
		if err != nil {
			// With no_new_privs a program gets no more capabilities than the thread that executes
			// it. So the thread gives up its own.
			own = [2]unix.CapUserData{}
			break
		}
	}
	if err := unix.Capset(&header, &own[0]); err != nil {
		return fmt.Errorf("giving up capabilities: %w", err)
	}
	return nil
}
