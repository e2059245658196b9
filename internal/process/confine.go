package process

// Confinement says which restrictions a worker has, or can have, before it runs a core.
type Confinement struct {
	// Landlock is the version of the kernel's Landlock ABI; 0 if there is no Landlock.
	Landlock int
	// Seccomp is true if system calls are filtered.
	Seccomp bool
}
