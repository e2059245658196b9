package process

import (
	"os"
	"os/exec"
)

// lookUp finds a program, "" being this one.
func lookUp(path string) (string, error) {
	if path == "" {
		return os.Executable()
	}
	return exec.LookPath(path)
}
