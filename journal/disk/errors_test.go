package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hypertoken/journal"
)

var errDisk = fmt.Errorf("injected: %w", syscall.EIO)

// failingFS is a file system on which one call that changes something fails, and all later ones of
// its kind if isPersistent.
type failingFS struct {
	calls  atomic.Int64
	failAt int64 // the number of the call that fails, from 1
	err    error
	failed atomic.Bool
}

func (f *failingFS) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpFileWrite, errorfs.OpFileWriteAt,
		errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFileFlush, errorfs.OpLink:
	default:
		return nil
	}
	if f.calls.Add(1) != f.failAt {
		return nil
	}
	f.failed.Store(true)
	return f.err
}

func (f *failingFS) String() string { return "fail once" }

// Whichever write, sync or creation fails: no call hangs, nothing ends the program, what was
// acknowledged is there when the directory is opened again, and nothing is stored after the
// failure.
func TestOneFailureOfTheDisk(t *testing.T) {
	t.Parallel()
	total := playWithFailure(t, 0, errDisk)
	if total < 100 {
		t.Fatalf("only %d calls of the file system", total)
	}
	cases := int64(deep(60, 100000))
	step := max(1, total/cases)
	for at := int64(1); at <= total; at += step {
		playWithFailure(t, at, errDisk)
	}
}

// The same with a disk that is full for one call.
func TestOneCallWithoutSpace(t *testing.T) {
	t.Parallel()
	total := playWithFailure(t, 0, syscall.ENOSPC)
	cases := int64(deep(60, 100000))
	step := max(1, total/cases)
	for at := int64(1); at <= total; at += step {
		playWithFailure(t, at, syscall.ENOSPC)
	}
}

// playWithFailure plays until the failure is seen, and opens the directory again. It returns the
// number of calls of the file system.
func playWithFailure(t *testing.T, failAt int64, cause error) (calls int64) {
	t.Helper()
	mem := vfs.NewMem()
	injector := &failingFS{failAt: failAt, err: cause}
	o := memOptions(errorfs.Wrap(mem, injector))
	o.memTable = 64 << 10
	players := []*player{newPlayer(1, uint64(failAt)), newPlayer(2, uint64(failAt))}
	players[0].largest = 2 * pieceSize
	s, err := Open("data", o)
	failure := err
	if err == nil {
		err = playThrough(s, players)
		if failAt == 0 && err != nil {
			t.Fatalf("without a failure: %v", err)
		}
		checkFailed(t, s, failAt, err)
		calls = injector.calls.Load()
		failure = s.Err()
		closeErr := s.Close()
		if failure := s.Err(); failure != nil && !errors.Is(closeErr, journal.ErrFailed) {
			t.Errorf("call %d: Close: %v, the failure is %v", failAt, closeErr, failure)
		}
	}
	injector.failAt = -1
	o.fs = mem
	again, err := Open("data", o)
	if err != nil {
		t.Fatalf("call %d: opening the directory again: %v", failAt, err)
	}
	for _, p := range players {
		acknowledged, tried, isCreated := p.told()
		stored, err := caller{again}.load(p.name, journal.Owner{Number: 9})
		if err == nil && (stored != nil || isCreated) {
			err = p.check(stored, acknowledged, tried)
		}
		if err != nil {
			t.Fatalf("call %d, the failure was %v, %s: %v", failAt, failure, p.name, err)
		}
	}
	if err := again.Close(); err != nil {
		t.Errorf("call %d: %v", failAt, err)
	}
	return calls
}

// playThrough makes enough calls that tables are written and compacted. It returns the first
// error.
func playThrough(s *Store, players []*player) error {
	for _, p := range players {
		if err := p.create(caller{s}); err != nil {
			return err
		}
	}
	for n := range 150 {
		if err := players[n%2].step(caller{s}); err != nil {
			return err
		}
	}
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
	case <-s.Failed():
	}
	return s.Err()
}

// checkFailed fails the test if a store that has failed takes anything.
func checkFailed(t *testing.T, s *Store, failAt int64, err error) {
	t.Helper()
	failure := s.Err()
	if err != nil && failure == nil && !errors.Is(err, journal.ErrFull) {
		t.Errorf("call %d: a call has failed and the store has not: %v", failAt, err)
	}
	if failure == nil {
		return
	}
	<-s.Failed()
	c := caller{s}
	_, loadErr := c.load("engine1", journal.Owner{Number: 77})
	_, listErr := c.list("", "", 1)
	for what, err := range map[string]error{
		"append": c.append("engine1", journal.Owner{Number: 77}, 0, actionRecord(1)), "load": loadErr, "list": listErr,
		"install": c.install("new", journal.Owner{}, journal.Base{}), "delete": c.delete("engine1"),
		"health": s.Health(),
	} {
		if !errors.Is(err, journal.ErrFailed) || !errors.Is(err, errDisk) && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("call %d: %s after the failure: %v", failAt, what, err)
		}
	}
}
