//go:build !unix

package clusterdev

import (
	"errors"
	"os"
	"os/exec"
)

// errUnsupported is returned for signals that this system does not have.
var errUnsupported = errors.New("this system can't do that to a process: use kill and restart")

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
