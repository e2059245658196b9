//go:build !linux

package integration

import (
	"os/exec"
	"testing"
)

// What a program leaves is looked for on Linux only.
func session(*testing.T, *exec.Cmd) {}
