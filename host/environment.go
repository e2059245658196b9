package host

import (
	"runtime"

	"hypertoken/internal/process"
)

// Environment names what this program runs on, such as "linux/amd64", or "worker" in a worker process.
func Environment() string {
	if process.InWorker() {
		return "worker"
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}

// SupportsWorkers reports whether a host without Options.WorkerPath can start workers here: the
// system has processes, this one is none of them, and the program has called workerproc.Main.
func SupportsWorkers() bool {
	switch runtime.GOOS {
	case "js", "wasip1", "ios", "android":
		return false
	}
	return process.SelfWorker() && !process.InWorker()
}
