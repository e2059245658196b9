//go:build !linux

package process

// Confine does nothing here, and says so with 0: Landlock is Linux's.
func Confine() (abi int, err error) { return 0, nil }
