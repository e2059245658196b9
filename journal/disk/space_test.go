package disk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// smallDisk is a file system with as much free space as it is told. Once isFull, every write of a
// table fails.
type smallDisk struct {
	vfs.FS
	free   atomic.Int64
	isFull atomic.Bool
	// refused counts the tables that could not be written.
	refused atomic.Int64
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := uint64(d.free.Load())
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40, UsedBytes: 1<<40 - free}, nil
}

func (d *smallDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if d.isFull.Load() && isTable(name) {
		d.refused.Add(1)
		return nil, fmt.Errorf("creating %s: %w", name, syscall.ENOSPC)
	}
	return d.FS.Create(name, category)
}

func newSmallDisk() *smallDisk {
	d := &smallDisk{FS: vfs.NewMem()}
	d.free.Store(1 << 40)
	return d
}

// A disk that is nearly full is seen before it is full. What takes room is refused with no effect,
// all else goes on, and the store goes on by itself once there is room.
func TestAFullDisk(t *testing.T) {
	d := newSmallDisk()
	var log bytes.Buffer
	o := memOptions(d)
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := openAt(t, "data", o)
	c, owner := caller{s}, journal.Owner{Number: 1}
	for _, name := range []string{"a", "b"} {
		if err := c.install(name, owner, journal.Base{}); err != nil {
			t.Fatal(err)
		}
	}
	d.free.Store(DefaultMinFree - 1)
	s.space.check(s)
	for what, err := range map[string]error{
		"append": c.append("a", owner, 0, actionRecord(1)), "install": c.install("a", owner, journal.Base{}),
		"a new name": c.install("c", owner, journal.Base{}), "health": s.Health(),
	} {
		if !errors.Is(err, journal.ErrFull) || !errors.Is(err, journal.ErrRefused) {
			t.Errorf("%s: %v, want journal.ErrFull", what, err)
		}
	}
	if stored, err := c.load("a", owner); err != nil || stored.Count != 0 {
		t.Errorf("load: %+v, %v", stored, err)
	}
	if err := c.delete("b"); err != nil {
		t.Errorf("delete: %v", err)
	}
	d.free.Store(DefaultMinFree)
	s.space.check(s)
	if err := s.Health(); err != nil {
		t.Error(err)
	}
	if err := c.append("a", owner, 0, actionRecord(1)); err != nil {
		t.Errorf("append, with room again: %v", err)
	}
	for _, want := range []string{"the disk is full", "the disk has room again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, &log)
		}
	}
}

// The store looks at the disk before it has written what is left of it.
func TestTheDiskIsLookedAtWhileItIsWritten(t *testing.T) {
	d := newSmallDisk()
	o := memOptions(d)
	o.MinFree, o.ballast = 1<<20, 1<<10
	s := openAt(t, "data", o)
	c, owner := caller{s}, journal.Owner{Number: 1}
	d.free.Store(1000)
	if err := c.install("a", owner, journal.Base{Data: make([]byte, 100<<10)}); err != nil {
		t.Fatal(err)
	}
	if err := c.append("a", owner, 0, actionRecord(1)); !errors.Is(err, journal.ErrFull) {
		t.Errorf("%v, want journal.ErrFull", err)
	}
}

// If a table cannot be written because the disk is full after all, nothing is lost and pebble does
// not try again and again. The ballast makes room.
func TestATableWithoutSpace(t *testing.T) {
	d := newSmallDisk()
	o := memOptions(d)
	o.ballast = 1 << 20
	s := openAt(t, "data", o)
	s.space.check(s) // writes the ballast
	if _, err := d.Stat("data/BALLAST"); err != nil {
		t.Fatal(err)
	}
	p := newPlayer(1, 1)
	if err := p.create(caller{s}); err != nil {
		t.Fatal(err)
	}
	d.isFull.Store(true)
	d.free.Store(0)
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = p.append(caller{s})
	}
	if !errors.Is(err, journal.ErrFull) {
		t.Fatalf("%v, want journal.ErrFull", err)
	}
	s.space.check(s)
	if _, err := d.Stat("data/BALLAST"); err == nil {
		t.Error("the ballast is still there")
	}
	if n := d.refused.Load(); n > 3 {
		t.Errorf("%d tables were tried", n)
	}
	d.isFull.Store(false)
	d.free.Store(1 << 40)
	s.space.check(s)
	<-flushed
	if err := p.append(caller{s}); err != nil {
		t.Error(err)
	}
	verify(t, s, []*player{p})
}

// A full disk is told before pebble is opened: it would try to write tables, and never give up.
func TestOpeningOnAFullDisk(t *testing.T) {
	d := newSmallDisk()
	o := memOptions(d)
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d.free.Store(leastFree - 1)
	if _, err := Open("data", o); !errors.Is(err, journal.ErrFull) {
		t.Errorf("%v, want journal.ErrFull", err)
	}
	d.free.Store(leastFree)
	s, err = Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Health(); !errors.Is(err, journal.ErrFull) {
		t.Errorf("the health of a store that was opened below MinFree: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A store whose disk is full can be closed while tables wait for room.
func TestClosingOnAFullDisk(t *testing.T) {
	d := newSmallDisk()
	o := memOptions(d)
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{name: "a", owner: journal.Owner{Number: 1}, r: rand.New(rand.NewPCG(1, 1))}
	if err := p.create(caller{s}); err != nil {
		t.Fatal(err)
	}
	d.isFull.Store(true)
	d.free.Store(0)
	if _, err := s.db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	for p.append(caller{s}) == nil {
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	d.isFull.Store(false)
	d.free.Store(1 << 40)
	verifyAgain(t, o, []*player{p})
}
