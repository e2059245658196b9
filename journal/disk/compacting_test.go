package disk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"hypertoken/journal"
)

func TestCompactGivesBackTheRoomOfWhatWasDeleted(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	c := caller{s}
	owner := journal.Owner{Number: 1}
	for k := range 20 {
		if err := c.install(fmt.Sprint("engine", k), owner, journal.Base{Data: noise(200<<10, uint64(k))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	full := s.db.Metrics().Total().TablesSize
	for k := range 19 {
		if err := c.delete(fmt.Sprint("engine", k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := s.db.Metrics().Total().TablesSize; left > full/10 {
		t.Errorf("the tables have %d bytes, and had %d", left, full)
	}
	if stored, err := c.load("engine19", owner); err != nil || string(stored.Data) != string(noise(200<<10, 19)) {
		t.Errorf("what was not deleted: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Compact(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	s.o.MinFree = 1 << 62
	if err := s.Compact(t.Context()); !errors.Is(err, journal.ErrFull) {
		t.Errorf("no room: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestExists(t *testing.T) {
	dir := t.TempDir()
	wants := func(what, path string, exists bool, cause error) {
		t.Helper()
		if found, err := Exists(path); found != exists || !errors.Is(err, cause) {
			t.Errorf("%s: %v, %v", what, found, err)
		}
	}
	wants("nothing", filepath.Join(dir, "nothing"), false, nil)
	wants("an empty directory", dir, false, nil)
	if all, err := os.ReadDir(dir); err != nil || len(all) > 0 {
		t.Errorf("it has written %v, %v", all, err)
	}
	s, err := Open(dir, Options{MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	wants("an open store", dir, true, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wants("a closed one", dir, true, nil)
	file := filepath.Join(dir, formatName)
	if found, err := Exists(file); found || err == nil {
		t.Errorf("a file: %v, %v", found, err)
	}
	if err := os.WriteFile(file, []byte(formatPrefix+"99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants("a newer one", dir, false, ErrFormat)
}

// noise returns bytes that can't be compressed.
func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}
