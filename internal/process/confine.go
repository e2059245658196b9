package process

// Confinement is what was taken, or can be taken, from a worker before it runs a core.
type Confinement struct {
	// Landlock is the version of its ABI, 0 for none.
	Landlock int
	// Seccomp says that system calls are filtered.
	Seccomp bool
}
