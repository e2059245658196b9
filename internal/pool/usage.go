package pool

import "github.com/shirou/gopsutil/v4/process"

// processCPU returns the CPU time that a process has used, in seconds.
func processCPU(pid int) (float64, error) {
	p := process.Process{Pid: int32(pid)}
	t, err := p.Times()
	if err != nil {
		return 0, err
	}
	return t.User + t.System, nil
}

// processMemory returns the resident memory of a process, in bytes.
func processMemory(pid int) (uint64, error) {
	p := process.Process{Pid: int32(pid)}
	m, err := p.MemoryInfo()
	if err != nil {
		return 0, err
	}
	return m.RSS, nil
}
