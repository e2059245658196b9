//go:build !unix

package clusterdev

import (
	"os"
	"os/exec"
)

func sendStop(*os.Process) error     { return errUnsupported }
func sendContinue(*os.Process) error { return errUnsupported }
func sendTerm(*os.Process) error     { return errUnsupported }

const canInherit = false

func leadGroup(*exec.Cmd)      {}
func joinGroup(*exec.Cmd, int) {}
func wakeGroup()               {}
func keepDescriptor()          {}

// lock locks nothing here.
func lock(string) (unlock func(), err error) { return func() {}, nil }
