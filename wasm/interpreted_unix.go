//go:build unix

package wasm

import "golang.org/x/sys/unix"

// tryExecutable makes a page of memory executable, as wazero does with compiled code.
func tryExecutable() error {
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(page) }()
	return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
}
