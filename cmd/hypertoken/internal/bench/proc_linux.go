package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time that the threads of a process have used, to the nanosecond. Threads
// that have ended are not counted.
func cpuTime(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, errors.Join(err, errors.New("there is no /proc/PID/task/TID/schedstat"))
	}
	all := time.Duration(0)
	for _, name := range threads {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		var ran int64
		if _, err := fmt.Sscan(string(b), &ran); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		all += time.Duration(ran)
	}
	return all, nil
}

// ownTime returns the CPU time that this process has used, at the cost of one system call.
func ownTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // it can't fail
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// pss returns the memory of a process, in bytes. Memory that several processes share is divided
// between them.
func pss(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kib uint64
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.New("there is no Pss in smaps_rollup")
}
