package clusterdev

import (
	"context"
	"time"
)

// The methods here do to a process what the lines of [Cluster.Talk] do. They fail if no process has the
// name, or if it is in no state for that.

// End says how a process has ended.
type End struct {
	Name string
	// Code is the exit code, -1 if a signal has ended the process. Status says both as text.
	Code   int
	Status string
	// IsWanted is true if the process was killed or terminated through the cluster.
	IsWanted bool
	// LastWords describes the log of a process that has ended by itself.
	LastWords string
}

// Dir returns the directory that has the log of each process as a file NAME.log.
func (c *Cluster) Dir() string { return c.dir }

// Servers returns the names of the NATS servers.
func (c *Cluster) Servers() []string { return namesOf(c.servers) }

// Nodes returns the names of the nodes, with those that were never started.
func (c *Cluster) Nodes() []string { return namesOf(c.nodes) }

func namesOf(list []*process) (names []string) {
	for _, p := range list {
		names = append(names, p.name)
	}
	return names
}

// Address returns the URL at which clients reach a process, or "" if there is none of that name.
func (c *Cluster) Address(name string) string {
	p, err := c.find(name)
	if err != nil {
		return ""
	}
	return p.address
}

// PID returns the number of a process that runs, and 0 if it does not.
func (c *Cluster) PID(name string) int {
	p, err := c.find(name)
	if err != nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil || p.life.hasEnded {
		return 0
	}
	return p.life.cmd.Process.Pid
}

// Kill ends a process by SIGKILL, and returns when it has ended.
func (c *Cluster) Kill(name string) error { return c.with(name, (*process).kill) }

// Terminate sends SIGTERM to a process, and does not wait for its end.
func (c *Cluster) Terminate(name string) error { return c.with(name, (*process).term) }

// Stop has a process stand still until [Cluster.Resume].
func (c *Cluster) Stop(name string) error { return c.with(name, (*process).stop) }

// Resume lets a stopped process go on.
func (c *Cluster) Resume(name string) error { return c.with(name, (*process).resume) }

// Run starts a process that does not run, and does not wait until it is ready.
func (c *Cluster) Run(name string) error { return c.with(name, (*process).start) }

// Shut ends a process by SIGTERM, and by SIGKILL if that takes longer than patience. It does nothing
// if the process does not run.
func (c *Cluster) Shut(name string, patience time.Duration) error {
	return c.with(name, func(p *process) error {
		p.end(context.Background(), patience)
		return nil
	})
}

// IsReady reports whether a process runs, and has said that it is ready. It may be stopped.
func (c *Cluster) IsReady(name string) bool {
	p, err := c.find(name)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life != nil && p.life.isReady && !p.life.hasEnded
}

func (c *Cluster) with(name string, what func(*process) error) error {
	p, err := c.find(name)
	if err != nil {
		return err
	}
	return what(p)
}
