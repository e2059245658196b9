//go:build unix

package wasm

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// If several processes find at once that a core is missing, one of them compiles it, and the
// others take the code that it has stored.
func TestACoreIsCompiledByOneAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "entry")
	var compiled atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			e, err := openEntry(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer e.unlock()
			if len(e.sound) > 0 {
				return
			}
			compiled.Add(1)
			if err := os.WriteFile(filepath.Join(dir, "code"), []byte("code"), 0o600); err != nil {
				t.Error(err)
			}
			if err := e.stored(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := compiled.Load(); n != 1 {
		t.Errorf("%d have compiled it", n)
	}
}

// If a lock is never released, others wait for the given time only.
func TestALockIsNotWaitedForWithoutEnd(t *testing.T) {
	dir := t.TempDir()
	unlock := lock(dir, time.Minute)
	lock(dir, 4*time.Millisecond)() // it returns, without the lock
	locked := make(chan struct{})
	go func() {
		defer close(locked)
		lock(dir, time.Minute)()
	}()
	select {
	case <-locked:
		t.Error("two have it")
	default:
	}
	unlock()
	<-locked
}
