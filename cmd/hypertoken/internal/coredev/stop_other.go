//go:build !unix

package coredev

import "os/exec"

// interruptible does nothing here: the process of a command is killed when its context ends.
func interruptible(*exec.Cmd) {}
