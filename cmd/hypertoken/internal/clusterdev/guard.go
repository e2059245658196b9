package clusterdev

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// guard is a process that outlives this one. If this process is killed, the guard wakes the processes
// that are stopped, so that they notice it and end, unmounts the disk of a server, and removes the temporary
// directory.
//
// Each process has a pipe of this process as its standard input, and ends when the pipe does. The
// processes are in the guard's process group, and hold the write end of another pipe, which the
// guard reads: that pipe ends when all of them have ended.
type guard struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	holders *os.File // the write end of the pipe that all processes hold; nil if this system can't pass it on
}

// startGuard starts a guard. disk is where the disk is that it unmounts, and dir the directory that it
// removes; each may be "".
func startGuard(disk, dir string) (_ *guard, err error) {
	g := &guard{}
	if g.cmd, err = childCommand(roleGuard, "cluster", "guard", disk, dir); err != nil {
		return nil, err
	}
	if canInherit {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer func() { _ = reader.Close() }()
		g.holders, g.cmd.ExtraFiles = writer, []*os.File{reader}
	}
	leadGroup(g.cmd)
	g.stdin, err = g.cmd.StdinPipe()
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		if g.holders != nil {
			_ = g.holders.Close()
		}
		return nil, fmt.Errorf("this program can't be started again: %w", err)
	}
	return g, nil
}

// command returns a command that starts this program in a role, in the guard's group.
func (g *guard) command(role string, args ...string) (*exec.Cmd, error) {
	c, err := childCommand(role, args...)
	if err != nil {
		return nil, err
	}
	if g.holders != nil {
		c.ExtraFiles = []*os.File{g.holders}
	}
	joinGroup(c, g.cmd.Process.Pid)
	return c, nil
}

// close ends the guard. All other processes have ended.
func (g *guard) close() {
	if g.holders != nil {
		_ = g.holders.Close()
	}
	_ = g.stdin.Close()
	_ = g.cmd.Wait()
}

// childCommand returns a command that starts this program in a role.
func childCommand(role string, args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(program, args...)
	c.Args[0] = "hypertoken"
	c.Env = append(os.Environ(), roleVariable+"="+role)
	return c, nil
}

// runGuard is the guard's process.
func runGuard(disk, dir string) {
	// Unix sends a HUP to a group that has lost its parent, if one of its processes is stopped.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	_, _ = io.Copy(io.Discard, os.Stdin)
	wakeGroup()
	if canInherit {
		_, _ = io.Copy(io.Discard, os.NewFile(heldDescriptor, "the other processes"))
	}
	if disk != "" {
		_ = unmountDisk(disk) // unless the cluster has done it
	}
	if dir == "" {
		return
	}
	// Where files of running processes can't be removed, they can be soon.
	const tries = 100
	for range tries {
		if os.RemoveAll(dir) == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
