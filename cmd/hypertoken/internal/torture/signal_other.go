//go:build !unix

package torture

import "github.com/shirou/gopsutil/v4/process"

// possible: nothing stops a process here and lets it go on.
func (k Kind) possible() bool { return k != Stop && k != Hang }

func stopProcess(int)     {}
func continueProcess(int) {}

func running(pid int) bool {
	there, err := process.PidExists(int32(pid))
	return there && err == nil
}
