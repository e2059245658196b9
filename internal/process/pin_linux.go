package process

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pinned returns the path of a copy of the program in memory, which nobody can change any more.
// The caller executes the copy, so it runs exactly the bytes that were hashed, and closes it once
// it has started. It fails if the program does not have the pinned SHA-256.
func pinned(path, sha256 string) (string, io.Closer, error) {
	program, err := os.Open(path)
	if err != nil {
		return "", nil, notStarted(path, err)
	}
	defer func() { _ = program.Close() }()
	sealed, err := seal(program)
	if err != nil {
		return "", nil, fmt.Errorf("the worker %s can't be started: copying it to memory, as its SHA-256 is pinned: %w", path, err)
	}
	is, err := sum(io.NewSectionReader(sealed, 0, 1<<62))
	if err == nil && is != sha256 {
		err = otherProgram(path, is, sha256)
	}
	if err != nil {
		_ = sealed.Close()
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", sealed.Fd()), sealed, nil
}

// seal returns a copy of a program in memory that can be executed, but not changed.
func seal(program io.Reader) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("worker", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("worker", flags) // before Linux 6.3 every such file can be executed
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "worker")
	if _, err = io.Copy(f, program); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS,
			unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
