package process

import (
	"errors"
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Confine restricts all threads of this process, for good, to what a worker needs once its core is
// compiled. Landlock takes away files, TCP, and signals to other processes, as far as the kernel
// offers it. A filter refuses every system call that is not on a list ([rules]). Descriptors that
// are open stay open.
//
// Confine returns the restrictions that hold now. After an error, they are fewer than [Offered]
// returns.
func Confine() (taken Confinement, err error) {
	taken.Landlock, err = restrictByLandlock()
	var filterErr error
	if taken.Seccomp, filterErr = filterCalls(); filterErr != nil {
		err = errors.Join(err, fmt.Errorf("the filter of system calls: %w", filterErr))
	}
	return taken, err
}

// Offered returns the restrictions that this system can put on a worker.
func Offered() Confinement {
	abi, err := landlocksys.LandlockGetABIVersion()
	if err != nil {
		abi = 0
	}
	return Confinement{Landlock: max(abi, 0), Seccomp: seccompOffered()}
}

// restrictByLandlock restricts this process: it can open, make, execute and remove no file any
// more, bind and connect no TCP socket (from ABI 4 on), and send no signal and connect no abstract
// socket to other processes (from ABI 6 on). It returns the version of the kernel's Landlock ABI.
// If the kernel has no Landlock, it returns 0, and nothing is restricted.
func restrictByLandlock() (abi int, err error) {
	abi, err = landlocksys.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return 0, nil
	}
	errata, err := landlocksys.LandlockGetErrata()
	if err != nil {
		errata = 0 // the kernel has no list of errata
	}
	if err := restrictions(abi, errata).BestEffort().Restrict(); err != nil {
		return 0, fmt.Errorf("landlock (ABI %d): %w", abi, err)
	}
	return abi, nil
}

// restrictions returns all restrictions that the library knows, with one exception. Some kernels
// treat each thread as a process of its own (erratum 2 is not fixed). There, signals stay allowed:
// Go's runtime sends signals to its threads, and so does the library that confines them one after
// the other.
func restrictions(abi, errata int) landlock.Config {
	c := landlock.V11
	const threadsSignal = 1 << 1
	if abi < tsyncABI && errata&threadsSignal == 0 {
		c.Scoped &^= landlocksys.ScopeSignal
	}
	return c
}

// tsyncABI is the first version of the ABI that confines all threads at once.
const tsyncABI = 8
