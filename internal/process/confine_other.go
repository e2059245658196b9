//go:build !linux

package process

// Confine does nothing here, and says so: Landlock and seccomp are Linux's.
func Confine() (Confinement, error) { return Confinement{}, nil }

// Offered returns what this system can take from a worker: nothing.
func Offered() Confinement { return Confinement{} }
