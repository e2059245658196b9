//go:build !unix

package coredev

import "os/exec"

// interruptible leaves a command as it is: its process is killed when its context ends.
func interruptible(*exec.Cmd) {}
