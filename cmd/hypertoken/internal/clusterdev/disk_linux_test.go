package clusterdev

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A full disk takes nothing more until it has room again, and keeps what it has.
func TestFullDisk(t *testing.T) {
	if err := CanFill(); err != nil {
		t.Skip("no disk can be made: ", err)
	}
	c := &Cluster{o: Options{SmallDisk: true}, dir: t.TempDir()}
	c.servers = []*process{{cluster: c, name: "n1"}, {cluster: c, name: "n2"}}
	if err := c.mountAll(); err != nil {
		t.Fatal(err)
	}
	defer c.unmountAll()
	if c.DiskOwner() != "n2" {
		t.Errorf("the disk is that of %s", c.DiskOwner())
	}
	write := func(name string) error {
		return os.WriteFile(filepath.Join(c.dir, "n2", name), bytes.Repeat([]byte{1}, 1<<20), 0o600)
	}
	if err := write("before"); err != nil {
		t.Fatal(err)
	}
	if err := c.FillDisk(); err != nil {
		t.Fatal(err)
	}
	if err := write("meanwhile"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk gives %v", err)
	}
	if err := c.FreeDisk(); err != nil {
		t.Fatal(err)
	}
	if err := write("after"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(c.dir, "n2", "before")); len(b) != 1<<20 {
		t.Errorf("of what was there %d bytes are left (%v)", len(b), err)
	}
}
