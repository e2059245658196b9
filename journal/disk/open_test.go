package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// An older program says that a directory is newer, and changes nothing in it. A directory of
// something else is not taken.
func TestFormats(t *testing.T) {
	for name, c := range map[string]struct {
		text, says string
		isOpened   bool
	}{
		"the present one":      {"hypertoken journals, format 1\n", "", true},
		"a newer one":          {"hypertoken journals, format 2\n", "has the format 2, this program knows up", false},
		"something else":       {"# my project\n", "begins with", false},
		"no number":            {"hypertoken journals, format x\n", "begins with", false},
		"a database without a": {"", "has a folder db and no file FORMAT", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var err error
			if c.text != "" {
				err = os.WriteFile(filepath.Join(dir, formatName), []byte(c.text), 0o600)
			} else {
				err = os.Mkdir(filepath.Join(dir, pebbleDir), 0o700)
			}
			if err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(dir)
			s, err := Open(dir, Options{})
			if c.isOpened {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Errorf("the directory has %v, and had %v", after, before)
			}
		})
	}
}

// The first log of a directory has the newest format, in which damage is found. pebble writes the
// first log of a new database in its oldest format.
func TestANewDirectoryIsInTheNewestFormat(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, fs)
	if f := s.db.FormatMajorVersion(); f != s.pebbleOptions().FormatMajorVersion {
		t.Errorf("the format is %d", f)
	}
	if n := s.db.Metrics().WAL.Files; n != 1 {
		t.Errorf("%d logs", n)
	}
	if n := s.db.Metrics().Flush.Count; n == 0 {
		t.Error("nothing was flushed after the creation")
	}
}

// A new directory takes at most 128 MiB, also once all logs are in use.
func TestANewDirectoryIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100 MB")
	}
	dir := t.TempDir()
	s := openAt(t, dir, Options{})
	s.space.check(s)
	c, owner := caller{s}, journal.Owner{Number: 1}
	if err := c.install("a", owner, journal.Base{}); err != nil {
		t.Fatal(err)
	}
	// The bases replace each other, so that what stays is what the store takes for itself.
	for n := range 300 {
		if err := c.install("a", owner, journal.Base{Data: data(uint64(n), 250<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil || size > 128<<20 {
		t.Errorf("%d MiB, %v", size>>20, err)
	}
	t.Logf("%d MiB", size>>20)
}

// Nobody owns a journal that was given up, and the store knows nothing of it until it is loaded.
func TestRelease(t *testing.T) {
	c := caller{openMem(t, vfs.NewMem())}
	first, second := journal.Owner{Number: 1}, journal.Owner{Number: 2}
	if err := c.install("a", first, journal.Base{}); err != nil {
		t.Fatal(err)
	}
	if err := c.append("a", first, 0, actionRecord(1)); err != nil {
		t.Fatal(err)
	}
	if err := c.release("a", second); !errors.Is(err, journal.ErrNotOwner) {
		t.Errorf("given up by another one: %v", err)
	}
	if err := c.release("a", first); err != nil {
		t.Error(err)
	}
	if n := c.Stats().Owned; n != 0 {
		t.Errorf("%d engines are owned", n)
	}
	for what, err := range map[string]error{
		"append": c.append("a", first, 1, actionRecord(2)), "install": c.install("a", first, journal.Base{}),
		"release": c.release("a", first),
	} {
		if !errors.Is(err, journal.ErrNotOwner) {
			t.Errorf("%s of an owner that gave the journal up: %v", what, err)
		}
	}
	stored, err := c.load("a", second)
	if err != nil || stored.Count != 1 || stored.Owner != (journal.Owner{}) {
		t.Errorf("%+v, %v", stored, err)
	}
	if err := c.append("a", second, 1, actionRecord(2)); err != nil {
		t.Error(err)
	}
}

// A backup has all that was acknowledged before it was begun. It is made while calls go on, opens
// as a directory of its own, and goes to no directory that exists.
func TestBackup(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, filepath.Join(root, "data"), Options{memTable: 256 << 10})
	var players []*player
	var wg sync.WaitGroup
	var isDone atomic.Bool
	for k := range 4 {
		p := newPlayer(k, 8)
		p.largest = 2 * pieceSize
		players = append(players, p)
		if err := p.create(caller{s}); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for !isDone.Load() {
				if err := p.step(caller{s}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 5 {
		var acknowledged, tried [4]progress
		for k, p := range players {
			acknowledged[k], _, _ = p.told()
		}
		to := filepath.Join(root, fmt.Sprint("backup", n))
		if err := s.Backup(to); err != nil {
			t.Fatal(err)
		}
		if err := s.Backup(to); !errors.Is(err, os.ErrExist) {
			t.Errorf("to a directory that exists: %v", err)
		}
		for k, p := range players {
			_, tried[k], _ = p.told()
		}
		copied, err := Open(to, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for k, p := range players {
			p.verify(t, copied, acknowledged[k], tried[k], true)
		}
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	isDone.Store(true)
	wg.Wait()
}

func TestCores(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, fs)
	c := caller{s}
	hash := strings.Repeat("ab", 32)
	code := data(1, 3*pieceSize+5)
	if got, err := c.core(hash); got != nil || err != nil {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for range 2 {
		if err := c.keepCore(hash, code); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.keepCore("xyz", code); !errors.Is(err, journal.ErrRefused) {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, fs)
	c = caller{s}
	if got, err := c.core(hash); !bytes.Equal(got, code) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	key := appendCoreKey(nil, [32]byte(bytes.Repeat([]byte{0xab}, 32)), 2)
	if err := s.db.Set(key, data(2, pieceSize), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.core(hash); !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// What a death of the process leaves of a large base is removed at the next start.
func TestPiecesThatNoBaseHas(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, fs)
	if err := s.db.Set(appendPendingKey(nil, 7, 1), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Set(appendPieceKey(nil, 7, 1, 0), data(0, 1000), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, fs)
	for _, kind := range []byte{kindPending, kindEngine} {
		it, err := s.db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		if it.SeekGE([]byte{kind}) && it.Key()[0] == kind {
			t.Errorf("the row %x is still there", it.Key())
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s.nextID < 7 {
		t.Errorf("the ID %d would be used again", s.nextID+1)
	}
}

// Large bases go in pieces between the calls of other engines. Whatever happens to their engine
// meanwhile, the base is installed whole or not at all.
func TestLargeBasesAndWhatHappensMeanwhile(t *testing.T) {
	for name, meanwhile := range map[string]func(c caller, owner journal.Owner) (isInstalled bool){
		"nothing": func(caller, journal.Owner) bool { return true },
		"appends": func(c caller, owner journal.Owner) bool { return c.append("a", owner, 0, actionRecord(1)) == nil },
		"a load": func(c caller, owner journal.Owner) bool {
			_, err := c.load("a", journal.Owner{Number: 2})
			return err != nil
		},
		"a deletion":         func(c caller, owner journal.Owner) bool { return c.delete("a") != nil },
		"a release":          func(c caller, owner journal.Owner) bool { return c.release("a", owner) != nil },
		"a small base first": func(c caller, owner journal.Owner) bool { return c.install("a", owner, journal.Base{}) == nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := openMem(t, vfs.NewMem())
			c, owner := caller{s}, journal.Owner{Number: 1}
			if err := c.install("a", owner, journal.Base{Data: data(0, 10)}); err != nil {
				t.Fatal(err)
			}
			large := data(0, 40*pieceSize+1)
			ended := make(chan error, 1)
			s.Install("a", owner, journal.Base{Data: large}, journal.DoneFunc(func(err error) { ended <- err }))
			want := meanwhile(c, owner)
			if err := <-ended; err == nil != want {
				t.Errorf("the large base: %v, want it to be installed: %v", err, want)
			}
			stored, err := c.load("a", journal.Owner{Number: 5})
			if err != nil {
				t.Fatal(err)
			}
			if stored != nil && want != bytes.Equal(stored.Data, large) {
				t.Errorf("the base has %d bytes", len(stored.Data))
			}
			it, err := s.db.NewIter(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer it.Close()
			if it.SeekGE([]byte{kindPending}) && it.Key()[0] == kindPending {
				t.Error("pieces are still pending")
			}
			pieces := appendPart(nil, 1, partPiece)
			if it.SeekGE(pieces) && bytes.HasPrefix(it.Key(), pieces) && !want {
				t.Error("pieces are left")
			}
		})
	}
}
