//go:build !linux

package process

// Confine does nothing here, and returns that nothing is restricted: Landlock and seccomp exist on
// Linux only.
func Confine() (Confinement, error) { return Confinement{}, nil }

// Offered returns that this system can't restrict a worker.
func Offered() Confinement { return Confinement{} }
