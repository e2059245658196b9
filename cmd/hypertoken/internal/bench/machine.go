package bench

import (
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	system "github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"

	"hypertoken/internal/version"
)

// Machine describes the machine of a run, as far as the system tells.
type Machine struct {
	Time   string `json:"time"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory uint64 `json:"memory_bytes"`
	System string `json:"system"`
	Kernel string `json:"kernel"`
	// Load is the mean number of processes that ran or wanted to in the minute before.
	Load    float64 `json:"load"`
	Go      string  `json:"go"`
	Node    string  `json:"node"`
	Version string  `json:"version"`
	// Core is the hash of the core's bytes.
	Core string `json:"core_sha256"`
}

func machine() Machine {
	m := Machine{Time: time.Now().UTC().Format(time.RFC3339), Cores: runtime.NumCPU(), System: runtime.GOOS + "/" +
		runtime.GOARCH,
		Go: runtime.Version(), Version: version.String()}
	if list, err := cpu.Info(); err == nil && len(list) > 0 {
		m.CPU = list[0].ModelName
	}
	if v, err := mem.VirtualMemory(); err == nil {
		m.Memory = v.Total
	}
	m.Kernel, _ = system.KernelVersion()
	if l, err := load.Avg(); err == nil {
		m.Load = l.Load1
	}
	if b, err := exec.Command("node", "--version").Output(); err == nil {
		m.Node = strings.TrimSpace(string(b))
	}
	return m
}
