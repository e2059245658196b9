package clusterdev

import (
	"errors"
	"os"
)

// With Options.SmallDisk, the data of the last server is on a disk of its own, in memory, which can be full.

// mountAll mounts the disk.
func (c *Cluster) mountAll() error {
	if !c.o.SmallDisk {
		return nil
	}
	dir := c.dataDir(c.servers[len(c.servers)-1])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := mountDisk(dir); err != nil {
		return err
	}
	c.disk = dir
	return nil
}

// unmountAll removes the disk.
func (c *Cluster) unmountAll() {
	if c.disk != "" {
		_ = unmountDisk(c.disk)
	}
}

// errNoDisk is returned for disks of a cluster that was started without Options.SmallDisk.
var errNoDisk = errors.New("no server has a disk of its own")

// FillDisk takes all room that is left to the server with a disk of its own, until [Cluster.FreeDisk]. It
// needs Options.SmallDisk.
func (c *Cluster) FillDisk() error {
	if c.disk == "" {
		return errNoDisk
	}
	return fillDisk(c.disk)
}

// FreeDisk gives the server its room back. A NATS server that had none stores nothing until it is
// started again.
func (c *Cluster) FreeDisk() error {
	if c.disk == "" {
		return errNoDisk
	}
	return freeDisk(c.disk)
}

// DiskOwner returns the name of the server with a disk of its own.
func (c *Cluster) DiskOwner() string { return c.servers[len(c.servers)-1].name }
