package process

import (
	"errors"
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Confine takes from this process, from all of its threads and for good, what no worker needs once
// its core is compiled: through Landlock, as far as the kernel offers it, files, TCP, and signals
// to others; and with a filter, every system call that is not on a list ([rules]). What is open
// stays open. It returns what was taken; after an error that is not all that [Offered] has.
func Confine() (taken Confinement, err error) {
	taken.Landlock, err = landlocked()
	var filterErr error
	if taken.Seccomp, filterErr = filterCalls(); filterErr != nil {
		err = errors.Join(err, fmt.Errorf("the filter of system calls: %w", filterErr))
	}
	return taken, err
}

// Offered returns what this system can take from a worker.
func Offered() Confinement {
	abi, err := landlocksys.LandlockGetABIVersion()
	if err != nil {
		abi = 0
	}
	return Confinement{Landlock: max(abi, 0), Seccomp: seccompOffered()}
}

// landlocked opens, makes, executes and removes no file from now on, binds and connects no TCP
// socket (ABI 4), and sends no signal and connects no abstract socket to processes outside (ABI 6).
// It returns the version of the kernel's Landlock ABI, 0 if there is none and nothing is taken.
func landlocked() (abi int, err error) {
	abi, err = landlocksys.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return 0, nil
	}
	errata, err := landlocksys.LandlockGetErrata()
	if err != nil {
		errata = 0 // a kernel that has no list of them
	}
	if err := restrictions(abi, errata).BestEffort().Restrict(); err != nil {
		return 0, fmt.Errorf("landlock (ABI %d): %w", abi, err)
	}
	return abi, nil
}

// restrictions are all that the library knows, but for signals where the kernel takes each thread
// for a process of its own (erratum 2 is not mended): Go's runtime signals its threads, and so does
// what confines them one after the other.
func restrictions(abi, errata int) landlock.Config {
	c := landlock.V11
	const threadsSignal = 1 << 1
	if abi < tsyncABI && errata&threadsSignal == 0 {
		c.Scoped &^= landlocksys.ScopeSignal
	}
	return c
}

// tsyncABI is the first that confines all threads at once.
const tsyncABI = 8
