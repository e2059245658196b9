package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
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

// writtenBytes returns how many bytes this process has had written to the disk.
func writtenBytes() (uint64, error) { return procFigure("/proc/self/io", "write_bytes: %d", 1) }

// residentBytes returns the memory that a process has, and what of it is not of files, such as that
// of the program.
func residentBytes(pid int) (all, anonymous uint64, err error) {
	name := fmt.Sprintf("/proc/%d/status", pid)
	if all, err = procFigure(name, "VmRSS: %d kB", 1<<10); err == nil {
		anonymous, err = procFigure(name, "RssAnon: %d kB", 1<<10)
	}
	return all, anonymous, err
}

// procFigure returns a number from a line of a file of /proc, times unit.
func procFigure(name, format string, unit uint64) (uint64, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var n uint64
		if _, err := fmt.Sscanf(line, format, &n); err == nil {
			return n * unit, nil
		}
	}
	return 0, fmt.Errorf("%s has no line like %q", name, format)
}

// endWithParent has a child that is about to be started end when this process ends, for whatever
// reason. Call detach before.
func endWithParent(c *exec.Cmd) { c.SysProcAttr.Pdeathsig = unix.SIGTERM }

// syncData has the data of a file written to the disk, without its times.
func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// isInMemory reports whether a directory is on a file system in memory.
func isInMemory(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.TMPFS_MAGIC
}

// blocksOf returns what the files below a directory take on the disk, in bytes.
func blocksOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var s unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &s)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was removed meanwhile
		}
		n += s.Blocks * 512
		return err
	})
	return n, err
}

// pss returns the memory of a process, in bytes. Memory that several processes share is divided
// between them.
func pss(pid int) (uint64, error) {
	return procFigure(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss: %d kB", 1<<10)
}
