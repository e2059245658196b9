//go:build unix

package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// takeStdio moves descriptors 0 and 1 to new numbers that no child inherits, and returns them.
// Descriptor 0 is empty afterwards, and descriptor 1 is standard error.
func takeStdio() (in, out *os.File, err error) {
	var moved [2]int
	for fd := range moved {
		if moved[fd], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return nil, nil, err
		}
		// They are non-blocking before NewFile is called, so that Go's runtime polls them.
		if err = unix.SetNonblock(moved[fd], true); err != nil {
			return nil, nil, err
		}
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err = dup2(null, 0); err == nil {
		err = dup2(2, 1)
	}
	_ = unix.Close(null)
	return os.NewFile(uintptr(moved[0]), "frames in"), os.NewFile(uintptr(moved[1]), "frames out"), err
}
